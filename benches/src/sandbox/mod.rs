//! Starting and ending a sandbox, a command in a warm one, and what an idle one holds in memory: every tier of Lodge
//! beside a bare process, bwrap alone and the sandboxes of others, in rounds that take all of them in turn.

mod lodge;
mod others;
mod report;

use crate::proc;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// What is measured.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// Fewer rounds.
    #[arg(long)]
    quick: bool,
    /// Where the table goes.
    #[arg(long, value_name = "FILE", default_value = "benches/SANDBOX.md")]
    out: PathBuf,
    /// State of the sandboxes: the directory with the guest image.
    #[arg(long, value_name = "DIR", default_value = "target/sandbox-data/sandbox")]
    state: PathBuf,
    /// Guest init, statically linked.
    #[arg(long, value_name = "FILE", default_value = "target/guest/lodge-init")]
    init: PathBuf,
    /// Where scripts/install-foreign put the sandboxes of others.
    #[arg(long, value_name = "DIR", default_value = "target/foreign")]
    foreign: PathBuf,
    /// Only rows whose name holds one of these; nothing is written then.
    #[arg(long, value_name = "TEXT", value_delimiter = ',')]
    only: Vec<String>,
}

impl Args {
    fn wants(&self, name: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|part| name.contains(part.as_str()))
    }
}

/// A row of the table.
pub(crate) struct Row {
    pub(crate) name: &'static str,
    /// One run, from nothing to nothing; what its stages took.
    run: Box<dyn FnMut() -> anyhow::Result<Vec<Duration>>>,
    /// What the stages are called, where there are several.
    pub(crate) stages: &'static [&'static str],
    /// Of the full number of rounds, one in this many: what takes a second is not repeated a hundred times.
    every: usize,
    /// The stages of every run.
    runs: Vec<Vec<Duration>>,
    pub(crate) problem: Option<String>,
}

impl Row {
    pub(crate) fn new(
        name: &'static str,
        every: usize,
        mut run: impl FnMut() -> anyhow::Result<Duration> + 'static,
    ) -> Self {
        Self::in_stages(name, every, &[], move || Ok(vec![run()?]))
    }

    pub(crate) fn in_stages(
        name: &'static str,
        every: usize,
        stages: &'static [&'static str],
        run: impl FnMut() -> anyhow::Result<Vec<Duration>> + 'static,
    ) -> Self {
        Self {
            name,
            run: Box::new(run),
            stages,
            every,
            runs: Vec::new(),
            problem: None,
        }
    }

    /// A row that cannot be measured here.
    pub(crate) fn absent(name: &'static str, why: &anyhow::Error) -> Self {
        let mut row = Self::new(name, 1, || Ok(Duration::ZERO));
        row.problem = Some(format!("{why:#}"));
        row
    }

    /// One run that does not count: what is cached is cached, what is started once is started.
    fn warm_up(&mut self) {
        self.turn();
        self.runs.clear();
    }

    fn turn(&mut self) {
        if self.problem.is_some() {
            return;
        }
        match (self.run)() {
            Ok(took) => self.runs.push(took),
            Err(error) => self.problem = Some(format!("{error:#}")),
        }
    }

    pub(crate) fn runs(&self) -> usize {
        self.runs.len()
    }

    pub(crate) fn median(&self) -> Option<Duration> {
        median(self.runs.iter().map(|stages| stages.iter().sum()))
    }

    pub(crate) fn minimum(&self) -> Option<Duration> {
        self.runs.iter().map(|stages| stages.iter().sum()).min()
    }

    /// The median of one stage.
    pub(crate) fn stage(&self, index: usize) -> Option<Duration> {
        median(self.runs.iter().filter_map(|stages| stages.get(index).copied()))
    }
}

fn median(times: impl Iterator<Item = Duration>) -> Option<Duration> {
    let mut sorted: Vec<Duration> = times.collect();
    sorted.sort_unstable();
    sorted.get(sorted.len() / 2).copied()
}

/// Resident memory of an idle sandbox, KiB (proportional set size of all of its processes).
#[derive(Debug)]
pub(crate) struct Resident {
    pub(crate) name: &'static str,
    pub(crate) pss_kib: anyhow::Result<u64>,
}

impl Resident {
    pub(crate) fn new(name: &'static str, measure: impl FnOnce() -> anyhow::Result<u64>) -> Self {
        Self {
            name,
            pss_kib: measure(),
        }
    }
}

/// Runs it all and writes the table.
pub fn run(args: &Args) -> anyhow::Result<()> {
    let began = Instant::now();
    let load = proc::load();
    let rounds = if args.quick { 12 } else { 60 };
    let scene = lodge::Scene::new(&args.state, &args.init)?;
    let mut rows = others::rows(&scene, &args.foreign);
    rows.extend(lodge::rows(&scene));
    rows.retain(|row| args.wants(row.name));
    for row in &mut rows {
        row.warm_up();
    }
    for round in 0..rounds {
        eprint!(
            "\rbench: round {} of {rounds} ({} s so far)",
            round + 1,
            began.elapsed().as_secs()
        );
        for row in &mut rows {
            if round % row.every == 0 {
                row.turn();
            }
        }
    }
    eprintln!();
    let mut resident = Vec::new();
    if args.only.is_empty() {
        resident = lodge::resident(&scene);
        resident.extend(others::resident(&scene, &args.foreign));
    }
    let text = report::markdown(args.quick, &load, &rows, &resident, began.elapsed());
    if args.only.is_empty() {
        std::fs::write(&args.out, &text)?;
    }
    println!("{text}");
    Ok(())
}

/// Proportional memory of a process and all below it, KiB.
pub(crate) fn pss_of_tree(root: u32) -> u64 {
    let mut total = 0;
    let mut open = vec![root];
    while let Some(pid) = open.pop() {
        total += pss(pid);
        open.extend(children(pid));
    }
    total
}

fn pss(pid: u32) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("Pss:"));
    line.and_then(|rest| rest.trim().strip_suffix("kB")?.trim().parse().ok())
        .unwrap_or(0)
}

fn children(pid: u32) -> Vec<u32> {
    let Ok(tasks) = std::fs::read_dir(format!("/proc/{pid}/task")) else {
        return Vec::new();
    };
    tasks
        .flatten()
        .filter_map(|task| std::fs::read_to_string(task.path().join("children")).ok())
        .flat_map(|text| {
            text.split_ascii_whitespace()
                .filter_map(|pid| pid.parse().ok())
                .collect::<Vec<_>>()
        })
        .collect()
}

/// Waits for a program that prints nothing and is expected to succeed.
pub(crate) fn timed(command: &mut Command) -> anyhow::Result<Duration> {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    let began = Instant::now();
    let output = command.spawn()?.wait_with_output()?;
    let took = began.elapsed();
    anyhow::ensure!(
        output.status.success(),
        "{} ended with {}: {}",
        command.get_program().display(),
        output.status,
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(took)
}
