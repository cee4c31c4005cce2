//! The files in which harnesses keep their conversations, and copies of them for another session.
//!
//! They lie in a private home, and that is the guest's, which may be working in it: everything is opened from the
//! home's own descriptor, no link is followed and nothing outside is reached; only plain files are copied, so many
//! and so much of them.

use lodge_proto::{ErrorBody, ErrorCode};
use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, ResolveFlags, Stat};
use rustix::fs::{fstat, mkdirat, openat, openat2, statat, unlinkat};
use rustix::io::Errno;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Entries of directories that are looked at.
const MOST_ENTRIES: usize = 20_000;
/// Bytes of one conversation.
const MOST_BYTES: u64 = 2 << 30;
/// Directories in directories.
const MOST_LEVELS: usize = 8;
/// Attempts at a database that is being written, and the pause between them.
const ATTEMPTS: usize = 40;
const PAUSE: Duration = Duration::from_millis(50);
/// Length of the head of a write-ahead log; it changes when the log is begun anew.
const LOG_HEAD: u64 = 32;
/// How much is read at once in search of the end of a line.
const BLOCK: u64 = 64 * 1024;

/// Why a conversation could not be copied.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    #[error("the harness's files of this conversation are not there")]
    Gone,
    #[error("the conversation is too large to be copied: over {MOST_BYTES} bytes or {MOST_ENTRIES} files")]
    TooLarge,
    #[error("the harness is writing its conversation all the time; try again when its turn is over")]
    Busy,
    #[error("copying the conversation: {path}: {error}", path = path.display())]
    Io { path: PathBuf, error: io::Error },
}

impl From<CopyError> for ErrorBody {
    fn from(error: CopyError) -> Self {
        let code = match error {
            CopyError::Gone => ErrorCode::NotFound,
            CopyError::TooLarge => ErrorCode::LimitExceeded,
            CopyError::Busy | CopyError::Io { .. } => ErrorCode::Unavailable,
        };
        Self::new(code, error.to_string())
    }
}

/// Where a harness keeps conversations, below the private home. Nothing here holds a key or a setting.
#[derive(Debug, Clone, Copy)]
struct Places {
    trees: &'static [&'static str],
    /// A database in SQLite's format, with its write-ahead log beside it: its folder and its name.
    database: Option<(&'static str, &'static str)>,
}

fn places(harness: &str) -> Option<Places> {
    let trees = |trees| Places {
        trees,
        database: None,
    };
    Some(match harness {
        "pi" => trees(&[".pi/agent/sessions"]),
        "codex" | "codex-acp" => trees(&[".codex/sessions"]),
        "claude" | "claude-code-acp" => trees(&[".claude/projects"]),
        "opencode" | "opencode-acp" => Places {
            trees: &[".local/share/opencode/tool-output"],
            database: Some((".local/share/opencode", "opencode.db")),
        },
        _ => return None,
    })
}

/// Whether it is known where this harness keeps its conversations.
pub fn is_known(harness: &str) -> bool {
    places(harness).is_some()
}

/// Copies the conversations of the private home `from` into the new, empty home `to`. Blocking.
pub fn copy(harness: &str, from: &Path, to: &Path) -> Result<(), CopyError> {
    let Some(places) = places(harness) else {
        return Err(CopyError::Gone);
    };
    let open =
        |path: &Path| openat(CWD, path, OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).map_err(at(path));
    let (from, to) = (open(from)?, open(to)?);
    let mut copier = Copier {
        entries: 0,
        bytes: 0,
        files: 0,
    };
    if let Some((folder, name)) = places.database {
        copier.database(&from, &to, Path::new(folder), name)?;
    }
    for tree in places.trees {
        let tree = Path::new(tree);
        if let Some(source) = directory(&from, tree)? {
            let target = make(&to, tree)?;
            copier.tree(&source, &target, tree, MOST_LEVELS)?;
        }
    }
    if copier.files == 0 {
        return Err(CopyError::Gone);
    }
    Ok(())
}

/// What was copied so far.
struct Copier {
    entries: usize,
    bytes: u64,
    files: usize,
}

impl Copier {
    fn tree(&mut self, from: &OwnedFd, to: &OwnedFd, path: &Path, levels: usize) -> Result<(), CopyError> {
        for entry in Dir::read_from(from).map_err(at(path))? {
            let entry = entry.map_err(at(path))?;
            let bytes = entry.file_name().to_bytes();
            if matches!(bytes, b"." | b"..") {
                continue;
            }
            self.entries += 1;
            if self.entries > MOST_ENTRIES {
                return Err(CopyError::TooLarge);
            }
            let name = Path::new(OsStr::from_bytes(bytes));
            let path = path.join(name);
            match statat(from, name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(found) if is(&found, FileType::RegularFile) => self.file(from, to, name, &path)?,
                Ok(found) if is(&found, FileType::Directory) && levels > 0 => {
                    if let Some(inner) = directory(from, name)? {
                        let target = make(to, name)?;
                        self.tree(&inner, &target, &path, levels - 1)?;
                    }
                }
                // What is neither was not made by the harness; what is gone is gone.
                Ok(_) | Err(Errno::NOENT) => {}
                Err(error) => return Err(at(&path)(error)),
            }
        }
        Ok(())
    }

