//! Stand-ins for absent control files: made just before a sandbox starts, gone after the last one that needs them.
//!
//! An absent name can only be held by putting something there. Several sandboxes may share a workspace, and a launcher
//! may be killed at any moment, so what was made is written down first, and every sandbox holds a lock as long as it
//! lives: who finds the lock free removes what is written there, provided it is still the same and still empty.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, FileType, FlockOperation, Mode, OFlags, Stat, flock, mkdirat, openat, statat, unlinkat,
};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::error::SandboxError;
use crate::plan::Placeholder;
use crate::spare::Spare;
use crate::view;

/// Below Lodge's state of sandboxes.
const FOLDER: &str = "placeholders";
/// Directories to come, in that folder.
const SPARE: &str = "spare";
/// Taken for every change of the registry, for some milliseconds.
const MUTEX: &str = "lock";

/// What was made in one workspace.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Registry {
    workspace: PathBuf,
    made: Vec<Made>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Made {
    #[serde(flatten)]
    what: Placeholder,
    /// Device and inode; absent while it is only intended.
    id: Option<(u64, u64)>,
    /// Seconds since the epoch, not later than when it was made.
    since: i64,
}

/// Makes what is absent of `wanted` in `workspace`. The descriptor has to stay open as long as the sandbox lives, in
/// a process that lives at least as long; [`sweep`] removes everything some time after it is closed.
///
/// Blocks while another call is at work in the same state directory: milliseconds.
pub fn acquire(state: &Path, workspace: &Path, wanted: &[Placeholder]) -> Result<OwnedFd, SandboxError> {
    let failed = |path: PathBuf, source: io::Error| SandboxError::Placeholder { path, source };
    let place = Place::open(state).map_err(|source| failed(state.join(FOLDER), source))?;
    let _mutex = place
        .mutex()
        .map_err(|source| failed(state.join(FOLDER), source))?;
    let root = view::open(None, workspace).map_err(|errno| failed(workspace.to_owned(), errno.into()))?;
    let id = identity(&root).map_err(|source| failed(workspace.to_owned(), source))?;
    let mut registry = place.load(&id);
    workspace.clone_into(&mut registry.workspace);
    let mut fresh = Vec::new();
    for what in wanted {
        match kind_at(&root, &what.name) {
            Ok(None) => fresh.push(Made {
                what: what.clone(),
                id: None,
                since: now(),
            }),
            Ok(Some(directory)) if directory == what.directory => {}
            Ok(Some(_)) | Err(Errno::LOOP | Errno::NOTDIR) => {
                return Err(SandboxError::Changed {
                    path: workspace.join(&what.name),
                });
            }
            Err(errno) => return Err(failed(workspace.join(&what.name), errno.into())),
        }
    }
    let users = place
        .users(&id)
        .and_then(|users| {
            flock(&users, FlockOperation::LockShared)?;
            Ok(users)
        })
        .map_err(|source| failed(state.join(FOLDER), source))?;
    if fresh.is_empty() {
        return Ok(users.into());
    }
    let replaced = |old: &Made| fresh.iter().any(|new| new.what.name == old.what.name);
    registry.made.retain(|old| !replaced(old));
    registry.made.extend(fresh);
    place
        .save(&id, &registry)
        .map_err(|source| failed(state.join(FOLDER), source))?;
    let mut spare = place.spare();
    for made in registry.made.iter_mut().filter(|made| made.id.is_none()) {
        let stat = make(&root, &made.what, &mut spare)
            .map_err(|errno| failed(workspace.join(&made.what.name), errno.into()))?;
        made.id = stat.map(|stat| (stat.st_dev, stat.st_ino));
    }
    place
        .save(&id, &registry)
        .map_err(|source| failed(state.join(FOLDER), source))?;
    Ok(users.into())
}

