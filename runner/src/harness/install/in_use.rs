//! Which installed trees sessions run on.
//!
//! A session's shim holds a shared lock on each tree that its harness was started from, and the kernel lets it go with
//! the shim: what a killed session used is free at once, and no list of users can be wrong.

use super::InstallError;
use std::fs::{File, TryLockError};
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Marks trees as used for as long as the descriptors, or copies of them in other processes, are open.
///
/// Refused where one is just being removed.
pub fn hold(trees: &[PathBuf]) -> Result<Vec<OwnedFd>, InstallError> {
    trees.iter().map(|tree| hold_one(tree)).collect()
}

fn hold_one(tree: &Path) -> Result<OwnedFd, InstallError> {
    let folder = File::open(tree).map_err(InstallError::io("opening", tree))?;
    // Without a lock (a file system that has none) nothing is ever removed as unused, which is safe.
    if matches!(folder.try_lock_shared(), Err(TryLockError::WouldBlock)) || !is_still(&folder, tree) {
        return Err(InstallError::Busy {
            path: tree.to_owned(),
        });
    }
    Ok(folder.into())
}

/// Whether the name still stands for the folder that was opened.
fn is_still(folder: &File, tree: &Path) -> bool {
    let (Ok(opened), Ok(named)) = (folder.metadata(), tree.metadata()) else {
        return false;
    };
    (opened.dev(), opened.ino()) == (named.dev(), named.ino())
}

/// Takes a tree that nobody uses, so that nobody begins to; `None` where somebody does, or where that cannot be told.
pub(super) fn claim(tree: &Path) -> Option<File> {
    let folder = File::open(tree).ok()?;
    folder.try_lock().ok()?;
    Some(folder)
}

/// Takes a tree that is to go in any case; `Err` where somebody is known to use it.
pub(super) fn claim_to_remove(tree: &Path) -> Result<Option<File>, ()> {
    // What cannot even be opened is damaged: it may go.
    let Ok(folder) = File::open(tree) else {
        return Ok(None);
    };
    match folder.try_lock() {
        Err(TryLockError::WouldBlock) => Err(()),
        Ok(()) | Err(TryLockError::Error(_)) => Ok(Some(folder)),
    }
}
