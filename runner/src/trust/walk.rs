//! Reads what a workspace brings for a harness. No link is followed, nothing but files is opened, and there are bounds: the
//! workspace is whoever's wrote it.

use super::rows::{self, Row};
use super::{Entry, Inventory, Untrustable, named};
use rustix::fs::{Dir, FileType, Mode, OFlags, ResolveFlags, Stat, fstat, openat2};
use rustix::io::Errno;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

/// Files.
const MAX_FILES: usize = 500;
/// Bytes of all files.
const MAX_BYTES: usize = 4 * 1024 * 1024;
/// Files and directories that are shown as wholes: each is a mount of the sandbox, and those above it too.
const MAX_ROOTS: usize = 40;
/// Names of the workspace that are looked at for what counts wherever it lies.
const MAX_LOOKED_AT: usize = 200_000;
/// Directories below each other.
const MAX_DEPTH: usize = 32;
/// Readings of what somebody else writes at this moment.
const ATTEMPTS: u32 = 3;
/// Directories that a harness puts into its own, too large to be read by anybody.
const LEFT_OUT: &[&str] = &["node_modules", "worktrees"];
/// What a repository keeps for itself.
const NOT_LOOKED_INTO: &str = ".git";

/// What the workspace brings for this harness. Blocking.
pub fn inventory(harness: &str, workspace: impl AsFd) -> Result<Inventory, Untrustable> {
    let row = rows::of(harness)?;
    for _ in 1..ATTEMPTS {
        match read(row, workspace.as_fd()) {
            Err(Untrustable::Changed { .. }) => {}
            read => return read,
        }
    }
    read(row, workspace.as_fd())
}

fn read(row: &Row, workspace: BorrowedFd<'_>) -> Result<Inventory, Untrustable> {
    let mut walk = Walk::new(workspace);
    walk.roots_of(row)?;
    let roots: Vec<String> = walk.roots.iter().cloned().collect();
    for root in &roots {
        walk.take(root, false, 0)?;
    }
    let settings: Vec<Entry> = walk.entries.values().cloned().collect();
    for path in named::candidates(&settings) {
        walk.take_named(&path)?;
    }
    walk.finish(row.harness)
}

struct Walk<'a> {
    workspace: BorrowedFd<'a>,
    roots: BTreeSet<String>,
    entries: BTreeMap<String, Entry>,
    left_out: BTreeSet<String>,
    bytes: usize,
}

/// What lies at a path.
enum Found {
    Nothing,
    File(OwnedFd, Stat),
    Directory(OwnedFd),
    Link,
    Special,
}

impl<'a> Walk<'a> {
    const fn new(workspace: BorrowedFd<'a>) -> Self {
        Self {
            workspace,
            roots: BTreeSet::new(),
            entries: BTreeMap::new(),
            left_out: BTreeSet::new(),
            bytes: 0,
        }
    }

    fn roots_of(&mut self, row: &Row) -> Result<(), Untrustable> {
        self.roots.extend(row.names.iter().map(|name| (*name).to_owned()));
        let Some(anywhere) = row.anywhere else {
            return Ok(());
        };
        let mut left = MAX_LOOKED_AT;
        let mut waiting = vec![String::new()];
        while let Some(directory) = waiting.pop() {
            let opened = match self.open(&directory) {
                Ok(Found::Directory(opened)) => opened,
                // What the guest made unreadable, it can make readable when the harness runs.
                Err(why) if self.is_own(&directory) => return Err(why),
                _ => continue,
            };
            for (name, kind) in names(&opened, &directory, Unreadable::Skipped, &mut left)? {
                let path = join(&directory, &name);
                if name == anywhere {
                    self.roots.insert(path);
                } else if may_hold(kind) && name != NOT_LOOKED_INTO {
                    waiting.push(path);
                }
            }
        }
        Ok(())
    }

