//! Empty directories in store: making one can take half a millisecond on a large file system, moving one next to nothing.

use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, RenameFlags, Stat, renameat_with, statat};
use rustix::io::Errno;

/// Directories in store: as many as one workspace may need stand-ins for.
const KEPT: usize = 16;

/// The store; only whoever holds the lock of the stand-ins uses it.
pub(crate) struct Spare {
    folder: PathBuf,
    names: Vec<PathBuf>,
}

impl Spare {
    /// What cannot be read is an empty store.
    pub(crate) fn open(folder: PathBuf) -> Self {
        let entries = fs::read_dir(&folder).into_iter().flatten().flatten();
        let names = entries.map(|entry| entry.path()).collect();
        Self { folder, names }
    }

    /// Moves one to `name` in `above`. `None`: none is left, or that is another file system.
    ///
    /// # Errors
    ///
    /// `EXIST` when something is there.
    pub(crate) fn take(&mut self, above: impl AsFd, name: &str) -> rustix::io::Result<Option<Stat>> {
        while let Some(spare) = self.names.pop() {
            // Whatever the umask was: what an engine mounts on it gets its mode, and a guest has to look into it.
            let _ = fs::set_permissions(&spare, fs::Permissions::from_mode(0o755));
            match renameat_with(CWD, &spare, &above, name, RenameFlags::NOREPLACE) {
                Ok(()) => return statat(&above, name, AtFlags::SYMLINK_NOFOLLOW).map(Some),
                Err(Errno::EXIST) => {
                    self.names.push(spare);
                    return Err(Errno::EXIST);
                }
                // Somebody has removed it.
                Err(Errno::NOENT) => {}
                Err(_) => return Ok(None),
            }
        }
        Ok(None)
    }

    /// Fills the store up.
    pub(crate) fn fill(&self) -> io::Result<()> {
        if self.names.len() >= KEPT {
            return Ok(());
        }
        private(&self.folder)?;
        let names = (0..).map(|number: u32| self.folder.join(number.to_string()));
        let absent = names.filter(|name| !self.names.contains(name));
        for name in absent.take(KEPT - self.names.len()) {
            fs::create_dir(name)?;
        }
        Ok(())
    }
}

fn private(folder: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_from_the_store_can_be_looked_into_whatever_the_umask_was() {
        let root = tempfile::tempdir().unwrap();
        let made = root.path().join("store/0");
        private(made.parent().unwrap()).unwrap();
        private(&made).unwrap();
        let above = fs::File::open(root.path()).unwrap();
        let taken = Spare::open(root.path().join("store"))
            .take(&above, "taken")
            .unwrap();
        assert_eq!(taken.unwrap().st_mode & 0o777, 0o755);
    }
}
