//! The program inside: every attack is really made, within bounds of time and amount.
//!
//! The same code runs outside as the positive control. What would hurt the machine there runs in namespaces of its own
//! ([`Attack::apart`]), and what this machine's user cannot do at all has a stand-in ([`Attack::substitute`]).

mod control_files;
mod egress;
mod files;
mod gateway;
mod ipc;
mod isolation;
mod kernel;
mod machine;
mod network;
mod processes;
mod resources;
pub(crate) mod sys;

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use crate::facts::{Facts, GuestReport, Original, Outcome, Step};
use sys::call;

/// How long one forked attempt may take.
const APART_LIMIT: Duration = Duration::from_secs(8);
/// Characters of what was read that a report carries.
const SAMPLE: usize = 160;

/// One probe being run.
#[derive(Debug)]
pub(crate) struct Attack<'a> {
    pub(crate) facts: &'a Facts,
    steps: Vec<Step>,
}

/// What the scene's servers answer with.
pub(crate) use egress::UPSTREAM;
pub(crate) use processes::DAEMON;

pub(crate) type Try = io::Result<String>;

impl Attack<'_> {
    /// An attempt whose success is a breach by itself.
    pub(crate) fn act(&mut self, name: &str, act: impl FnOnce() -> Try) {
        let result = act();
        self.note(name, result, false, false);
    }

    /// An attempt that is a breach when its effect is seen outside.
    pub(crate) fn effect(&mut self, name: &str, act: impl FnOnce() -> Try) {
        let result = act();
        self.note(name, result, true, false);
    }

    /// An attempt in a child of its own, outside also in namespaces of its own: it changes its process, or would
    /// change the machine.
    pub(crate) fn apart(&mut self, name: &str, act: impl FnOnce() -> Try) {
        let result = apart(self.facts.outside, act);
        self.note(name, result, false, false);
    }

    /// An attempt in a child of its own, but outside with all the rights of the user.
    pub(crate) fn forked(&mut self, name: &str, act: impl FnOnce() -> Try) {
        let result = apart(false, act);
        self.note(name, result, false, false);
    }

    /// Shows outside that the attack's code works, where its user or the machine does not allow the act itself.
    pub(crate) fn substitute(&mut self, name: &str, act: impl FnOnce() -> Try) {
        if self.facts.outside {
            let result = act();
            self.note(name, result, false, true);
        }
    }

    /// An amount that was reached: `limited` when it ended at a bound.
    pub(crate) fn amount(&mut self, name: &str, limited: bool, detail: String) {
        let outcome = if limited { Outcome::Limited } else { Outcome::Done };
        self.push(name, outcome, false, false, detail);
    }

    fn note(&mut self, name: &str, result: Try, needs_effect: bool, substitute: bool) {
        match result {
            Ok(detail) => self.push(name, Outcome::Done, needs_effect, substitute, detail),
            Err(error) => self.push(name, Outcome::Denied, needs_effect, substitute, error.to_string()),
        }
    }

    fn push(&mut self, name: &str, outcome: Outcome, needs_effect: bool, substitute: bool, detail: String) {
        self.steps.push(Step {
            name: name.to_owned(),
            outcome,
            needs_effect,
            substitute,
            detail,
        });
    }
}

type Probe = fn(&mut Attack<'_>);

/// Families, each with the attacks of its probes.
const FAMILIES: &[&[(&str, Probe)]] = &[
    files::ATTACKS,
    control_files::ATTACKS,
    processes::ATTACKS,
    isolation::ATTACKS,
    kernel::ATTACKS,
    ipc::ATTACKS,
    network::ATTACKS,
    egress::ATTACKS,
    gateway::ATTACKS,
    resources::ATTACKS,
    machine::ATTACKS,
];

fn find(id: &str) -> Option<Probe> {
    let mut all = FAMILIES.iter().flat_map(|family| family.iter());
    all.find(|(known, _)| *known == id).map(|(_, probe)| *probe)
}

/// Whether something inside acts for that probe.
pub fn exists(id: &str) -> bool {
    find(id).is_some()
}

/// Runs the attack of one probe; `None` when nothing inside acts for it.
pub fn run(id: &str, facts: &Facts) -> Option<GuestReport> {
    let probe = find(id)?;
    let mut attack = Attack {
        facts,
        steps: Vec::new(),
    };
    probe(&mut attack);
    Some(GuestReport {
        id: id.to_owned(),
        steps: attack.steps,
    })
}

/// The start of what a file holds.
pub(crate) fn read(path: impl AsRef<Path>) -> Try {
    let mut file = OpenOptions::new().read(true).open(path)?;
    let mut bytes = vec![0; 4096];
    let got = file.read(&mut bytes)?;
    Ok(sample(&bytes[..got]))
}

pub(crate) fn sample(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).chars().take(SAMPLE).collect()
}

