//! Where the programs of an installation run: in the process tier, with a home of their own, without network or with
//! reach to one registry.

use super::{InstallError, Registry};
use lodge_guest::client::{Client, ClientError, Command, Event};
use lodge_guest::mux::{Exit, Start};
use lodge_sandbox::launch::{self, Tools};
use lodge_sandbox::plan::{self, Plan, SessionSpec};
use lodge_sandbox::policy::{Net, Policy, Profile, Tier, Unlisted};
use lodge_sandbox::view::HostView;
use std::any::Any;
use std::collections::BTreeSet;
use std::fmt;
use std::fs::{DirBuilder, File};
use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// Time the sandbox has to come up.
const PATIENCE: Duration = Duration::from_secs(20);
/// Time what is left in it has to end.
const END: Duration = Duration::from_secs(5);
/// How often it is asked whether to go on.
const TICK: Duration = Duration::from_millis(50);
/// The signal KILL.
const KILLED: i32 = 9;
/// Guest init's name among Lodge's programs.
const INIT: &str = "lodge-init";

/// Serves the way out of a sandbox: the egress broker, from whoever has it.
pub trait WayOut: fmt::Debug + Send + Sync {
    /// Lets those who connect to `listener` reach the registry and nothing else, until the returned value is dropped.
    /// The registry may have a private address: the host's own settings name it.
    fn serve(&self, listener: UnixListener, registry: &Registry) -> std::io::Result<Box<dyn Any + Send>>;
}

/// How a program that was waited for came to its end.
#[derive(Debug)]
pub(super) enum Ended {
    Exit(ExitStatus),
    Deadline,
    Cancelled,
}

/// One program in a sandbox of its own.
pub(super) struct Confined<'a> {
    /// What is installed, for messages.
    pub(super) name: &'a str,
    /// For the home and the socket; not seen by the program.
    pub(super) staging: &'a Path,
    /// Where it works, and may write.
    pub(super) workspace: &'a Path,
    /// Further places it may write to.
    pub(super) writable: &'a [PathBuf],
    /// Trees that it sees, and may not write to.
    pub(super) roots: Vec<PathBuf>,
    pub(super) argv: Vec<String>,
    /// Folders of programs besides the system's.
    pub(super) path: Vec<PathBuf>,
    pub(super) network: Option<(&'a Registry, &'a dyn WayOut)>,
}

/// Where output goes.
pub(super) struct Outputs<'a> {
    pub(super) out: &'a File,
    pub(super) err: &'a File,
}

