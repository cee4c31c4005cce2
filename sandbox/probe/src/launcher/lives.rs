//! Ends: nothing of a sandbox outlives it, however it ends.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use lodge_sandbox::policy::Tier;

use crate::attack::DAEMON;
use crate::check::{Check, Verdict, outside};
use crate::judge::Found;
use crate::report::Control;
use crate::stage::{Sandbox, Set, StageError};
use crate::watch::mounts;

/// How long everything may take to be gone.
const GONE: Duration = Duration::from_secs(5);
const PATIENCE: Duration = Duration::from_mins(1);

/// A process by number and time of start: numbers are used again.
type Process = (i32, u64);

fn stat(pid: i32) -> Option<(i32, u64)> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let rest: Vec<&str> = text.rsplit(')').next()?.split_whitespace().collect();
    if rest.first() == Some(&"Z") {
        return None;
    }
    Some((rest.get(1)?.parse().ok()?, rest.get(19)?.parse().ok()?))
}

fn processes() -> Vec<i32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect()
}

/// `root` and everything below it.
fn tree(root: i32) -> BTreeSet<Process> {
    let all: Vec<(i32, i32, u64)> = processes()
        .into_iter()
        .filter_map(|pid| stat(pid).map(|(parent, start)| (pid, parent, start)))
        .collect();
    let mut wanted = BTreeSet::from([root]);
    loop {
        let before = wanted.len();
        wanted.extend(
            all.iter()
                .filter(|(_, parent, _)| wanted.contains(parent))
                .map(|(pid, ..)| *pid)
                .collect::<Vec<_>>(),
        );
        if wanted.len() == before {
            break;
        }
    }
    all.iter()
        .filter(|(pid, ..)| wanted.contains(pid))
        .map(|&(pid, _, start)| (pid, start))
        .collect()
}

/// Processes whose command line begins with `mark`.
fn marked(mark: &str) -> BTreeSet<Process> {
    let of = |pid: i32| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        line.starts_with(mark.as_bytes())
            .then(|| stat(pid).map(|(_, start)| (pid, start)))?
    };
    processes().into_iter().filter_map(of).collect()
}

fn alive(processes: &BTreeSet<Process>) -> Vec<i32> {
    let same = |(pid, start): &&Process| stat(*pid).is_some_and(|(_, now)| now == *start);
    processes.iter().filter(same).map(|(pid, _)| *pid).collect()
}