/// Opens for writing and writes nothing: for what must not be changed even when it could be.
pub(crate) fn open_for_writing(path: impl AsRef<Path>) -> Try {
    OpenOptions::new()
        .append(true)
        .open(path)
        .map(|_| "open for writing".to_owned())
}

/// Opens a program of the machine for writing; one of the sandbox's own is no prize.
pub(crate) fn overwrite(program: &Original) -> Try {
    if !program.is_here() {
        return refused("not the machine's");
    }
    open_for_writing(&program.path)
}

pub(crate) fn append(path: impl AsRef<Path>, text: &str) -> Try {
    let mut file = OpenOptions::new().append(true).open(path)?;
    writeln!(file, "{text}")?;
    Ok("written".to_owned())
}

pub(crate) fn create(path: impl AsRef<Path>, text: &str) -> Try {
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .open(path)?;
    writeln!(file, "{text}")?;
    Ok("written".to_owned())
}

pub(crate) fn list(path: impl AsRef<Path>) -> Try {
    let names = fs::read_dir(path)?.flatten().take(8);
    let names: Vec<String> = names
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    if names.is_empty() {
        return refused("empty");
    }
    Ok(names.join(" "))
}

pub(crate) fn refused<T>(why: impl Into<String>) -> io::Result<T> {
    Err(io::Error::other(why.into()))
}

pub(crate) fn worked<T>(result: io::Result<T>, what: &str) -> Try {
    result.map(|_| what.to_owned())
}

/// Sleeps; waiting for the kernel is what some attacks consist of.
pub(crate) fn pause(milliseconds: u64) {
    std::thread::sleep(Duration::from_millis(milliseconds));
}

/// Other processes that are to be seen.
pub(crate) fn other_processes() -> Vec<i32> {
    let own = i32::try_from(std::process::id()).unwrap_or(0);
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    let ids = entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    ids.filter(|&pid: &i32| pid != own).take(64).collect()
}

/// Runs `act` in a child, with a limit of time; in namespaces of its own where `namespaces` says so.
fn apart(namespaces: bool, act: impl FnOnce() -> Try) -> Try {
    let mut ends = [0_i32; 2];
    let mut bytes = [0_u8; 8];
    call!(libc::SYS_pipe2, &mut bytes[..], libc::O_CLOEXEC)?;
    for (end, raw) in ends.iter_mut().zip(bytes.chunks_exact(4)) {
        *end = i32::from_ne_bytes([raw[0], raw[1], raw[2], raw[3]]);
    }
    let [reader, writer] = ends;
    let pid = sys::fork(|| {
        let result = if namespaces { own_namespaces() } else { Ok(()) }.and_then(|()| act());
        let text = match &result {
            Ok(detail) => format!("+{detail}"),
            Err(error) => format!("-{error}"),
        };
        let mut pipe = sys::own(writer);
        let _ = pipe.write_all(text.as_bytes());
        0
    })?;
    drop(sys::own(writer));
    let outcome = collect(pid, sys::own(reader));
    let _ = call!(libc::SYS_kill, pid, libc::SIGKILL);
    outcome
}

fn collect(pid: i32, mut pipe: File) -> Try {
    let begin = Instant::now();
    let status = loop {
        if let Some(status) = sys::wait(pid, libc::WNOHANG)? {
            break status;
        }
        if begin.elapsed() > APART_LIMIT {
            call!(libc::SYS_kill, pid, libc::SIGKILL)?;
            sys::wait(pid, 0)?;
            return refused("no end within the time limit");
        }
        pause(1);
    };
    if libc::WIFSIGNALED(status) {
        return refused(format!("killed by signal {}", libc::WTERMSIG(status)));
    }
    let mut text = Vec::new();
    // A grandchild may hold the other end open: only what is there now is read.
    let mut chunk = [0; 4096];
    let got = pipe.read(&mut chunk)?;
    text.extend_from_slice(&chunk[..got]);
    let text = String::from_utf8_lossy(&text);
    match text.strip_prefix('+') {
        Some(detail) => Ok(detail.to_owned()),
        None => refused(text.trim_start_matches('-')),
    }
}

/// All rights over namespaces that nobody else is in.
fn own_namespaces() -> io::Result<()> {
    let (uid, gid) = (
        rustix::process::getuid().as_raw(),
        rustix::process::getgid().as_raw(),
    );
    let flags = libc::CLONE_NEWUSER
        | libc::CLONE_NEWNS
        | libc::CLONE_NEWNET
        | libc::CLONE_NEWUTS
        | libc::CLONE_NEWIPC;
    call!(libc::SYS_unshare, flags)?;
    let _ = fs::write("/proc/self/setgroups", "deny");
    fs::write("/proc/self/uid_map", format!("0 {uid} 1"))?;
    fs::write("/proc/self/gid_map", format!("0 {gid} 1"))?;
    Ok(())
}
