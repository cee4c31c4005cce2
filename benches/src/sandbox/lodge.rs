//! The tiers of Lodge, through the code that sessions go through.

use super::{Resident, Row, pss_of_tree};
use anyhow::Context;
use lodge_guest::client::Client;
use lodge_guest::mux::Start;
use lodge_sandbox::files::{PolicyFiles, Wish};
use lodge_sandbox::launch::{self, Tools};
use lodge_sandbox::plan::{self, Plan, SessionSpec};
use lodge_sandbox::policy::{Profile, Tier};
use lodge_sandbox::view::HostView;
use lodge_sandbox::{bwrap, host};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::rc::Rc;
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(240);
const CAP: usize = 4096;

/// A workspace and what belongs to it.
#[derive(Clone)]
pub(super) struct Scene {
    tools: Tools,
    directory: Rc<tempfile::TempDir>,
    _gateway: Rc<UnixListener>,
}

impl Scene {
    pub(super) fn new(state: &Path) -> anyhow::Result<Self> {
        let directory = tempfile::Builder::new().prefix("lodge-bench-").tempdir()?;
        for name in ["workspace", "home", "gw"] {
            std::fs::create_dir(directory.path().join(name))?;
        }
        let gateway = UnixListener::bind(directory.path().join("gw/gateway.sock"))?;
        let programs = std::env::current_exe()?;
        let programs = programs.parent().context("no directory of programs")?;
        std::fs::create_dir_all(state)?;
        Ok(Self {
            tools: Tools {
                tier_binary: programs.join("lodge-tier"),
                init_binary: programs.join("../guest/lodge-init").canonicalize()?,
                state: state.canonicalize()?,
            },
            directory: Rc::new(directory),
            _gateway: Rc::new(gateway),
        })
    }

    fn gateway_socket(&self) -> anyhow::Result<PathBuf> {
        Ok(self.directory.path().canonicalize()?.join("gw/gateway.sock"))
    }

    /// The plan of a session with the default policy, or with a profile.
    fn plan(&self, tier: Tier) -> anyhow::Result<Plan> {
        let base = self.directory.path().canonicalize()?;
        let wish = Wish {
            profile: Some(Profile::Development),
            tier: Some(tier),
        };
        let spec = SessionSpec {
            workspace: base.join("workspace"),
            private_home: base.join("home"),
            gateway_socket: self.gateway_socket()?,
            harness_roots: Vec::new(),
            init_binary: self.tools.init_binary.clone(),
            uid: rustix::process::getuid().as_raw(),
            gid: rustix::process::getgid().as_raw(),
            session_id: "bench".to_owned(),
        };
        let policy = PolicyFiles::default().load(&spec.workspace, wish)?;
        let view = HostView::probe(&policy, &spec)?;
        Ok(plan::plan(&policy, &spec, &view)?)
    }

    /// bwrap with everything but guest init.
    pub(super) fn bwrap_alone(&self, command: &'static str) -> impl FnMut() -> anyhow::Result<Duration> + 'static {
        let plan = self.plan(Tier::Process);
        let mut plan = plan.map(|mut plan| {
            plan.argv = vec![command.to_owned()];
            plan.init_env.clear();
            plan.network = plan::Network::None;
            plan
        });
        move || {
            let plan = plan.as_mut().map_err(|error| anyhow::anyhow!("{error:#}"))?;
            let bwrap = host::require_process_tier()?;
            let began = Instant::now();
            let (_ours, theirs) = UnixStream::pair()?;
            let status = bwrap::compile(plan, &bwrap)?
                .spawn(theirs.into(), Stdio::inherit())?
                .wait()?;
            let took = began.elapsed();
            anyhow::ensure!(status.success(), "bwrap ended with {status}");
            Ok(took)
        }
    }

    /// The guest image as the engine knows it.
    pub(super) fn engine_image(&self) -> anyhow::Result<String> {
        let warm = Warm::start(self, Tier::Container)?;
        drop(warm);
        lodge_image::current(&self.tools.state)?
            .context("no guest image: lodge image build")?
            .engine_id()
            .context("the image has no container form")
    }
}

/// A sandbox that is up.
struct Warm {
    client: Option<Client>,
    child: Child,
    plan: Plan,
    /// The lock on what was made in the workspace for it.
    _hold: Option<std::os::fd::OwnedFd>,
}

impl Warm {
    fn start(scene: &Scene, tier: Tier) -> anyhow::Result<Self> {
        Self::start_plan(scene, scene.plan(tier)?)
    }

