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

/// Why a guest must not work in `workspace`, a real path, however its roots allow it: it would show the guest Lodge's own
/// data, or it is the whole home, and whoever can write to that has what shells and programs start.
pub fn off_limits(workspace: &Path, data: &Path) -> Option<&'static str> {
    reason(workspace, &existing(data), std::env::home_dir().as_deref())
}

/// The same with a home that is named; workspace and data are real paths.
fn reason(workspace: &Path, data: &Path, home: Option<&Path>) -> Option<&'static str> {
    let home = home.and_then(|home| home.canonicalize().ok());
    if data.starts_with(workspace) {
        return Some(
            "the workspace holds Lodge's data directory, with keys and the history of every session",
        );
    }
    if workspace.starts_with(data) && !workspace.starts_with(data.join("workspaces")) {
        return Some("the workspace lies in Lodge's data directory, beside its folder for workspaces");
    }
    // A home that is the root is nobody's.
    if home.is_some_and(|home| home.parent().is_some() && home.starts_with(workspace)) {
        return Some(
            "the workspace is the home directory, or holds it: with it a guest gets keys and start-up files",
        );
    }
    None
}

/// The real path of a directory that need not exist yet.
fn existing(path: &Path) -> PathBuf {
    for base in path.ancestors() {
        if let (Ok(real), Ok(rest)) = (base.canonicalize(), path.strip_prefix(base)) {
            return real.join(rest);
        }
    }
    path.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_lodges_own_or_the_whole_home_is_no_workspace() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path().canonicalize().unwrap();
        let home = root.join("ann");
        let data = home.join(".local/share/lodge");
        std::fs::create_dir_all(home.join("src")).unwrap();
        let allowed = |path: &Path| reason(path, &data, Some(&home)).is_none();
        for good in [
            home.join("src"),
            data.join("workspaces"),
            data.join("workspaces/a"),
            root.join("an"),
            home.join(".local/share/lodge2"),
        ] {
            assert!(allowed(&good), "{}", good.display());
        }
        for bad in [
            root.as_path(),
            &home,
            &home.join(".local"),
            &data,
            &data.join("gateway"),
            &data.join("workspaces2"),
            Path::new("/"),
        ] {
            assert!(!allowed(bad), "{}", bad.display());
        }
        // The home is found also where it is named through a link.
        std::os::unix::fs::symlink(&home, root.join("link")).unwrap();
        let data = root.join("data");
        assert!(reason(&home, &data, Some(&root.join("link"))).is_some());
        assert!(reason(&home, &data, None).is_none());
    }

    #[test]
    fn a_data_directory_that_does_not_exist_has_a_real_path_too() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path().canonicalize().unwrap();
        std::fs::create_dir(root.join("real")).unwrap();
        std::os::unix::fs::symlink(root.join("real"), root.join("link")).unwrap();
        assert_eq!(existing(&root.join("link/a/b")), root.join("real/a/b"));
    }
}
