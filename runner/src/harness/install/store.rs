//! The directories of installed trees: staging, the lock, renaming into place, read-only modes, manifests.

use super::InstallError;
use serde::{Deserialize, Serialize};
use std::fs::{DirBuilder, File, OpenOptions, Permissions, TryLockError};
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Name of the manifest in an installed tree. It is written last, before the tree gets its name.
pub(super) const MANIFEST: &str = "lodge-harness.json";
const STAGING_PREFIX: &str = ".staging-";

/// What an installed tree says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Manifest {
    pub(super) format: u32,
    pub(super) name: String,
    pub(super) version: semver::Version,
    /// Folder of the package that carries the version, below the tree.
    pub(super) package: String,
    /// The program, below the tree.
    pub(super) entry: String,
    /// The runtime it was checked with; a runtime has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) runtime: Option<RuntimeRef>,
}

/// A runtime by name and version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct RuntimeRef {
    pub(super) name: String,
    pub(super) version: semver::Version,
}

/// Paths below a data directory.
#[derive(Debug, Clone)]
pub(super) struct Store {
    data: PathBuf,
}

/// A folder for an installation under way, removed with all that is in it, read-only trees too.
#[derive(Debug)]
pub(super) struct Staging {
    path: PathBuf,
}

impl Staging {
    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        // What cannot be removed now is a leftover that the next installation removes.
        let _ = remove_tree(&self.path);
    }
}

/// Held while something is installed or removed. The kernel lets it go with the process.
#[derive(Debug)]
pub(super) struct StoreLock {
    _file: File,
}

impl Store {
    pub(super) fn new(data: &Path) -> Self {
        Self {
            data: data.to_owned(),
        }
    }

    pub(super) fn harness(&self, name: &str) -> PathBuf {
        self.root().join(name)
    }

    pub(super) fn runtime(&self, name: &str) -> PathBuf {
        self.data.join("runtime").join(name)
    }

    fn root(&self) -> PathBuf {
        self.data.join("harness")
    }

    /// Takes the lock and removes what a killed installation left. Without `wait`, a held lock is [`InstallError::Busy`].
    pub(super) fn lock(&self, wait: bool) -> Result<StoreLock, InstallError> {
        let root = self.root();
        make_private(&root)?;
        let path = root.join(".lock");
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(InstallError::io("opening", &path))?;
        if wait {
            file.lock().map_err(InstallError::io("locking", &path))?;
        } else {
            file.try_lock().map_err(|error| match error {
                TryLockError::WouldBlock => InstallError::Busy { path: root.clone() },
                TryLockError::Error(source) => InstallError::Io {
                    action: "locking",
                    path,
                    source,
                },
            })?;
        }
        self.remove_leftovers()?;
        Ok(StoreLock { _file: file })
    }

    fn remove_leftovers(&self) -> Result<(), InstallError> {
        let root = self.root();
        for entry in std::fs::read_dir(&root).map_err(InstallError::io("reading", &root))? {
            let entry = entry.map_err(InstallError::io("reading", &root))?;
            if entry.file_name().to_string_lossy().starts_with(STAGING_PREFIX) {
                remove_tree(&entry.path())?;
            }
        }
        Ok(())
    }

    /// A folder aside, on the file system of the final place.
    pub(super) fn staging(&self) -> Result<Staging, InstallError> {
        let root = self.root();
        let dir = tempfile::Builder::new().prefix(STAGING_PREFIX).tempdir_in(&root);
        Ok(Staging {
            path: dir.map_err(InstallError::io("making", &root))?.keep(),
        })
    }

    /// Gives a finished tree its name, in place of a damaged one that may have it. `tree` lies in `staging`.
    pub(super) fn place(&self, staging: &Path, tree: &Path, target: &Path) -> Result<(), InstallError> {
        let parent = target.parent().unwrap_or(&self.data);
        make_private(parent)?;
        set_read_only(tree)?;
        // One call for the thousands of files of a tree.
        sync_file_system(tree)?;
        if target.symlink_metadata().is_ok() {
            move_away(target, &staging.join("replaced"))?;
        }
        // Moving a folder to another parent needs the right to write it.
        chmod(tree, 0o755)?;
        std::fs::rename(tree, target).map_err(InstallError::io("renaming into place", target))?;
        chmod(target, 0o555)?;
        sync_directory(parent)
    }

