//! A container with guest init in it, driven over the framed stream.
#![allow(dead_code, unreachable_pub, reason = "every test file uses its own part")]

use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use lodge_guest::client::{Client, Output};
use lodge_guest::mux::Start;
use lodge_sandbox::SandboxError;
use lodge_sandbox::launch::{self, EngineHint, Tools};
use lodge_sandbox::plan::{Plan, SessionSpec, plan};
use lodge_sandbox::policy::{Policy, Profile, Tier};
use lodge_sandbox::view::HostView;
use tempfile::TempDir;

/// Longer than anything here takes on a loaded machine; reaching it is a failure.
pub const DEADLINE: Duration = Duration::from_mins(1);
/// More than any command here says.
const CAP: usize = 32 << 20;

/// Built by `scripts/build-guest`.
pub fn init_binary() -> PathBuf {
    let default = || target().join("guest/lodge-init");
    let path = std::env::var_os("LODGE_INIT").map_or_else(default, PathBuf::from);
    path.canonicalize()
        .unwrap_or_else(|e| panic!("{}: {e}; run scripts/build-guest", path.display()))
}

fn target() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target")
}

/// The state of sandboxes that all tests of this machine share; the guest image in it is built by the first of them.
pub fn state() -> PathBuf {
    static STATE: OnceLock<PathBuf> = OnceLock::new();
    let prepare = || {
        let default = || target().join("test-data/sandbox");
        let state = std::env::var_os("LODGE_TEST_SANDBOX").map_or_else(default, PathBuf::from);
        // Finds what is there, unless guest init is another by now.
        let options = lodge_image::Options {
            state: state.clone(),
            init_binary: Some(init_binary()),
            ..lodge_image::Options::default()
        };
        lodge_image::build(&options, &mut |_| {}).unwrap_or_else(|error| panic!("{error}"));
        state.canonicalize().expect("state")
    };
    STATE.get_or_init(prepare).clone()
}

/// The engine that tests use; without one they fail and say how to get it.
pub fn engine() -> EngineHint {
    let hint = EngineHint::from_env();
    let uid = rustix::process::getuid().as_raw();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("runtime");
    if let Err(error) = runtime.block_on(lodge_tier::container::connect(&hint, uid)) {
        panic!("{error}; or start one for tests with: eval \"$(scripts/engine env)\"");
    }
    hint
}

/// What the engine says to a command of its own client.
pub fn docker(arguments: &[&str]) -> String {
    let output = Command::new("docker").args(arguments).output().expect("docker");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// The directories of one session.
pub struct Session {
    pub root: TempDir,
    pub spec: SessionSpec,
    pub gateway: UnixListener,
    /// A state of its own beside the shared image, so that other tests' containers are not seen.
    pub state: PathBuf,
}

impl Session {
    pub fn new() -> Self {
        engine();
        Self::without_engine()
    }

    pub fn without_engine() -> Self {
        let root = tempfile::tempdir().expect("temporary directory");
        let real = root.path().canonicalize().expect("real path");
        for name in ["workspace", "home", "harness", "state"] {
            fs::create_dir(real.join(name)).expect("session directory");
        }
        std::os::unix::fs::symlink(state().join("images"), real.join("state/images")).expect("images");
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
        let state = real.join("state");
        Self {
            root,
            spec,
            gateway,
            state,
        }
    }

    pub fn policy() -> Policy {
        let mut policy = Policy::of(Profile::Development);
        policy.tier = Tier::Container;
        policy
    }

    pub fn plan(&self, policy: &Policy) -> Plan {
        let view = HostView::probe(policy, &self.spec).expect("host view");
        plan(policy, &self.spec, &view).expect("plan")
    }

    pub fn tools(&self) -> Tools {
        Tools {
            tier_binary: env!("CARGO_BIN_EXE_lodge-tier").into(),
            init_binary: init_binary(),
            state: self.state.clone(),
        }
    }

    pub fn start(&self) -> Guest {
        self.start_with(&Self::policy())
    }

    pub fn start_with(&self, policy: &Policy) -> Guest {
        let plan = self.plan(policy);
        let (child, mux) = self.launch(&plan, Stdio::inherit());
        let client = Client::new(mux, DEADLINE).unwrap_or_else(|error| panic!("{error}"));
        Guest {
            child,
            client: Some(client),
            plan,
        }
    }

    /// `lodge-tier` and the other end of its stream.
    pub fn launch(&self, plan: &Plan, stderr: Stdio) -> (Child, OwnedFd) {
        self.try_launch(plan, stderr).expect("command")
    }

    pub fn try_launch(&self, plan: &Plan, stderr: Stdio) -> Result<(Child, OwnedFd), SandboxError> {
        let (ours, theirs) = UnixStream::pair().expect("socket pair");
        let mut command = launch::compile(plan, &self.tools(), &self.spec.gateway_socket)?;
        let child = command.spawn(OwnedFd::from(theirs), stderr)?;
        Ok((child, ours.into()))
    }

    /// Containers of this session that the engine has, in any state.
    pub fn containers(&self) -> String {
        use std::os::unix::fs::MetadataExt;
        let meta = fs::metadata(&self.state).expect("state");
        let filter = format!("label=lodge.state={:x}-{:x}", meta.dev(), meta.ino());
        docker(&["ps", "--all", "--quiet", "--no-trunc", "--filter", &filter])
    }

    /// What is left of staging.
    pub fn staged(&self) -> usize {
        fs::read_dir(self.state.join("run")).map_or(0, Iterator::count)
    }
}

/// A running container.
pub struct Guest {
    pub child: Child,
    client: Option<Client>,
    pub plan: Plan,
}

impl Guest {
    pub fn start_command(&self, argv: &[&str]) -> lodge_guest::client::Command {
        let start = Start {
            argv: argv.iter().map(|&word| word.to_owned()).collect(),
            env: self.plan.guest_env.clone(),
            cwd: "/tmp".into(),
            pty: false,
            size: None,
        };
        let client = self.client.as_ref().expect("a running sandbox");
        client.start(&start).expect("command")
    }

    pub fn run(&self, argv: &[&str]) -> Output {
        self.start_command(argv)
            .wait_with_output(CAP, DEADLINE)
            .unwrap_or_else(|error| panic!("{argv:?}: {error}"))
    }

    /// Standard output and error of a script, and its exit code.
    pub fn sh(&self, script: &str) -> (String, Option<i32>) {
        let output = self.run(&["sh", "-c", &format!("exec 2>&1; {script}")]);
        let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        (text, output.exit.code)
    }

    /// Hangs up and waits for the launcher.
    pub fn end(mut self) -> std::process::ExitStatus {
        self.client = None;
        self.child.wait().expect("lodge-tier")
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.client = None;
        let _ = self.child.wait();
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
pub fn processes_with(mark: &str) -> usize {
    let of = |entry: fs::DirEntry| {
        let _: u32 = entry.file_name().to_str()?.parse().ok()?;
        let line = fs::read(entry.path().join("cmdline")).ok()?;
        String::from_utf8_lossy(&line).contains(mark).then_some(())
    };
    fs::read_dir("/proc")
        .expect("/proc")
        .flatten()
        .filter_map(of)
        .count()
}