    /// Takes a file, or all files below a directory.
    fn take(&mut self, path: &str, named: bool, depth: usize) -> Result<(), Untrustable> {
        let own = |path: &str| path.to_owned();
        match self.open(path)? {
            Found::Nothing => Ok(()),
            Found::Link => Err(Untrustable::Link { path: own(path) }),
            Found::Special => Err(Untrustable::Special { path: own(path) }),
            Found::File(file, before) => self.read(path, file, &before, named),
            Found::Directory(directory) => {
                if depth > MAX_DEPTH {
                    return Err(Untrustable::TooLarge {
                        what: "directories below each other",
                        most: MAX_DEPTH,
                    });
                }
                let mut left = MAX_FILES * 4;
                for (name, _) in names(&directory, path, Unreadable::Refused, &mut left)? {
                    let below = join(path, &name);
                    if LEFT_OUT.contains(&name.as_str()) {
                        self.left_out.insert(below);
                    } else {
                        self.take(&below, named, depth + 1)?;
                    }
                }
                Ok(())
            }
        }
    }

    /// Takes what a setting names, where it is a program of the workspace. A link is none: what settings name is only a
    /// guess, and there is much that is no program.
    fn take_named(&mut self, candidate: &named::Candidate) -> Result<(), Untrustable> {
        let path = candidate.path.as_str();
        let inside = |root: &String| Path::new(path).starts_with(root);
        let around = |root: &String| Path::new(root).starts_with(path);
        if self.roots.iter().any(|root| inside(root) || around(root)) {
            return Ok(());
        }
        match self.open(path) {
            Ok(Found::File(_, stat)) if candidate.is_program(stat.st_mode) => {}
            Ok(Found::Directory(_)) if candidate.directory => {}
            _ => return Ok(()),
        }
        self.roots.insert(path.to_owned());
        self.take(path, true, 0)
    }

    fn read(&mut self, path: &str, file: OwnedFd, before: &Stat, named: bool) -> Result<(), Untrustable> {
        if self.entries.len() == MAX_FILES {
            return Err(Untrustable::TooLarge {
                what: "files",
                most: MAX_FILES,
            });
        }
        let failed = |error: &dyn std::fmt::Display| Untrustable::Read {
            path: path.to_owned(),
            error: error.to_string(),
        };
        let left = MAX_BYTES - self.bytes;
        let mut contents = Vec::new();
        let mut file = File::from(file);
        let mut bounded = (&mut file).take(left as u64 + 1);
        bounded
            .read_to_end(&mut contents)
            .map_err(|error| failed(&error))?;
        if contents.len() > left {
            return Err(Untrustable::TooLarge {
                what: "bytes",
                most: MAX_BYTES,
            });
        }
        self.bytes += contents.len();
        let after = fstat(&file).map_err(|error| failed(&error))?;
        // Half of one content and half of another is neither, and nobody has looked at it.
        let same = (before.st_size, before.st_mtime, before.st_mtime_nsec)
            == (after.st_size, after.st_mtime, after.st_mtime_nsec);
        if !same || u64::try_from(after.st_size) != Ok(contents.len() as u64) {
            return Err(Untrustable::Changed {
                path: path.to_owned(),
            });
        }
        let entry = Entry {
            path: path.to_owned(),
            mode: after.st_mode & 0o7777,
            contents,
            named,
        };
        self.entries.insert(path.to_owned(), entry);
        Ok(())
    }