/// Names in `workspace` that stand for something absent now: made by [`acquire`], still the same and still empty.
/// What cannot be read is not among them.
pub fn standing(state: &Path, workspace: &Path) -> Vec<String> {
    let place = Place {
        folder: state.join(FOLDER),
    };
    let Ok(root) = view::open(None, workspace) else {
        return Vec::new();
    };
    let made = identity(&root).map_or_else(|_| Vec::new(), |id| place.load(&id).made);
    made.into_iter()
        .filter(|made| {
            let (Some(id), Ok((above, last))) = (made.id, parent(&root, &made.what.name)) else {
                return false;
            };
            let is_same = statat(&above, last, AtFlags::SYMLINK_NOFOLLOW).is_ok_and(|stat| {
                (stat.st_dev, stat.st_ino) == id && (made.what.directory || stat.st_size == 0)
            });
            let path = workspace.join(&made.what.name);
            is_same
                && (!made.what.directory
                    || fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_none()))
        })
        .map(|made| made.what.name)
        .collect()
}

/// Removes what nobody holds any more, in every workspace, and makes ready for the next sandbox. What changed meanwhile
/// stays: it is somebody else's then.
pub fn sweep(state: &Path) -> Result<(), SandboxError> {
    clear(state, |place| place.spare().fill())
}

/// The same without making ready.
pub(crate) fn remove_unused(state: &Path) -> Result<(), SandboxError> {
    clear(state, |_| Ok(()))
}

fn clear(state: &Path, then: impl FnOnce(&Place) -> io::Result<()>) -> Result<(), SandboxError> {
    let failed = |source| SandboxError::Placeholder {
        path: state.join(FOLDER),
        source,
    };
    if !state.join(FOLDER).exists() {
        return Ok(());
    }
    let place = Place::open(state).map_err(failed)?;
    let _mutex = place.mutex().map_err(failed)?;
    for entry in fs::read_dir(&place.folder).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name();
        if let Some(id) = name.to_str().and_then(|name| name.strip_suffix(".users")) {
            place.remove_if_unused(id).map_err(failed)?;
        }
    }
    then(&place).map_err(failed)
}

/// The registry's directory.
struct Place {
    folder: PathBuf,
}

impl Place {
    fn open(state: &Path) -> io::Result<Self> {
        let folder = state.join(FOLDER);
        DirBuilder::new().recursive(true).mode(0o700).create(&folder)?;
        Ok(Self { folder })
    }

    fn mutex(&self) -> io::Result<File> {
        let file = private(&self.folder.join(MUTEX))?;
        rustix::io::retry_on_intr(|| flock(&file, FlockOperation::LockExclusive))?;
        Ok(file)
    }

    fn spare(&self) -> Spare {
        Spare::open(self.folder.join(SPARE))
    }

    fn users(&self, id: &str) -> io::Result<File> {
        private(&self.folder.join(format!("{id}.users")))
    }

    fn registry(&self, id: &str) -> PathBuf {
        self.folder.join(format!("{id}.json"))
    }

    /// What cannot be read was cut off by a full disk: nothing can be known of it.
    fn load(&self, id: &str) -> Registry {
        let text = fs::read(self.registry(id)).unwrap_or_default();
        serde_json::from_slice(&text).unwrap_or_default()
    }

    fn save(&self, id: &str, registry: &Registry) -> io::Result<()> {
        let fresh = self.folder.join(format!("{id}.new"));
        let mut file = private(&fresh)?;
        file.set_len(0)?;
        file.write_all(&serde_json::to_vec(registry)?)?;
        fs::rename(&fresh, self.registry(id))
    }

