//! Memory and processes of the whole sandbox.
//!
//! First what is cheap and never too low for mapped memory: anonymous and shared pages as every process reports them,
//! plus what lies in file systems in memory. Pages that several processes share are counted more than once there, so
//! only when that sum is over the bound each page is attributed to its users in proportion, which costs a walk
//! through the page tables.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::sys::statvfs::statvfs;

use super::nameless::Nameless;
use super::{Crossed, crossed};

/// No machine fills memory faster than this, in bytes a second; from it follows when to look again.
const FASTEST: u64 = 4 << 30;
const SHORTEST: Duration = Duration::from_millis(20);
const LONGEST: Duration = Duration::from_secs(1);
/// The same where only processes are counted, which appear faster than memory fills.
const LONGEST_COUNTING: Duration = Duration::from_millis(100);
/// A look may cost one part in so many of the time until the next.
const SHARE: u32 = 50;
/// Kernel memory of a file in memory, besides its contents.
const INODE: u64 = 1024;
/// Init itself, and the launcher's process in the same user namespace.
const OWN_PROCESSES: u64 = 2;

#[derive(Debug)]
pub(super) struct Memory {
    allowed: Option<u64>,
    processes: Option<u64>,
    /// Mount points of file systems in memory that belong to the sandbox.
    tmpfs: Vec<PathBuf>,
    nameless: Nameless,
    due: Duration,
}

/// Bytes of one process, or of all.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Usage {
    anonymous: u64,
    shared: u64,
}

impl Memory {
    pub(super) fn new(allowed: Option<u64>, processes: Option<u64>) -> Option<Self> {
        (allowed.is_some() || processes.is_some()).then(|| Self {
            allowed,
            processes,
            tmpfs: own_tmpfs(&fs::read_to_string("/proc/self/mountinfo").unwrap_or_default()),
            nameless: Nameless::default(),
            due: Duration::ZERO,
        })
    }

    pub(super) fn look(&mut self, now: Duration) -> Result<Duration, Crossed> {
        if now < self.due {
            return Ok(self.due.saturating_sub(now));
        }
        let begun = Instant::now();
        let all = processes();
        self.count(all.len() as u64)?;
        let mut wait = if self.processes.is_some() {
            LONGEST_COUNTING
        } else {
            LONGEST
        };
        if let Some(allowed) = self.allowed {
            let room = allowed - self.measure(&all, allowed)?;
            wait = wait.min(Duration::from_millis(room / (FASTEST / 1000)));
        } else if self.processes.is_some() {
            self.count(threads(&all))?;
        }
        // A look that costs more comes less often, but a bound that is near is not lost sight of.
        let cost = (begun.elapsed() * SHARE).min(LONGEST / 2);
        let wait = wait.max(cost).max(SHORTEST);
        self.due = now + wait;
        Ok(wait)
    }

    fn count(&self, found: u64) -> Result<(), Crossed> {
        match self.processes {
            Some(allowed) if found > allowed + OWN_PROCESSES => {
                Err(crossed("limits.processes", allowed, found))
            }
            _ => Ok(()),
        }
    }

    /// What is used, at most `allowed`.
    fn measure(&mut self, all: &[PathBuf], allowed: u64) -> Result<u64, Crossed> {
        let named = self.in_files();
        let files = named + self.nameless.bytes(all, named) + in_segments();
        let mut sum = Usage::default();
        let mut threads = 0;
        for process in all {
            let (usage, own) = status(process);
            sum.anonymous += usage.anonymous;
            sum.shared += usage.shared;
            threads += own;
        }
        self.count(threads)?;
        if sum.anonymous + sum.shared + files <= allowed {
            return Ok(sum.anonymous + sum.shared + files);
        }
        let mut exact = Usage::default();
        for process in all {
            // Processes may forbid a look into their page tables; then the first figure stands.
            let usage = proportional(process).unwrap_or_else(|| status(process).0);
            exact.anonymous += usage.anonymous;
            exact.shared += usage.shared;
        }
        // Shared pages that are mapped are mostly files in memory, which were counted already.
        let found = exact.anonymous + exact.shared.max(files);
        if found > allowed {
            return Err(crossed("limits.memory", allowed, found));
        }
        Ok(found)
    }

