//! What a run left behind in a workspace that acts outside the sandbox: control files, hooks, nested repositories,
//! hard links, special files, setuid programs.
//!
//! Read from the host and therefore careful: nothing is followed, opened for more than a digest, or executed; the walk
//! is bounded in entries, depth and bytes.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::fmt;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags, Stat};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// Entries looked at, at most; beyond them [`FindingKind::Truncated`] is reported.
pub const MAX_ENTRIES: usize = 200_000;
/// Directories entered below each other, at most.
pub const MAX_DEPTH: usize = 64;
/// Bytes of one control file that go into its digest, at most; its size always counts.
const MAX_DIGEST: u64 = 1 << 20;
/// Findings reported, at most.
pub const MAX_FINDINGS: usize = 1000;

/// What was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FindingKind {
    /// A protected name, or one that tools read wherever it lies, is new or different.
    ControlFile,
    /// A file below a `hooks` directory of a repository.
    Hook,
    /// A file with more than one name: writing to it may write to a file elsewhere.
    HardLink,
    /// A repository inside the workspace that was not there before, or a file that points to one.
    NestedRepository,
    /// A FIFO, socket or device.
    SpecialFile,
    /// A file that runs with the rights of its owner or group.
    SetUid,
    /// Not everything was looked at.
    Truncated,
}

/// One thing a person should know before using the workspace outside the sandbox.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Finding {
    pub kind: FindingKind,
    /// Relative to the workspace; control characters and bytes that are no text are escaped.
    pub path: String,
    pub detail: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.detail)
    }
}

/// Names that are control files in any directory.
const ANYWHERE: &[&str] = &[".envrc", ".gitmodules", ".gitattributes"];
/// Names that are control files anywhere below a `.git`.
const BELOW_GIT: &[&str] = &["commondir", "config", "config.worktree"];

type State = [u8; 32];
type Found = BTreeMap<(FindingKind, PathBuf), (State, String)>;

/// A workspace as it was.
#[derive(Debug, Clone)]
pub struct Baseline {
    workspace: PathBuf,
    protected: BTreeSet<PathBuf>,
    found: Found,
}

/// Why a workspace could not be looked at.
#[derive(Debug, thiserror::Error)]
pub enum FindingsError {
    #[error("cannot look at the workspace {}: {source}", path.display())]
    Open { path: PathBuf, source: std::io::Error },
}

impl Baseline {
    /// Looks at `workspace`, where `protected` are the policy's protected names.
    ///
    /// Takes about 2 µs an entry, at most [`MAX_ENTRIES`].
    pub fn take<S: AsRef<str>>(
        workspace: &Path,
        protected: impl IntoIterator<Item = S>,
    ) -> Result<Self, FindingsError> {
        let protected = protected
            .into_iter()
            .map(|name| PathBuf::from(name.as_ref()))
            .collect();
        let mut baseline = Self {
            workspace: workspace.to_owned(),
            protected,
            found: Found::new(),
        };
        baseline.found = baseline.look()?;
        Ok(baseline)
    }

    /// The same workspace as it is now.
    pub fn again(&self) -> Result<Self, FindingsError> {
        let found = self.look()?;
        Ok(Self {
            workspace: self.workspace.clone(),
            protected: self.protected.clone(),
            found,
        })
    }

    /// What is there now and was not, or was different, when the baseline was taken; sorted, at most [`MAX_FINDINGS`].
    pub fn changes(&self) -> Result<Vec<Finding>, FindingsError> {
        let now = self.look()?;
        let mut changes: Vec<Finding> = now
            .iter()
            .filter(|(key, (state, _))| self.found.get(*key).map(|(before, _)| before) != Some(state))
            .map(|((kind, path), (_, detail))| Finding {
                kind: *kind,
                path: shown(path),
                detail: detail.clone(),
            })
            .collect();
        let gone = self
            .found
            .keys()
            .filter(|key| matches!(key.0, FindingKind::ControlFile) && !now.contains_key(*key));
        changes.extend(gone.map(|(kind, path)| Finding {
            kind: *kind,
            path: shown(path),
            detail: "was removed".to_owned(),
        }));
        changes.sort();
        changes.truncate(MAX_FINDINGS);
        Ok(changes)
    }

    /// What is there now and acts outside, whether it is new or not.
    pub fn standing(&self) -> Vec<Finding> {
        let of = |((kind, path), (_, detail)): (&(FindingKind, PathBuf), &(State, String))| Finding {
            kind: *kind,
            path: shown(path),
            detail: detail.clone(),
        };
        self.found.iter().map(of).take(MAX_FINDINGS).collect()
    }

