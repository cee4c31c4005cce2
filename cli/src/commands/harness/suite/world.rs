//! A Lodge of its own for the time of a test: another data directory with the same harnesses.

use crate::data::DataDir;
use crate::failure::Failure;
use crate::supervise::{Plan, Supervisor};
use lodge_proto::{ErrorCode, SessionId};
use std::path::{Path, PathBuf};
use tempfile::TempDir;

const HARNESSES: &str = "harness";
/// What is shared with the Lodge that is tested: harnesses, their runtimes, and the guest image of the other tiers.
const SHARED: [&str; 4] = [HARNESSES, "runtime", "sandbox/images", "sandbox/kvm"];

/// A running Lodge without a backend, in which the demo model answers.
#[derive(Debug)]
pub(super) struct World {
    root: TempDir,
    data: DataDir,
    supervisor: Supervisor,
    /// Tools ask before they run.
    pub(super) asks: bool,
}

impl World {
    /// Starts it with what is installed in `installed`.
    pub(super) async fn start(installed: &DataDir, asks: bool) -> anyhow::Result<Self> {
        Self::sharing(&SHARED, installed, asks).await
    }

    /// A second one with the same harnesses, that a case may do as it likes with.
    pub(super) async fn another(&self) -> anyhow::Result<Self> {
        Self::start(&self.data, self.asks).await
    }

    /// A second one without any harness.
    pub(super) async fn with_own_harnesses(&self) -> anyhow::Result<Self> {
        let shared: Vec<&str> = SHARED.into_iter().filter(|name| *name != HARNESSES).collect();
        Self::sharing(&shared, &self.data, self.asks).await
    }

    async fn sharing(shared: &[&str], installed: &DataDir, asks: bool) -> anyhow::Result<Self> {
        let root = tempfile::Builder::new()
            .prefix("lodge-harness-test-")
            .tempdir()
            .map_err(|error| cannot_make(&std::env::temp_dir(), &error))?;
        let data = DataDir::resolve(Some(&root.path().join("data")))?;
        share(shared, installed.path(), data.path())?;
        data.create()?;
        std::fs::write(data.config(), "[gateway]\ndemo = true\n")
            .map_err(|error| cannot_make(&data.config(), &error))?;
        let plan = Plan {
            data: data.clone(),
            listen: None,
            workspaces: Vec::new(),
            ask_permissions: asks,
        };
        let supervisor = Supervisor::start(&plan).await?;
        Ok(Self {
            root,
            data,
            supervisor,
            asks,
        })
    }

    /// Where its harnesses are; a link, where they are shared.
    pub(super) fn harnesses(&self) -> PathBuf {
        self.data.path().join(HARNESSES)
    }

    /// The private home of a session.
    pub(super) fn home(&self, session: SessionId) -> PathBuf {
        self.data.path().join(format!("runner/sessions/{session}/home"))
    }

    /// Where its runner listens.
    pub(super) fn socket(&self) -> PathBuf {
        self.data.runner_socket()
    }

    /// A new workspace, as guests see it.
    pub(super) fn workspace(&self, name: &str) -> anyhow::Result<PathBuf> {
        let path = self.data.workspaces().join(name);
        std::fs::create_dir_all(&path).map_err(|error| cannot_make(&path, &error))?;
        Ok(path.canonicalize()?)
    }

    /// Ends everything and removes it.
    pub(super) async fn stop(self) {
        self.supervisor.stop().await;
        let path = self.root.path().to_owned();
        if let Err(error) = self.root.close() {
            eprintln!("lodge: {} could not be removed: {error}", path.display());
        }
    }
}

fn share(names: &[&str], from: &Path, to: &Path) -> anyhow::Result<()> {
    for name in names {
        let (target, link) = (from.join(name), to.join(name));
        if !target.exists() {
            continue;
        }
        let folder = link.parent().unwrap_or(to);
        std::fs::create_dir_all(folder).map_err(|error| cannot_make(folder, &error))?;
        let target = target.canonicalize()?;
        std::os::unix::fs::symlink(target, &link).map_err(|error| cannot_make(&link, &error))?;
    }
    Ok(())
}

fn cannot_make(path: &Path, error: &std::io::Error) -> Failure {
    Failure::new(
        ErrorCode::Unavailable,
        format!("the directory of the test cannot be made: {error}"),
    )
    .at(path.display().to_string())
    .mend("check the free space there; TMPDIR names another place")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_installed_is_shared_and_survives_the_removal_of_the_share() {
        let (installed, test) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        std::fs::create_dir_all(installed.path().join("harness/pi")).unwrap();
        std::fs::create_dir_all(installed.path().join("sandbox/images")).unwrap();
        let data = test.path().join("data");
        share(&SHARED, installed.path(), &data).unwrap();
        assert!(data.join("harness/pi").is_dir());
        assert!(data.join("sandbox/images").is_dir());
        assert!(!data.join("runtime").exists());
        test.close().unwrap();
        assert!(installed.path().join("harness/pi").is_dir());
    }
}
