//! `lodge-init files`: does what a [`Request`] asks, as the guest that it runs as.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, BufRead, Read, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::UNIX_EPOCH;

use lodge_guest::files::{Answer, Entry, Failure, FailureKind, Kind, MAX_WRITE, Request};
use rustix::fs::{
    AtFlags, CWD, Dir, FileType, Mode, OFlags, RenameFlags, Stat, fchmod, fstat, openat, readlinkat,
    renameat, renameat_with, statat, unlinkat,
};
use rustix::io::Errno;

/// Longest request line, in bytes: a path, escaped.
const MAX_REQUEST: u64 = 64 * 1024;
/// Names of a directory that are looked at.
const MAX_NAMES: usize = 100_000;
/// Bytes of a link's target that are told.
const MAX_TARGET: usize = 512;
/// Temporary names that are tried.
const ATTEMPTS: u32 = 16;

type Result<T> = std::result::Result<T, Failure>;

/// Serves one request on standard input and output.
pub(crate) fn serve() -> io::Result<()> {
    let mut input = io::stdin().lock();
    let mut line = Vec::new();
    input.by_ref().take(MAX_REQUEST).read_until(b'\n', &mut line)?;
    let (answer, body) = match act(&line, &mut input) {
        Ok((answer, body)) => (Ok(answer), body),
        Err(failure) => (Err(failure), Vec::new()),
    };
    let mut out = serde_json::to_vec(&answer)?;
    out.push(b'\n');
    out.extend_from_slice(&body);
    io::stdout().lock().write_all(&out)
}

fn act(line: &[u8], input: &mut impl Read) -> Result<(Answer, Vec<u8>)> {
    let request: Request =
        serde_json::from_slice(line).map_err(|error| failure(FailureKind::Invalid, error.to_string()))?;
    let root = rustix::fs::open(
        ".",
        OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )
    .map_err(|error| told(error, "the workspace"))?;
    match request {
        Request::List { path, limit } => list(root.as_fd(), &path, limit).map(|answer| (answer, Vec::new())),
        Request::Read { path, offset, limit } => read(root.as_fd(), &path, offset, limit),
        Request::Write {
            path,
            size,
            expected_version,
        } => {
            let bytes = body(input, size)?;
            write(root.as_fd(), &path, &bytes, expected_version.as_deref()).map(|answer| (answer, Vec::new()))
        }
    }
}

fn body(input: &mut impl Read, size: u64) -> Result<Vec<u8>> {
    if size > MAX_WRITE as u64 {
        return Err(failure(
            FailureKind::Invalid,
            format!("at most {MAX_WRITE} bytes are written at once"),
        ));
    }
    let mut bytes = Vec::new();
    let read = input.take(size).read_to_end(&mut bytes);
    // Half a file must not replace a whole one.
    match read {
        Ok(count) if count as u64 == size => Ok(bytes),
        _ => Err(failure(
            FailureKind::Other,
            "the bytes to write did not arrive whole",
        )),
    }
}

fn failure(kind: FailureKind, message: impl Into<String>) -> Failure {
    Failure {
        kind,
        message: message.into(),
    }
}

/// The kernel's refusal in words.
fn told(error: Errno, path: &str) -> Failure {
    let (kind, why) = match error {
        Errno::NOENT => (FailureKind::NotFound, "does not exist"),
        Errno::NOTDIR => (FailureKind::Invalid, "lies below something that is no directory"),
        Errno::ISDIR => (FailureKind::Invalid, "is a directory"),
        Errno::XDEV => (FailureKind::Denied, "leads out of the workspace"),
        Errno::LOOP => (FailureKind::Denied, "is a symbolic link, or lies behind one"),
        Errno::ROFS | Errno::BUSY => (FailureKind::Denied, "is protected in this sandbox"),
        Errno::ACCESS | Errno::PERM => (FailureKind::Denied, "may not be touched"),
        Errno::NOSPC | Errno::DQUOT => (FailureKind::Full, "cannot be written: the disk is full"),
        Errno::FBIG => (
            FailureKind::Full,
            "cannot be written: it is over the sandbox's limit for files",
        ),
        Errno::NXIO => (FailureKind::Invalid, "is no file that can be read"),
        Errno::NAMETOOLONG => (FailureKind::Invalid, "is too long"),
        _ => return failure(FailureKind::Other, format!("{path}: {error}")),
    };
    failure(kind, format!("{path} {why}"))
}

fn io_told(error: &io::Error, path: &str) -> Failure {
    match Errno::from_io_error(error) {
        Some(errno) => told(errno, path),
        None => failure(FailureKind::Other, format!("{path}: {error}")),
    }
}