    fn look(&self) -> Result<Found, FindingsError> {
        let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let root = rustix::fs::open(&self.workspace, flags, Mode::empty()).map_err(|source| {
            FindingsError::Open {
                path: self.workspace.clone(),
                source: source.into(),
            }
        })?;
        let mut walk = Walk {
            root,
            protected: &self.protected,
            found: Found::new(),
            left: MAX_ENTRIES,
        };
        walk.run();
        Ok(walk.found)
    }
}

/// Text for a person: nothing in it can steer a terminal or pretend to be another line.
pub fn shown(path: &Path) -> String {
    if path.as_os_str().is_empty() {
        return ".".to_owned();
    }
    let text = String::from_utf8_lossy(path.as_os_str().as_bytes());
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        let steers = c.is_control()
            || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}');
        if steers || c == '\\' {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
    }
    out
}

struct Walk<'a> {
    root: OwnedFd,
    protected: &'a BTreeSet<PathBuf>,
    found: Found,
    left: usize,
}

impl Walk<'_> {
    fn run(&mut self) {
        let mut waiting = vec![(PathBuf::new(), 0)];
        while let Some((path, depth)) = waiting.pop() {
            if depth > MAX_DEPTH {
                self.note(
                    FindingKind::Truncated,
                    &path,
                    State::default(),
                    "lies too deep to be looked at",
                );
                continue;
            }
            let Some(directory) = self.directory(&path) else {
                continue;
            };
            let Ok(entries) = Dir::read_from(&directory) else {
                continue;
            };
            self.bare(&path, &directory);
            for entry in entries.flatten() {
                let name = entry.file_name().to_bytes();
                if name == b"." || name == b".." {
                    continue;
                }
                if self.left == 0 {
                    let limit = format!("more than {MAX_ENTRIES} entries: the rest was not looked at");
                    self.note(FindingKind::Truncated, Path::new(""), State::default(), &limit);
                    return;
                }
                self.left -= 1;
                let path = path.join(std::ffi::OsStr::from_bytes(name));
                let name = entry.file_name();
                let Ok(stat) = rustix::fs::statat(&directory, name, AtFlags::SYMLINK_NOFOLLOW) else {
                    continue;
                };
                if self.entry(&path, &stat, directory.as_fd(), name) {
                    waiting.push((path, depth + 1));
                }
            }
        }
    }

    /// Git takes any directory with these three for a repository, configuration included.
    fn bare(&mut self, path: &Path, directory: &OwnedFd) {
        let all = ["HEAD", "objects", "refs"];
        let there = |name| rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW).is_ok();
        if !below_git(path) && all.into_iter().all(there) {
            let detail = "is a repository without a work tree, with its own hooks and configuration";
            self.note(FindingKind::NestedRepository, path, State::default(), detail);
        }
    }

    /// Opens a directory of the workspace without following a link anywhere.
    fn directory(&self, path: &Path) -> Option<OwnedFd> {
        let path = if path.as_os_str().is_empty() {
            Path::new(".")
        } else {
            path
        };
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
        let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
        rustix::fs::openat2(&self.root, path, flags, Mode::empty(), resolve).ok()
    }

    fn note(&mut self, kind: FindingKind, path: &Path, state: State, detail: &str) {
        self.found
            .insert((kind, path.to_owned()), (state, detail.to_owned()));
    }

    /// Notes what is worth it; whether to go below.
    fn entry(&mut self, path: &Path, stat: &Stat, directory: BorrowedFd<'_>, name: &std::ffi::CStr) -> bool {
        let file_type = FileType::from_raw_mode(stat.st_mode);
        match file_type {
            FileType::Fifo | FileType::Socket | FileType::CharacterDevice | FileType::BlockDevice => {
                let detail = format!(
                    "is a {}: opening it may hang or talk to a program",
                    type_name(file_type)
                );
                self.note(
                    FindingKind::SpecialFile,
                    path,
                    digest(&[&stat.st_ino.to_le_bytes()]),
                    &detail,
                );
            }
            FileType::RegularFile => self.regular(path, stat),
            _ => {}
        }
        if self.is_control(path) {
            if !self.stands_for_nothing(path, stat) {
                let state = state(stat, file_type, directory, name);
                let detail = "tools outside the sandbox obey it";
                self.note(FindingKind::ControlFile, path, state, detail);
            }
        } else if in_hooks(path) && file_type != FileType::Directory {
            let state = state(stat, file_type, directory, name);
            self.note(FindingKind::Hook, path, state, "git runs it outside the sandbox");
        }
        let nested = name.to_bytes() == b".git" && path.components().count() > 1;
        if nested {
            let detail = if file_type == FileType::Directory {
                "is a repository of its own, with its own hooks and configuration"
            } else {
                "points git to another directory"
            };
            let state = state(stat, file_type, directory, name);
            self.note(FindingKind::NestedRepository, path, state, detail);
        }
        file_type == FileType::Directory
    }

    fn regular(&mut self, path: &Path, stat: &Stat) {
        if stat.st_nlink > 1 {
            let detail = format!("has {} names: a write here shows elsewhere", stat.st_nlink);
            // A write is a change too, for the other name may lie outside.
            let state = digest(&[
                &stat.st_ino.to_le_bytes(),
                &stat.st_nlink.to_le_bytes(),
                &stat.st_size.to_le_bytes(),
                &stat.st_mtime.to_le_bytes(),
                &stat.st_mtime_nsec.to_le_bytes(),
            ]);
            self.note(FindingKind::HardLink, path, state, &detail);
        }
        if stat.st_mode & 0o6000 != 0 {
            let detail = format!(
                "runs with the rights of its owner or group (mode {:04o})",
                stat.st_mode & 0o7777
            );
            self.note(
                FindingKind::SetUid,
                path,
                digest(&[&stat.st_mode.to_le_bytes()]),
                &detail,
            );
        }
    }

    /// A protected name with nothing in it is as good as none: stand-ins of sandboxes are such, and come and go.
    fn stands_for_nothing(&self, path: &Path, stat: &Stat) -> bool {
        let is_empty = || {
            let entries = self.directory(path).and_then(|it| Dir::read_from(&it).ok())?;
            let mut names = entries.flatten();
            Some(names.all(|entry| matches!(entry.file_name().to_bytes(), b"." | b"..")))
        };
        self.protected.contains(path)
            && match FileType::from_raw_mode(stat.st_mode) {
                FileType::RegularFile => stat.st_size == 0,
                FileType::Directory => is_empty().unwrap_or(false),
                _ => false,
            }
    }

    fn is_control(&self, path: &Path) -> bool {
        self.protected
            .iter()
            .any(|name| path == name || path.starts_with(name))
            || path
                .file_name()
                .and_then(|name| name.to_str())
                .is_some_and(|name| {
                    ANYWHERE.contains(&name) || (BELOW_GIT.contains(&name) && below_git(path))
                })
    }
}

