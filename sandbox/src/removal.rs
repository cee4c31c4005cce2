//! Removing what a guest made, whatever modes it gave it.

use std::fs;
use std::io::{self, ErrorKind};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Dir, FileType, Mode, OFlags, ResolveFlags, openat, openat2};

/// Removes a directory and all that is below it. Package caches take the right to write away from their own
/// directories, which keeps anybody but root from emptying them.
///
/// Follows no symbolic link. An error says what was in the way first; what could be removed is gone then.
pub fn remove_tree(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() == ErrorKind::PermissionDenied => {}
        done => return done,
    }
    open_up(path)?;
    fs::remove_dir_all(path)
}

/// Gives the owner every right to every directory of a tree, from the top on.
fn open_up(root: &Path) -> io::Result<()> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let root = openat(CWD, root, flags, Mode::empty())?;
    let beneath = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    let mut left = vec![PathBuf::from(".")];
    while let Some(at) = left.pop() {
        let directory = openat2(&root, &at, flags, Mode::empty(), beneath)?;
        left.extend(below(&directory)?.into_iter().map(|name| at.join(name)));
    }
    Ok(())
}

/// The names of the directories in one, which is made readable.
fn below(directory: &OwnedFd) -> io::Result<Vec<PathBuf>> {
    // A descriptor for reference only cannot be changed itself, the file it refers to can.
    let link = format!("/proc/self/fd/{}", directory.as_raw_fd());
    fs::set_permissions(link, fs::Permissions::from_mode(0o700))?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let listing = openat(directory, ".", flags, Mode::empty())?;
    let mut found = Vec::new();
    for entry in Dir::read_from(&listing)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if entry.file_type() == FileType::Directory && !matches!(name, b"." | b"..") {
            found.push(PathBuf::from(std::ffi::OsStr::from_bytes(name)));
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directories_without_rights_are_opened_up_and_links_are_not_followed() {
        let base = tempfile::tempdir().expect("temporary directory");
        let tree = base.path().join("tree");
        let outside = base.path().join("outside");
        fs::create_dir_all(tree.join("a/b/c")).expect("tree");
        fs::create_dir(&outside).expect("outside");
        std::os::unix::fs::symlink(&outside, tree.join("a/b/link")).expect("link");
        let set =
            |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("mode");
        set(&outside, 0o555);
        for (name, mode) in [("a/b/c", 0), ("a/b", 0o500), ("a", 0)] {
            set(&tree.join(name), mode);
        }
        // Root may remove anything, so what comes before is tried by itself.
        open_up(&tree).expect("opened up");
        for name in ["a", "a/b", "a/b/c"] {
            let mode = fs::metadata(tree.join(name))
                .expect("metadata")
                .permissions()
                .mode();
            assert_eq!(mode & 0o777, 0o700, "{name}");
        }
        let mode = fs::metadata(&outside).expect("metadata").permissions().mode();
        assert_eq!(mode & 0o777, 0o555);
        set(&tree.join("a"), 0);
        remove_tree(&tree).expect("removed");
        assert!(!tree.exists());
        assert_eq!(
            remove_tree(&tree).map_err(|error| error.kind()),
            Err(ErrorKind::NotFound)
        );
    }
}
