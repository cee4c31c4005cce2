//! Which directories may become a workspace.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use crate::view;

/// Why a path is no workspace.
#[derive(Debug, thiserror::Error)]
pub enum WorkspaceError {
    #[error("workspace {} does not exist", path.display())]
    NotFound { path: PathBuf },
    #[error("workspace {} is not a directory", path.display())]
    NotADirectory { path: PathBuf },
    #[error("workspace {} is not below an allowed root", path.display())]
    OutsideRoots { path: PathBuf },
    #[error("workspace {} leads out of the allowed roots through a symbolic link", path.display())]
    Symlink { path: PathBuf },
    #[error("workspace {}: {source}", path.display())]
    Io { path: PathBuf, source: io::Error },
}

/// A directory that may be mounted.
#[derive(Debug)]
pub struct Workspace {
    /// Its real path: absolute, without symbolic links.
    pub path: PathBuf,
    /// The directory that was checked, opened for reference only.
    pub fd: OwnedFd,
}

/// Opens `path` if it is an existing directory below one of `roots` (or one of them itself), whatever links
/// it goes through on the way. A root that does not exist allows nothing.
pub fn validate(path: &Path, roots: &[PathBuf]) -> Result<Workspace, WorkspaceError> {
    let mut found = Err(WorkspaceError::OutsideRoots {
        path: path.to_owned(),
    });
    for root in roots {
        if let Some(relative) = below(path, root) {
            found = open(path, root, &relative);
            if found.is_ok() {
                return found;
            }
        }
    }
    found
}

/// The rest of `path` below `root`, or below what `root` really is.
fn below(path: &Path, root: &Path) -> Option<PathBuf> {
    if !path.is_absolute()
        || path
            .components()
            .any(|part| part == std::path::Component::ParentDir)
    {
        return None;
    }
    let real = root.canonicalize().ok();
    let roots = [Some(root), real.as_deref()];
    let relative = roots
        .into_iter()
        .flatten()
        .find_map(|root| path.strip_prefix(root).ok())?;
    Some(if relative.as_os_str().is_empty() {
        ".".into()
    } else {
        relative.to_owned()
    })
}

fn open(path: &Path, root: &Path, relative: &Path) -> Result<Workspace, WorkspaceError> {
    let path = path.to_owned();
    let directory = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let opened = rustix::fs::open(root, directory, Mode::empty()).and_then(|root| {
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
        rustix::fs::openat2(
            &root,
            relative,
            OFlags::PATH | OFlags::CLOEXEC,
            Mode::empty(),
            resolve,
        )
    });
    let fd = match opened {
        Ok(fd) => fd,
        Err(Errno::NOENT) => return Err(WorkspaceError::NotFound { path }),
        Err(Errno::NOTDIR) => return Err(WorkspaceError::NotADirectory { path }),
        Err(Errno::XDEV | Errno::LOOP) => return Err(WorkspaceError::Symlink { path }),
        Err(error) => {
            return Err(WorkspaceError::Io {
                path,
                source: error.into(),
            });
        }
    };
    match view::file_type(fd.as_fd()) {
        Ok(FileType::Directory) => {}
        Ok(_) => return Err(WorkspaceError::NotADirectory { path }),
        Err(error) => {
            return Err(WorkspaceError::Io {
                path,
                source: error.into(),
            });
        }
    }
    let link = format!("/proc/self/fd/{}", fd.as_raw_fd());
    match rustix::fs::readlinkat(CWD, link.as_str(), Vec::new()) {
        Ok(real) => {
            use std::os::unix::ffi::OsStringExt;
            let path = PathBuf::from(std::ffi::OsString::from_vec(real.into_bytes()));
            Ok(Workspace { path, fd })
        }
        Err(error) => Err(WorkspaceError::Io {
            path,
            source: error.into(),
        }),
    }
}
