//! What `lodge doctor` says of sandboxes: walls, tiers, limits, policy.

use super::{Item, bad, good};
use crate::commands::sandbox::scene::refused;
use crate::data::DataDir;
use crate::failure::chain;
use crate::roles;
use lodge_sandbox::SandboxError;
use lodge_sandbox::files::PolicyFiles;
use lodge_sandbox::host::{self, HostReport};
use lodge_sandbox::limits::{self, Held, Means};
use lodge_sandbox::policy::{Policy, Profile, Tier};
use std::path::Path;

const TIERS: [Tier; 3] = [Tier::Process, Tier::Container, Tier::Microvm];

pub(super) fn all(data: &DataDir) -> Vec<Item> {
    let mut items: Vec<Item> = HostReport::probe().items.into_iter().map(wall).collect();
    items.extend(["lodge-shim", "lodge-init", "lodge-tier"].map(|name| program(name, true)));
    items.push(program("lodge-probe", false));
    let (policy, found) = policy(data);
    for tier in TIERS {
        let state = data.path().join("sandbox");
        items.push(usable(tier, &state));
    }
    items.extend(TIERS.map(|tier| held(&policy, tier)));
    items.push(found);
    items
}

fn wall(found: host::Item) -> Item {
    Item {
        group: "sandbox",
        name: found.name.to_owned(),
        required: found.required,
        ok: found.ok,
        detail: found.detail,
        problem: found.problem,
        mend: found.mend,
    }
}

/// A program that starts or tries guests and comes with this one.
fn program(name: &str, required: bool) -> Item {
    const MEND: &str = "scripts/build-guest && cargo build --bins";
    match roles::companion(name) {
        Ok(path) => good("sandbox", name, required, path.display().to_string()),
        Err(failure) => bad("sandbox", name, required, failure.to_string(), MEND),
    }
}

/// Only the process tier is needed.
fn usable(tier: Tier, state: &Path) -> Item {
    const GROUP: &str = "tiers";
    let (name, required) = (tier.name(), tier == Tier::Process);
    match host::usable(tier, state) {
        Ok(None) => good(GROUP, name, required, "usable"),
        Ok(Some(notice)) => good(GROUP, name, required, format!("usable; {}", notice.0)),
        Err(SandboxError::MissingWall { wall, problem, mend }) => {
            bad(GROUP, name, required, format!("{wall}: {problem}"), &mend)
        }
        Err(error) => bad(GROUP, name, required, chain(&error), "lodge sandbox status"),
    }
}

/// How well the limits of a policy are held; a summary of `lodge sandbox status`.
fn held(policy: &Policy, tier: Tier) -> Item {
    let found = limits::status(&policy.limits, policy.fs.tmp_size, tier, &Means::probe(tier));
    let named = |how: Held| {
        let keys = found
            .iter()
            .filter(|limit| limit.how == how)
            .map(|limit| limit.key.split('.').next_back().unwrap_or(limit.key));
        let keys: Vec<&str> = keys.collect();
        (!keys.is_empty()).then(|| format!("{}: {}", how.name(), keys.join(" ")))
    };
    // The rest is hard.
    let weak: Vec<String> = [Held::Absent, Held::Sampled]
        .into_iter()
        .filter_map(named)
        .collect();
    let detail = if weak.is_empty() {
        "all hard".to_owned()
    } else {
        format!(
            "{}; the others are hard; see: lodge sandbox status",
            weak.join("; ")
        )
    };
    good("limits", tier.name(), false, detail)
}

/// The files that stand above every workspace, and what they make.
fn policy(data: &DataDir) -> (Policy, Item) {
    const GROUP: &str = "policy";
    let files = PolicyFiles::of(data.path());
    match Policy::load(files.system.as_deref(), files.user.as_deref(), None) {
        Ok(policy) => {
            let base = files
                .system
                .as_ref()
                .map(|file| format!("{} is the base", file.display()));
            let user = files
                .user
                .as_ref()
                .map(|file| format!("{} tightens it", file.display()));
            let read: Vec<String> = base.into_iter().chain(user).collect();
            let read = if read.is_empty() {
                "no file, so the defaults hold".to_owned()
            } else {
                read.join(", ")
            };
            let detail = format!("profile {}: {read}", policy.profile.name());
            (policy, good(GROUP, "sandbox.toml", true, detail))
        }
        Err(error) => {
            let (what, remedy) = (error.to_string(), refused(&error));
            let mend = remedy.remedy().unwrap_or("lodge sandbox explain").to_owned();
            let item = bad(GROUP, "sandbox.toml", true, what, &mend);
            (Policy::of(Profile::Development), item)
        }
    }
}
