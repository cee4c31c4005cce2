//! The copy of trusted code that a sandbox shows in the place of the workspace's own files.

use super::Inventory;
use std::fs::{DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Below the session's directory, of which its guest is shown other parts only.
const FOLDER: &str = "trusted";

/// Files that a harness would make in its own directory, and without which it does not work on one that it cannot write.
const SUPPLEMENTS: &[(&str, &str, &str, &str)] = &[
    ("opencode", ".opencode", ".gitignore", "*\n"),
    ("opencode-acp", ".opencode", ".gitignore", "*\n"),
];

/// A part of the workspace, and the copy that is shown there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    /// Relative to the workspace.
    pub name: String,
    pub copy: PathBuf,
}

/// Writes the copy anew, from the bytes that were digested. What an earlier sandbox still shows stays what it is: those
/// files lose their names only. Blocking.
pub fn write(session: &Path, inventory: &Inventory) -> io::Result<Vec<Shown>> {
    let folder = session.join(FOLDER);
    remove(session)?;
    directory(&folder)?;
    for entry in &inventory.entries {
        let path = folder.join(&entry.path);
        directories(&folder, Path::new(&entry.path))?;
        // What may be run stays so; nothing else of the mode means anything to a reader.
        let mode = if entry.mode & 0o111 == 0 { 0o644 } else { 0o755 };
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(mode)
            .open(path)?;
        file.write_all(&entry.contents)?;
        // Whatever the umask is.
        file.set_permissions(std::fs::Permissions::from_mode(mode))?;
    }
    let mut roots = inventory.roots.clone();
    let supplements = SUPPLEMENTS
        .iter()
        .filter(|(harness, ..)| *harness == inventory.harness);
    for (_, root, name, text) in supplements {
        directory(&folder.join(root))?;
        let made = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o644)
            .open(folder.join(root).join(name));
        match made {
            Ok(mut file) => file.write_all(text.as_bytes())?,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
        roots.insert((*root).to_owned());
    }
    let shown = |name: &String| Shown {
        name: name.clone(),
        copy: folder.join(name),
    };
    Ok(roots.iter().map(shown).collect())
}

/// Removes the copy of an earlier start. Blocking.
pub fn remove(session: &Path) -> io::Result<()> {
    match std::fs::remove_dir_all(session.join(FOLDER)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn directories(folder: &Path, path: &Path) -> io::Result<()> {
    let mut below = folder.to_owned();
    for part in path.parent().into_iter().flat_map(Path::components) {
        below.push(part);
        directory(&below)?;
    }
    Ok(())
}

fn directory(path: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(0o755).create(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
        Ok(()) => std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)),
    }
}
