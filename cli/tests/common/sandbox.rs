//! `lodge sandbox run` for tests: with pipes, at a terminal, and what it leaves behind.

use super::{Lodge, eventually, repository};
use nix::pty::{OpenptyResult, Winsize, openpty};
use nix::sys::termios::{LocalFlags, tcgetattr};
use serde_json::Value;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};

impl Lodge {
    /// A Lodge whose sandboxes run in `tier`. Where that cannot be, the test fails with what mends it.
    pub fn of_tier(tier: &str) -> Self {
        let lodge = Self::new();
        let shared = repository().join("target/test-data/sandbox");
        let own = lodge.data().join("sandbox");
        let mut private = std::fs::DirBuilder::new();
        private.recursive(true).mode(0o700);
        private.create(&own).unwrap();
        private.create(shared.join("snapshots")).unwrap();
        for folder in ["images", "snapshots"] {
            std::os::unix::fs::symlink(shared.join(folder), own.join(folder)).unwrap();
        }
        let status: Value =
            serde_json::from_slice(&lodge.run(&["sandbox", "status", "--json"]).stdout).unwrap();
        let tiers = status["tiers"].as_array().unwrap();
        let found = tiers.iter().find(|found| found["tier"] == tier).unwrap();
        assert!(
            found["usable"] == true,
            "{}; to do: {} (the tests' guest image: lodge image build --data target/test-data)",
            found["problem"],
            found["mend"]
        );
        lodge
    }

    /// `lodge sandbox run` in the folder `work`, with `flags` and a command.
    pub fn sandboxed(&self, flags: &[&str], command: &[&str]) -> Command {
        let mut words = vec!["sandbox", "run"];
        words.extend(flags);
        words.push("--");
        words.extend(command);
        let mut command = self.command(&words);
        command.current_dir(self.folder("work"));
        command
    }

    /// The same with a script for the shell of the guest.
    pub fn script(&self, flags: &[&str], script: &str) -> Command {
        self.sandboxed(flags, &["sh", "-c", script])
    }

    /// What sandboxes have left: processes, stand-ins in the workspace, private directories.
    pub fn leftovers(&self) -> Vec<String> {
        let mut found = self.processes();
        for folder in [self.folder("work"), self.data().join("sandbox/private")] {
            let entries = std::fs::read_dir(&folder).into_iter().flatten().flatten();
            let entries = entries.map(|entry| entry.path());
            let names = entries.filter(|path| path.file_name().is_some_and(|name| name != ".lock"));
            found.extend(names.map(|path| path.display().to_string()));
        }
        found
    }

    /// What the engine tells apart this Lodge's containers by.
    pub fn containers(&self) -> String {
        let state = std::fs::metadata(self.data().join("sandbox")).unwrap();
        let label = format!("label=lodge.state={:x}-{:x}", state.dev(), state.ino());
        let list = Command::new("docker")
            .args(["ps", "--all", "--quiet", "--filter", &label])
            .output();
        let list = list.unwrap_or_else(|error| panic!("docker: {error}; apt-get install docker.io"));
        assert!(list.status.success(), "{}", String::from_utf8_lossy(&list.stderr));
        String::from_utf8(list.stdout).unwrap()
    }
}

/// What a process says, as it comes.
#[derive(Clone, Default)]
pub struct Said(Arc<Mutex<Vec<u8>>>);

impl Said {
    /// Reads on a thread of its own until the end.
    pub fn by(mut from: impl Read + Send + 'static) -> Self {
        let said = Self::default();
        let writing = said.clone();
        std::thread::spawn(move || {
            let mut chunk = [0; 4096];
            // The end of a terminal is an error.
            while let Ok(count @ 1..) = from.read(&mut chunk) {
                writing.0.lock().unwrap().extend_from_slice(&chunk[..count]);
            }
        });
        said
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap()).into_owned()
    }

    pub fn wait_for(&self, text: &str) {
        eventually(&format!("{text:?} is said"), || {
            self.text().contains(text).then_some(())
        });
    }
}

/// A process at a terminal of its own.
pub struct Terminal {
    pub child: Child,
    pub said: Said,
    keyboard: File,
    /// The side of the process, which stays open so that its modes can be asked for.
    line: OwnedFd,
}

impl Terminal {
    /// Starts a command as the leader of a session at a terminal of 33 rows and 77 columns; its output goes there
    /// unless it has been sent elsewhere.
    pub fn with(command: &Command, stdout: Option<Stdio>) -> Self {
        let size = Winsize {
            ws_row: 33,
            ws_col: 77,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        let OpenptyResult { master, slave } = openpty(&size, None).unwrap();
        let mut leader = Command::new("setsid");
        leader
            .arg("--ctty")
            .arg(command.get_program())
            .args(command.get_args());
        for (name, value) in command.get_envs() {
            leader.env(name, value.unwrap_or_default());
        }
        leader
            .env("TERM", "xterm-256color")
            .current_dir(command.get_current_dir().unwrap())
            .stdin(slave.try_clone().unwrap())
            .stdout(stdout.unwrap_or_else(|| slave.try_clone().unwrap().into()))
            .stderr(slave.try_clone().unwrap());
        Self {
            child: leader.spawn().unwrap(),
            said: Said::by(File::from(master.try_clone().unwrap())),
            keyboard: File::from(master),
            line: slave,
        }
    }

    pub fn type_in(&mut self, text: &str) {
        self.keyboard.write_all(text.as_bytes()).unwrap();
    }

    pub fn resize(&self, rows: u16, cols: u16) {
        let size = rustix::termios::Winsize {
            ws_row: rows,
            ws_col: cols,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        rustix::termios::tcsetwinsize(&self.keyboard, size).unwrap();
    }

    /// Whether the terminal itself edits lines, as it does for a shell.
    pub fn edits_lines(&self) -> bool {
        let modes = tcgetattr(&self.line).unwrap();
        modes
            .local_flags
            .contains(LocalFlags::ICANON | LocalFlags::ECHO | LocalFlags::ISIG)
    }

    pub fn wait(&mut self) -> Option<i32> {
        ends(&mut self.child).code()
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits for the end of a process.
pub fn ends(child: &mut Child) -> ExitStatus {
    eventually("it ends", || child.try_wait().unwrap())
}

/// The processes that one has started, and those that they have. What a tier keeps for its next start is none of them.
pub fn descendants(of: u32) -> Vec<u32> {
    let path = format!("/proc/{of}/task/{of}/children");
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let children = text.split_whitespace().filter_map(|pid| pid.parse().ok());
    let mut found = Vec::new();
    for child in children.filter(|child| !is_keeper(*child)) {
        found.push(child);
        found.extend(descendants(child));
    }
    found
}

fn is_keeper(pid: u32) -> bool {
    let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    line.ends_with(b"lodge-tier\0keep\0")
}

/// Waits until none of these processes is there.
pub fn all_gone(pids: &[u32]) {
    eventually("every process is gone", || {
        let lives = |pid: &&u32| {
            let status = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            !status.is_empty() && !status.contains(") Z ")
        };
        pids.iter().find(lives).is_none().then_some(())
    });
}
