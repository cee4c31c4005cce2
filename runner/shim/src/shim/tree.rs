//! The process tree below the shim, which adopts every orphan of it.

use std::fs;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, WaitOptions, WaitStatus, getpid, kill_process, kill_process_group, wait};

use super::log::log;
/// How long the killed tree may take to be gone.
const PATIENCE: Duration = Duration::from_secs(3);

/// Takes one ended child; `None` when there is none now.
pub(crate) fn reap() -> Option<(Pid, WaitStatus)> {
    wait(WaitOptions::NOHANG).ok().flatten()
}

/// Waits for a child that is ending by itself, asked once more; it is killed afterwards if it does not.
pub(crate) fn let_end(pid: Option<Pid>, patience: Duration) {
    let Some(pid) = pid.filter(|_| !patience.is_zero()) else {
        return;
    };
    let _ = kill_process(pid, Signal::TERM);
    let deadline = Instant::now() + patience;
    while Instant::now() < deadline {
        match wait(WaitOptions::NOHANG) {
            Ok(Some((ended, _))) if ended == pid => return,
            Ok(Some(_)) => {}
            Ok(None) => std::thread::sleep(Duration::from_millis(2)),
            Err(_) => return,
        }
    }
}

/// Kills everything below this process and waits until it is gone. Double-forked daemons are found because
/// they become children of the shim when their parents die.
pub(crate) fn kill_all(group: Option<Pid>) {
    if let Some(group) = group {
        let _ = kill_process_group(group, Signal::KILL);
    }
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        for pid in children() {
            let _ = kill_process(pid, Signal::KILL);
        }
        match wait(WaitOptions::NOHANG) {
            Ok(Some(_)) => {}
            // Nothing to wait on but time: a killed process needs a moment to become a zombie.
            Ok(None) => std::thread::sleep(Duration::from_millis(2)),
            Err(_) => return,
        }
    }
    log(format_args!("processes survived their kill"));
}

/// Direct children; empty where the kernel does not list them.
fn children() -> Vec<Pid> {
    let pid = getpid().as_raw_nonzero();
    let list = fs::read_to_string(format!("/proc/self/task/{pid}/children")).unwrap_or_default();
    list.split_ascii_whitespace()
        .filter_map(|pid| Pid::from_raw(pid.parse().ok()?))
        .collect()
}