/// Waits until `processes` are gone; those that are not after `limit`.
pub(super) fn wait_gone(processes: &BTreeSet<Process>, limit: Duration) -> Vec<i32> {
    let deadline = Instant::now() + limit;
    loop {
        let left = alive(processes);
        if left.is_empty() || Instant::now() > deadline {
            return left;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn mark(set: &Set) -> String {
    format!("{DAEMON}-{}", set.scene.facts.token)
}

/// A sandbox with a daemon in it, and every process on the host that belongs to it.
fn with_daemon(
    check: &Check<'_>,
    deadline: Option<u64>,
) -> Result<(Set, Sandbox, BTreeSet<Process>), StageError> {
    let set = check.set()?;
    let facts = set.scene.write_facts()?;
    let mut policy = check.policy.clone();
    policy.limits.wall_seconds = deadline;
    let sandbox = set.start(&policy, &check.options.tools)?;
    let ran = sandbox.attack("P23", &facts, false, PATIENCE);
    if ran.report().is_none() {
        return Err(std::io::Error::other(format!("no daemon: {:?}", ran.ended(None))).into());
    }
    let wait = Instant::now() + Duration::from_secs(5);
    // In a machine of its own it is not to be seen; then the machine itself has to go.
    while check.options.tier != Tier::Microvm && marked(&mark(&set)).is_empty() && Instant::now() < wait {
        std::thread::sleep(Duration::from_millis(2));
    }
    let mut all = of_sandbox(&sandbox);
    let daemon = marked(&mark(&set));
    if check.options.tier != Tier::Microvm && daemon.is_empty() {
        return Err(std::io::Error::other("the daemon did not start").into());
    }
    all.extend(daemon);
    Ok((set, sandbox, all))
}

/// The daemon survives where there is no sandbox.
fn control(check: &Check<'_>) -> Control {
    let run = || -> Result<String, String> {
        let mut set = check.set().map_err(|error| error.to_string())?;
        set.scene.facts.outside = true;
        set.scene.write_facts().map_err(|error| error.to_string())?;
        outside("P23", &set.scene.facts.workspace)?;
        let deadline = Instant::now() + Duration::from_secs(5);
        let mark = mark(&set);
        while marked(&mark).is_empty() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(2));
        }
        let left = marked(&mark);
        for (pid, _) in &left {
            if let Some(pid) = rustix::process::Pid::from_raw(*pid) {
                let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
            }
        }
        if left.is_empty() {
            Err("it did not survive outside either".to_owned())
        } else {
            Ok("it survives outside".to_owned())
        }
    };
    run().into()
}

/// Processes with their command lines, as far as they are still to be seen.
fn named(left: &[i32]) -> String {
    let line = |pid: &i32| {
        let words = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let text = String::from_utf8_lossy(&words).replace('\0', " ");
        format!("{pid} ({})", text.chars().take(80).collect::<String>())
    };
    left.iter().map(line).collect::<Vec<_>>().join(", ")
}

fn verdict(left: &[i32], good: Found, how: &str, control: Control) -> Verdict {
    if left.is_empty() {
        (good, how.to_owned(), control)
    } else {
        (
            Found::Open,
            format!("{how}: still there: {}", named(left)),
            control,
        )
    }
}

pub(super) fn daemon_at_end(check: &mut Check<'_>) -> Verdict {
    let control = control(check);
    match with_daemon(check, None) {
        Ok((_set, sandbox, all)) => {
            sandbox.end();
            verdict(
                &wait_gone(&all, GONE),
                Found::Denied,
                &format!("{} processes ended", all.len()),
                control,
            )
        }
        Err(error) => (Found::Untested, error.to_string(), control),
    }
}

pub(super) fn daemon_at_deadline(check: &mut Check<'_>) -> Verdict {
    const SECONDS: u64 = 3;
    let control = control(check);
    match with_daemon(check, Some(SECONDS)) {
        Ok((_set, sandbox, all)) => {
            let left = wait_gone(&all, Duration::from_secs(SECONDS + 10));
            let took = sandbox.since.elapsed();
            let wanted = Duration::from_secs(SECONDS);
            // A second, and what noticing it outside takes; the sandbox's clock runs from a little before its hello.
            let (late, early) = (took.saturating_sub(wanted), wanted.saturating_sub(took));
            let how = format!(
                "gone {} ms after its start, {SECONDS} s were allowed",
                took.as_millis()
            );
            if left.is_empty() && (late > Duration::from_millis(1300) || early > Duration::from_millis(500)) {
                return (Found::Open, how, control);
            }
            verdict(&left, Found::Denied, &how, control)
        }
        Err(error) => (Found::Untested, error.to_string(), control),
    }
}

/// Processes that are the first of the namespace in which `mark` runs; outside of a virtual machine.
fn first_of(daemon: &BTreeSet<Process>) -> Vec<i32> {
    let Some((pid, _)) = daemon.first() else {
        return Vec::new();
    };
    let space = |pid: i32| fs::read_link(format!("/proc/{pid}/ns/pid")).ok();
    let own = space(*pid);
    let first = |pid: &i32| {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let line = status
            .lines()
            .find(|line| line.starts_with("NSpid:"))
            .unwrap_or_default();
        line.split_whitespace().next_back() == Some("1") && space(*pid) == own
    };
    if own.is_none() {
        return Vec::new();
    }
    processes().into_iter().filter(first).collect()
}

pub(super) fn daemon_at_death(check: &mut Check<'_>) -> Verdict {
    let control = control(check);
    let launcher = with_daemon(check, None).map(|(_set, mut sandbox, all)| {
        sandbox.kill_launcher();
        wait_gone(&all, GONE)
    });
    let left = match launcher {
        Ok(left) => left,
        Err(error) => return (Found::Untested, error.to_string(), control),
    };
    if !left.is_empty() {
        return verdict(&left, Found::Holds, "the launcher was killed", control);
    }
    match with_daemon(check, None) {
        Ok((set, sandbox, all)) => {
            let first = first_of(&marked(&mark(&set)));
            // In a machine of its own, the machine is what carries everything.
            let carrier = if check.options.tier == Tier::Microvm {
                emulators(&all)
            } else {
                first
            };
            if carrier.is_empty() {
                return (
                    Found::Untested,
                    "the first process is not to be found".to_owned(),
                    control,
                );
            }
            for pid in &carrier {
                if let Some(pid) = rustix::process::Pid::from_raw(*pid) {
                    let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
                }
            }
            let left = wait_gone(&all, GONE);
            drop(sandbox);
            verdict(
                &left,
                Found::Holds,
                "launcher and first process were killed in turn",
                control,
            )
        }
        Err(error) => (Found::Untested, error.to_string(), control),
    }
}

/// Those of `processes` that emulate a machine.
pub(super) fn emulators(processes: &BTreeSet<Process>) -> Vec<i32> {
    let name = |pid: i32| fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    processes
        .iter()
        .map(|(pid, _)| *pid)
        .filter(|&pid| name(pid).starts_with("qemu"))
        .collect()
}

/// All processes of a running sandbox that are to be seen on the host.
pub(super) fn of_sandbox(sandbox: &Sandbox) -> BTreeSet<Process> {
    let mut all = tree(i32::try_from(sandbox.launcher()).unwrap_or(0));
    // What holds a snapshot's memory for later machines is of no guest and goes by itself. A guest cannot pretend to be
    // it: no process of a machine is a process of the host.
    if sandbox.plan.tier == Tier::Microvm {
        all.retain(|(pid, _)| !is_keeper(*pid));
    }
    all
}

/// `lodge-tier keep`
fn is_keeper(pid: i32) -> bool {
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let mut words = line.split(|&byte| byte == 0);
    words
        .next()
        .is_some_and(|program| program.ends_with(b"lodge-tier"))
        && words.next() == Some(b"keep".as_slice())
}

fn entries(directory: &Path, found: &mut BTreeSet<String>) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        found.insert(entry.path().display().to_string());
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            entries(&entry.path(), found);
        }
    }
}

