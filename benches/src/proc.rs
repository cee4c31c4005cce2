//! Processes: starting and ending them, their processor time and memory, the machine they run on.

use crate::clock::cpu_ns;
use anyhow::{Context, bail};
use rustix::process::{Pid, Signal, kill_process};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError, mpsc};
use std::time::{Duration, Instant};

/// Children that live, so that none outlives an aborted run.
static CHILDREN: Mutex<BTreeSet<u32>> = Mutex::new(BTreeSet::new());

fn children() -> MutexGuard<'static, BTreeSet<u32>> {
    CHILDREN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Ends this process, its children, and all that was started with `dir` in its arguments (shims outlive their
/// runner) on TERM, on INT, and after `limit`.
pub fn end_with_everything(dir: &Path, limit: Duration) -> anyhow::Result<()> {
    let dir = dir.to_string_lossy().into_owned();
    let mut signals = Signals::new([SIGINT, SIGTERM])?;
    let (sender, told) = mpsc::channel();
    std::thread::spawn(move || {
        for _ in signals.forever() {
            let _ = sender.send(());
        }
    });
    std::thread::spawn(move || {
        let late = told.recv_timeout(limit).is_err();
        let by_argument = with_argument(&dir).into_iter().map(|(pid, _)| pid);
        for pid in children()
            .iter()
            .copied()
            .chain(by_argument)
            .filter(|pid| *pid != std::process::id())
        {
            send(pid, Signal::KILL);
        }
        let _ = fs::remove_dir_all(dir);
        eprintln!("bench: {}", if late { "it took too long" } else { "stopped" });
        std::process::exit(1);
    });
    Ok(())
}

fn send(pid: u32, signal: Signal) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        // It may have ended by itself.
        let _ = kill_process(pid, signal);
    }
}

/// A child that ends with this value.
#[derive(Debug)]
pub struct Server {
    child: Child,
    /// What it said when it was ready, without the word `ready`.
    pub said: String,
}

impl Server {
    fn new(child: Child) -> Self {
        children().insert(child.id());
        Self {
            child,
            said: String::new(),
        }
    }

    /// Takes charge of a process.
    pub fn of(child: Child) -> Self {
        Self::new(child)
    }