    /// Removes a tree: first its name, in one step, then its files.
    pub(super) fn remove(&self, target: &Path) -> Result<(), InstallError> {
        let staging = self.staging()?;
        move_away(target, &staging.path().join("removed"))?;
        if let Some(parent) = target.parent() {
            sync_directory(parent)?;
        }
        Ok(())
    }

    /// Versions that have a folder below `folder`; empty where it does not exist.
    pub(super) fn versions(folder: &Path) -> Result<Vec<semver::Version>, InstallError> {
        let entries = match std::fs::read_dir(folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            Err(source) => {
                return Err(InstallError::Io {
                    action: "reading",
                    path: folder.to_owned(),
                    source,
                });
            }
        };
        let mut versions: Vec<semver::Version> = entries
            .filter_map(Result::ok)
            .filter_map(|entry| entry.file_name().to_str().and_then(|name| name.parse().ok()))
            .collect();
        versions.sort();
        Ok(versions)
    }
}

/// Makes a folder and its parents, mode 0700.
fn make_private(path: &Path) -> Result<(), InstallError> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(InstallError::io("making", path))
}

fn move_away(target: &Path, aside: &Path) -> Result<(), InstallError> {
    chmod(target, 0o755)?;
    std::fs::rename(target, aside).map_err(InstallError::io("moving away", target))
}

fn chmod(path: &Path, mode: u32) -> Result<(), InstallError> {
    std::fs::set_permissions(path, Permissions::from_mode(mode))
        .map_err(InstallError::io("setting the mode of", path))
}

/// Takes the right to write from all files and folders below `path`. Links stay as they are.
fn set_read_only(path: &Path) -> Result<(), InstallError> {
    walk(path, &mut |path, meta| {
        let executable = meta.is_dir() || meta.permissions().mode() & 0o100 != 0;
        chmod(path, if executable { 0o555 } else { 0o444 })
    })
}

/// Removes a tree that may be read-only.
pub(super) fn remove_tree(path: &Path) -> Result<(), InstallError> {
    // Folders only, and before what is in them: their right to write is what removal needs.
    make_folders_writable(path)?;
    match std::fs::remove_dir_all(path) {
        Err(source) if source.kind() != ErrorKind::NotFound => Err(InstallError::Io {
            action: "removing",
            path: path.to_owned(),
            source,
        }),
        _ => Ok(()),
    }
}

fn make_folders_writable(path: &Path) -> Result<(), InstallError> {
    if !path.symlink_metadata().is_ok_and(|meta| meta.is_dir()) {
        return Ok(());
    }
    chmod(path, 0o700)?;
    for entry in std::fs::read_dir(path).map_err(InstallError::io("reading", path))? {
        let entry = entry.map_err(InstallError::io("reading", path))?;
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            make_folders_writable(&entry.path())?;
        }
    }
    Ok(())
}

/// Calls `visit` for every file and folder below `path` and for `path` itself, children first, links left out.
fn walk(
    path: &Path,
    visit: &mut dyn FnMut(&Path, &std::fs::Metadata) -> Result<(), InstallError>,
) -> Result<(), InstallError> {
    let meta = path
        .symlink_metadata()
        .map_err(InstallError::io("reading", path))?;
    if meta.is_symlink() {
        return Ok(());
    }
    if meta.is_dir() {
        for entry in std::fs::read_dir(path).map_err(InstallError::io("reading", path))? {
            walk(&entry.map_err(InstallError::io("reading", path))?.path(), visit)?;
        }
    }
    visit(path, &meta)
}

fn sync_file_system(path: &Path) -> Result<(), InstallError> {
    let folder = File::open(path).map_err(InstallError::io("opening", path))?;
    rustix::fs::syncfs(&folder).map_err(|e| InstallError::Io {
        action: "syncing",
        path: path.to_owned(),
        source: e.into(),
    })
}

fn sync_directory(path: &Path) -> Result<(), InstallError> {
    File::open(path)
        .and_then(|folder| folder.sync_all())
        .map_err(InstallError::io("syncing", path))
}
