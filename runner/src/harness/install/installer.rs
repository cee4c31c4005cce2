//! Installing, removing and listing.

mod update;

use super::catalog::{Catalog, HarnessEntry, RuntimeEntry};
use super::lockfile::LockFile;
use super::npm::{self, Npm};
use super::resolve::{self, InstalledHarness};
use super::store::{MANIFEST, Manifest, RuntimeRef, Store};
use super::{InstallError, Progress, Step, WayOut, cache, check, in_use};
use lodge_proto::command::HarnessInfo;
use lodge_proto::error::ErrorBody;
use std::ffi::OsString;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

pub use update::Updated;

/// Where packages come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// npm and its registry. With `cache`, what was downloaded stays in that npm cache: a directory for [`Source::Directory`].
    Registry { cache: Option<PathBuf> },
    /// A directory that was filled by [`Source::Registry`] with a `cache`. Needs neither network nor npm.
    Directory(PathBuf),
}

/// Installs harnesses into one data directory. At most one installation runs in it at a time.
#[derive(Debug, Clone)]
pub struct Installer {
    store: Store,
    catalog: Catalog,
    path: OsString,
    deadline: Duration,
    wait: bool,
    way_out: Option<Arc<dyn WayOut>>,
}

/// One tree to be installed: a harness or a runtime.
struct Job<'a> {
    harness: &'a str,
    title: &'a str,
    manifest: Manifest,
    folder: PathBuf,
    lock: &'a LockFile,
    allow_scripts: &'a [String],
    /// Program that starts the entry; none where the entry starts by itself.
    runtime: Option<PathBuf>,
}

impl Installer {
    /// An installer for the data directory `data` with the embedded catalog and the PATH of this process.
    pub fn new(data: &Path) -> Result<Self, InstallError> {
        Ok(Self {
            store: Store::new(data),
            catalog: Catalog::embedded()?,
            path: std::env::var_os("PATH").unwrap_or_default(),
            deadline: Duration::from_mins(15),
            wait: false,
            way_out: None,
        })
    }

    /// The same with another PATH to look for npm in.
    #[must_use]
    pub fn with_path(mut self, path: impl Into<OsString>) -> Self {
        self.path = path.into();
        self
    }

    /// The same with another limit for one run of npm (15 minutes by default).
    #[must_use]
    pub const fn with_deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// The same with a way to the registry, without which [`Source::Registry`] is refused.
    #[must_use]
    pub fn with_way_out(mut self, way_out: Arc<dyn WayOut>) -> Self {
        self.way_out = Some(way_out);
        self
    }

    /// The same, but waiting for another installation instead of failing with [`InstallError::Busy`].
    #[must_use]
    pub const fn waiting(mut self) -> Self {
        self.wait = true;
        self
    }

    /// The harnesses it knows.
    pub const fn catalog(&self) -> &Catalog {
        &self.catalog
    }

