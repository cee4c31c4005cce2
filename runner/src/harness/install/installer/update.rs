//! Bringing an installed harness to the pinned version, and clearing away what nobody uses any more.

use super::super::catalog::HarnessEntry;
use super::super::resolve::InstalledHarness;
use super::super::store::Store;
use super::super::{InstallError, Progress, in_use};
use super::{Installer, Source};
use semver::Version;

/// What an update did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Updated {
    /// What new sessions use now.
    pub harness: InstalledHarness,
    /// Whether that was not there before.
    pub is_new: bool,
    /// Older versions that are gone.
    pub removed: Vec<Version>,
    /// Older versions that sessions still run on. The next update removes them.
    pub in_use: Vec<Version>,
}

impl Installer {
    /// The pinned version of `name` where only older ones are installed.
    pub fn update_of(&self, name: &str) -> Result<Option<Version>, InstallError> {
        let entry = self.catalog.harness(name)?;
        let newest = Store::versions(&self.store.harness(name))?.pop();
        Ok(newest
            .filter(|newest| *newest < entry.version)
            .map(|_| entry.version.clone()))
    }

    /// Whether any version of `name` is installed.
    pub fn is_present(&self, name: &str) -> Result<bool, InstallError> {
        let entry = self.catalog.harness(name)?;
        Ok(!Store::versions(&self.store.harness(&entry.name))?.is_empty())
    }

    /// Installs the pinned version of `name` where it is not there, then removes the older ones that no session uses.
    /// Sessions that run go on with what they were started with. What is not installed at all is refused.
    pub fn update(
        &self,
        name: &str,
        source: &Source,
        progress: &mut dyn Progress,
    ) -> Result<Updated, InstallError> {
        let entry = self.catalog.harness(name)?;
        let before = Store::versions(&self.store.harness(name))?;
        if before.is_empty() {
            return Err(InstallError::NotInstalled {
                name: name.to_owned(),
            });
        }
        let harness = self.install(name, source, progress)?;
        let _lock = self.store.lock(self.wait)?;
        let (removed, in_use) = self.remove_older(entry)?;
        self.remove_unused_runtimes()?;
        Ok(Updated {
            harness,
            is_new: !before.contains(&entry.version),
            removed,
            in_use,
        })
    }

    /// The older versions that were removed, and those that are in use.
    fn remove_older(&self, entry: &HarnessEntry) -> Result<(Vec<Version>, Vec<Version>), InstallError> {
        let folder = self.store.harness(&entry.name);
        let (mut removed, mut kept) = (Vec::new(), Vec::new());
        for version in Store::versions(&folder)? {
            if version >= entry.version {
                continue;
            }
            let tree = folder.join(version.to_string());
            // Held until its name is gone: a session that starts meanwhile is told to try again.
            match in_use::claim(&tree) {
                Some(_claim) => {
                    self.store.remove(&tree)?;
                    removed.push(version);
                }
                None => kept.push(version),
            }
        }
        Ok((removed, kept))
    }
}
