//! Growth of the files below the writable roots.
//!
//! A walk that goes on a little in each turn of the loop. The first one begins before any command and says what was
//! there; a large workspace, or a slow share of one, is still being walked when the first command writes, so a file
//! that changed since the start counts as grown from nothing. Where the walk cannot look (a directory that its owner closed, a path longer than the system takes),
//! the growth of the whole file system is taken for the guest's.

use std::collections::HashSet;
use std::fs::{self, ReadDir};
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::sys::statvfs::statvfs;

use super::{Crossed, crossed};
use crate::sys;

/// Entries looked at in one turn.
const BATCH: usize = 500;
/// Longest time spent in one turn.
const SLICE: Duration = Duration::from_millis(4);
/// Pause between turns of the first walk, and of later ones: the first is the measure of all others.
const PAUSE_FIRST: Duration = Duration::from_millis(1);
const PAUSE: Duration = Duration::from_millis(10);
/// From one walk to the next while as much of the file systems is used as before, and when that has changed.
const REST: Duration = Duration::from_secs(10);
const REST_CHANGED: Duration = Duration::from_millis(250);
/// Files with several names that are remembered, so that they count once.
const MAX_LINKED: usize = 100_000;
/// Directories that wait for their turn; more are as good as closed ones.
const MAX_WAITING: usize = 1_000_000;
/// The least an entry counts: its place in the file system, without which empty files would be free.
const ENTRY: u64 = 4096;

#[derive(Debug)]
pub(super) struct Disk {
    allowed: u64,
    roots: Vec<PathBuf>,
    /// Bytes used on the roots' file systems at the start, and after the last walk.
    used_first: u64,
    used_last: u64,
    /// What the first walk found.
    base: Option<u64>,
    walk: Option<Walk>,
    due: Duration,
    finished: Duration,
}

impl Disk {
    pub(super) fn new(allowed: u64, roots: &[String]) -> Self {
        let roots: Vec<PathBuf> = roots.iter().map(PathBuf::from).collect();
        let used = used(&roots);
        let mut first = Walk::new(&roots);
        first.before = Some(time_of_files(&roots));
        Self {
            allowed,
            walk: Some(first),
            roots,
            used_first: used,
            used_last: used,
            base: None,
            due: Duration::ZERO,
            finished: Duration::ZERO,
        }
    }

    pub(super) fn look(&mut self, now: Duration) -> Result<Duration, Crossed> {
        if now < self.due {
            return Ok(self.due.saturating_sub(now));
        }
        let wait = match self.walk.as_mut().map(Walk::go_on) {
            Some(true) => self.finish(now)?,
            Some(false) if self.base.is_none() => PAUSE_FIRST,
            Some(false) => PAUSE,
            None => self.rest(now),
        };
        self.due = now + wait;
        Ok(wait)
    }

    fn finish(&mut self, now: Duration) -> Result<Duration, Crossed> {
        let Some(walk) = self.walk.take() else {
            return Ok(REST_CHANGED);
        };
        self.used_last = used(&self.roots);
        self.finished = now;
        let base = *self.base.get_or_insert(walk.bytes);
        let mut grown = walk.bytes.saturating_sub(base);
        if walk.incomplete {
            grown = grown.max(self.used_last.saturating_sub(self.used_first));
        }
        if grown > self.allowed {
            return Err(crossed("limits.disk", self.allowed, grown));
        }
        Ok(REST_CHANGED)
    }

    /// Starts the next walk when there is a reason to.
    fn rest(&mut self, now: Duration) -> Duration {
        // In either direction: while others make room on the file system, what the guest takes may show as a loss.
        let changed = used(&self.roots).abs_diff(self.used_last);
        // Both may cancel out, so a walk is due from time to time anyway.
        if changed > self.allowed / 64 || now.saturating_sub(self.finished) >= REST {
            self.walk = Some(Walk::new(&self.roots));
            return PAUSE;
        }
        REST_CHANGED
    }
}

/// Bytes and places for files used on the file systems of `roots`; each counts once.
fn used(roots: &[PathBuf]) -> u64 {
    let mut seen = HashSet::new();
    let of = |root: &PathBuf| {
        let device = fs::metadata(root).ok()?.dev();
        let found = statvfs(root.as_path()).ok().filter(|_| seen.insert(device))?;
        let blocks = found.blocks().saturating_sub(found.blocks_free());
        let inodes = found.files().saturating_sub(found.files_free());
        let bytes = blocks.saturating_mul(found.fragment_size());
        Some(bytes.saturating_add(inodes.saturating_mul(ENTRY)))
    };
    roots.iter().filter_map(of).sum()
}

/// The time that a change made now would have, in seconds and nanoseconds. The share of a virtual machine goes by its
/// host's clock, so a file in the private home is asked where that is one of the roots; else this kernel's clock.
fn time_of_files(roots: &[PathBuf]) -> (i64, i64) {
    let home = std::env::var_os("HOME").map(PathBuf::from);
    let asked = home.filter(|home| roots.contains(home)).and_then(|home| {
        let probe = home.join(format!(".lodge-clock-{}", std::process::id()));
        let made = fs::OpenOptions::new().write(true).create_new(true).open(&probe);
        let found = made.and_then(|file| file.metadata());
        let _ = fs::remove_file(&probe);
        found.ok()
    });
    asked.map_or_else(sys::file_time, |found| (found.ctime(), found.ctime_nsec()))
}

#[derive(Debug)]
struct Walk {
    /// Of the first walk: what changed at this time or later was not there before.
    before: Option<(i64, i64)>,
    open: Option<(ReadDir, u64)>,
    /// Directories with the device they must lie on.
    waiting: Vec<(PathBuf, Option<u64>)>,
    linked: HashSet<(u64, u64)>,
    bytes: u64,
    incomplete: bool,
}

