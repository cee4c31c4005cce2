//! `lodge sandbox`

mod broker;
mod check;
pub(super) mod egress;
mod explain;
mod private;
mod run;
mod running;
pub(super) mod scene;
mod signals;
mod status;
mod workspace;

use crate::data::DataDir;
use clap::Subcommand;

/// Explain, try and check the walls around agents.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  lodge sandbox explain --workspace .\n  \
    lodge sandbox explain --profile strict --tier microvm --json\n  \
    lodge sandbox run --workspace . -- bash\n  lodge sandbox run --tier container --profile strict -- python3 job.py\n  \
    lodge sandbox status\n  lodge sandbox check --tier process\n\n\
    The policy is /etc/lodge/sandbox.toml where that exists, else config/sandbox.toml in the data directory (--policy \
    FILE stands for it); the workspace's .lodge/sandbox.toml may only tighten it.")]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// What a guest may do under the policy of a workspace, before anything is started.
    Explain(explain::Args),
    /// Which tiers this machine can run, and which limits are hard, sampled or absent in each.
    Status(status::Args),
    /// Run a command in a sandbox; its exit status, signals and terminal are passed through.
    Run(run::Args),
    /// Try to escape: every probe, what was expected, what happened. Exit status 1 on any difference.
    Check(check::Args),
}

pub fn run(data: &DataDir, args: &Args) -> anyhow::Result<u8> {
    match &args.action {
        Action::Explain(args) => explain::run(data, args),
        Action::Status(args) => status::run(data, args),
        Action::Run(args) => run::run(data, args),
        Action::Check(args) => check::run(data, args),
    }
}
