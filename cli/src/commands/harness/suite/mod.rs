//! `lodge harness test`: what every harness must do, tried with the real program and the demo model.
//!
//! - [`cases`]: one file for each kind of case
//! - [`bench`]: where a case runs, and for how long
//! - [`world`]: a Lodge of its own, with the same harnesses
//! - [`talk`]: a session as its client sees it
//! - [`turn`]: what a turn was
//! - [`report`]: what came out
//! - [`capabilities`], [`faults`]: the tables of the documentation

mod bench;
pub(super) mod capabilities;
mod cases;
mod faults;
mod report;
mod talk;
mod turn;
mod world;

use crate::data::DataDir;
use crate::signals::Asked;
use crate::terminal::print_json;
use bench::Bench;
use cases::{Case, Lane};
use clap::ValueEnum;
use lodge_proto::command::HarnessInfo;
use lodge_proto::session::Tier;
use report::{CaseReport, Observed, Outcome, Report};
use std::time::Instant;
use world::World;

/// Exit status of a run that was stopped with Ctrl-C: what a shell expects of it.
const INTERRUPTED: u8 = 130;

/// The options of `lodge harness test`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  lodge harness test pi\n  lodge harness test codex --only steer,abort-tool\n  \
    lodge harness test claude --json | jq .observed\n  lodge harness test gemini --long\n\n\
    Runs the installed program against the demo model, in a Lodge of its own that is removed afterwards.\n\
    A case is ok, unsupported (the session's capabilities say so), or FAILED. The exit status is 1 when one failed."
)]
pub(super) struct Args {
    /// The agent: see `lodge harness list`.
    name: String,
    /// Isolation of the sandbox [default: the policy's].
    #[arg(long, value_enum)]
    tier: Option<TierName>,
    /// Also the cases that take minutes, because harnesses pause before they try again.
    #[arg(long, conflicts_with = "only")]
    long: bool,
    /// Only these cases.
    #[arg(long, value_name = "CASE", value_delimiter = ',', value_parser = known)]
    only: Vec<Case>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

impl Args {
    fn wants(&self, case: Case) -> bool {
        if self.only.is_empty() {
            self.long || !case.is_long()
        } else {
            self.only.contains(&case)
        }
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum TierName {
    Process,
    Container,
    Microvm,
}

impl From<TierName> for Tier {
    fn from(name: TierName) -> Self {
        match name {
            TierName::Process => Self::Process,
            TierName::Container => Self::Container,
            TierName::Microvm => Self::Microvm,
        }
    }
}

fn known(name: &str) -> Result<Case, String> {
    Case::named(name).ok_or_else(|| {
        let names: Vec<&str> = Case::ALL.iter().map(|case| case.name()).collect();
        format!("there are: {}", names.join(", "))
    })
}

/// Runs the suite for a harness that is installed in `data`.
pub(super) async fn run(data: &DataDir, harness: &HarnessInfo, args: &Args) -> anyhow::Result<u8> {
    let cases: Vec<Case> = Case::ALL
        .iter()
        .copied()
        .filter(|case| args.wants(*case))
        .collect();
    let mut asked = Asked::new()?;
    let begin = Instant::now();
    // Not to be broken off: what was started has to be known, so that it can be ended.
    let worlds = Worlds::start(data, cases.iter().any(|case| case.asks())).await?;
    let report = tokio::select! {
        report = measure(&worlds, harness, args, &cases) => Some(report),
        _ = asked.to_stop() => None,
    };
    worlds.stop().await;
    let Some(mut report) = report else {
        return Ok(INTERRUPTED);
    };
    report.duration_ms = u64::try_from(begin.elapsed().as_millis()).unwrap_or(u64::MAX);
    if args.json {
        print_json(&report)?;
    } else {
        report.print();
    }
    Ok(u8::from(report.failed() > 0))
}

/// The Lodges of a run.
#[derive(Debug)]
struct Worlds {
    quiet: World,
    /// Where tools ask.
    asking: Option<World>,
}

impl Worlds {
    async fn start(data: &DataDir, asks: bool) -> anyhow::Result<Self> {
        let quiet = World::start(data, false).await?;
        if !asks {
            return Ok(Self { quiet, asking: None });
        }
        match World::start(data, true).await {
            Ok(asking) => Ok(Self {
                quiet,
                asking: Some(asking),
            }),
            Err(error) => {
                quiet.stop().await;
                Err(error)
            }
        }
    }

    async fn stop(self) {
        let asking = async {
            if let Some(world) = self.asking {
                world.stop().await;
            }
        };
        tokio::join!(self.quiet.stop(), asking);
    }
}

async fn measure(worlds: &Worlds, harness: &HarnessInfo, args: &Args, cases: &[Case]) -> Report {
    let name = harness.name.as_str();
    let what = (name, args.tier.map(Tier::from));
    let mut work = Bench::new(&worlds.quiet, worlds.asking.as_ref(), what, "work");
    let mut trouble = Bench::new(&worlds.quiet, worlds.asking.as_ref(), what, "trouble");
    let mut waits = Bench::new(&worlds.quiet, worlds.asking.as_ref(), what, "waits");
    let mut alone = Bench::new(&worlds.quiet, worlds.asking.as_ref(), what, "alone");
    let (mut done, troubled, waited, watched) = tokio::join!(
        lane(&mut work, cases, Lane::Work, args.json),
        lane(&mut trouble, cases, Lane::Trouble, args.json),
        lane(&mut waits, cases, Lane::Waits, args.json),
        lane(&mut alone, cases, Lane::Alone, args.json),
    );
    for reports in [troubled, waited, watched] {
        done.extend(reports);
    }
    let position = |report: &CaseReport| Case::ALL.iter().position(|case| case.name() == report.case);
    done.sort_by_key(|report| position(report).unwrap_or(usize::MAX));
    let mut observed: Observed = work.observed;
    observed.merge(trouble.observed);
    observed.merge(waits.observed);
    observed.merge(alone.observed);
    Report {
        harness: harness.name.clone(),
        title: harness.title.clone(),
        version: work
            .version
            .or(trouble.version)
            .or(waits.version)
            .or(alone.version)
            .unwrap_or_else(|| harness.version.clone()),
        tier: args.tier.map_or_else(Tier::default, Tier::from),
        cases: done,
        observed,
        duration_ms: 0,
    }
}

/// Runs the cases of a lane one after the other.
async fn lane(bench: &mut Bench<'_>, cases: &[Case], lane: Lane, json: bool) -> Vec<CaseReport> {
    let mut reports = Vec::new();
    for case in cases.iter().copied().filter(|case| case.lane() == lane) {
        let report = bench.run(case).await;
        if !json {
            let seconds = std::time::Duration::from_millis(report.duration_ms).as_secs_f64();
            eprintln!(
                "{} {}: {:?}, {seconds:.1} s",
                bench.harness, report.case, report.result
            );
        }
        reports.push(report);
    }
    if let Err(error) = bench.finish().await {
        reports.push(CaseReport {
            case: "end".to_owned(),
            result: Outcome::Failed,
            detail: bench::reason(&error),
            duration_ms: 0,
        });
    }
    reports
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cases_have_names_of_their_own_and_are_found_by_them() {
        for case in Case::ALL {
            assert_eq!(known(case.name()), Ok(*case));
        }
        let refused = known("singing").unwrap_err();
        assert!(refused.contains("abort-tool"), "{refused}");
    }
}