impl Walk {
    fn new(roots: &[PathBuf]) -> Self {
        Self {
            before: None,
            open: None,
            waiting: roots.iter().map(|root| (root.clone(), None)).collect(),
            linked: HashSet::new(),
            bytes: 0,
            incomplete: false,
        }
    }

    /// Looks at the next entries; whether that was all.
    fn go_on(&mut self) -> bool {
        let begun = Instant::now();
        for step in 0..BATCH {
            if step % 32 == 31 && begun.elapsed() > SLICE {
                return false;
            }
            let Some((entries, device)) = &mut self.open else {
                match self.waiting.pop() {
                    Some((path, device)) => self.enter(&path, device),
                    None => return true,
                }
                continue;
            };
            let device = *device;
            match entries.next() {
                None => self.open = None,
                Some(Ok(entry)) => self.count(&entry.path(), device),
                Some(Err(_)) => {
                    self.incomplete = true;
                    self.open = None;
                }
            }
        }
        false
    }

    fn enter(&mut self, path: &Path, device: Option<u64>) {
        // What the guest swaps for a link meanwhile must not lead the walk elsewhere.
        let found = fs::symlink_metadata(path).ok().filter(fs::Metadata::is_dir);
        let Some(found) = found.filter(|found| device.is_none_or(|device| device == found.dev())) else {
            return;
        };
        match fs::read_dir(path) {
            Ok(entries) => self.open = Some((entries, found.dev())),
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(_) => self.incomplete = true,
        }
    }

    fn count(&mut self, path: &Path, device: u64) {
        let found = match fs::symlink_metadata(path) {
            Ok(found) => found,
            Err(error) => {
                self.incomplete |= error.kind() != ErrorKind::NotFound;
                return;
            }
        };
        // Another mount inside a root: counted if it is a root itself, read-only otherwise.
        if found.dev() != device {
            return;
        }
        if found.is_dir() {
            if self.waiting.len() < MAX_WAITING {
                self.waiting.push((path.to_owned(), Some(device)));
            } else {
                self.incomplete = true;
            }
        } else if found.nlink() > 1 {
            let new = self.linked.len() >= MAX_LINKED || self.linked.insert((found.dev(), found.ino()));
            if !new {
                return;
            }
        }
        let changed = (found.ctime(), found.ctime_nsec());
        if !found.is_dir() && self.before.is_some_and(|before| changed >= before) {
            return;
        }
        self.bytes = self.bytes.saturating_add((found.blocks() * 512).max(ENTRY));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measure(root: &Path) -> Walk {
        let mut walk = Walk::new(&[root.to_owned()]);
        while !walk.go_on() {}
        walk
    }

    #[test]
    fn a_walk_counts_blocks_entries_and_each_link_once() {
        let root = tempfile::tempdir().unwrap();
        let empty = measure(root.path()).bytes;
        fs::write(root.path().join("big"), vec![1; 1 << 20]).unwrap();
        let big = measure(root.path()).bytes - empty;
        assert!((1 << 20..2 << 20).contains(&big), "{big}");
        fs::hard_link(root.path().join("big"), root.path().join("again")).unwrap();
        assert_eq!(measure(root.path()).bytes - empty, big);
        fs::create_dir(root.path().join("sub")).unwrap();
        for number in 0..1000 {
            fs::write(root.path().join(format!("sub/{number}")), "").unwrap();
        }
        assert!(measure(root.path()).bytes - empty - big >= 1000 * ENTRY);
        std::os::unix::fs::symlink("/", root.path().join("out")).unwrap();
        let walk = measure(root.path());
        assert!(!walk.incomplete && walk.bytes < 1 << 30);
    }

    /// Until what is changed now is later than this file.
    fn past(path: &Path) {
        let found = fs::metadata(path).unwrap();
        while sys::file_time() <= (found.ctime(), found.ctime_nsec()) {
            std::thread::yield_now();
        }
    }

    #[test]
    fn what_is_written_before_the_first_walk_ends_is_growth() {
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join("old"), vec![1; 4 << 20]).unwrap();
        past(&root.path().join("old"));
        let mut disk = Disk::new(1 << 20, &[root.path().to_str().unwrap().to_owned()]);
        fs::write(root.path().join("new"), vec![1; 2 << 20]).unwrap();
        let mut now = Duration::from_secs(1);
        let crossed = loop {
            match disk.look(now) {
                Ok(wait) => now += wait,
                Err(crossed) => break crossed,
            }
            assert!(now < Duration::from_mins(2));
        };
        assert!(
            crossed.limit.found >= 2 << 20 && crossed.limit.found < 4 << 20,
            "{crossed:?}"
        );
    }

    #[test]
    fn growth_beyond_what_is_allowed_is_told() {
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join("old"), vec![1; 4 << 20]).unwrap();
        past(&root.path().join("old"));
        let roots = [root.path().to_str().unwrap().to_owned()];
        let mut disk = Disk::new(1 << 20, &roots);
        let mut now = Duration::from_secs(1);
        while disk.base.is_none() {
            now += disk.look(now).unwrap();
        }
        fs::write(root.path().join("new"), vec![1; 2 << 20]).unwrap();
        let crossed = loop {
            match disk.look(now) {
                Ok(wait) => now += wait,
                Err(crossed) => break crossed,
            }
            assert!(now < Duration::from_mins(2));
        };
        assert_eq!(crossed.limit.key, "limits.disk");
        assert!(
            crossed.limit.found >= 2 << 20 && crossed.limit.found < 4 << 20,
            "{crossed:?}"
        );
    }
}
