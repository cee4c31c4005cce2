//! Times starts of the microVM tier: `cargo run --release -p lodge-tier --example start -- STATE INIT TIER N`.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};

use lodge_guest::client::Client;
use lodge_guest::mux::Start;
use lodge_sandbox::launch::{self, Tools};
use lodge_sandbox::plan::{SessionSpec, plan};
use lodge_sandbox::policy::{Policy, Profile, Tier};
use lodge_sandbox::view::HostView;

const PATIENCE: Duration = Duration::from_mins(5);

fn main() {
    let arguments: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    let [state, init, tier, count] = arguments.as_slice() else {
        panic!("STATE INIT TIER N");
    };
    let root = tempfile::tempdir().unwrap();
    let root = root.path().canonicalize().unwrap();
    for name in ["workspace", "home"] {
        fs::create_dir(root.join(name)).unwrap();
    }
    let socket = root.join("gateway.sock");
    let _gateway = UnixListener::bind(&socket).unwrap();
    let spec = SessionSpec {
        workspace: root.join("workspace"),
        private_home: root.join("home"),
        gateway_socket: socket.clone(),
        harness_roots: Vec::new(),
        init_binary: init.canonicalize().unwrap(),
        uid: rustix::process::getuid().as_raw(),
        gid: rustix::process::getgid().as_raw(),
        session_id: "example".into(),
    };
    let mut policy = Policy::of(Profile::Development);
    policy.tier = Tier::Microvm;
    let plan = plan(&policy, &spec, &HostView::probe(&policy, &spec).unwrap()).unwrap();
    let tools = Tools {
        tier_binary: tier.canonicalize().unwrap(),
        init_binary: init.clone(),
        state: state.canonicalize().unwrap(),
    };
    let start = Start {
        argv: vec!["/bin/true".into()],
        env: plan.guest_env.clone(),
        cwd: "/".into(),
        pty: false,
        size: None,
    };
    for _ in 0..count.to_str().unwrap().parse().unwrap() {
        let begin = Instant::now();
        let (ours, theirs) = UnixStream::pair().unwrap();
        let mut command = launch::compile(&plan, &tools, &socket).unwrap();
        let mut child = command.spawn(OwnedFd::from(theirs), Stdio::inherit()).unwrap();
        let client = Client::new(ours.into(), PATIENCE).unwrap_or_else(|error| panic!("{error}"));
        let hello = begin.elapsed();
        let run = || {
            client
                .start(&start)
                .unwrap()
                .wait_with_output(1 << 20, PATIENCE)
                .unwrap()
        };
        run();
        let first = begin.elapsed();
        let again = Instant::now();
        run();
        let second = again.elapsed();
        drop(client);
        child.wait().unwrap();
        let whole = begin.elapsed();
        println!("hello {hello:.1?}, first command {first:.1?}, next {second:.1?}, whole {whole:.1?}");
    }
}
