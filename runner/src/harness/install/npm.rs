//! Running npm: as a downloader that unpacks what a lock file names, and nothing else.

use super::confine::{Confined, Ended, Outputs, WayOut};
use super::lockfile::LockFile;
use super::{InstallError, Progress, Registry, redact};
use std::ffi::OsStr;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Of a log, at most this much is kept in memory.
const LOG_BYTES: u64 = 4 * 1024 * 1024;

/// npm as found on the PATH.
#[derive(Debug)]
pub(super) struct Npm<'a> {
    pub(super) program: PathBuf,
    pub(super) path: &'a OsStr,
    pub(super) deadline: Duration,
    /// Its way to the registry, where there is one.
    pub(super) way_out: Option<&'a dyn WayOut>,
    /// What is installed, for messages.
    pub(super) name: String,
}

/// The first executable of that name on `path`.
pub(super) fn find(path: &OsStr, name: &str) -> Option<PathBuf> {
    std::env::split_paths(path)
        .map(|dir| dir.join(name))
        .find(|file| {
            std::fs::metadata(file).is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
        })
}

impl Npm<'_> {
    /// Fetches the packages of `lock` into `tree` (which holds both files of it) through the npm cache `cache`.
    /// No install script runs. Both paths are free of symbolic links.
    pub(super) fn ci(
        &self,
        tree: &Path,
        cache: &Path,
        lock: &LockFile,
        progress: &mut dyn Progress,
    ) -> Result<(), InstallError> {
        let way_out = self.way_out.ok_or(InstallError::NoWayOut)?;
        let registry = Registry::of_host(&self.program, self.path)?;
        let fixed = [
            "ci",
            "--ignore-scripts",
            "--no-bin-links",
            "--no-audit",
            "--no-fund",
            "--no-progress",
        ];
        let mut args: Vec<String> = fixed.map(str::to_owned).into();
        args.extend(["--no-update-notifier", "--loglevel=http", "--cache"].map(str::to_owned));
        args.push(cache.to_string_lossy().into_owned());
        let packages = lock.packages_here();
        let network = Some((&registry, way_out));
        let writable = [cache.to_owned()];
        self.run(args, tree, &writable, network, (packages.len(), progress))?;
        // npm ends well without an optional package that it could not get, and the executable of a platform is one.
        let missing = packages
            .iter()
            .find(|package| !tree.join(&package.path).join("package.json").is_file());
        match missing {
            Some(package) => Err(self.failed(&format!("it left out {}", package.name()), &log_path(tree))),
            None => Ok(()),
        }
    }

    /// Runs the install scripts of the named packages of the tree, without network.
    pub(super) fn rebuild(
        &self,
        tree: &Path,
        cache: &Path,
        packages: &[String],
        progress: &mut dyn Progress,
    ) -> Result<(), InstallError> {
        let mut args: Vec<String> = ["rebuild", "--offline", "--cache"].map(str::to_owned).into();
        args.push(cache.to_string_lossy().into_owned());
        args.push("--".into());
        args.extend(packages.iter().cloned());
        self.run(args, tree, &[cache.to_owned()], None, (0, progress))
    }

    fn failed(&self, status: &str, log: &Path) -> InstallError {
        let log = read_bounded(log);
        InstallError::NpmFailed {
            name: self.name.clone(),
            status: status.to_owned(),
            hint: redact::hint(&log).to_owned(),
            lines: redact::last_words(&log),
        }
    }

    fn run(
        &self,
        args: Vec<String>,
        tree: &Path,
        writable: &[PathBuf],
        network: Option<(&Registry, &dyn WayOut)>,
        (total, progress): (usize, &mut dyn Progress),
    ) -> Result<(), InstallError> {
        let log_path = log_path(tree);
        let log = File::create(&log_path).map_err(InstallError::io("writing", &log_path))?;
        let mut watch = Watch {
            log: File::open(&log_path).ok(),
            done: 0,
            total,
        };
        let tools = Tools::find(self.path, &self.program)?;
        let confined = Confined {
            name: &self.name,
            staging: tree.parent().unwrap_or(tree),
            workspace: tree,
            writable,
            roots: tools.roots,
            argv: std::iter::once(tools.npm).chain(args).collect(),
            path: tools.folders,
            network,
        };
        let outputs = Outputs { out: &log, err: &log };
        let ended = confined.run(&outputs, self.deadline, &mut || {
            watch.report(progress);
            progress.cancelled()
        })?;
        watch.report(progress);
        match ended {
            Ended::Cancelled => Err(InstallError::Cancelled),
            Ended::Deadline => Err(InstallError::NpmDeadline {
                name: self.name.clone(),
                seconds: self.deadline.as_secs(),
            }),
            Ended::Exit(status) if status.success() => Ok(()),
            Ended::Exit(status) => Err(self.failed(&status.to_string(), &log_path)),
        }
    }
}

