//! `lodge sandbox status`

use super::scene::tools;
use crate::data::DataDir;
use crate::terminal::{one_line, print_json, println};
use lodge_sandbox::SandboxError;
use lodge_sandbox::host;
use lodge_sandbox::limits::{self, LimitStatus, Means};
use lodge_sandbox::policy::{Policy, Profile, Tier};
use serde::Serialize;

/// What is to be shown.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Serialize)]
struct Status {
    tiers: Vec<TierStatus>,
}

#[derive(Debug, Serialize)]
struct TierStatus {
    tier: &'static str,
    usable: bool,
    /// What is true of it here although it can be used.
    #[serde(skip_serializing_if = "Option::is_none")]
    notice: Option<String>,
    /// What is missing.
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<String>,
    /// The exact command that mends it.
    #[serde(skip_serializing_if = "Option::is_none")]
    mend: Option<String>,
    /// How each limit of the default policy would be held.
    limits: Vec<LimitStatus>,
}

pub(super) fn run(data: &DataDir, args: &Args) -> anyhow::Result<u8> {
    let state = tools(data)?.state;
    let tiers = [Tier::Process, Tier::Container, Tier::Microvm];
    let status = Status {
        tiers: tiers.into_iter().map(|tier| look(tier, &state)).collect(),
    };
    if args.json {
        print_json(&status)?;
    } else {
        show(&status);
    }
    let process_works = status.tiers.first().is_some_and(|tier| tier.usable);
    Ok(u8::from(!process_works))
}

fn look(tier: Tier, state: &std::path::Path) -> TierStatus {
    let policy = Policy::of(Profile::Development);
    let (notice, problem, mend) = match host::usable(tier, state) {
        Ok(notice) => (notice.map(|notice| notice.0), None, None),
        Err(SandboxError::MissingWall { wall, problem, mend }) => {
            (None, Some(format!("{wall} is missing: {problem}")), Some(mend))
        }
        Err(error) => (None, Some(crate::failure::chain(&error)), None),
    };
    TierStatus {
        tier: tier.name(),
        usable: problem.is_none(),
        notice,
        problem,
        mend,
        limits: limits::status(&policy.limits, policy.fs.tmp_size, tier, &Means::probe(tier)),
    }
}

fn show(status: &Status) {
    for tier in &status.tiers {
        let state = if tier.usable { "usable" } else { "NOT USABLE" };
        println(&format!("{}: {state}", tier.tier));
        for (label, text) in [
            ("notice", &tier.notice),
            ("problem", &tier.problem),
            ("to do", &tier.mend),
        ] {
            if let Some(text) = text {
                println(&format!("  {label}: {}", one_line(text, 240)));
            }
        }
        for limit in &tier.limits {
            let key = limit.key.trim_start_matches("limits.");
            println(&format!("  {key:<14} {:<8} {}", limit.how.name(), limit.by));
        }
        println("");
    }
}
