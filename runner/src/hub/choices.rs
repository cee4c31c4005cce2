//! Models, tiers and profiles for the pickers.

use crate::config::Config;
use crate::harness::install::Catalog;
use crate::harness::launch;
use crate::launcher::{self, PROFILES};
use crate::shared::chain;
use lodge_proto::ErrorBody;
use lodge_proto::control::Model;
use lodge_proto::sandbox::{ProfileChoice, SandboxChoices, TierChoice};
use lodge_proto::session::Tier;
use lodge_sandbox::files::Wish;
use lodge_sandbox::policy::{Net, Policy, Profile};
use lodge_sandbox::{SandboxError, host};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::Path;

const TIERS: [Tier; 3] = [Tier::Process, Tier::Container, Tier::Microvm];

/// What a session can have on this machine. Blocking: every tier is tried.
pub(super) fn choices(config: &Config) -> SandboxChoices {
    // The default root has no policy of its own: what holds for all workspaces.
    let default = launcher::policy_files(config)
        .load(Path::new("/"), Wish::default())
        .unwrap_or_else(|error| {
            tracing::warn!(%error, "the sandbox policy cannot be read; sessions will be refused");
            Policy::of(Profile::Development)
        });
    SandboxChoices {
        tiers: TIERS.map(|name| tier(name, config)).into(),
        profiles: PROFILES.map(profile).into(),
        default_tier: launcher::wire_tier(default.tier),
        default_profile: default.profile.name().to_owned(),
    }
}

/// The models of the gateway, and by harness which of them it cannot be used with.
pub(super) fn models(config: &Config, models: &[Model]) -> Result<Value, ErrorBody> {
    let catalog = Catalog::embedded()?;
    let own = catalog.harnesses().map(|entry| (entry.name.as_str(), None));
    let agents = config
        .agents
        .all()
        .iter()
        .map(|agent| (agent.name.as_str(), Some(agent)));
    let unusable: BTreeMap<&str, Vec<String>> = own
        .chain(agents)
        .map(|(name, agent)| {
            let others = models.iter().filter(|model| !launch::can_use(name, agent, model));
            (name, others.map(launch::model_id).collect())
        })
        .filter(|(_, ids): &(_, Vec<_>)| !ids.is_empty())
        .collect();
    Ok(json!({ "models": launch::model_infos(models), "unusable": unusable }))
}

fn profile(profile: Profile) -> ProfileChoice {
    let policy = Policy::of(profile);
    let network = match policy.net {
        Net::None => "none",
        Net::Broker { .. } => "broker",
    };
    let summary = match profile {
        Profile::Minimal => {
            "The loosest: your home is readable too, without its secrets; hosts that are on no list are asked for."
        }
        Profile::Development => "The workspace, system files, package registries and Git hosts.",
        Profile::Strict => "The workspace only, no network but the model, a virtual machine.",
    };
    ProfileChoice {
        name: profile.name().to_owned(),
        tier: launcher::wire_tier(policy.tier),
        network: network.to_owned(),
        summary: summary.to_owned(),
    }
}

fn tier(tier: Tier, config: &Config) -> TierChoice {
    let mut choice = TierChoice {
        tier,
        usable: true,
        problem: None,
        mend: None,
        notice: None,
    };
    match host::usable(launcher::policy_tier(tier), &config.sandbox_state()) {
        Ok(notice) => choice.notice = notice.map(|notice| notice.0),
        Err(error) => {
            choice.usable = false;
            (choice.problem, choice.mend) = match error {
                SandboxError::MissingWall { wall, problem, mend } => {
                    (Some(format!("{wall}: {problem}")), Some(mend))
                }
                other => (Some(chain(&other)), None),
            };
        }
    }
    choice
}
