//! A sandbox with guest init in it, driven over the framed stream as the shim does.
#![allow(dead_code, unreachable_pub, reason = "every test file uses its own part")]

use std::fs;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use lodge_guest::client::{Client, Command, Output};
use lodge_guest::mux::{Decoder, Exit, Frame, Kind, Start, StartFailed, encode_into};
use lodge_guest::walls::Walls;
use lodge_sandbox::bwrap::{SandboxCommand, compile};
use lodge_sandbox::host::{Bwrap, require_process_tier};
use lodge_sandbox::placeholder::acquire;
use lodge_sandbox::plan::{Plan, SessionSpec, plan};
use lodge_sandbox::policy::{Policy, Profile};
use lodge_sandbox::view::HostView;
use tempfile::TempDir;

/// Longer than anything here takes on a loaded machine; reaching it is a failure.
pub const DEADLINE: Duration = Duration::from_secs(30);

pub fn init_binary() -> PathBuf {
    let default = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/guest/lodge-init");
    let path = std::env::var_os("LODGE_INIT").map_or_else(default, PathBuf::from);
    path.canonicalize()
        .unwrap_or_else(|e| panic!("{}: {e}; run scripts/build-guest", path.display()))
}

pub fn bwrap() -> Bwrap {
    require_process_tier().unwrap_or_else(|error| panic!("{error}"))
}

/// What starts `plan`, with the stand-ins that launchers make before.
pub fn compiled(plan: &Plan, bwrap: &Bwrap) -> SandboxCommand {
    let state = plan.workspace.with_extension("state");
    let hold = acquire(&state, &plan.workspace, &plan.placeholders).expect("stand-ins");
    let mut command = compile(plan, bwrap).expect("command");
    command.hold = Some(hold);
    command
}

/// The directories of one session.
pub struct Session {
    pub root: TempDir,
    pub spec: SessionSpec,
    pub gateway: UnixListener,
}

impl Session {
    pub fn new() -> Self {
        let root = tempfile::tempdir().expect("temporary directory");
        let real = root.path().canonicalize().expect("real path");
        for name in ["workspace", "home", "harness"] {
            fs::create_dir(real.join(name)).expect("session directory");
        }
        let gateway = UnixListener::bind(real.join("gateway.sock")).expect("gateway socket");
        let spec = SessionSpec {
            workspace: real.join("workspace"),
            private_home: real.join("home"),
            gateway_socket: real.join("gateway.sock"),
            harness_roots: vec![real.join("harness")],
            init_binary: init_binary(),
            uid: rustix::process::getuid().as_raw(),
            gid: rustix::process::getgid().as_raw(),
            session_id: "0190-test".into(),
        };
        Self { root, spec, gateway }
    }

    pub fn plan(&self) -> Plan {
        self.plan_for(&Policy::of(Profile::Development))
    }

    pub fn plan_for(&self, policy: &Policy) -> Plan {
        let view = HostView::probe(policy, &self.spec).expect("host view");
        plan(policy, &self.spec, &view).expect("plan")
    }

    pub fn start(&self) -> Guest {
        Guest::start(&self.plan(), &bwrap())
    }
}

/// A running sandbox.
pub struct Guest {
    pub bwrap: Child,
    pub mux: UnixStream,
    pub plan: Plan,
    decoder: Decoder,
}

/// Everything one command gave.
#[derive(Debug, Default)]
pub struct Outcome {
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
    pub exit: Option<Exit>,
}

impl Outcome {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    pub fn code(&self) -> Option<i32> {
        self.exit.and_then(|exit| exit.code)
    }
}

impl Guest {
    pub fn start(plan: &Plan, bwrap: &Bwrap) -> Self {
        let (ours, theirs) = UnixStream::pair().expect("socket pair");
        let mut command = compiled(plan, bwrap);
        let child = command
            .spawn(OwnedFd::from(theirs), Stdio::inherit())
            .expect("bwrap");
        ours.set_read_timeout(Some(DEADLINE)).expect("timeout");
        let mut guest = Self {
            bwrap: child,
            mux: ours,
            plan: plan.clone(),
            decoder: Decoder::new(),
        };
        assert_eq!(guest.frame().expect("init says hello").kind, Kind::Hello);
        guest
    }

    /// The next frame; `None` at the end of the stream.
    pub fn frame(&mut self) -> Option<Frame> {
        let mut chunk = vec![0; 1 << 16];
        loop {
            if let Some(frame) = self.decoder.next().expect("well-formed stream") {
                return Some(frame);
            }
            // A read with a time limit is not restarted by the system after a signal.
            let got = match self.mux.read(&mut chunk) {
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                got => got.expect("no frame within the deadline"),
            };
            if got == 0 {
                return None;
            }
            self.decoder.push(&chunk[..got]);
        }
    }

    pub fn send(&mut self, kind: Kind, stream: u32, payload: &[u8]) {
        let mut bytes = Vec::new();
        encode_into(kind, stream, payload, &mut bytes).expect("frame");
        self.mux.write_all(&bytes).expect("write");
    }