    fn in_files(&self) -> u64 {
        let used = |mount: &PathBuf| {
            let found = statvfs(mount.as_path()).ok()?;
            let blocks = found.blocks().saturating_sub(found.blocks_free());
            let inodes = found.files().saturating_sub(found.files_free());
            Some(blocks * found.fragment_size() + inodes * INODE)
        };
        self.tmpfs.iter().filter_map(used).sum()
    }
}

/// Directories of all processes in `/proc`.
fn processes() -> Vec<PathBuf> {
    let number = |entry: fs::DirEntry| {
        let name = entry.file_name();
        let digits = name.as_encoded_bytes().iter().all(u8::is_ascii_digit);
        digits.then(|| entry.path())
    };
    let entries = fs::read_dir("/proc").into_iter().flatten();
    entries.flatten().filter_map(number).collect()
}

fn threads(all: &[PathBuf]) -> u64 {
    all.iter().map(|process| status(process).1).sum()
}

/// What one process reports, and the number of its threads.
fn status(process: &Path) -> (Usage, u64) {
    // Processes come and go; one that is gone uses nothing.
    let text = fs::read_to_string(process.join("status")).unwrap_or_default();
    let usage = Usage {
        anonymous: kilobytes(&text, "RssAnon:") + kilobytes(&text, "VmSwap:"),
        shared: kilobytes(&text, "RssShmem:"),
    };
    (usage, field(&text, "Threads:").unwrap_or(0))
}

/// The proportional share of one process; `None` when it may not be looked into.
fn proportional(process: &Path) -> Option<Usage> {
    let text = fs::read_to_string(process.join("smaps_rollup")).ok()?;
    field(&text, "Pss_Anon:")?;
    Some(Usage {
        anonymous: kilobytes(&text, "Pss_Anon:") + kilobytes(&text, "SwapPss:"),
        shared: kilobytes(&text, "Pss_Shmem:"),
    })
}

/// System V shared memory, which outlives its processes.
fn in_segments() -> u64 {
    let text = fs::read_to_string("/proc/sysvipc/shm").unwrap_or_default();
    let mut lines = text.lines().map(str::split_whitespace);
    let Some(at) = lines
        .next()
        .and_then(|mut names| names.position(|name| name == "rss"))
    else {
        return 0;
    };
    let resident = |mut line: std::str::SplitWhitespace<'_>| line.nth(at)?.parse::<u64>().ok();
    lines.filter_map(resident).sum()
}

pub(super) fn kilobytes(text: &str, name: &str) -> u64 {
    field(text, name).unwrap_or(0) << 10
}

pub(super) fn field(text: &str, name: &str) -> Option<u64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(name))?;
    rest.split_whitespace().next()?.parse().ok()
}

/// Mount points of whole tmpfs. One that shows a part of another is a share of the host, whose contents are not the
/// sandbox's, or has been counted at its other place.
fn own_tmpfs(mountinfo: &str) -> Vec<PathBuf> {
    let own = |line: &str| {
        let (mount, kind) = line.split_once(" - ")?;
        let mut fields = mount.split(' ');
        let (root, at) = (fields.nth(3)?, fields.next()?);
        (root == "/" && kind.starts_with("tmpfs ")).then(|| unescaped(at))
    };
    mountinfo.lines().filter_map(own).collect()
}

/// Blanks are written as octal numbers there.
fn unescaped(text: &str) -> PathBuf {
    PathBuf::from(
        text.replace("\\040", " ")
            .replace("\\011", "\t")
            .replace("\\134", "\\"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_tmpfs_are_counted() {
        let text = "\
            30 1 0:40 /newroot / ro,nosuid - tmpfs tmpfs rw\n\
            31 30 0:41 / /tmp rw,nosuid - tmpfs tmpfs rw,size=1k\n\
            32 30 8:1 / /usr ro - ext4 /dev/vda rw\n\
            33 30 0:42 /user/gateway.sock /run/lodge/gateway.sock ro - tmpfs tmpfs rw\n\
            34 30 0:43 / /my\\040data rw - tmpfs tmpfs rw\n";
        assert_eq!(
            own_tmpfs(text),
            [PathBuf::from("/tmp"), PathBuf::from("/my data")]
        );
    }

    #[test]
    fn this_process_uses_memory_and_has_threads() {
        let (usage, threads) = status(Path::new("/proc/self"));
        assert!(usage.anonymous > 100 << 10 && threads >= 1, "{usage:?} {threads}");
        let exact = proportional(Path::new("/proc/self")).unwrap();
        assert!(exact.anonymous > 100 << 10, "{exact:?}");
    }
}