    /// A plain file. One that is being appended to ends with its last whole line.
    fn file(&mut self, from: &OwnedFd, to: &OwnedFd, name: &Path, path: &Path) -> Result<(), CopyError> {
        let Some(source) = plain(from, name, path)? else {
            return Ok(());
        };
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let target = openat2(to, name, flags, Mode::RUSR | Mode::WUSR, beneath()).map_err(at(path))?;
        let mut target = File::from(target);
        let left = MOST_BYTES - self.bytes;
        // One that is larger than that from the start is not even begun.
        if source.metadata().map_err(failed(path))?.size() > left {
            return Err(CopyError::TooLarge);
        }
        let copied = io::copy(&mut source.take(left + 1), &mut target).map_err(failed(path))?;
        if copied > left {
            return Err(CopyError::TooLarge);
        }
        self.bytes += copied;
        self.files += 1;
        if path.extension() == Some(OsStr::new("jsonl")) {
            cut(&target, copied).map_err(failed(path))?;
        }
        Ok(())
    }

    /// A database and its log, as they were together at one time.
    ///
    /// The log is only appended to, and a part of it is an earlier state; but what was moved from the log into the
    /// database while both were copied may be in neither. Then they are copied again.
    fn database(&mut self, from: &OwnedFd, to: &OwnedFd, folder: &Path, name: &str) -> Result<(), CopyError> {
        let Some(source) = directory(from, folder)? else {
            return Ok(());
        };
        let target = make(to, folder)?;
        let names = [PathBuf::from(name), PathBuf::from(format!("{name}-wal"))];
        for _ in 0..ATTEMPTS {
            let before = state(&source, &names, folder)?;
            if before.0.is_none() {
                return Ok(());
            }
            let (bytes, files) = (self.bytes, self.files);
            for name in &names {
                self.file(&source, &target, name, &folder.join(name))?;
            }
            if state(&source, &names, folder)? == before {
                return Ok(());
            }
            (self.bytes, self.files) = (bytes, files);
            for name in &names {
                match unlinkat(&target, name, AtFlags::empty()) {
                    Ok(()) | Err(Errno::NOENT) => {}
                    Err(error) => return Err(at(&folder.join(name))(error)),
                }
            }
            std::thread::sleep(PAUSE);
        }
        Err(CopyError::Busy)
    }
}

/// What tells whether something was moved from the log into the database: number, size and times of the latter's file,
/// and the head of the former.
type State = (Option<[i128; 6]>, Vec<u8>);

fn state(directory: &OwnedFd, [database, log]: &[PathBuf; 2], folder: &Path) -> Result<State, CopyError> {
    let path = folder.join(database);
    let Some(database) = plain(directory, database, &path)? else {
        return Ok((None, Vec::new()));
    };
    let found = database.metadata().map_err(failed(&path))?;
    let mut head = Vec::new();
    if let Some(log) = plain(directory, log, &path)? {
        let mut log = log.take(LOG_HEAD);
        log.read_to_end(&mut head).map_err(failed(&path))?;
    }
    let times = [
        found.ino().into(),
        found.size().into(),
        found.mtime().into(),
        found.mtime_nsec().into(),
        found.ctime().into(),
        found.ctime_nsec().into(),
    ];
    Ok((Some(times), head))
}

/// Cuts a file after its last line feed.
fn cut(file: &File, length: u64) -> io::Result<()> {
    let mut end = length;
    let mut block = Vec::new();
    while end > 0 {
        let begin = end.saturating_sub(BLOCK);
        // A block fits into memory.
        block.resize(usize::try_from(end - begin).unwrap_or_default(), 0);
        file.read_exact_at(&mut block, begin)?;
        if let Some(found) = block.iter().rposition(|byte| *byte == b'\n') {
            end = begin + found as u64 + 1;
            break;
        }
        end = begin;
    }
    if end == length {
        return Ok(());
    }
    file.set_len(end)
}

fn is(found: &Stat, kind: FileType) -> bool {
    FileType::from_raw_mode(found.st_mode) == kind
}

fn beneath() -> ResolveFlags {
    ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS
}

/// A directory of the guest's; `None` where there is none, or a link.
fn directory(from: impl AsFd, path: &Path) -> Result<Option<OwnedFd>, CopyError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    match openat2(from, path, flags, Mode::empty(), beneath()) {
        Ok(directory) => Ok(Some(directory)),
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(None),
        Err(error) => Err(at(path)(error)),
    }
}

/// A plain file of the guest's; `None` where there is none, or something else.
fn plain(from: &OwnedFd, name: &Path, path: &Path) -> Result<Option<File>, CopyError> {
    // Without waiting: it may have become a pipe that nobody writes to.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = match openat2(from, name, flags, Mode::empty(), beneath()) {
        Ok(file) => file,
        Err(Errno::NOENT | Errno::LOOP | Errno::NXIO) => return Ok(None),
        Err(error) => return Err(at(path)(error)),
    };
    let found = fstat(&file).map_err(at(path))?;
    Ok(is(&found, FileType::RegularFile).then(|| File::from(file)))
}

/// A directory of the copy, with those it lies in.
fn make(to: &OwnedFd, path: &Path) -> Result<OwnedFd, CopyError> {
    let mut made = PathBuf::new();
    for component in path.components() {
        made.push(component);
        match mkdirat(to, &made, Mode::RWXU) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(at(path)(error)),
        }
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    openat2(to, path, flags, Mode::empty(), beneath()).map_err(at(path))
}

fn at(path: &Path) -> impl FnOnce(Errno) -> CopyError + use<'_> {
    |error| failed(path)(error.into())
}

fn failed(path: &Path) -> impl FnOnce(io::Error) -> CopyError + use<'_> {
    |error| CopyError::Io {
        path: path.to_owned(),
        error,
    }
}

#[cfg(test)]
mod tests;