    /// Starts a process that says `ready` on its output when it serves.
    pub fn start_ready(command: &mut Command) -> anyhow::Result<Self> {
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
        let output = child.stdout.take().context("the child has no output")?;
        let (sender, receiver) = mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if let Some(rest) = line.strip_prefix("ready") {
                    let _ = sender.send(rest.trim().to_owned());
                }
            }
        });
        let said = receiver.recv_timeout(Duration::from_secs(30));
        let mut server = Self::new(child);
        server.said = said.with_context(|| format!("{command:?} did not say that it is ready"))?;
        Ok(server)
    }

    /// Starts a process and waits until `is_ready`. What it prints goes to `log`.
    pub fn start(
        command: &mut Command,
        log: &Path,
        mut is_ready: impl FnMut() -> bool,
    ) -> anyhow::Result<(Self, Duration)> {
        let file = fs::File::create(log).with_context(|| format!("making {}", log.display()))?;
        let begun = Instant::now();
        let child = command
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file)
            .spawn()
            .with_context(|| format!("{command:?}"))?;
        let mut server = Self::new(child);
        while !is_ready() {
            if let Some(status) = server.child.try_wait()? {
                bail!("it ended with {status}: {}", tail(log));
            }
            if begun.elapsed() > Duration::from_mins(1) {
                bail!("it did not serve within a minute: {}", tail(log));
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok((server, begun.elapsed()))
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Asks it to stop, and waits for that; it is killed after `patience`.
    pub fn stop(&mut self, patience: Duration) {
        send(self.pid(), Signal::TERM);
        let begun = Instant::now();
        while begun.elapsed() < patience {
            if matches!(self.child.try_wait(), Ok(Some(_)) | Err(_)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        children().remove(&self.pid());
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// The end of a log, on one line.
pub fn tail(log: &Path) -> String {
    let text = fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().rev().take(3).collect();
    lines
        .into_iter()
        .rev()
        .collect::<Vec<_>>()
        .join(" / ")
        .chars()
        .take(300)
        .collect()
}

/// Processes by number, with parent and name.
fn processes() -> BTreeMap<u32, (u32, String)> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        let Ok(stat) = fs::read_to_string(entry.path().join("stat")) else {
            continue;
        };
        // The name is in parentheses and may itself hold some.
        let (Some(open), Some(close)) = (stat.find('('), stat.rfind(')')) else {
            continue;
        };
        let name = stat[open + 1..close].to_owned();
        let parent = stat[close + 1..]
            .split_whitespace()
            .nth(1)
            .and_then(|field| field.parse().ok());
        found.insert(pid, (parent.unwrap_or(0), name));
    }
    found
}

/// All that descend from `root`, with their names.
pub fn descendants(root: u32) -> Vec<(u32, String)> {
    let all = processes();
    let mut found: Vec<(u32, String)> = Vec::new();
    let mut parents = vec![root];
    while let Some(parent) = parents.pop() {
        for (pid, (_, name)) in all.iter().filter(|(_, (of, _))| *of == parent) {
            parents.push(*pid);
            found.push((*pid, name.clone()));
        }
    }
    found
}

/// Processes whose command line holds `text`.
pub fn with_argument(text: &str) -> Vec<(u32, String)> {
    let holds = |pid: u32| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        memchr::memmem::find(&line, text.as_bytes()).is_some()
    };
    processes()
        .into_iter()
        .filter(|(pid, _)| holds(*pid))
        .map(|(pid, (_, name))| (pid, name))
        .collect()
}

/// Processor time of some processes from a moment on.
#[derive(Debug)]
pub struct CpuMeter {
    begun: Vec<(u32, u64)>,
}

impl CpuMeter {
    pub fn start(pids: &[u32]) -> Self {
        Self {
            begun: pids
                .iter()
                .filter_map(|pid| Some((*pid, cpu_ns(*pid)?)))
                .collect(),
        }
    }

    /// Since the start, all together.
    pub fn used(&self) -> Duration {
        self.each().into_iter().map(|(_, used)| used).sum()
    }

    /// Since the start, process by process.
    pub fn each(&self) -> Vec<(u32, Duration)> {
        let since = |(pid, before): &(u32, u64)| {
            (
                *pid,
                Duration::from_nanos(cpu_ns(*pid).unwrap_or(*before).saturating_sub(*before)),
            )
        };
        self.begun.iter().map(since).collect()
    }
}

/// Memory of a process, in KiB.
#[derive(Debug, Clone, Copy, Default)]
pub struct Memory {
    /// Proportional set size; 0 where the kernel does not let us see it.
    pub pss: u64,
    pub rss: u64,
}

pub fn memory(pid: u32) -> Memory {
    let field = |file: &str, name: &str| -> u64 {
        let text = fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap_or_default();
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(name))
            .unwrap_or_default();
        line.split_whitespace()
            .next()
            .and_then(|value| value.parse().ok())
            .unwrap_or(0)
    };
    Memory {
        pss: field("smaps_rollup", "Pss:"),
        rss: field("status", "VmRSS:"),
    }
}

/// Resident memory of a process, KiB: all of it, and what is of no file. Cheap enough to be asked often.
pub fn resident(pid: u32) -> (u64, u64) {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let field = |name: &str| -> u64 {
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        let value = line.and_then(|line| line.split_whitespace().next());
        value.and_then(|value| value.parse().ok()).unwrap_or(0)
    };
    (field("VmRSS:"), field("RssAnon:"))
}

/// Load averages over 1, 5 and 15 minutes.
pub fn load() -> String {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split_whitespace().take(3).collect::<Vec<_>>().join(" ")
}

/// Processor, memory and kernel in a line.
pub fn machine() -> String {
    let first = |file: &str, name: &str| {
        let text = fs::read_to_string(file).unwrap_or_default();
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(name))
            .unwrap_or_default();
        line.trim_start_matches([' ', '\t', ':']).trim().to_owned()
    };
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let kib: u64 = first("/proc/meminfo", "MemTotal")
        .split(' ')
        .next()
        .and_then(|kib| kib.parse().ok())
        .unwrap_or(0);
    format!(
        "{cores} cores, {}; {} GiB; Linux {}",
        first("/proc/cpuinfo", "model name"),
        kib / (1 << 20),
        fs::read_to_string("/proc/sys/kernel/osrelease")
            .unwrap_or_default()
            .trim(),
    )
}
