//! A Lodge of its own for a test: a data directory, commands on it, and nothing left behind.

#![allow(clippy::unwrap_used, dead_code, unreachable_pub)]

pub mod brings;
pub mod engine;
pub mod hostile;
pub mod http;
pub mod memory;
pub mod page;
pub mod sandbox;
pub mod tap;
pub mod vendor;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

const LODGE: &str = env!("CARGO_BIN_EXE_lodge");
/// No step of a test takes longer on a loaded machine.
pub const PATIENCE: Duration = Duration::from_mins(1);

pub struct Lodge {
    root: tempfile::TempDir,
}

impl Lodge {
    pub fn new() -> Self {
        let base = repository().join("target/tests");
        std::fs::create_dir_all(&base).unwrap();
        Self {
            root: tempfile::Builder::new().prefix("cli-").tempdir_in(base).unwrap(),
        }
    }

    /// The same with pi installed: the tree that all tests share.
    pub fn with_pi() -> Self {
        let lodge = Self::new();
        let cache = repository().join("target/test-data/harness-cache");
        lodge_runner::harness::install::testing::share(&cache, &lodge.data(), "pi").unwrap();
        lodge
    }

    pub fn root(&self) -> &Path {
        self.root.path()
    }

    pub fn data(&self) -> PathBuf {
        self.root.path().join("data")
    }

    /// A directory outside the data directory.
    pub fn folder(&self, name: &str) -> PathBuf {
        let path = self.root.path().join(name);
        std::fs::create_dir_all(&path).unwrap();
        path
    }

    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(LODGE);
        command
            .args(args)
            .env("LODGE_DATA", self.data())
            .env("CI", "1")
            .stdin(Stdio::null());
        command
    }

    pub fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    /// `lodgectl` with something on its standard input.
    pub fn ctl(&self, args: &[&str], input: &str) -> Output {
        let mut child = Command::new(env!("CARGO_BIN_EXE_lodgectl"))
            .args(args)
            .env("LODGE_DATA", self.data())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // A command that reads nothing may have ended.
        let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
        child.wait_with_output().unwrap()
    }

    /// The models that a provider offers; some are asked for theirs in the background.
    pub fn models(&self, provider: &str) -> Vec<String> {
        let listed = self.ctl(&["provider", "list", "--json"], "");
        let listed: Value = serde_json::from_slice(&listed.stdout).unwrap();
        let mut all = listed.as_array().unwrap().iter();
        let found = all.find(|entry| entry["name"] == provider).unwrap();
        let models = found["models"].as_array().unwrap().iter();
        // A plain id, or a model with all that is known of it.
        let id = |model: &Value| model.as_str().or(model["id"].as_str()).unwrap().to_owned();
        models.map(id).collect()
    }

    /// `lodge up` on a free port, ready.
    pub fn up(&self, args: &[&str]) -> Up {
        self.up_with(args, &[])
    }

    /// The same, with these variables in its environment.
    pub fn up_with(&self, args: &[&str], environment: &[(&str, &str)]) -> Up {
        let mut all = vec!["up", "--no-open", "--listen", "127.0.0.1:0", "--seconds", "300"];
        all.extend(args);
        let mut child = self
            .command(&all)
            .envs(environment.iter().copied())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap())
            .lines()
            .map_while(Result::ok);
        let url = lines.find_map(|line| line.strip_prefix("Lodge is ready: ").map(str::to_owned));
        Up {
            child,
            url: url.expect("`lodge up` ended before it was ready"),
        }
    }

    pub fn status(&self) -> Value {
        serde_json::from_slice(&self.run(&["status", "--json"]).stdout).unwrap()
    }

    /// The processes that belong to this Lodge: their command line names its directory, or they are guests that have
    /// something of it mounted.
    pub fn processes(&self) -> Vec<String> {
        let needle = self.root().file_name().unwrap().as_encoded_bytes();
        let names_it = |bytes: &[u8]| bytes.windows(needle.len()).any(|window| window == needle);
        let mut found = Vec::new();
        for entry in std::fs::read_dir("/proc").unwrap().flatten() {
            let read = |name: &str| std::fs::read(entry.path().join(name)).unwrap_or_default();
            let line = read("cmdline");
            if names_it(&line) || names_it(&read("mountinfo")) {
                let line = String::from_utf8_lossy(&line).replace('\0', " ");
                found.push(format!("{} {line}", entry.file_name().to_string_lossy()));
            }
        }
        found
    }

    /// Nothing is left; what was told to end gets the moment that takes on a busy machine.
    pub fn assert_no_processes(&self) {
        eventually("every process has ended", || {
            let left = self.processes();
            if !left.is_empty() {
                eprintln!("left: {left:?}");
            }
            left.is_empty().then_some(())
        });
    }
}

impl Drop for Lodge {
    fn drop(&mut self) {
        let _ = self.run(&["down"]);
    }
}

/// A running `lodge up`.
pub struct Up {
    pub child: Child,
    pub url: String,
}

impl Up {
    pub fn address(&self) -> String {
        self.url
            .strip_prefix("http://")
            .unwrap()
            .split('/')
            .next()
            .unwrap()
            .to_owned()
    }

    /// Waits for its end and returns the exit status.
    pub fn wait(&mut self) -> Option<i32> {
        eventually("`lodge up` ends", || self.child.try_wait().unwrap()).code()
    }
}

impl Drop for Up {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub fn signal(pid: u64, signal: Signal) {
    let pid = Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    kill_process(pid, signal).unwrap();
}

pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

pub fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

pub fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Asks again and again until there is an answer.
pub fn eventually<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < end, "never happened: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