    pub fn start_command(&mut self, stream: u32, argv: &[&str]) {
        let start = Start {
            argv: argv.iter().map(|&word| word.to_owned()).collect(),
            env: self.plan.guest_env.clone(),
            cwd: "/tmp".into(),
            pty: false,
            size: None,
        };
        let payload = serde_json::to_vec(&start).expect("json");
        self.send(Kind::Start, stream, &payload);
    }

    /// Collects what `stream` gives until its exit.
    pub fn finish(&mut self, stream: u32) -> Outcome {
        let mut outcome = Outcome::default();
        while outcome.exit.is_none() {
            let frame = self.frame().expect("the stream ended before the command");
            assert_eq!(frame.stream, stream);
            match frame.kind {
                Kind::Stdout => outcome.stdout.extend(frame.payload),
                Kind::Stderr => outcome.stderr.extend(frame.payload),
                Kind::Exit => outcome.exit = Some(frame.parse().expect("exit")),
                Kind::Started => {}
                Kind::StartFailed => panic!("{:?}", frame.parse::<StartFailed>()),
                kind => panic!("unexpected {kind:?}"),
            }
        }
        outcome
    }

    pub fn run(&mut self, stream: u32, argv: &[&str]) -> Outcome {
        self.start_command(stream, argv);
        self.send(Kind::Stdin, stream, &[]);
        self.finish(stream)
    }

    pub fn sh(&mut self, script: &str) -> Outcome {
        self.run(7, &["sh", "-c", script])
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        let _ = self.mux.shutdown(std::net::Shutdown::Both);
        let _ = self.bwrap.wait();
    }
}

/// Waits until `done` holds.
pub fn eventually(what: &str, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < DEADLINE, "not within the deadline: {what}");
        std::thread::yield_now();
    }
}

/// Host processes whose command line contains `mark`.
pub fn processes_with(mark: &str) -> Vec<i32> {
    let of = |entry: fs::DirEntry| {
        let pid: i32 = entry.file_name().to_str()?.parse().ok()?;
        let line = fs::read(entry.path().join("cmdline")).ok()?;
        String::from_utf8_lossy(&line).contains(mark).then_some(pid)
    };
    fs::read_dir("/proc")
        .expect("/proc")
        .flatten()
        .filter_map(of)
        .collect()
}

/// A sandbox that is driven through the client of the framed stream.
pub struct Driven {
    pub client: Client,
    pub launcher: Child,
    pub plan: Plan,
    /// Holds what was made in the workspace for it.
    command: SandboxCommand,
}

impl Driven {
    pub fn start(plan: &Plan) -> Self {
        let (ours, theirs) = UnixStream::pair().expect("socket pair");
        let mut command = compiled(plan, &bwrap());
        let launcher = command
            .spawn(OwnedFd::from(theirs), Stdio::inherit())
            .expect("bwrap");
        let client = Client::new(OwnedFd::from(ours), DEADLINE).expect("init is ready");
        Self {
            client,
            launcher,
            plan: plan.clone(),
            command,
        }
    }

    /// What starts `argv` with the guest's environment.
    pub fn command(&self, argv: &[&str]) -> Start {
        Start {
            argv: argv.iter().map(|&word| word.to_owned()).collect(),
            env: self.plan.guest_env.clone(),
            cwd: "/tmp".into(),
            pty: false,
            size: None,
        }
    }

    pub fn start_command(&self, argv: &[&str]) -> Command {
        self.client.start(&self.command(argv)).expect("start")
    }

    /// Runs a script to its end.
    pub fn sh(&self, script: &str) -> Output {
        self.start_command(&["sh", "-c", script])
            .wait_with_output(16 << 20, DEADLINE)
            .unwrap_or_else(|error| panic!("{script}: {error}"))
    }

    /// Ends the sandbox, and returns how its launcher ended.
    pub fn end(self) -> Option<i32> {
        let Self {
            client, mut launcher, ..
        } = self;
        drop(client);
        launcher.wait().expect("bwrap").code()
    }
}

/// Standard output as text.
pub fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Changes what guest init is told.
pub fn with_walls(mut plan: Plan, change: impl FnOnce(&mut Walls)) -> Plan {
    change(&mut plan.walls);
    let walls = serde_json::to_string(&plan.walls).expect("json");
    set_init_env(&mut plan, lodge_guest::walls::ENV, &walls);
    plan
}

pub fn set_init_env(plan: &mut Plan, name: &str, value: &str) {
    plan.init_env.retain(|(known, _)| known != name);
    plan.init_env.push((name.to_owned(), value.to_owned()));
}

/// A sandbox whose launcher's complaints are collected.
pub fn spawn(plan: &Plan, mux: OwnedFd) -> Child {
    let mut command = compiled(plan, &bwrap());
    command.spawn(mux, Stdio::piped()).expect("bwrap")
}