    /// Removes what killed installations left. It does nothing while an installation is under way.
    pub fn clean(&self) -> Result<(), InstallError> {
        match self.store.lock(false) {
            Ok(_) | Err(InstallError::Busy { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Installs the pinned version of `name` and its runtime. What is there and sound is left as it is; what is
    /// damaged is replaced. An installation that fails or is killed changes nothing.
    pub fn install(
        &self,
        name: &str,
        source: &Source,
        progress: &mut dyn Progress,
    ) -> Result<InstalledHarness, InstallError> {
        let entry = self.catalog.harness(name)?;
        let _lock = self.store.lock(self.wait)?;
        let runtime = match self.catalog.runtime_of(entry) {
            Some(runtime) => Some(self.ensure_runtime(name, runtime, source, progress)?),
            None => None,
        };
        let job = Job {
            harness: name,
            title: &entry.title,
            manifest: harness_manifest(entry, self.catalog.runtime_of(entry))?,
            folder: self.store.harness(name),
            lock: &entry.lock,
            allow_scripts: &entry.allow_scripts,
            runtime,
        };
        self.ensure(&job, source, progress)?;
        resolve::resolve(&self.store, &self.catalog, entry)
    }

    /// Makes sure that a runtime is in place; returns its program.
    fn ensure_runtime(
        &self,
        harness: &str,
        runtime: &RuntimeEntry,
        source: &Source,
        progress: &mut dyn Progress,
    ) -> Result<PathBuf, InstallError> {
        let (package, program) = runtime.package_and_entry()?;
        let job = Job {
            harness,
            title: &runtime.title,
            manifest: Manifest {
                format: 1,
                name: runtime.name.clone(),
                version: runtime.version.clone(),
                package: format!("node_modules/{package}"),
                entry: program.clone(),
                runtime: None,
            },
            folder: self.store.runtime(&runtime.name),
            lock: &runtime.lock,
            allow_scripts: &[],
            runtime: None,
        };
        Ok(self.ensure(&job, source, progress)?.join(program))
    }

    /// Removes every version of `name`, and runtimes that no harness needs any more.
    ///
    /// Refused while a session runs on one of them: nothing is removed then.
    pub fn remove(&self, name: &str) -> Result<(), InstallError> {
        let entry = self.catalog.harness(name)?;
        let _lock = self.store.lock(self.wait)?;
        let folder = self.store.harness(&entry.name);
        let versions = Store::versions(&folder)?;
        if versions.is_empty() {
            return Err(InstallError::NotInstalled {
                name: entry.name.clone(),
            });
        }
        // Held until their names are gone: a session that starts meanwhile is told to try again.
        let (mut claims, mut used) = (Vec::new(), Vec::new());
        for version in &versions {
            match in_use::claim_to_remove(&folder.join(version.to_string())) {
                Ok(claim) => claims.extend(claim),
                Err(()) => used.push(version.to_string()),
            }
        }
        if !used.is_empty() {
            return Err(InstallError::InUse {
                name: entry.name.clone(),
                versions: used.join(", "),
            });
        }
        for version in versions {
            self.store.remove(&folder.join(version.to_string()))?;
        }
        // It is empty unless somebody put files of their own there, which are not ours to remove.
        let _ = std::fs::remove_dir(&folder);
        self.remove_unused_runtimes()
    }

    /// Every known harness, in order of name.
    pub fn list(&self) -> Vec<HarnessInfo> {
        self.catalog
            .harnesses()
            .map(|entry| {
                let found = resolve::resolve(&self.store, &self.catalog, entry);
                HarnessInfo {
                    name: entry.name.clone(),
                    title: entry.title.clone(),
                    description: entry.description.clone(),
                    installed: found.is_ok(),
                    version: found
                        .as_ref()
                        .map_or(&entry.version, |harness| &harness.version)
                        .to_string(),
                    licence: entry.licence.clone(),
                    problem: found.err().map(ErrorBody::from),
                    installing: None,
                }
            })
            .collect()
    }

    /// How the harness `name` is started. A missing, damaged or unaccepted one is refused by name.
    pub fn resolve(&self, name: &str) -> Result<InstalledHarness, InstallError> {
        resolve::resolve(&self.store, &self.catalog, self.catalog.harness(name)?)
    }

    /// Makes sure that the tree of `job` is in place; returns its root.
    fn ensure(
        &self,
        job: &Job<'_>,
        source: &Source,
        progress: &mut dyn Progress,
    ) -> Result<PathBuf, InstallError> {
        let Manifest { name, version, .. } = &job.manifest;
        let target = job.folder.join(version.to_string());
        let present = resolve::sound_tree(name, job.harness, &job.folder, version);
        // A cache is filled even then: that is what it was asked for.
        let filling = matches!(source, Source::Registry { cache: Some(_) });
        if present.is_ok() && !filling {
            progress.step(&Step::Present {
                name: job.title.to_owned(),
                version: version.to_string(),
            });
            return Ok(target);
        }
        let staging = self.store.staging()?;
        // What a sandbox shows it shows at its real path.
        let aside = real(staging.path())?;
        let tree = aside.join("tree");
        std::fs::create_dir(&tree).map_err(InstallError::io("making", &tree))?;
        write(&tree.join("package.json"), job.lock.package_json.as_bytes())?;
        write(&tree.join("package-lock.json"), job.lock.text.as_bytes())?;
        self.fill(job, source, &aside, &tree, progress)?;
        if present.is_ok() {
            return Ok(target);
        }
        self.finish(job, &aside, &tree, &target, progress)?;
        Ok(target)
    }

    /// Fills `tree` with packages.
    fn fill(
        &self,
        job: &Job<'_>,
        source: &Source,
        staging: &Path,
        tree: &Path,
        progress: &mut dyn Progress,
    ) -> Result<(), InstallError> {
        let name = job.title.to_owned();
        let version = job.manifest.version.to_string();
        let private = staging.join("npm-cache");
        make(&private)?;
        match source {
            Source::Registry { cache } => {
                progress.step(&Step::Fetching { name, version });
                let cache = match cache {
                    Some(cache) => {
                        make(cache)?;
                        real(cache)?
                    }
                    None => private.clone(),
                };
                self.npm(job)?.ci(tree, &cache, job.lock, progress)?;
            }
            Source::Directory(cache) => {
                progress.step(&Step::Unpacking { name, version });
                cache::unpack_all(job.harness, cache, tree, job.lock, progress)?;
            }
        }
        if !job.allow_scripts.is_empty() {
            progress.step(&Step::Scripts {
                packages: job.allow_scripts.to_vec(),
            });
            self.npm(job)?
                .rebuild(tree, &private, job.allow_scripts, progress)?;
        }
        // npm's own note of what it did: the tree is a function of the lock file, however it was made.
        let _ = std::fs::remove_file(tree.join("node_modules/.package-lock.json"));
        Ok(())
    }

    fn npm(&self, job: &Job<'_>) -> Result<Npm<'_>, InstallError> {
        let program = npm::find(&self.path, "npm").ok_or_else(|| InstallError::NpmMissing {
            name: job.title.to_owned(),
            harness: job.harness.to_owned(),
        })?;
        Ok(Npm {
            program,
            path: &self.path,
            deadline: self.deadline,
            way_out: self.way_out.as_deref(),
            name: job.title.to_owned(),
        })
    }

    /// Checks the filled tree and puts it in place.
    fn finish(
        &self,
        job: &Job<'_>,
        staging: &Path,
        tree: &Path,
        target: &Path,
        progress: &mut dyn Progress,
    ) -> Result<(), InstallError> {
        progress.step(&Step::Checking {
            name: job.title.to_owned(),
        });
        let entry = tree.join(&job.manifest.entry);
        if job.runtime.is_none() && entry.is_file() {
            let mode = std::fs::Permissions::from_mode(0o755);
            std::fs::set_permissions(&entry, mode)
                .map_err(InstallError::io("setting the mode of", &entry))?;
        }
        let runtime = job.runtime.as_deref().map(real).transpose()?;
        let mut roots = vec![tree.to_owned()];
        roots.extend(runtime.as_deref().and_then(Path::parent).map(Path::to_owned));
        let asked = check::Asked {
            name: job.title,
            argv: runtime.into_iter().chain([entry]).collect(),
            roots,
            expected: &job.manifest.version,
        };
        check::check_version(&asked, staging, &|| progress.cancelled())?;
        let manifest = serde_json::to_vec_pretty(&job.manifest).map_err(|e| InstallError::Catalog {
            reason: format!("manifest of {}: {e}", job.title),
        })?;
        write(&tree.join(MANIFEST), &manifest)?;
        progress.step(&Step::Placing {
            name: job.title.to_owned(),
        });
        self.store.place(staging, tree, target)
    }

    fn remove_unused_runtimes(&self) -> Result<(), InstallError> {
        for runtime in self.catalog.runtimes() {
            let folder = self.store.runtime(&runtime.name);
            for version in Store::versions(&folder)? {
                if !self.is_used(&runtime.name, &version)? {
                    self.store.remove(&folder.join(version.to_string()))?;
                }
            }
        }
        Ok(())
    }

    fn is_used(&self, runtime: &str, version: &semver::Version) -> Result<bool, InstallError> {
        let wanted = RuntimeRef {
            name: runtime.to_owned(),
            version: version.clone(),
        };
        for entry in self.catalog.harnesses() {
            let folder = self.store.harness(&entry.name);
            for installed in Store::versions(&folder)? {
                let tree = resolve::sound_tree(&entry.name, &entry.name, &folder, &installed);
                if tree.is_ok_and(|tree| tree.manifest.runtime.as_ref() == Some(&wanted)) {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }
}

fn harness_manifest(entry: &HarnessEntry, runtime: Option<&RuntimeEntry>) -> Result<Manifest, InstallError> {
    let (package, program) = entry.package_and_entry()?;
    Ok(Manifest {
        format: 1,
        name: entry.name.clone(),
        version: entry.version.clone(),
        package: format!("node_modules/{package}"),
        entry: program,
        runtime: runtime.map(|runtime| RuntimeRef {
            name: runtime.name.clone(),
            version: runtime.version.clone(),
        }),
    })
}

fn make(folder: &Path) -> Result<(), InstallError> {
    std::fs::create_dir_all(folder).map_err(InstallError::io("making", folder))
}

fn real(path: &Path) -> Result<PathBuf, InstallError> {
    path.canonicalize().map_err(InstallError::io("finding", path))
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), InstallError> {
    std::fs::write(path, bytes).map_err(InstallError::io("writing", path))
}