    fn remove_if_unused(&self, id: &str) -> io::Result<()> {
        let users = self.users(id)?;
        match flock(&users, FlockOperation::NonBlockingLockExclusive) {
            Err(Errno::WOULDBLOCK) => return Ok(()),
            other => other?,
        }
        let registry = self.load(id);
        if let Ok(root) = view::open(None, &registry.workspace)
            && identity(&root).is_ok_and(|found| found == id)
        {
            for made in registry.made.iter().rev() {
                unmake(&root, made);
            }
        }
        for name in [format!("{id}.json"), format!("{id}.new"), format!("{id}.users")] {
            match fs::remove_file(self.folder.join(name)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }
}

fn private(path: &Path) -> io::Result<File> {
    let flags = OFlags::CREATE | OFlags::RDWR | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    Ok(rustix::fs::open(path, flags, Mode::RUSR | Mode::WUSR)?.into())
}

/// Device and inode: what the workspace is, whatever it is called.
fn identity(root: &OwnedFd) -> io::Result<String> {
    let stat = rustix::fs::fstat(root)?;
    Ok(format!("{:x}-{:x}", stat.st_dev, stat.st_ino))
}

fn now() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| i64::try_from(since.as_secs()).unwrap_or(i64::MAX))
}

/// Whether a name below the workspace is there, and then whether it is a directory. Links are refused.
fn kind_at(root: &OwnedFd, name: &str) -> rustix::io::Result<Option<bool>> {
    let found = view::open(Some(root.as_fd()), Path::new(name)).and_then(|fd| view::file_type(fd.as_fd()));
    match found {
        Ok(FileType::Symlink) => Err(Errno::LOOP),
        Ok(kind) => Ok(Some(kind == FileType::Directory)),
        Err(Errno::NOENT) => Ok(None),
        Err(errno) => Err(errno),
    }
}

/// The directory a name lies in, and its last part.
fn parent<'a>(root: &OwnedFd, name: &'a str) -> rustix::io::Result<(OwnedFd, &'a str)> {
    let (above, last) = name.rsplit_once('/').unwrap_or((".", name));
    Ok((view::open(Some(root.as_fd()), Path::new(above))?, last))
}

/// Makes one; `None` when something is there by now.
fn make(root: &OwnedFd, what: &Placeholder, spare: &mut Spare) -> rustix::io::Result<Option<Stat>> {
    let (above, last) = parent(root, &what.name)?;
    let made = if what.directory {
        match spare.take(&above, last) {
            Ok(None) => {}
            Err(Errno::EXIST) => return Ok(None),
            taken => return taken,
        }
        mkdirat(
            &above,
            last,
            Mode::RWXU | Mode::RGRP | Mode::XGRP | Mode::ROTH | Mode::XOTH,
        )
        .and_then(|()| open_to_all(&above, last))
    } else {
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        openat(
            &above,
            last,
            flags,
            Mode::RUSR | Mode::WUSR | Mode::RGRP | Mode::ROTH,
        )
        .map(drop)
    };
    match made {
        Ok(()) => statat(&above, last, AtFlags::SYMLINK_NOFOLLOW).map(Some),
        Err(Errno::EXIST) => Ok(None),
        Err(errno) => Err(errno),
    }
}

/// Gives a directory the mode it was to have, whatever the umask is.
fn open_to_all(above: &OwnedFd, name: &str) -> rustix::io::Result<()> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let made = openat(above, name, flags, Mode::empty())?;
    rustix::fs::fchmod(made, Mode::from_raw_mode(0o755))
}

/// Removes one that is still what was made. Failing means that it is in use or not ours: then it stays.
fn unmake(root: &OwnedFd, made: &Made) {
    let Ok((above, last)) = parent(root, &made.what.name) else {
        return;
    };
    let Ok(stat) = statat(&above, last, AtFlags::SYMLINK_NOFOLLOW) else {
        return;
    };
    let kind = FileType::from_raw_mode(stat.st_mode);
    let same = match made.id {
        Some(id) => id == (stat.st_dev, stat.st_ino),
        // Killed between the intention and the note: ours if it is as young as that.
        None => stat.st_uid == rustix::process::getuid().as_raw() && stat.st_ctime >= made.since,
    };
    let _ = match (same, made.what.directory) {
        (true, true) if kind == FileType::Directory => unlinkat(&above, last, AtFlags::REMOVEDIR),
        (true, false) if kind == FileType::RegularFile && stat.st_size == 0 => {
            unlinkat(&above, last, AtFlags::empty())
        }
        _ => Ok(()),
    };
}
