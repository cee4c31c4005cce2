//! Running npm: as a downloader that unpacks what a lock file names, and nothing else.

use super::lockfile::LockFile;
use super::{InstallError, Progress, redact};
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// How often a running program is looked after.
const TICK: Duration = Duration::from_millis(50);
/// Of a log, at most this much is kept in memory.
const LOG_BYTES: u64 = 4 * 1024 * 1024;

/// npm as found on the PATH.
#[derive(Debug)]
pub(super) struct Npm<'a> {
    pub(super) program: PathBuf,
    pub(super) path: &'a OsStr,
    pub(super) deadline: Duration,
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
    /// No install script runs.
    pub(super) fn ci(
        &self,
        tree: &Path,
        cache: &Path,
        lock: &LockFile,
        progress: &mut dyn Progress,
    ) -> Result<(), InstallError> {
        let fixed = [
            "ci",
            "--ignore-scripts",
            "--no-bin-links",
            "--no-audit",
            "--no-fund",
            "--no-progress",
        ];
        let mut args: Vec<OsString> = fixed.iter().map(OsString::from).collect();
        args.extend(["--no-update-notifier", "--loglevel=http", "--cache"].map(OsString::from));
        args.push(cache.as_os_str().to_owned());
        let packages = lock.packages_here();
        self.run(&args, tree, packages.len(), progress)?;
        // npm ends well without an optional package that it could not get, and the executable of a platform is one.
        let missing = packages
            .iter()
            .find(|package| !tree.join(&package.path).join("package.json").is_file());
        match missing {
            Some(package) => Err(self.failed(&format!("it left out {}", package.name()), &log_path(tree))),
            None => Ok(()),
        }
    }

    /// Runs the install scripts of the named packages of the tree.
    pub(super) fn rebuild(
        &self,
        tree: &Path,
        cache: &Path,
        packages: &[String],
        progress: &mut dyn Progress,
    ) -> Result<(), InstallError> {
        let mut args: Vec<OsString> = ["rebuild", "--offline", "--cache"].map(OsString::from).into();
        args.push(cache.as_os_str().to_owned());
        args.push("--".into());
        args.extend(packages.iter().map(OsString::from));
        self.run(&args, tree, 0, progress)
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

    /// npm, to be killed by the kernel when the thread that started it dies: it would go on writing into a folder that
    /// the next installation clears away.
    fn command(&self) -> Command {
        let Some(setpriv) = find(self.path, "setpriv") else {
            return Command::new(&self.program);
        };
        let mut command = Command::new(setpriv);
        command.args(["--pdeathsig", "KILL", "--"]).arg(&self.program);
        command
    }

    fn run(
        &self,
        args: &[OsString],
        tree: &Path,
        total: usize,
        progress: &mut dyn Progress,
    ) -> Result<(), InstallError> {
        // A file instead of pipes: a process that outlives npm can then hold up nobody.
        let log_path = log_path(tree);
        let log = File::create(&log_path).map_err(InstallError::io("writing", &log_path))?;
        let log_too = log.try_clone().map_err(InstallError::io("writing", &log_path))?;
        let child = self
            .command()
            .args(args)
            .current_dir(tree)
            .env("PATH", self.path)
            // Settings that npm hands down when Lodge itself was started by an npm script.
            .env_remove("npm_config_prefix")
            .env_remove("npm_config_local_prefix")
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(log_too)
            .process_group(0)
            .spawn()
            .map_err(|source| InstallError::NpmStart {
                program: self.program.clone(),
                source,
            })?;
        let mut watch = Watch {
            log: File::open(&log_path).ok(),
            done: 0,
            total,
        };
        let ended = wait(child, self.deadline, &mut || {
            watch.report(progress);
            progress.cancelled()
        })
        .map_err(|source| InstallError::NpmStart {
            program: self.program.clone(),
            source,
        })?;
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

/// Beside the tree, so that it is no part of it.
fn log_path(tree: &Path) -> PathBuf {
    tree.with_extension("npm-log")
}

/// How a program that was waited for came to its end.
pub(super) enum Ended {
    Exit(ExitStatus),
    Deadline,
    Cancelled,
}

/// Waits for `child`, the leader of its process group. At the deadline, or when `stop` says so, the group is killed.
pub(super) fn wait(
    mut child: Child,
    deadline: Duration,
    stop: &mut dyn FnMut() -> bool,
) -> std::io::Result<Ended> {
    let started = Instant::now();
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Ended::Exit(status));
        }
        let cancelled = stop();
        if cancelled || started.elapsed() >= deadline {
            kill_group(&child);
            child.wait()?;
            return Ok(if cancelled {
                Ended::Cancelled
            } else {
                Ended::Deadline
            });
        }
        std::thread::sleep(TICK);
    }
}

fn kill_group(child: &Child) {
    let pid = i32::try_from(child.id())
        .ok()
        .and_then(rustix::process::Pid::from_raw);
    if let Some(pid) = pid {
        // The child is not reaped yet, so the number is still its own.
        let _ = rustix::process::kill_process_group(pid, rustix::process::Signal::KILL);
    }
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
