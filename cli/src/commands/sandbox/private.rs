//! Private directories of sandboxes that the command line starts.

use rustix::fs::{FlockOperation, Mode, OFlags, flock};
use rustix::io::Errno;
use std::fs::{DirBuilder, File};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use tempfile::TempDir;

/// Below Lodge's state of sandboxes.
const FOLDER: &str = "private";
/// Held while a directory is made or looked at, for milliseconds.
const MUTEX: &str = ".lock";

/// A directory for one sandbox. It goes with this value; what a killed process left goes when the next one is made.
#[derive(Debug)]
pub(super) struct Private {
    directory: TempDir,
    /// Held as long as the directory is used.
    _held: OwnedFd,
}

impl Private {
    pub(super) fn new(state: &Path) -> io::Result<Self> {
        let parent = state.join(FOLDER);
        DirBuilder::new().recursive(true).mode(0o700).create(&parent)?;
        let mutex = File::create(parent.join(MUTEX))?;
        rustix::io::retry_on_intr(|| flock(&mutex, FlockOperation::LockExclusive))?;
        sweep(&parent)?;
        let directory = tempfile::Builder::new().prefix("run-").tempdir_in(&parent)?;
        let held = open(directory.path())?;
        flock(&held, FlockOperation::NonBlockingLockExclusive)?;
        Ok(Self {
            directory,
            _held: held,
        })
    }

    pub(super) fn path(&self) -> &Path {
        self.directory.path()
    }
}

impl Drop for Private {
    fn drop(&mut self) {
        // What fails is tried again when the next one is made.
        let _ = lodge_sandbox::remove_tree(self.path());
    }
}

fn open(path: &Path) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty())
}

/// Removes what nobody holds.
fn sweep(parent: &Path) -> io::Result<()> {
    for entry in std::fs::read_dir(parent)? {
        let path = entry?.path();
        let unused = open(&path).and_then(|held| flock(&held, FlockOperation::NonBlockingLockExclusive));
        if unused.is_ok() {
            // What cannot be removed is in nobody's way.
            let _ = lodge_sandbox::remove_tree(&path);
        }
    }
    Ok(())
}