impl Confined<'_> {
    /// Runs it until it ends, its time is over, or `stop` says so; nothing of it is left then.
    pub(super) fn run(
        &self,
        outputs: &Outputs<'_>,
        deadline: Duration,
        stop: &mut dyn FnMut() -> bool,
    ) -> Result<Ended, InstallError> {
        let deadline = Instant::now() + deadline;
        let boxed = tempfile::Builder::new()
            .prefix("box-")
            .tempdir_in(self.staging)
            .map_err(InstallError::io("making a folder in", self.staging))?;
        let (home, gw) = (boxed.path().join("home"), boxed.path().join("gw"));
        for folder in [&home, &gw] {
            let made = DirBuilder::new().mode(0o700).create(folder);
            made.map_err(InstallError::io("making", folder))?;
        }
        let socket = gw.join("gateway.sock");
        let listener = lodge_proto::sock::bind(&socket).map_err(|error| self.unavailable(&error))?;
        // Without a network nobody serves the socket.
        let served = match self.network {
            Some((registry, way_out)) => {
                write_settings(&home, registry)?;
                let served = way_out.serve(listener, registry);
                Some(served.map_err(|error| self.unavailable(&error))?)
            }
            None => None,
        };
        let plan = self.plan(&home, &socket)?;
        let sandbox = self.start(&plan, &socket, outputs)?;
        let ended = self.follow(&sandbox, &plan, outputs, deadline, stop);
        sandbox.end();
        drop(served);
        ended
    }

    fn unavailable(&self, error: &(dyn std::error::Error + 'static)) -> InstallError {
        InstallError::Sandbox {
            name: self.name.to_owned(),
            reason: crate::shared::chain(error),
        }
    }

    fn plan(&self, home: &Path, socket: &Path) -> Result<Plan, InstallError> {
        let mut policy = Policy::of(Profile::Development);
        policy.tier = Tier::Process;
        // The tree is Lodge's own: nothing in it is a user's control file.
        policy.fs.protect = BTreeSet::new();
        policy.fs.write = self.writable.iter().cloned().collect();
        policy.net = match self.network {
            None => Net::None,
            Some((registry, _)) => Net::Broker {
                allow: [registry.host.clone()].into(),
                deny: BTreeSet::new(),
                ports: [registry.port].into(),
                unlisted: Unlisted::Deny,
            },
        };
        let init = init_binary().ok_or_else(|| InstallError::Sandbox {
            name: self.name.to_owned(),
            reason: format!(
                "the program {INIT} is missing beside this one; in a source tree: scripts/build-guest"
            ),
        })?;
        let spec = SessionSpec {
            workspace: self.workspace.to_owned(),
            private_home: home.to_owned(),
            gateway_socket: socket.to_owned(),
            harness_roots: self.roots.clone(),
            init_binary: init,
            uid: rustix::process::getuid().as_raw(),
            gid: rustix::process::getgid().as_raw(),
            session_id: "install".to_owned(),
        };
        let view = HostView::probe(&policy, &spec).map_err(|error| self.unavailable(&error))?;
        plan::plan(&policy, &spec, &view).map_err(|error| self.unavailable(&error))
    }

    fn start(&self, plan: &Plan, socket: &Path, outputs: &Outputs<'_>) -> Result<Sandbox, InstallError> {
        // The process tier needs no programs. Nothing is held in a workspace, so the state goes with this one sandbox.
        let tools = Tools {
            tier_binary: PathBuf::new(),
            init_binary: PathBuf::new(),
            state: socket.with_file_name("state"),
        };
        let mut command = launch::compile(plan, &tools, socket).map_err(|error| self.unavailable(&error))?;
        let hold = command.hold.take();
        let (ours, theirs) = UnixStream::pair().map_err(|error| self.unavailable(&error))?;
        let errors = outputs
            .err
            .try_clone()
            .map_err(|error| self.unavailable(&error))?;
        let spawned = command.spawn(theirs.into(), Stdio::from(errors));
        let mut child = spawned.map_err(|error| self.unavailable(&error))?;
        match Client::new(ours.into(), PATIENCE) {
            Ok(client) => Ok(Sandbox {
                client,
                child,
                _hold: hold,
            }),
            Err(error) => {
                lodge_sandbox::spawn::kill(&child);
                let _ = child.wait();
                Err(self.unavailable(&error))
            }
        }
    }

    fn follow(
        &self,
        sandbox: &Sandbox,
        plan: &Plan,
        outputs: &Outputs<'_>,
        deadline: Instant,
        stop: &mut dyn FnMut() -> bool,
    ) -> Result<Ended, InstallError> {
        let start = Start {
            argv: self.argv.clone(),
            env: self.env(plan),
            cwd: self.workspace.to_string_lossy().into_owned(),
            pty: false,
            size: None,
        };
        let command = sandbox
            .client
            .start(&start)
            .map_err(|error| self.unavailable(&error))?;
        let _ = command.close_stdin();
        loop {
            if stop() {
                return Ok(Ended::Cancelled);
            }
            if Instant::now() >= deadline {
                return Ok(Ended::Deadline);
            }
            if let Some(ended) = self.next(&command, outputs)? {
                return Ok(ended);
            }
        }
    }

    /// The next thing it does, if it does something within a moment.
    fn next(&self, command: &Command, outputs: &Outputs<'_>) -> Result<Option<Ended>, InstallError> {
        let written = |mut file: &File, bytes: &[u8]| {
            file.write_all(bytes)
                .map_err(InstallError::io("writing the output in", self.staging))
        };
        match command.next_event_before(Instant::now() + TICK) {
            None => Ok(None),
            Some(Event::Stdout(bytes)) => written(outputs.out, &bytes).map(|()| None),
            Some(Event::Stderr(bytes)) => written(outputs.err, &bytes).map(|()| None),
            Some(Event::Exit(exit)) => Ok(Some(Ended::Exit(status(exit)))),
            Some(Event::Limit(limit)) => Err(self.unavailable(&ClientError::Limit(limit))),
            Some(Event::StartFailed(failed)) => Err(self.unavailable(&ClientError::StartFailed(failed))),
            Some(Event::Gone) => Err(self.unavailable(&ClientError::Gone)),
        }
    }

    fn env(&self, plan: &Plan) -> Vec<(String, String)> {
        let mut env = plan.guest_env.clone();
        let own: Vec<String> = self
            .path
            .iter()
            .map(|path| path.to_string_lossy().into_owned())
            .collect();
        for (name, value) in &mut env {
            match name.as_str() {
                "PATH" if !own.is_empty() => *value = format!("{}:{value}", own.join(":")),
                // Even a registry on this machine is behind the way out.
                "NO_PROXY" | "no_proxy" => value.clear(),
                _ => {}
            }
        }
        env
    }
}

/// npm's own files, in the home it has inside.
fn write_settings(home: &Path, registry: &Registry) -> Result<(), InstallError> {
    let settings = registry.settings();
    let mut files = vec![(".npmrc", settings.npmrc)];
    files.extend(settings.certificates.map(|text| ("ca.pem", text)));
    for (name, text) in files {
        let path = home.join(name);
        let written = File::options()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)
            .and_then(|mut file| file.write_all(text.as_bytes()));
        written.map_err(InstallError::io("writing", &path))?;
    }
    Ok(())
}

/// A sandbox that runs.
struct Sandbox {
    client: Client,
    child: Child,
    _hold: Option<OwnedFd>,
}

impl Sandbox {
    /// Ends what is left in it, and waits until nothing is.
    fn end(mut self) {
        let _ = self.client.shutdown(END);
        let _ = self.child.wait();
    }
}

fn status(exit: Exit) -> ExitStatus {
    match (exit.code, exit.signal) {
        (Some(code), _) => ExitStatus::from_raw((code & 0xff) << 8),
        // An end that nobody can tell anything of is no success.
        (None, signal) => ExitStatus::from_raw(signal.unwrap_or(KILLED) & 0x7f),
    }
}

/// Guest init: beside this program, or where scripts/build-guest puts it in a build tree.
fn init_binary() -> Option<PathBuf> {
    let own = std::env::current_exe().ok()?;
    let programs = own.parent()?;
    let places = [
        INIT.to_owned(),
        format!("../guest/{INIT}"),
        format!("../../guest/{INIT}"),
    ];
    let found = places
        .iter()
        .map(|place| programs.join(place))
        .find(|path| path.is_file());
    found?.canonicalize().ok()
}