fn type_name(file_type: FileType) -> &'static str {
    match file_type {
        FileType::Fifo => "FIFO",
        FileType::Socket => "socket",
        _ => "device",
    }
}

fn below_git(path: &Path) -> bool {
    path.components().any(|part| part.as_os_str() == ".git")
}

/// `…/.git/hooks/x`, `…/.git/modules/m/hooks/x`, and the same of a bare repository.
fn in_hooks(path: &Path) -> bool {
    path.parent()
        .and_then(Path::file_name)
        .is_some_and(|parent| parent == "hooks")
}

fn digest(parts: &[&[u8]]) -> State {
    let mut hasher = Sha256::new();
    for part in parts {
        hasher.update(part);
    }
    hasher.finalize().into()
}

/// One value for what a name stands for: type, mode, and for a file the start of its content.
fn state(stat: &Stat, file_type: FileType, directory: BorrowedFd<'_>, name: &std::ffi::CStr) -> State {
    let mut hasher = Sha256::new();
    hasher.update(stat.st_mode.to_le_bytes());
    match file_type {
        FileType::RegularFile => {
            hasher.update(stat.st_size.to_le_bytes());
            let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
            if let Ok(file) = rustix::fs::openat(directory, name, flags, Mode::empty()) {
                let mut content = Vec::new();
                let _ = std::fs::File::from(file)
                    .take(MAX_DIGEST)
                    .read_to_end(&mut content);
                hasher.update(&content);
            }
        }
        FileType::Symlink => {
            if let Ok(target) = rustix::fs::readlinkat(directory, name, Vec::new()) {
                hasher.update(target.as_bytes());
            }
        }
        _ => {}
    }
    hasher.finalize().into()
}