/// Opens below the workspace; links are followed as long as they stay in it.
fn open(root: BorrowedFd<'_>, path: &str, flags: OFlags) -> Result<OwnedFd> {
    if path.split('/').any(|name| name == "..") {
        return Err(told(Errno::XDEV, path));
    }
    let path_or_root = if path.is_empty() { "." } else { path };
    let flags = flags | OFlags::CLOEXEC | OFlags::NOCTTY;
    let fd = openat(root, path_or_root, flags, Mode::empty()).map_err(|error| told(error, path))?;
    // Where it led is asked of the kernel: `openat2`, which would refuse to leave, is refused in every sandbox, because
    // a filter cannot see the mode of the file it makes. What lies outside is no more than this guest may see anyway.
    let place = |fd: BorrowedFd<'_>| readlinkat(CWD, format!("/proc/self/fd/{}", fd.as_raw_fd()), Vec::new());
    let (top, found) = (place(root), place(fd.as_fd()));
    let (Ok(top), Ok(found)) = (top, found) else {
        return Err(told(Errno::XDEV, path));
    };
    if !Path::new(OsStr::from_bytes(found.as_bytes())).starts_with(OsStr::from_bytes(top.as_bytes())) {
        return Err(told(Errno::XDEV, path));
    }
    Ok(fd)
}

/// Opens a directory below `root` one name at a time, following no link.
fn walk(root: BorrowedFd<'_>, path: &str) -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut directory = openat(root, ".", flags, Mode::empty()).map_err(|error| told(error, path))?;
    for name in path.split('/').filter(|name| !name.is_empty() && *name != ".") {
        if name == ".." {
            return Err(told(Errno::XDEV, path));
        }
        directory = openat(&directory, name, flags, Mode::empty()).map_err(|error| match error {
            // What a link in the way looks like to a call that wants a directory and follows none.
            Errno::NOTDIR if is_link(&directory, name) => told(Errno::LOOP, path),
            error => told(error, path),
        })?;
    }
    Ok(directory)
}

fn is_link(directory: &OwnedFd, name: &str) -> bool {
    statat(directory, name, AtFlags::SYMLINK_NOFOLLOW)
        .is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Symlink)
}

fn list(root: BorrowedFd<'_>, path: &str, limit: u32) -> Result<Answer> {
    let fd = open(root, path, OFlags::RDONLY | OFlags::DIRECTORY)?;
    let dir = Dir::read_from(&fd).map_err(|error| told(error, path))?;
    let mut entries = Vec::new();
    let mut truncated = false;
    for found in dir {
        let found = found.map_err(|error| told(error, path))?;
        let name = found.file_name();
        if name == c"." || name == c".." {
            continue;
        }
        if entries.len() >= MAX_NAMES {
            truncated = true;
            break;
        }
        // What is deleted meanwhile is not there.
        if let Ok(stat) = statat(&fd, name, AtFlags::SYMLINK_NOFOLLOW) {
            entries.push((kind(&stat), name.to_owned(), stat));
        }
    }
    entries.sort_by(|a, b| (a.0, &a.1).cmp(&(b.0, &b.1)));
    truncated |= entries.len() > limit as usize;
    let entries = entries
        .into_iter()
        .take(limit as usize)
        .map(|(kind, name, stat)| {
            let target = (kind == Kind::Symlink)
                .then(|| readlinkat(&fd, &name, Vec::new()).ok())
                .flatten();
            Entry {
                name: name.to_string_lossy().into_owned(),
                kind,
                size: u64::try_from(stat.st_size).unwrap_or(0),
                modified: milliseconds(&stat),
                target: target.map(|target| target.to_string_lossy().chars().take(MAX_TARGET).collect()),
            }
        })
        .collect();
    Ok(Answer::Listing { entries, truncated })
}

fn kind(stat: &Stat) -> Kind {
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => Kind::Directory,
        FileType::RegularFile => Kind::File,
        FileType::Symlink => Kind::Symlink,
        _ => Kind::Special,
    }
}

fn milliseconds(stat: &Stat) -> u64 {
    let seconds = u64::try_from(stat.st_mtime).unwrap_or(0);
    seconds.saturating_mul(1000) + stat.st_mtime_nsec / 1_000_000
}

/// Differs when the file does: a file that is replaced has another number, one that is written has other times.
fn version(stat: &Stat) -> String {
    format!(
        "{}.{}.{}.{}.{}.{}",
        stat.st_ino, stat.st_size, stat.st_mtime, stat.st_mtime_nsec, stat.st_ctime, stat.st_ctime_nsec
    )
}