pub(super) fn litter(check: &mut Check<'_>) -> Verdict {
    let result = || -> Result<Verdict, StageError> {
        let set = check.set()?;
        let list = || {
            let mut found = BTreeSet::new();
            entries(&set.scene.facts.workspace, &mut found);
            found
        };
        let (before, mounted) = (list(), mounts(&set.scene));
        let mut sandbox = set.start(&check.policy, &check.options.tools)?;
        let all = of_sandbox(&sandbox);
        let during = list();
        sandbox.kill_launcher();
        let left = wait_gone(&all, GONE);
        // What Lodge does at its next start, or at the end of the next sandbox.
        lodge_sandbox::placeholder::sweep(&check.options.tools.state)?;
        let after = list();
        let control = if during == before && check.options.tier == Tier::Process {
            // Then nothing had to be cleaned; that something would be noticed is shown by hand.
            fs::write(set.scene.facts.workspace.join("litter"), "")?;
            if list() == after {
                Control::Fails("nothing is noticed".into())
            } else {
                Control::Works("a new file is noticed".into())
            }
        } else {
            Control::Works(format!(
                "{} names were there meanwhile",
                during.len().saturating_sub(before.len())
            ))
        };
        let more: Vec<&String> = after.difference(&before).collect();
        if mounts(&set.scene) > mounted || !more.is_empty() || !left.is_empty() {
            return Ok((
                Found::Open,
                format!("left behind: {more:?}, {}", named(&left)),
                control,
            ));
        }
        Ok((
            Found::None,
            "workspace, mounts and processes are as before".to_owned(),
            control,
        ))
    };
    result().unwrap_or_else(|error| (Found::Untested, error.to_string(), Control::NotNeeded))
}
