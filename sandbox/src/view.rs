//! What the plan must know of the host, gathered beforehand so that the plan itself stays a pure function.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use serde::Serialize;

use crate::alias::Mounts;
use crate::home;
pub use crate::home::HomeView;
use crate::plan::SessionSpec;
use crate::policy::Policy;

/// Top-level system directories that a program needs; on most systems links into `/usr`.
pub(crate) const SYSTEM: &[&str] = &["/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32"];

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
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
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
    /// Those of them that are protected and hold nothing: an empty file or directory.
    pub empty: BTreeSet<String>,
    /// Denied paths that exist.
    pub denied: BTreeMap<PathBuf, Kind>,
    /// Values of the variables that the policy passes.
    pub env: BTreeMap<String, String>,
    /// The part of the home that the policy lets be read.
    pub home: Option<HomeView>,
    /// Protected names that are shown by a copy which was checked, instead of by what lies there. Set after the look, by
    /// whoever made the copies.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub checked: BTreeMap<String, PathBuf>,
}

/// Why the host could not be looked at.
#[derive(Debug, thiserror::Error)]
pub enum ViewError {
    #[error("cannot look at {}: {source}", path.display())]
    Look { path: PathBuf, source: io::Error },
    /// A protected name must not be a link: it could not be held in place.
    #[error("{} is a symbolic link or lies behind one; a protected name must not, remove the link", path.display())]
    Symlink { path: PathBuf },
    /// A path of the policy cannot be opened; `place` is the file and key that name it.
    #[error("{place}: {}: {reason}", path.display())]
    Path {
        place: String,
        path: PathBuf,
        reason: &'static str,
    },
    /// Something that has to be out of reach can be reached by another path.
    #[error("{place}: {} can also be seen at {}, which is granted", path.display(), alias.display())]
    Alias {
        place: String,
        path: PathBuf,
        alias: PathBuf,
    },
    #[error("{place}: the home cannot be shown: {reason}")]
    Home { place: String, reason: String },
}

const MISSING: &str = "it does not exist";
const LINKED: &str = "it is a symbolic link or lies behind one; name the real path";
const NO_DIRECTORY: &str = "it is not a directory";
const HARD_LINKED: &str = "it has a second name (a hard link), which would stay visible";

impl HostView {
    /// Looks at what `policy` and `spec` name. Whatever the policy grants or denies has to exist, without a symbolic
    /// link on the way, and what it denies or protects must not be visible at a second path.
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
            view.look_at_protected(&workspace, &spec.workspace, name)?;
        }
        for (key, paths) in [("fs.read", &policy.fs.read), ("fs.write", &policy.fs.write)] {
            for path in paths {
                granted(policy, key, path)?;
            }
        }
        if policy.fs.home {
            view.home = Some(home::probe(spec, &policy.place("fs.home"))?);
        }
        for path in &policy.fs.deny {
            view.look_at_denied(policy, spec, path)?;
        }
        view.aliases(policy, spec)?;
        let value = |name: &String| Some((name.clone(), std::env::var(name).ok()?));
        view.env = policy.env.pass.iter().filter_map(value).collect();
        Ok(view)
    }

    fn look_at_protected(&mut self, workspace: &OwnedFd, root: &Path, name: &str) -> Result<(), ViewError> {
        for part in prefixes(name) {
            let Some(kind) = look_below(workspace, root, &part)? else {
                break;
            };
            if part == name && is_empty(&root.join(name), &kind) {
                self.empty.insert(part.clone());
            }
            self.control.insert(part, kind);
        }
        Ok(())
    }

    fn look_at_denied(&mut self, policy: &Policy, spec: &SessionSpec, path: &Path) -> Result<(), ViewError> {
        let refused = |reason| ViewError::Path {
            place: policy.place("fs.deny"),
            path: path.to_owned(),
            reason,
        };
        let found = open(None, path).and_then(rustix::fs::fstat);
        let found = match found {
            Ok(found) => found,
            Err(Errno::LOOP) => return Err(refused(LINKED)),
            // What no root shows cannot be seen, there or not; what one shows might be made later.
            Err(_) if !self.shows(policy, spec, path) => return Ok(()),
            Err(Errno::NOENT | Errno::NOTDIR) => return Err(refused(MISSING)),
            Err(error) => {
                return Err(ViewError::Look {
                    path: path.to_owned(),
                    source: error.into(),
                });
            }
        };
        let kind = match FileType::from_raw_mode(found.st_mode) {
            FileType::Symlink => return Err(refused(LINKED)),
            FileType::Directory => Kind::Directory,
            _ if found.st_nlink > 1 => return Err(refused(HARD_LINKED)),
            _ => Kind::File,
        };
        self.denied.insert(path.to_owned(), kind);
        Ok(())
    }

    /// Whether `path` lies below something a guest is given.
    fn shows(&self, policy: &Policy, spec: &SessionSpec, path: &Path) -> bool {
        self.given(policy, spec)
            .any(|(_, root, _)| path.starts_with(root))
    }

    /// The key, the path and whether it can be written to, of everything a guest is given by path.
    fn given<'a>(
        &'a self,
        policy: &'a Policy,
        spec: &'a SessionSpec,
    ) -> impl Iterator<Item = (&'static str, &'a Path, bool)> {
        let shown = self.home.iter().flat_map(|home| &home.shown);
        let shown = shown.map(|(path, _)| ("fs.home", path.as_path(), false));
        let read = policy
            .fs
            .read
            .iter()
            .map(|path| ("fs.read", path.as_path(), false));
        let write = policy
            .fs
            .write
            .iter()
            .map(|path| ("fs.write", path.as_path(), true));
        let workspace = ("fs.protect", spec.workspace.as_path(), true);
        shown.chain(read).chain(write).chain([workspace])
    }

    /// Refuses what would show a second time what has to be hidden, or held.
    fn aliases(&self, policy: &Policy, spec: &SessionSpec) -> Result<(), ViewError> {
        let mounts = Mounts::read().map_err(|source| ViewError::Look {
            path: "/proc/self/mountinfo".into(),
            source,
        })?;
        let protected: Vec<PathBuf> = policy
            .fs
            .protect
            .iter()
            .map(|name| spec.workspace.join(name))
            .collect();
        let own = [&spec.private_home, &spec.gateway_socket];
        for (key, root, writable) in self.given(policy, spec) {
            let held = protected.iter().filter(|_| writable);
            let covered = self.denied.keys().map(|path| ("fs.deny", path));
            let targets = covered.chain(held.chain(own).map(|path| (key, path)));
            for (key, path) in targets {
                if let Some(alias) = mounts.alias_below(root, path) {
                    return Err(ViewError::Alias {
                        place: policy.place(key),
                        path: path.clone(),
                        alias,
                    });
                }
            }
        }
        Ok(())
    }
}