    fn open(&self, path: &str) -> Result<Found, Untrustable> {
        let failed = |error: Errno| Untrustable::Read {
            path: path.to_owned(),
            error: std::io::Error::from(error).to_string(),
        };
        // For reference first: opening a device does something.
        let stat = match self.at(path, OFlags::PATH) {
            Ok(found) => fstat(&found).map_err(failed)?,
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok(Found::Nothing),
            Err(Errno::LOOP | Errno::XDEV) => return Ok(Found::Link),
            Err(error) => return Err(failed(error)),
        };
        let opened = |flags| {
            let changed = || Untrustable::Changed {
                path: path.to_owned(),
            };
            let fd = match self.at(path, flags) {
                // What held the place of something absent in a sandbox goes when that ends.
                Err(Errno::NOENT | Errno::LOOP | Errno::NOTDIR) => return Err(changed()),
                opened => opened.map_err(failed)?,
            };
            let now = fstat(&fd).map_err(failed)?;
            let same = (now.st_dev, now.st_ino) == (stat.st_dev, stat.st_ino);
            same.then_some((fd, now)).ok_or_else(changed)
        };
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => {
                let (file, stat) = opened(OFlags::RDONLY | OFlags::NONBLOCK)?;
                Ok(Found::File(file, stat))
            }
            FileType::Directory => {
                let (directory, _) = opened(OFlags::RDONLY | OFlags::DIRECTORY)?;
                Ok(Found::Directory(directory))
            }
            FileType::Symlink => Ok(Found::Link),
            _ => Ok(Found::Special),
        }
    }

    fn is_own(&self, path: &str) -> bool {
        let found = self.at(path, OFlags::PATH).and_then(fstat);
        found.is_ok_and(|stat| stat.st_uid == rustix::process::getuid().as_raw())
    }

    fn at(&self, path: &str, flags: OFlags) -> rustix::io::Result<OwnedFd> {
        let path = if path.is_empty() { "." } else { path };
        let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let beneath = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        openat2(self.workspace, path, flags, Mode::empty(), beneath)
    }

    fn finish(self, harness: &str) -> Result<Inventory, Untrustable> {
        let entries: Vec<Entry> = self.entries.into_values().collect();
        // What holds no file is as good as absent: sandboxes hold the places of absent names with empty directories.
        let holds = |root: &String| {
            entries
                .iter()
                .any(|entry| Path::new(&entry.path).starts_with(root))
        };
        let roots: BTreeSet<String> = self.roots.into_iter().filter(holds).collect();
        if roots.len() > MAX_ROOTS {
            return Err(Untrustable::TooLarge {
                what: "places that hold code",
                most: MAX_ROOTS,
            });
        }
        Ok(Inventory {
            harness: harness.to_owned(),
            roots,
            entries,
            left_out: self.left_out.into_iter().collect(),
        })
    }
}

/// What to do with names that are no UTF-8: where they do not count they are nobody's concern.
#[derive(Clone, Copy, PartialEq)]
enum Unreadable {
    Skipped,
    Refused,
}

/// The names in a directory, as far as `left` reaches.
fn names(
    directory: &OwnedFd,
    path: &str,
    unreadable: Unreadable,
    left: &mut usize,
) -> Result<Vec<(String, FileType)>, Untrustable> {
    let failed = |error: Errno| Untrustable::Read {
        path: path.to_owned(),
        error: std::io::Error::from(error).to_string(),
    };
    let mut found = Vec::new();
    for entry in Dir::read_from(directory).map_err(failed)? {
        let entry = match entry {
            // It was removed, so it was empty.
            Err(Errno::NOENT) => break,
            entry => entry.map_err(failed)?,
        };
        let Ok(name) = entry.file_name().to_str() else {
            if unreadable == Unreadable::Skipped {
                continue;
            }
            return Err(Untrustable::Name {
                path: path.to_owned(),
            });
        };
        if matches!(name, "." | "..") {
            continue;
        }
        *left = left.checked_sub(1).ok_or(Untrustable::TooLarge {
            what: "names to look at",
            most: MAX_LOOKED_AT,
        })?;
        found.push((name.to_owned(), entry.file_type()));
    }
    Ok(found)
}

fn join(directory: &str, name: &str) -> String {
    if directory.is_empty() {
        name.to_owned()
    } else {
        format!("{directory}/{name}")
    }
}

/// Not every file system says what its entries are.
fn may_hold(kind: FileType) -> bool {
    matches!(kind, FileType::Directory | FileType::Unknown)
}
