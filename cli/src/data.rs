//! Where things are in a data directory.

use crate::failure::Failure;
use lodge_proto::ErrorCode;
use std::fs::DirBuilder;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// The data directory: everything one Lodge keeps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DataDir(PathBuf);

impl DataDir {
    /// `given`, or else `lodge` in the XDG data directory.
    pub fn resolve(given: Option<&Path>) -> Result<Self, Failure> {
        let path = match given {
            Some(path) => path.to_owned(),
            None => default_directory()?,
        };
        let absolute = std::path::absolute(&path).map_err(|e| {
            Failure::new(
                ErrorCode::InvalidArgument,
                format!("the data directory has no absolute path: {e}"),
            )
            .at(path.display().to_string())
            .mend("name a directory with --data DIR")
        })?;
        Ok(Self(absolute))
    }

    /// The directory itself.
    pub fn path(&self) -> &Path {
        &self.0
    }

    pub fn lock(&self) -> PathBuf {
        self.0.join("lodge.lock")
    }

    /// Held shared by every client of a runner that was started for a call: it is stopped when nobody holds it.
    pub fn clients_lock(&self) -> PathBuf {
        self.0.join("run/clients.lock")
    }

    pub fn state(&self) -> PathBuf {
        self.0.join("lodge.json")
    }

    pub fn config(&self) -> PathBuf {
        self.0.join("config/lodge.toml")
    }

    pub fn runner_socket(&self) -> PathBuf {
        self.0.join("run/runner.sock")
    }

    pub fn control_socket(&self) -> PathBuf {
        self.0.join("run/backend-control.sock")
    }

    pub fn admin_socket(&self) -> PathBuf {
        self.0.join("run/gateway-admin.sock")
    }

    pub fn workspaces(&self) -> PathBuf {
        self.0.join("workspaces")
    }

    pub fn logs(&self) -> PathBuf {
        self.0.join("logs")
    }

    pub fn log(&self, role: &str) -> PathBuf {
        self.logs().join(format!("{role}.log"))
    }

    /// Makes what is missing, all of it readable by its owner only.
    pub fn create(&self) -> Result<(), Failure> {
        for directory in ["", "config", "run", "logs", "workspaces", "harness"] {
            let path = self.0.join(directory);
            DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(&path)
                .map_err(|e| cannot_make(&path, &e))?;
        }
        self.tighten()
    }

    /// An existing directory must be this user's; its mode is brought down to 0700.
    fn tighten(&self) -> Result<(), Failure> {
        let meta = std::fs::metadata(&self.0).map_err(|e| cannot_make(&self.0, &e))?;
        let own = lodge_proto::sock::own_uid();
        if meta.uid() != own {
            let what = format!(
                "the data directory belongs to uid {}, this is uid {own}",
                meta.uid()
            );
            return Err(Failure::new(ErrorCode::Forbidden, what)
                .at(self.0.display().to_string())
                .mend("name a directory of your own with --data DIR"));
        }
        if meta.mode() & 0o077 != 0 {
            std::fs::set_permissions(&self.0, std::fs::Permissions::from_mode(0o700))
                .map_err(|e| cannot_make(&self.0, &e))?;
        }
        Ok(())
    }
}

fn default_directory() -> Result<PathBuf, Failure> {
    let absolute = |name: &str| {
        std::env::var_os(name)
            .map(PathBuf::from)
            .filter(|path| path.is_absolute())
    };
    absolute("XDG_DATA_HOME")
        .or_else(|| absolute("HOME").map(|home| home.join(".local/share")))
        .map(|base| base.join("lodge"))
        .ok_or_else(|| {
            Failure::new(
                ErrorCode::InvalidArgument,
                "neither XDG_DATA_HOME nor HOME names a directory",
            )
            .mend("name the data directory with --data DIR or LODGE_DATA")
        })
}

fn cannot_make(path: &Path, error: &std::io::Error) -> Failure {
    Failure::new(
        ErrorCode::Unavailable,
        format!("the data directory cannot be made ready: {error}"),
    )
    .at(path.display().to_string())
    .mend("check owner and free space, or name another directory with --data DIR")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_data_directory_is_private() {
        let root = tempfile::tempdir().unwrap();
        let data = DataDir::resolve(Some(&root.path().join("a/b"))).unwrap();
        data.create().unwrap();
        for directory in ["", "run", "logs", "config"] {
            let mode = std::fs::metadata(data.path().join(directory)).unwrap().mode();
            assert_eq!(mode & 0o777, 0o700, "{directory}");
        }
        std::fs::set_permissions(data.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        data.create().unwrap();
        assert_eq!(std::fs::metadata(data.path()).unwrap().mode() & 0o777, 0o700);
    }

    #[test]
    fn a_file_in_its_place_is_an_error_that_names_it() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("file");
        std::fs::write(&path, "").unwrap();
        let error = anyhow::Error::from(DataDir(path.clone()).create().unwrap_err());
        assert!(crate::failure::describe(&error).contains(path.to_str().unwrap()));
    }
}