    fn start_plan(scene: &Scene, plan: Plan) -> anyhow::Result<Self> {
        let (ours, theirs) = UnixStream::pair()?;
        let mut command = launch::compile(&plan, &scene.tools, &scene.gateway_socket()?)?;
        let mut child = command.spawn(theirs.into(), Stdio::inherit())?;
        match Client::new(ours.into(), PATIENCE) {
            Ok(client) => Ok(Self {
                client: Some(client),
                child,
                plan,
                _hold: command.hold.take(),
            }),
            Err(error) => {
                child.kill()?;
                child.wait()?;
                Err(error.into())
            }
        }
    }

    fn client(&self) -> anyhow::Result<&Client> {
        self.client.as_ref().context("the sandbox has ended")
    }

    fn start_of(&self, argv: &[&str]) -> Start {
        Start {
            argv: argv.iter().map(ToString::to_string).collect(),
            env: self.plan.guest_env.clone(),
            cwd: self.plan.workspace.to_string_lossy().into_owned(),
            pty: false,
            size: None,
        }
    }

    fn run_true(&self) -> anyhow::Result<Duration> {
        let began = Instant::now();
        let command = self.client()?.start(&self.start_of(&["/bin/true"]))?;
        let output = command.wait_with_output(CAP, PATIENCE)?;
        let took = began.elapsed();
        anyhow::ensure!(output.exit.code == Some(0), "true ended with {:?}", output.exit);
        Ok(took)
    }

    /// Everything of it is gone when this returns.
    fn end(mut self) -> anyhow::Result<()> {
        if let Some(client) = self.client.take() {
            drop(client);
        }
        self.child.wait()?;
        Ok(())
    }
}

impl Drop for Warm {
    fn drop(&mut self) {
        drop(self.client.take());
        let _ = self.child.wait();
    }
}

fn start_true_end(scene: &Scene, tier: Tier) -> anyhow::Result<Duration> {
    let plan = scene.plan(tier)?;
    let began = Instant::now();
    let warm = Warm::start_plan(scene, plan)?;
    warm.run_true()?;
    warm.end()?;
    Ok(began.elapsed())
}

/// Rows that take turns with those of the others.
pub(super) fn rows(scene: &Scene) -> Vec<Row> {
    let start = |tier| {
        let scene = scene.clone();
        move || start_true_end(&scene, tier)
    };
    let warm = |name, every, tier| match Warm::start(scene, tier) {
        Ok(warm) => Row::new(name, every, move || warm.run_true()),
        Err(error) => Row::absent(name, &error),
    };
    vec![
        Row::new("process tier", 1, start(Tier::Process)),
        Row::new("container tier", 5, start(Tier::Container)),
        Row::new("microVM from snapshot", 5, start(Tier::Microvm)),
        warm("command in a warm process sandbox", 1, Tier::Process),
        warm("command in a warm container", 1, Tier::Container),
        warm("command in a warm microVM", 1, Tier::Microvm),
    ]
}

pub(super) fn resident(scene: &Scene) -> Vec<Resident> {
    let tiers = [
        ("process tier", Tier::Process),
        ("container tier (lodge-tier, without the engine's shim)", Tier::Container),
        ("microVM from snapshot", Tier::Microvm),
    ];
    let measure = |(name, tier)| Resident {
        name,
        pss_kib: idle(scene, tier),
    };
    tiers.into_iter().map(measure).collect()
}

/// Memory of a sandbox in which `sleep` runs.
fn idle(scene: &Scene, tier: Tier) -> anyhow::Result<u64> {
    let warm = Warm::start(scene, tier)?;
    let _sleeping = warm.client()?.start(&warm.start_of(&["/bin/sleep", "60"]))?;
    warm.run_true()?;
    Ok(pss_of_tree(warm.child.id()))
}
