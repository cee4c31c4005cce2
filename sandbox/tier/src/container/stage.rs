//! What a container is to find on the host: a private directory with the stream's socket and generated files, and the
//! sources of its mounts.
//!
//! An engine takes paths, and a path may lead elsewhere by the time it is used. Root mounts what was opened and checked
//! in its private directory, where nobody else can exchange it, and with the owner mapped to the guest's. An ordinary
//! user cannot; then the engine gets the path, and [`verify`](super::verify) looks before anything runs whether what it
//! mounted is what was opened.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use lodge_sandbox::plan::{Access, Mount, Plan, Source};
use rustix::fs::{FileType, Mode, OFlags, ResolveFlags};
use tokio::net::UnixListener;

use super::error::ContainerError;
use super::idmap;
use super::owner::Owner;

/// Below Lodge's state of sandboxes: one directory a running container, named by its owner.
pub(super) const FOLDER: &str = "run";
const MOUNTS: &str = "m";
const SOCKET: &str = "mux.sock";
const FILTER: &str = "seccomp.json";

/// Device and inode.
type Identity = (u64, u64);
/// The path that an engine gets, and what it refers to.
type Opened = (PathBuf, Identity);

/// What has to be mounted at a place in the container.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Expected {
    /// What was opened for it; `None` where the engine makes something new.
    pub(super) identity: Option<Identity>,
    pub(super) read_only: bool,
}

#[derive(Debug)]
pub(super) struct Stage {
    folder: PathBuf,
    /// For every mount of the plan.
    pub(super) sources: Vec<Option<PathBuf>>,
    pub(super) expected: BTreeMap<PathBuf, Expected>,
    pub(super) listener: UnixListener,
    mapping: Option<OwnedFd>,
}

impl Stage {
    /// Prepares everything for `plan` below `state`; `filter` is the text of the system call filter.
    pub(super) fn prepare(
        plan: &Plan,
        state: &Path,
        owner: Owner,
        filter: &str,
    ) -> Result<Self, ContainerError> {
        let folder = state.join(FOLDER).join(owner.to_string());
        let failed = || ContainerError::file("make", &folder);
        let mut private = DirBuilder::new();
        private.recursive(true).mode(0o700);
        private.create(folder.join(MOUNTS)).map_err(failed())?;
        let root = rustix::process::geteuid().is_root();
        let mapping = if root {
            let made = idmap::mapping(plan.uid, plan.gid);
            Some(made.map_err(ContainerError::system("make a user namespace for mapped owners"))?)
        } else {
            None
        };
        let mut stage = Self {
            listener: listen(&folder, root.then_some((plan.uid, plan.gid))).map_err(failed())?,
            folder,
            sources: Vec::new(),
            expected: BTreeMap::new(),
            mapping,
        };
        stage.file(FILTER, filter)?;
        for (index, mount) in plan.mounts.iter().enumerate() {
            let source = stage.source(index, mount)?;
            stage.expect(mount, source.as_ref().map(|(_, identity)| *identity));
            stage.sources.push(source.map(|(path, _)| path));
        }
        Ok(stage)
    }

    pub(super) fn mux(&self) -> PathBuf {
        self.folder.join(SOCKET)
    }

    pub(super) fn filter(&self) -> PathBuf {
        self.folder.join(FILTER)
    }

    /// Notes what will be at the mount's place; the last mount at a place counts.
    fn expect(&mut self, mount: &Mount, identity: Option<Identity>) {
        let (at, read_only) = match mount {
            Mount::Bind { at, access, .. } => (at, *access == Access::Read),
            Mount::Content { at, .. } | Mount::EmptyFile { at } => (at, true),
            Mount::Tmpfs { at, .. } => (at, false),
            Mount::RemountReadOnly { at } => {
                if let Some(expected) = self.expected.get_mut(at) {
                    expected.read_only = true;
                }
                return;
            }
            Mount::Symlink { .. } | Mount::Proc { .. } | Mount::Dev { .. } => return,
        };
        self.expected.insert(at.clone(), Expected { identity, read_only });
    }

    fn source(&self, index: usize, mount: &Mount) -> Result<Option<Opened>, ContainerError> {
        let path = match mount {
            Mount::Bind {
                from, access, source, ..
            } => return self.bind(index, from, *access, *source).map(Some),
            Mount::Content { content, .. } => self.file(&format!("f{index}"), content)?,
            Mount::EmptyFile { .. } => self.file(&format!("f{index}"), "")?,
            _ => return Ok(None),
        };
        let (opened, _) = open(&path, Source::File)?;
        let identity = identity(&opened, &path)?;
        Ok(Some((path, identity)))
    }

    /// A file of the container's own.
    fn file(&self, name: &str, content: &str) -> Result<PathBuf, ContainerError> {
        let path = self.folder.join(name);
        let write = || {
            let mut file = OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(0o444)
                .open(&path)?;
            // Whatever the umask is.
            file.set_permissions(fs::Permissions::from_mode(0o444))?;
            file.write_all(content.as_bytes())
        };
        write().map_err(ContainerError::file("write", &path))?;
        Ok(path)
    }

