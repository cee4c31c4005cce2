//! What a harness costs behind Lodge: how fast its recordings are translated, what an idle session holds in memory, and
//! how much later the first piece of an answer comes than from the same program without Lodge.

mod bare;
mod latency;
mod launched;
mod report;
mod translate;
mod weight;

use crate::lodge::Programs;
use crate::lodge::instance::Lodge;
use crate::proc;
use anyhow::Context;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// What is measured.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// Fewer rounds, fewer sessions.
    #[arg(long)]
    quick: bool,
    /// Only these harnesses; nothing is written then.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Only these parts (translate, memory, latency); nothing is written then.
    #[arg(long, value_delimiter = ',')]
    parts: Vec<String>,
    /// Data directory in which the harnesses are installed.
    #[arg(long, value_name = "DIR", default_value = "target/test-data/harness-cache")]
    installed: PathBuf,
    /// Recordings, in a folder for each adapter.
    #[arg(long, value_name = "DIR", default_value = "runner/tests/fixtures")]
    recordings: PathBuf,
    /// Directory of lodge-shim.
    #[arg(long, default_value = "target/release")]
    programs: PathBuf,
    /// Guest init, statically linked.
    #[arg(long, default_value = "target/guest/lodge-init")]
    init: PathBuf,
    /// Where the data of the run goes; removed at its end.
    #[arg(long, default_value = "target/bench-work")]
    work: PathBuf,
    /// The file to write.
    #[arg(long, default_value = "benches/HARNESSES.md")]
    out: PathBuf,
}

impl Args {
    fn wants(&self, part: &str) -> bool {
        self.parts.is_empty() || self.parts.iter().any(|wanted| wanted == part)
    }

    fn wants_harness(&self, name: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|wanted| wanted == name)
    }
}

/// The harnesses that are started, and the folders of their recordings (`gemini` speaks the generic protocol).
const HARNESSES: [&str; 5] = ["pi", "codex", "claude", "gemini", "opencode"];

/// How much of everything.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sizes {
    /// Bytes of recordings that are folded, at least.
    pub(crate) bytes: usize,
    /// Times that this is repeated; the fastest counts.
    pub(crate) repeats: usize,
    /// Idle sessions that are weighed.
    pub(crate) sessions: usize,
    /// Turns of each side.
    pub(crate) rounds: usize,
}

impl Sizes {
    const FULL: Self = Self {
        bytes: 64 << 20,
        repeats: 3,
        sessions: 4,
        rounds: 60,
    };
    const QUICK: Self = Self {
        bytes: 8 << 20,
        repeats: 2,
        sessions: 2,
        rounds: 10,
    };
}

/// What could be measured, or why not.
pub(crate) type Measured<T> = Result<T, String>;

fn measured<T>(what: &str, run: impl FnOnce() -> anyhow::Result<T>) -> Measured<T> {
    run().map_err(|error| {
        eprintln!("bench: {what}: {error:#}");
        format!("{error:#}").replace(['\n', '|'], " ")
    })
}

/// Runs it all and writes the table.
pub fn run(args: &Args) -> anyhow::Result<()> {
    let begun = Instant::now();
    let load = proc::load();
    let sizes = if args.quick { Sizes::QUICK } else { Sizes::FULL };
    std::fs::create_dir_all(&args.work)?;
    let dir = tempfile::tempdir_in(args.work.canonicalize()?).context("a directory for the run")?;
    proc::end_with_everything(dir.path(), Duration::from_mins(20))?;
    let mut report = report::Report::new(args.quick, sizes, load);
    if args.wants("translate") {
        for adapter in lodge_runner::harness::AnyAdapter::NAMES {
            eprintln!(
                "bench: translating {adapter} ({} s so far)",
                begun.elapsed().as_secs()
            );
            let result = measured(adapter, || translate::measure(&args.recordings, adapter, &sizes));
            report.translated.push(((*adapter).to_owned(), result));
        }
    }
    if args.wants("memory") || args.wants("latency") {
        let lodge = start(dir.path(), args)?;
        live(args, &sizes, lodge, dir.path(), &mut report, begun);
    }
    report.took = begun.elapsed();
    let text = report.markdown();
    if args.only.is_empty() && args.parts.is_empty() {
        std::fs::write(&args.out, &text).with_context(|| format!("writing {}", args.out.display()))?;
    }
    println!("{text}");
    Ok(())
}

fn start(dir: &Path, args: &Args) -> anyhow::Result<Lodge> {
    let programs = Programs {
        dir: args.programs.clone(),
        init: args.init.clone(),
    };
    let installed = args.installed.canonicalize().with_context(|| {
        format!(
            "no harness is installed in {}; benches/harnesses does it",
            args.installed.display()
        )
    })?;
    Lodge::start_installed(dir, &programs, &installed)
}

fn live(
    args: &Args,
    sizes: &Sizes,
    mut lodge: Lodge,
    dir: &Path,
    report: &mut report::Report,
    begun: Instant,
) {
    for harness in HARNESSES.into_iter().filter(|name| args.wants_harness(name)) {
        if args.wants("memory") {
            eprintln!(
                "bench: weighing {harness} ({} s so far)",
                begun.elapsed().as_secs()
            );
            let result = measured(harness, || weight::measure(&mut lodge, harness, sizes.sessions));
            report.weights.push((harness.to_owned(), result));
        }
        if args.wants("latency") {
            eprintln!(
                "bench: first delta of {harness} ({} s so far)",
                begun.elapsed().as_secs()
            );
            let home = dir.join(format!("bare-{harness}"));
            let result = measured(harness, || {
                latency::measure(&mut lodge, harness, &home, sizes.rounds)
            });
            report.latencies.push((harness.to_owned(), result));
        }
    }
    report.versions = versions(&args.installed);
}

/// Versions that are installed, by harness.
fn versions(installed: &Path) -> Vec<(String, String)> {
    let newest = |name: &&str| {
        let folder = std::fs::read_dir(installed.join("harness").join(name)).ok()?;
        let mut found: Vec<semver::Version> = folder
            .flatten()
            .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
            .collect();
        found.sort();
        Some(((*name).to_owned(), found.pop()?.to_string()))
    };
    HARNESSES.iter().filter_map(newest).collect()
}
