//! Starting and ending a sandbox, a command in a warm one, and what an idle one holds in memory: every tier of Lodge
//! beside a bare process, bwrap alone and the sandboxes of others, in rounds that take all of them in turn.

mod lodge;
mod others;
mod report;

use crate::proc;
use std::path::{Path, PathBuf};
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
    #[arg(long, value_name = "DIR", default_value = "target/sandbox-state")]
    state: PathBuf,
    /// Socket of the container engine.
    #[arg(long, value_name = "SOCKET", env = "LODGE_TEST_DOCKER")]
    engine: Option<PathBuf>,
    /// Where scripts/install-foreign put the sandboxes of others.
    #[arg(long, value_name = "DIR", default_value = "target/foreign")]
    foreign: PathBuf,
}

/// Something that is timed again and again.
pub(crate) trait Subject {
    /// One run, from nothing to nothing; what it took.
    fn run(&mut self) -> anyhow::Result<Duration>;
}

impl<F: FnMut() -> anyhow::Result<Duration>> Subject for F {
    fn run(&mut self) -> anyhow::Result<Duration> {
        self()
    }
}

/// A row of the table.
pub(crate) struct Row {
    pub(crate) name: &'static str,
    pub(crate) subject: Box<dyn Subject>,
    /// Of the full number of rounds, one in this many: what takes a second is not repeated a hundred times.
    pub(crate) every: usize,
    pub(crate) times: Vec<Duration>,
    pub(crate) problem: Option<String>,
}

impl Row {
    pub(crate) fn new(name: &'static str, every: usize, subject: impl Subject + 'static) -> Self {
        Self {
            name,
            subject: Box::new(subject),
            every,
            times: Vec::new(),
            problem: None,
        }
    }

    /// A row that cannot be measured here.
    pub(crate) fn absent(name: &'static str, why: &anyhow::Error) -> Self {
        let mut row = Self::new(name, 1, || Ok(Duration::ZERO));
        row.problem = Some(format!("{why:#}"));
        row
    }

    fn turn(&mut self) {
        if self.problem.is_some() {
            return;
        }
        match self.subject.run() {
            Ok(took) => self.times.push(took),
            Err(error) => self.problem = Some(format!("{error:#}")),
        }
    }

    pub(crate) fn median(&self) -> Option<Duration> {
        let mut sorted = self.times.clone();
        sorted.sort_unstable();
        sorted.get(sorted.len() / 2).copied()
    }

    pub(crate) fn minimum(&self) -> Option<Duration> {
        self.times.iter().min().copied()
    }
}

/// Resident memory of an idle sandbox, KiB (proportional set size of all of its processes).
#[derive(Debug)]
pub(crate) struct Resident {
    pub(crate) name: &'static str,
    pub(crate) pss_kib: anyhow::Result<u64>,
}

/// Runs it all and writes the table.
pub fn run(args: &Args) -> anyhow::Result<()> {
    let began = Instant::now();
    let load = proc::load();
    let rounds = if args.quick { 12 } else { 60 };
    let scene = lodge::Scene::new(&args.state)?;
    let mut rows = others::rows(&scene, args.engine.as_deref(), &args.foreign);
    rows.extend(lodge::rows(&scene));
    for round in 0..rounds {
        for row in &mut rows {
            if round % row.every == 0 {
                row.turn();
            }
        }
    }
    let mut resident = lodge::resident(&scene);
    resident.extend(others::resident(&scene, args.engine.as_deref(), &args.foreign));
    let text = report::markdown(args.quick, &load, &rows, &resident, began.elapsed());
    std::fs::write(&args.out, text)?;
    println!("{}", args.out.display());
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
pub(crate) fn timed(program: &Path, arguments: &[&str], environment: &[(&str, &str)]) -> anyhow::Result<Duration> {
    let mut command = std::process::Command::new(program);
    command
        .args(arguments)
        .envs(environment.iter().copied())
        .stdin(std::process::Stdio::null())
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::piped());
    let began = Instant::now();
    let output = command.spawn()?.wait_with_output()?;
    let took = began.elapsed();
    anyhow::ensure!(
        output.status.success(),
        "{} ended with {}: {}",
        program.display(),
        output.status,
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(took)
}