    /// A device that does not exist: it cannot be opened, and git takes no notice of it. The engine would make a real one
    /// usable. The kernel lets everybody make this one.
    fn held(&self) -> Result<PathBuf, ContainerError> {
        let path = self.folder.join("held");
        match rustix::fs::mknodat(
            rustix::fs::CWD,
            &path,
            FileType::CharacterDevice,
            Mode::empty(),
            0,
        ) {
            Ok(()) | Err(rustix::io::Errno::EXIST) => Ok(path),
            Err(errno) => Err(ContainerError::file("make", &path)(errno.into())),
        }
    }

    fn bind(
        &self,
        index: usize,
        from: &Path,
        access: Access,
        source: Source,
    ) -> Result<Opened, ContainerError> {
        let (opened, kind) = open(from, source)?;
        // A device stands for a name that is held.
        if kind == FileType::CharacterDevice {
            let held = self.held()?;
            let (opened, _) = open(&held, Source::File)?;
            let identity = identity(&opened, &held)?;
            return Ok((held, identity));
        }
        let identity = identity(&opened, from)?;
        let Some(mapping) = &self.mapping else {
            return Ok((from.to_owned(), identity));
        };
        let place = self.folder.join(MOUNTS).join(index.to_string());
        let made = if kind == FileType::Directory {
            DirBuilder::new().mode(0o700).create(&place)
        } else {
            File::create(&place).map(drop)
        };
        made.map_err(ContainerError::file("make", &place))?;
        let mounted = idmap::mount(opened.as_fd(), &place, access == Access::Read, mapping.as_fd());
        mounted.map_err(|source| ContainerError::Idmap {
            path: from.to_owned(),
            source,
        })?;
        Ok((place, identity))
    }

    /// Takes the mounts of this machine away: the container has its own.
    pub(super) fn unmount(&self) {
        unmount(&self.folder);
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        remove(&self.folder);
    }
}

fn identity(opened: &OwnedFd, path: &Path) -> Result<Identity, ContainerError> {
    let status = rustix::fs::fstat(opened).map_err(|e| ContainerError::file("look at", path)(e.into()))?;
    Ok((status.st_dev, status.st_ino))
}

fn open(path: &Path, source: Source) -> Result<(OwnedFd, FileType), ContainerError> {
    let failed = |errno: rustix::io::Errno| ContainerError::file("open", path)(errno.into());
    let mut resolve = ResolveFlags::NO_MAGICLINKS;
    resolve.set(ResolveFlags::NO_SYMLINKS, source != Source::System);
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let opened = rustix::fs::openat2(rustix::fs::CWD, path, flags, Mode::empty(), resolve).map_err(failed)?;
    let status = rustix::fs::fstat(&opened).map_err(failed)?;
    let kind = FileType::from_raw_mode(status.st_mode);
    let directory = kind == FileType::Directory;
    let fits = match source {
        Source::Directory => directory,
        Source::File => !directory && kind != FileType::Symlink,
        Source::System | Source::Device => true,
    };
    if fits {
        Ok((opened, kind))
    } else {
        Err(ContainerError::Changed {
            path: path.to_owned(),
        })
    }
}

/// The socket for guest init; through a descriptor, because its path may be too long for an address.
fn listen(folder: &Path, guest: Option<(u32, u32)>) -> io::Result<UnixListener> {
    let opened = rustix::fs::open(folder, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
    let short = Path::new("/proc/self/fd").join(std::os::fd::AsRawFd::as_raw_fd(&opened).to_string());
    let listener = UnixListener::bind(short.join(SOCKET))?;
    let path = folder.join(SOCKET);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
    if let Some((uid, gid)) = guest {
        std::os::unix::fs::chown(&path, Some(uid), Some(gid))?;
    }
    Ok(listener)
}

fn unmount(folder: &Path) {
    for entry in entries(&folder.join(MOUNTS)) {
        idmap::unmount(&entry);
    }
}

/// Removes what a container had, level by level: a mount that could not be taken away keeps its place, and nothing in
/// it is ever touched.
pub(super) fn remove(folder: &Path) {
    unmount(folder);
    for entry in entries(&folder.join(MOUNTS)) {
        let _ = fs::remove_dir(&entry).or_else(|_| fs::remove_file(&entry));
    }
    let _ = fs::remove_dir(folder.join(MOUNTS));
    for entry in entries(folder) {
        let _ = fs::remove_file(entry);
    }
    let _ = fs::remove_dir(folder);
}

pub(super) fn entries(folder: &Path) -> Vec<PathBuf> {
    let found = fs::read_dir(folder).into_iter().flatten().flatten();
    found.map(|entry| entry.path()).collect()
}