/// Where a sandbox finds npm and its Node.js.
struct Tools {
    /// npm, as it is called inside.
    npm: String,
    /// Folders for the PATH.
    folders: Vec<PathBuf>,
    /// Trees to show, where they are not part of the system.
    roots: Vec<PathBuf>,
}

impl Tools {
    fn find(path: &OsStr, npm: &Path) -> Result<Self, InstallError> {
        let mut tools = Self {
            npm: String::new(),
            folders: Vec::new(),
            roots: Vec::new(),
        };
        let node = find(path, "node");
        for program in std::iter::once(npm).chain(node.as_deref()) {
            let real = |path: &Path| path.canonicalize().map_err(InstallError::io("finding", path));
            let folder = real(program.parent().unwrap_or(program))?;
            if tools.npm.is_empty() {
                let name = program.file_name().unwrap_or_default();
                tools.npm = folder.join(name).to_string_lossy().into_owned();
            }
            let file = real(program)?;
            tools.show(package_of(&file));
            tools.show(&folder);
            if !tools.folders.contains(&folder) {
                tools.folders.push(folder);
            }
        }
        Ok(tools)
    }

    fn show(&mut self, tree: &Path) {
        let is_system = SYSTEM.iter().any(|system| tree.starts_with(system));
        if !is_system && !self.roots.iter().any(|root| tree.starts_with(root)) {
            self.roots.retain(|root| !root.starts_with(tree));
            self.roots.push(tree.to_owned());
        }
    }
}

/// What every sandbox shows.
const SYSTEM: &[&str] = &["/usr", "/bin", "/sbin", "/lib", "/lib64"];

/// The package that a program is part of: it needs its other files. Else its folder.
fn package_of(program: &Path) -> &Path {
    let in_modules = |path: &&Path| {
        path.parent()
            .is_some_and(|parent| parent.ends_with("node_modules"))
    };
    let package = program.ancestors().find(in_modules);
    package.or(program.parent()).unwrap_or(program)
}

/// Beside the tree, so that it is no part of it.
fn log_path(tree: &Path) -> PathBuf {
    tree.with_extension("npm-log")
}

pub(super) fn read_bounded(path: &Path) -> String {
    let mut bytes = Vec::new();
    if let Ok(file) = File::open(path) {
        let _ = file.take(LOG_BYTES).read_to_end(&mut bytes);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Counts fetched packages in npm's log while it grows.
struct Watch {
    log: Option<File>,
    done: usize,
    total: usize,
}

impl Watch {
    fn report(&mut self, progress: &mut dyn Progress) {
        let Some(log) = &mut self.log else { return };
        let mut grown = Vec::new();
        if log.take(LOG_BYTES).read_to_end(&mut grown).is_err() {
            return;
        }
        // Each archive is logged once, with its file name; a name cut in two is missed, which costs one count.
        let fetched = String::from_utf8_lossy(&grown).matches(".tgz ").count();
        if fetched > 0 {
            self.done = (self.done + fetched).min(self.total);
            progress.packages(self.done, self.total);
        }
    }
}
