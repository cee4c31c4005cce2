//! `lodge sandbox check`

use super::broker::RealGateway;
use super::scene::{ProfileName, TierName, tools};
use crate::data::DataDir;
use crate::failure::{Failure, chain};
use crate::roles::companion;
use crate::terminal::{one_line, print, print_json};
use lodge_probe::{CheckError, Options};
use lodge_proto::ErrorCode;
use lodge_sandbox::host;
use lodge_sandbox::policy::{Profile, Tier};

/// Widest text of a guest in an error, in characters.
const SHOWN: usize = 400;

/// What is to be checked.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// What the guest runs in.
    #[arg(long, value_enum, default_value = "process")]
    tier: TierName,
    /// Default set of rules.
    #[arg(long, value_enum, default_value = "development")]
    profile: ProfileName,
    /// Only this probe; may be given more than once.
    #[arg(long = "probe", value_name = "ID")]
    ids: Vec<String>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(data: &DataDir, args: &Args) -> anyhow::Result<u8> {
    let tools = tools(data)?;
    let tier = Tier::from(args.tier);
    host::usable(tier, &tools.state).map_err(|error| super::scene::unbuildable(&error))?;
    let options = Options {
        tier,
        profile: Profile::from(args.profile),
        tools,
        program: companion("lodge-probe")?.canonicalize()?,
        ids: args.ids.clone(),
        scene_parent: None,
        broker: Some(&RealGateway),
        show: &|text| one_line(text, SHOWN),
        progress: None,
    };
    let report = lodge_probe::check(&options).map_err(|error| match error {
        CheckError::Unknown { .. } => Failure::new(ErrorCode::InvalidArgument, error.to_string())
            .mend("without --probe all of them are run"),
        CheckError::Program { .. } => Failure::new(ErrorCode::SandboxUnavailable, chain(&error))
            .mend("in a source tree: scripts/build-guest; else install Lodge again"),
    })?;
    if args.json {
        print_json(&report)?;
    } else {
        print(&report.text());
    }
    Ok(u8::from(report.differences().next().is_some()))
}
