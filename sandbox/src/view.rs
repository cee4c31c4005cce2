//! What the plan must know of the host, gathered beforehand so that the plan itself stays a pure function.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use serde::Serialize;

use crate::plan::SessionSpec;
use crate::policy::Policy;

/// Top-level system directories that a program needs; on most systems links into `/usr`.
const SYSTEM: &[&str] = &["/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32"];

/// The harmless part of `/etc` that is taken from the host; accounts and resolver are made up instead.
const ETC: &[&str] = &[
    "/etc/alternatives",
    "/etc/ca-certificates",
    "/etc/ca-certificates.conf",
    "/etc/debian_version",
    "/etc/ld.so.cache",
    "/etc/ld.so.conf",
    "/etc/ld.so.conf.d",
    "/etc/localtime",
    "/etc/mime.types",
    "/etc/os-release",
    "/etc/pki",
    "/etc/protocols",
    "/etc/services",
    "/etc/ssl/certs",
    "/etc/ssl/openssl.cnf",
    "/etc/timezone",
];

/// What lies at a path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    Directory,
    File,
    Symlink(PathBuf),
}

/// Facts about the host.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct HostView {
    /// System paths that exist, in mount order.
    pub system: Vec<(PathBuf, Kind)>,
    /// Control files of the workspace that exist, and the directories they lie in, by relative name.
    pub control: BTreeMap<String, Kind>,
    /// Denied paths that exist.
    pub denied: BTreeMap<PathBuf, Kind>,
    /// Values of the variables that the policy passes.
    pub env: BTreeMap<String, String>,
}

/// Why the host could not be looked at.
#[derive(Debug, thiserror::Error)]
pub enum ViewError {
    #[error("cannot look at {}: {source}", path.display())]
    Look { path: PathBuf, source: io::Error },
    /// A protected name must not be a link: it could not be held in place.
    #[error("{} is a symbolic link or lies behind one; a protected name must not, remove the link", path.display())]
    Symlink { path: PathBuf },
}

impl HostView {
    /// Looks at what `policy` and `spec` name.
    pub fn probe(policy: &Policy, spec: &SessionSpec) -> Result<Self, ViewError> {
        let mut view = Self::default();
        for path in SYSTEM.iter().chain(ETC).map(Path::new) {
            view.system
                .extend(look(path)?.map(|kind| (path.to_owned(), kind)));
        }
        let workspace = open(None, &spec.workspace).map_err(|source| ViewError::Look {
            path: spec.workspace.clone(),
            source: source.into(),
        })?;
        for name in &policy.fs.protect {
            for part in prefixes(name) {
                let Some(kind) = look_below(&workspace, &spec.workspace, &part)? else {
                    break;
                };
                view.control.insert(part, kind);
            }
        }
        for path in &policy.fs.deny {
            match look(path)? {
                Some(Kind::Symlink(_)) => return Err(ViewError::Symlink { path: path.clone() }),
                found => view.denied.extend(found.map(|kind| (path.clone(), kind))),
            }
        }
        let value = |name: &String| Some((name.clone(), std::env::var(name).ok()?));
        view.env = policy.env.pass.iter().filter_map(value).collect();
        Ok(view)
    }
}

/// `a/b/c` → `a`, `a/b`, `a/b/c`.
pub(crate) fn prefixes(name: &str) -> impl Iterator<Item = String> {
    let ends = name.match_indices('/').map(|(at, _)| at).chain([name.len()]);
    ends.map(|end| name[..end].to_owned())
}

fn look(path: &Path) -> Result<Option<Kind>, ViewError> {
    let failed = |source| ViewError::Look {
        path: path.to_owned(),
        source,
    };
    let found = match fs::symlink_metadata(path) {
        Ok(found) => found.file_type(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    Ok(Some(if found.is_symlink() {
        Kind::Symlink(fs::read_link(path).map_err(failed)?)
    } else if found.is_dir() {
        Kind::Directory
    } else {
        Kind::File
    }))
}

fn look_below(workspace: &OwnedFd, root: &Path, name: &str) -> Result<Option<Kind>, ViewError> {
    let path = root.join(name);
    let fd = match open(Some(workspace.as_fd()), Path::new(name)) {
        Ok(fd) => fd,
        Err(Errno::NOENT | Errno::NOTDIR) => return Ok(None),
        Err(Errno::LOOP) => return Err(ViewError::Symlink { path }),
        Err(error) => {
            return Err(ViewError::Look {
                path,
                source: error.into(),
            });
        }
    };
    match file_type(fd.as_fd()) {
        Ok(FileType::Symlink) => Err(ViewError::Symlink { path }),
        Ok(FileType::Directory) => Ok(Some(Kind::Directory)),
        Ok(_) => Ok(Some(Kind::File)),
        Err(error) => Err(ViewError::Look {
            path,
            source: error.into(),
        }),
    }
}

pub(crate) fn file_type(fd: BorrowedFd<'_>) -> rustix::io::Result<FileType> {
    Ok(FileType::from_raw_mode(rustix::fs::fstat(fd)?.st_mode))
}

/// Opens a path for reference only, refusing every symbolic link on the way and at its end (a link that a
/// caller asked about is returned itself).
pub(crate) fn open(beneath: Option<BorrowedFd<'_>>, path: &Path) -> rustix::io::Result<OwnedFd> {
    let mut resolve = ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    resolve.set(ResolveFlags::BENEATH, beneath.is_some());
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat2(
        beneath.unwrap_or(rustix::fs::CWD),
        path,
        flags,
        Mode::empty(),
        resolve,
    )
}
