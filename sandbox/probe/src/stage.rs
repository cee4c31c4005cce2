//! A scene with a sandbox in it: starting it, running the program inside, ending it.

use std::collections::BTreeSet;
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use lodge_guest::client::{Client, ClientError, Output};
use lodge_guest::mux::{Limit, Start};
use lodge_sandbox::bwrap::SandboxCommand;
use lodge_sandbox::launch::{self, Tools};
use lodge_sandbox::placeholder;
use lodge_sandbox::plan::{Plan, SessionSpec, plan};
use lodge_sandbox::policy::{Net, Policy, Tier, Unlisted};
use lodge_sandbox::view::HostView;

use serde::{Deserialize, Serialize};

use crate::broker::{Broker, BrokerRequest, BrokerSession};
use crate::check::Options;
use crate::facts::{BoundsFacts, GuestReport, PROGRAM};
use crate::listeners::bind_long;
use crate::scene::{Scene, SceneError, random};
use crate::upstream::Upstream;

/// Output of one run inside that is kept: more than the bound under which it runs, so that the bound is what is met.
const CAP: usize = 80 << 20;

/// Why a stage could not be set up; for probes that want a refusal, the refusal.
#[derive(Debug, thiserror::Error)]
pub enum StageError {
    #[error("{0}")]
    Scene(#[from] SceneError),
    #[error("{0}")]
    View(#[from] lodge_sandbox::view::ViewError),
    #[error("{0}")]
    Plan(#[from] lodge_sandbox::plan::PlanError),
    #[error("{0}")]
    Start(#[from] lodge_sandbox::SandboxError),
    #[error("{source}{}", said(.stderr))]
    Client { source: ClientError, stderr: String },
    #[error("the broker cannot be opened: {0}")]
    Broker(String),
    #[error("{0}")]
    Io(#[from] std::io::Error),
}

fn said(stderr: &str) -> String {
    let text = stderr.trim();
    if text.is_empty() {
        String::new()
    } else {
        format!(": {text}")
    }
}

/// How long a start may take; an emulated machine boots slowly on a loaded host.
pub(crate) fn patience(tier: Tier) -> Duration {
    Duration::from_secs(match tier {
        Tier::Process => 30,
        Tier::Container => 120,
        Tier::Microvm => 300,
    })
}

/// A scene, and what a session would bring besides.
pub(crate) struct Set {
    pub(crate) scene: Scene,
    pub(crate) spec: SessionSpec,
    pub(crate) broker: Option<Box<dyn BrokerSession>>,
    _upstream: Option<Upstream>,
    _listener: Option<UnixListener>,
}

impl Set {
    /// A scene without a sandbox yet; `allow` are the names the broker lets through, if there is a broker.
    pub(crate) fn new(
        options: &Options<'_>,
        bounds: BoundsFacts,
        allow: &[String],
    ) -> Result<Self, StageError> {
        let parent = options.scene_parent.clone().unwrap_or_else(std::env::temp_dir);
        let mut scene = Scene::new(&parent, &options.program, bounds)?;
        let listener = bind_long(&scene.facts.gateway)?;
        let (broker, upstream, listener) = match options.broker {
            Some(broker) => {
                let upstream = Upstream::new()?;
                let session = open(broker, &mut scene, &upstream, listener, allow)?;
                (Some(session), Some(upstream), None)
            }
            None => (None, None, Some(listener)),
        };
        let (uid, gid) = (
            rustix::process::getuid().as_raw(),
            rustix::process::getgid().as_raw(),
        );
        let spec = SessionSpec {
            workspace: scene.facts.workspace.clone(),
            private_home: scene.private_home(),
            gateway_socket: scene.facts.gateway.clone(),
            harness_roots: vec![scene.harness_root()],
            init_binary: options.tools.init_binary.clone(),
            uid,
            gid,
            session_id: format!("probe-{}", &scene.facts.token[5..17]),
        };
        Ok(Self {
            scene,
            spec,
            broker,
            _upstream: upstream,
            _listener: listener,
        })
    }

    pub(crate) fn plan(&self, policy: &Policy) -> Result<Plan, StageError> {
        let view = HostView::probe(policy, &self.spec)?;
        Ok(plan(policy, &self.spec, &view)?)
    }

    pub(crate) fn start(&self, policy: &Policy, tools: &Tools) -> Result<Sandbox, StageError> {
        Sandbox::start(self.plan(policy)?, tools, &self.spec.gateway_socket)
    }
}

fn open(
    broker: &dyn Broker,
    scene: &mut Scene,
    upstream: &Upstream,
    listener: UnixListener,
    allow: &[String],
) -> Result<Box<dyn BrokerSession>, StageError> {
    let provider_key = format!("sk-provider-{}", random());
    scene.canaries.push(provider_key.clone());
    let session = broker
        .open(BrokerRequest {
            listener,
            allow: allow.to_vec(),
            ports: vec![80, 443],
            names: Upstream::names(),
            reroute: upstream.reroute(),
            provider_key,
        })
        .map_err(StageError::Broker)?;
    scene.facts.broker = Some(Upstream::facts(session.key(), session.foreign_key()));
    Ok(session)
}

/// Lets the policy's network be the scene's: a guest of `strict` keeps none.
pub(crate) fn with_names(mut policy: Policy) -> Policy {
    if matches!(policy.net, Net::Broker { .. }) {
        policy.net = Net::Broker {
            allow: Upstream::allow().into_iter().collect(),
            deny: BTreeSet::new(),
            ports: [80, 443].into(),
            unlisted: Unlisted::Deny,
        };
    }
    policy
}

/// A running sandbox.
#[derive(Debug)]
pub(crate) struct Sandbox {
    client: Option<Client>,
    child: Child,
    /// Holds what was made in the workspace for as long as it is there.
    command: Option<SandboxCommand>,
    pub(crate) plan: Plan,
    pub(crate) since: Instant,
    state: PathBuf,
}

/// What one run inside gave.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) result: Result<Output, ClientError>,
}

impl Ran {
    /// Everything that came out.
    pub(crate) fn output(&self) -> Vec<u8> {
        match &self.result {
            Ok(output) => [&output.stdout[..], &output.stderr[..]].concat(),
            Err(_) => Vec::new(),
        }
    }

    pub(crate) fn report(&self) -> Option<GuestReport> {
        parse_report(&self.result.as_ref().ok()?.stdout)
    }

    /// How it ended, when it ended without a report, and whether that was at a bound.
    pub(crate) fn ended(&self, limit: Option<Limit>) -> (Option<String>, bool) {
        if let Some(limit) = limit {
            return (
                Some(format!(
                    "{} crossed: {} allowed, {} found",
                    limit.key, limit.allowed, limit.found
                )),
                true,
            );
        }
        match &self.result {
            Ok(output) => {
                let text = String::from_utf8_lossy(&output.stderr);
                let tail: String = text
                    .chars()
                    .rev()
                    .take(200)
                    .collect::<Vec<_>>()
                    .into_iter()
                    .rev()
                    .collect();
                (
                    Some(format!("{:?} {}", output.exit, tail.trim())),
                    output.exit.signal.is_some(),
                )
            }
            Err(error) => (Some(error.to_string()), matches!(error, ClientError::Limit(_))),
        }
    }
}

/// The report line among whatever else was printed.
pub(crate) fn parse_report(stdout: &[u8]) -> Option<GuestReport> {
    let lines = stdout.split(|&byte| byte == b'\n').rev();
    lines
        .into_iter()
        .find_map(|line| serde_json::from_slice(line.trim_ascii()).ok())
}

impl Sandbox {
    pub(crate) fn start(plan: Plan, tools: &Tools, gateway: &Path) -> Result<Self, StageError> {
        let (ours, theirs) = UnixStream::pair()?;
        let mut command = launch::compile(&plan, tools, gateway)?;
        let mut child = command.spawn(OwnedFd::from(theirs), Stdio::piped())?;
        match Client::new(OwnedFd::from(ours), patience(plan.tier)) {
            Ok(client) => Ok(Self {
                client: Some(client),
                child,
                command: Some(command),
                plan,
                since: Instant::now(),
                state: tools.state.clone(),
            }),
            Err(source) => {
                drop(command);
                // It may still be about to say why.
                let deadline = Instant::now() + Duration::from_secs(2);
                while Instant::now() < deadline && matches!(child.try_wait(), Ok(None)) {
                    std::thread::sleep(Duration::from_millis(2));
                }
                let _ = child.kill();
                let stderr = child
                    .wait_with_output()
                    .map(|output| output.stderr)
                    .unwrap_or_default();
                let _ = placeholder::sweep(&tools.state);
                Err(StageError::Client {
                    source,
                    stderr: String::from_utf8_lossy(&stderr).into_owned(),
                })
            }
        }
    }

    /// Runs a command in the workspace and waits for its end.
    pub(crate) fn run(&self, argv: &[&str], pty: bool, limit: Duration) -> Ran {
        let start = Start {
            argv: argv.iter().map(|&word| word.to_owned()).collect(),
            env: self.plan.guest_env.clone(),
            cwd: self.plan.workspace.display().to_string(),
            pty,
            size: None,
        };
        let result = match &self.client {
            Some(client) => client
                .start(&start)
                .and_then(|command| command.wait_with_output(CAP, limit)),
            None => Err(ClientError::Gone),
        };
        Ran { result }
    }

    /// Runs the attack of one probe.
    pub(crate) fn attack(&self, id: &str, facts: &Path, pty: bool, limit: Duration) -> Ran {
        let program = self.plan.workspace.join(PROGRAM).display().to_string();
        self.run(&[&program, "run", id, &facts.display().to_string()], pty, limit)
    }

    pub(crate) fn limit(&self) -> Option<Limit> {
        self.client.as_ref()?.limit()
    }

    pub(crate) fn ended(&self) -> bool {
        self.client.as_ref().is_none_or(Client::ended)
    }

    /// Process on the host that the sandbox hangs on.
    pub(crate) fn launcher(&self) -> u32 {
        self.child.id()
    }

    /// Kills the launcher without a word.
    pub(crate) fn kill_launcher(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        drop(self.command.take());
    }

    /// Ends it as Lodge does at the end of a session.
    pub(crate) fn end(mut self) {
        self.finish();
    }

    fn finish(&mut self) {
        if let Some(client) = self.client.take() {
            let _ = client.shutdown(Duration::from_secs(10));
        }
        let deadline = Instant::now() + Duration::from_secs(10);
        while Instant::now() < deadline && matches!(self.child.try_wait(), Ok(None)) {
            std::thread::sleep(Duration::from_millis(2));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
        drop(self.command.take());
        let _ = placeholder::sweep(&self.state);
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        self.finish();
    }
}

/// What [`try_start`] reads.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct StartRequest {
    pub(crate) plan: Plan,
    pub(crate) tools: Tools,
    pub(crate) gateway_socket: PathBuf,
}

/// Starts the sandbox of a written request and ends it again.
pub fn try_start(request: &Path) -> Result<(), StageError> {
    let text = std::fs::read(request)?;
    let request: StartRequest = serde_json::from_slice(&text).map_err(std::io::Error::from)?;
    Sandbox::start(request.plan, &request.tools, &request.gateway_socket)?.end();
    Ok(())
}
