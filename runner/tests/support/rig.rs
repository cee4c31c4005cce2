//! Programs, directories and the runner's process.

use lodge_runner::config::Config;
use lodge_runner::harness::install::InstalledHarness;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use tempfile::TempDir;
use tokio::process::{Child, Command};

/// Names the data directory to the process that plays the runner.
const RUNNER: &str = "LODGE_TEST_RUNNER";
/// The folder of the fake harness, below the rig's.
const HARNESS: &str = "harness";
const FAKE: &str = "lodge-fake-pi";
/// What the fake harness stands in for: each speaks another wire.
const HARNESSES: [(&str, &str); 5] = [
    ("pi", "0.87.1"),
    ("codex", "0.169.0"),
    ("claude", "2.1.316"),
    ("gemini", "0.61.0"),
    ("opencode", "1.18.33"),
];
/// In the harness's folder: the name of the program that is started, where it is not the fake harness.
const PROGRAM: &str = "program";

/// A data directory and what is started on it.
#[derive(Debug)]
pub(crate) struct Rig {
    root: TempDir,
}

impl Rig {
    pub(crate) fn new() -> Self {
        let root = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let rig = Self { root };
        for directory in [
            rig.data().join("run"),
            rig.data().join("workspaces"),
            rig.root.path().join(HARNESS),
        ] {
            std::fs::create_dir_all(directory).unwrap();
        }
        let fake = program(&profile_dir().join(FAKE), "cargo build -p lodge-fake-pi");
        std::fs::copy(fake, rig.root.path().join(HARNESS).join(FAKE)).unwrap();
        rig
    }

    /// The harness is this shell script, or a program that does not exist.
    pub(crate) fn with_harness(script: Option<&str>) -> Self {
        use std::os::unix::fs::PermissionsExt as _;
        let rig = Self::new();
        let folder = rig.root.path().join(HARNESS);
        std::fs::write(folder.join(PROGRAM), "scripted").unwrap();
        if let Some(script) = script {
            let path = folder.join("scripted");
            std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        }
        rig
    }

    /// Where everything of this rig is.
    pub(crate) fn root(&self) -> &Path {
        self.root.path()
    }

    /// Makes a workspace below the default root.
    pub(crate) fn workspace(&self, name: &str) -> PathBuf {
        let path = self.data().join("workspaces").join(name);
        std::fs::create_dir_all(&path).unwrap();
        path
    }

    /// Everything the runner logged.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.data().join("runner.log")).unwrap_or_default()
    }

    /// Kills every process of this rig but the runner: shims, sandboxes, guests.
    pub(crate) fn kill_guests(&self) {
        for pid in self.processes() {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
    }

    /// Harness processes as the host sees them.
    pub(crate) fn harnesses(&self) -> Vec<rustix::process::Pid> {
        let program = self.root.path().join(HARNESS).join(FAKE);
        let program = program.as_os_str().as_encoded_bytes().to_vec();
        let mut found = self.processes();
        found.retain(|pid| {
            let line = std::fs::read(format!("/proc/{}/cmdline", pid.as_raw_nonzero())).unwrap_or_default();
            line.starts_with(&program)
        });
        found
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.root.path().join("data")
    }

    pub(crate) fn session_home(&self, id: lodge_proto::SessionId) -> PathBuf {
        self.data().join(format!("runner/sessions/{id}/home"))
    }

    /// A new runner: this very test program, told to be one.
    pub(crate) fn spawn_runner(&self) -> Child {
        let log = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.data().join("runner.log"))
            .unwrap();
        Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "runner_process", "--nocapture", "--test-threads=1"])
            .env(RUNNER, self.root.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .unwrap()
    }

    /// What the runner logged last.
    pub(crate) fn log_tail(&self) -> String {
        let text = self.log();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(30)..].join("\n")
    }

    /// Processes whose arguments name this rig: shims and their guests.
    pub(crate) fn processes(&self) -> Vec<rustix::process::Pid> {
        let name = self.root.path().as_os_str().as_encoded_bytes().to_vec();
        let own = std::process::id();
        let entries = std::fs::read_dir("/proc").unwrap().filter_map(Result::ok);
        let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
        pids.filter(|pid| *pid != own)
            .filter(|pid| {
                let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
                line.windows(name.len()).any(|window| window == name)
            })
            .filter_map(|pid| rustix::process::Pid::from_raw(i32::try_from(pid).ok()?))
            .collect()
    }

    /// Waits until nothing of this rig runs any more.
    pub(crate) async fn all_gone(&self, patience: Duration) -> bool {
        let deadline = tokio::time::Instant::now() + patience;
        while !self.processes().is_empty() {
            if tokio::time::Instant::now() > deadline {
                return false;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        true
    }
}

/// A test that fails leaves nothing running either.
impl Drop for Rig {
    fn drop(&mut self) {
        self.kill_guests();
    }
}

/// `target/debug` of the build that this test belongs to.
fn profile_dir() -> PathBuf {
    let own = std::env::current_exe().unwrap();
    own.ancestors().nth(2).unwrap().to_owned()
}

fn program(path: &Path, hint: &str) -> PathBuf {
    assert!(path.is_file(), "{} is missing: run `{hint}`", path.display());
    path.to_owned()
}

/// Plays the runner if this process was told to; answers whether it was.
pub(crate) fn be_runner() -> bool {
    let Some(root) = std::env::var_os(RUNNER).map(PathBuf::from) else {
        return false;
    };
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .init();
    let root = root.canonicalize().unwrap();
    let folder = root.join(HARNESS);
    let mut config = Config::new(&root.join("data"), &profile_dir());
    program(&config.shim_binary, "cargo build -p lodge-shim");
    let init = profile_dir().parent().unwrap().join("guest/lodge-init");
    config.init_binary = program(&init, "PROFILE=dev scripts/build-guest");
    let argv0 = std::fs::read_to_string(folder.join(PROGRAM)).unwrap_or_else(|_| FAKE.to_owned());
    for (name, version) in HARNESSES {
        let installed = InstalledHarness {
            name: name.to_owned(),
            version: version.parse().unwrap(),
            argv0: vec![folder.join(argv0.trim())],
            roots: vec![folder.clone()],
        };
        config.harness_overrides.insert(name.to_owned(), installed);
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime
        .block_on(lodge_runner::serve(config, || {}, std::future::pending()))
        .unwrap();
    true
}