/// A root that the policy grants: an existing directory, by its real path.
fn granted(policy: &Policy, key: &'static str, path: &Path) -> Result<(), ViewError> {
    let refused = |reason| ViewError::Path {
        place: policy.place(key),
        path: path.to_owned(),
        reason,
    };
    let found = open(None, path).and_then(|fd| file_type(fd.as_fd()));
    match found {
        Ok(FileType::Directory) => Ok(()),
        Ok(FileType::Symlink) | Err(Errno::LOOP) => Err(refused(LINKED)),
        Ok(_) | Err(Errno::NOTDIR) => Err(refused(NO_DIRECTORY)),
        Err(Errno::NOENT) => Err(refused(MISSING)),
        Err(error) => Err(ViewError::Look {
            path: path.to_owned(),
            source: error.into(),
        }),
    }
}

/// Whether there is nothing in it; what cannot be read is taken for full. What has gone meanwhile stood in for something
/// absent in another sandbox, and does so again in this one.
fn is_empty(path: &Path, kind: &Kind) -> bool {
    let gone = |error: &io::Error| error.kind() == io::ErrorKind::NotFound;
    match kind {
        Kind::Directory => match fs::read_dir(path) {
            Ok(mut entries) => entries.next().is_none(),
            Err(error) => gone(&error),
        },
        Kind::File => match fs::symlink_metadata(path) {
            Ok(meta) => meta.is_file() && meta.len() == 0,
            Err(error) => gone(&error),
        },
        Kind::Symlink(_) => false,
    }
}

/// `a/b/c` → `a`, `a/b`, `a/b/c`.
pub(crate) fn prefixes(name: &str) -> impl Iterator<Item = String> {
    let ends = name.match_indices('/').map(|(at, _)| at).chain([name.len()]);
    ends.map(|end| name[..end].to_owned())
}

pub(crate) fn look(path: &Path) -> Result<Option<Kind>, ViewError> {
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

#[cfg(test)]
mod tests {
    use super::{Kind, is_empty};

    #[test]
    fn what_has_gone_since_it_was_looked_at_counts_as_empty() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join(".envrc");
        assert!(is_empty(&path, &Kind::Directory));
        assert!(is_empty(&path, &Kind::File));
        std::fs::write(&path, "x").unwrap();
        assert!(!is_empty(&path, &Kind::File));
        assert!(!is_empty(&path, &Kind::Directory), "no directory: taken for full");
    }
}