fn read(root: BorrowedFd<'_>, path: &str, offset: u64, limit: u32) -> Result<(Answer, Vec<u8>)> {
    // Without waiting: opening a pipe that nobody writes to would never end.
    let fd = open(root, path, OFlags::RDONLY | OFlags::NONBLOCK)?;
    let stat = fstat(&fd).map_err(|error| told(error, path))?;
    match kind(&stat) {
        Kind::File => {}
        Kind::Directory => return Err(told(Errno::ISDIR, path)),
        Kind::Symlink | Kind::Special => return Err(told(Errno::NXIO, path)),
    }
    let mut file = File::from(fd);
    let mut bytes = Vec::new();
    file.seek(SeekFrom::Start(offset))
        .and_then(|_| file.take(u64::from(limit)).read_to_end(&mut bytes))
        .map_err(|error| io_told(&error, path))?;
    let answer = Answer::Content {
        size: u64::try_from(stat.st_size).unwrap_or(0),
        version: version(&stat),
    };
    Ok((answer, bytes))
}

/// Writes a new file beside the old one and puts it in its place.
fn write(root: BorrowedFd<'_>, path: &str, bytes: &[u8], expected: Option<&str>) -> Result<Answer> {
    let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
    if name.is_empty() || name == "." || name == ".." {
        return Err(failure(FailureKind::Invalid, format!("{path} names no file")));
    }
    let directory = walk(root, parent)?;
    let mode = match standing(&directory, name, path, expected)? {
        Some(stat) => Mode::from_raw_mode(stat.st_mode & 0o777),
        None => Mode::from_raw_mode(0o644),
    };
    let (temporary, file) = fresh(&directory, path)?;
    let placed = fill(file, bytes, mode, path).and_then(|()| {
        let renamed = if expected == Some("") {
            renameat_with(&directory, &temporary, &directory, name, RenameFlags::NOREPLACE)
        } else {
            renameat(&directory, &temporary, &directory, name)
        };
        renamed.map_err(|error| match error {
            Errno::EXIST => conflict(path),
            other => told(other, path),
        })
    });
    if placed.is_err() {
        let _ = unlinkat(&directory, &temporary, AtFlags::empty());
    }
    placed?;
    let stat = statat(&directory, name, AtFlags::SYMLINK_NOFOLLOW).map_err(|error| told(error, path))?;
    Ok(Answer::Written {
        size: bytes.len() as u64,
        version: version(&stat),
    })
}

/// What is in the way, which must be a plain file and the expected one.
fn standing(directory: &OwnedFd, name: &str, path: &str, expected: Option<&str>) -> Result<Option<Stat>> {
    let stat = match statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => stat,
        Err(Errno::NOENT) => {
            return match expected {
                None | Some("") => Ok(None),
                Some(_) => Err(conflict(path)),
            };
        }
        Err(error) => return Err(told(error, path)),
    };
    match kind(&stat) {
        Kind::File => {}
        Kind::Directory => return Err(told(Errno::ISDIR, path)),
        Kind::Symlink => return Err(told(Errno::LOOP, path)),
        Kind::Special => return Err(failure(FailureKind::Invalid, format!("{path} is no plain file"))),
    }
    // A protected file is mounted read-only over its place: a rename would be refused, this says it sooner.
    rustix::fs::accessat(directory, name, rustix::fs::Access::WRITE_OK, AtFlags::empty())
        .map_err(|error| told(error, path))?;
    match expected {
        Some(expected) if expected != version(&stat) => Err(conflict(path)),
        _ => Ok(Some(stat)),
    }
}

fn conflict(path: &str) -> Failure {
    failure(
        FailureKind::Conflict,
        format!("{path} is not the file it was: somebody changed, made or removed it"),
    )
}

fn fresh(directory: &OwnedFd, path: &str) -> Result<(String, File)> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    for attempt in 0..ATTEMPTS {
        let now = UNIX_EPOCH.elapsed().map_or(0, |since| since.subsec_nanos());
        let name = format!(".lodge-write-{}-{now:x}-{attempt}", std::process::id());
        match rustix::fs::openat(directory, &name, flags, Mode::from_raw_mode(0o600)) {
            Ok(fd) => return Ok((name, File::from(fd))),
            Err(Errno::EXIST) => {}
            Err(error) => return Err(told(error, path)),
        }
    }
    Err(failure(
        FailureKind::Other,
        format!("{path}: no temporary name is free"),
    ))
}

fn fill(mut file: File, bytes: &[u8], mode: Mode, path: &str) -> Result<()> {
    file.write_all(bytes)
        .and_then(|()| file.sync_data())
        .map_err(|error| io_told(&error, path))?;
    fchmod(&file, mode).map_err(|error| told(error, path))
}
