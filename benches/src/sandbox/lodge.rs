//! The tiers of Lodge, through the code that sessions go through.

use super::{Resident, Row, pss_of_tree};
use anyhow::Context;
use lodge_guest::client::Client;
use lodge_guest::mux::Start;
use lodge_sandbox::files::{PolicyFiles, Wish};
use lodge_sandbox::launch::{self, Tools};
use lodge_sandbox::plan::{self, Plan, SessionSpec};
use lodge_sandbox::policy::{Net, Profile, Tier};
use lodge_sandbox::view::HostView;
use lodge_sandbox::{bwrap, host, placeholder, spawn};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::rc::Rc;
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_mins(4);
const CAP: usize = 4096;

/// What is started.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wanted {
    tier: Tier,
    /// Whether it has the way out through the broker that the default profile has, with init's name server and
    /// listeners, or none.
    broker: bool,
    /// Whether a machine may start from a snapshot.
    snapshot: bool,
}

impl Wanted {
    const fn of(tier: Tier) -> Self {
        Self {
            tier,
            broker: true,
            snapshot: true,
        }
    }
}

const PROCESS: Wanted = Wanted::of(Tier::Process);
const PROCESS_ALONE: Wanted = Wanted {
    broker: false,
    ..PROCESS
};
const CONTAINER: Wanted = Wanted::of(Tier::Container);
const MICROVM: Wanted = Wanted::of(Tier::Microvm);
const MICROVM_COLD: Wanted = Wanted {
    snapshot: false,
    ..MICROVM
};

/// A workspace and what belongs to it.
#[derive(Clone)]
pub(super) struct Scene {
    tools: Tools,
    /// The same with a state in which no snapshot can be kept: a file is where they would be.
    cold_tools: Tools,
    directory: Rc<tempfile::TempDir>,
    _gateway: Rc<UnixListener>,
}

impl Scene {
    pub(super) fn new(state: &Path, init: &Path) -> anyhow::Result<Self> {
        let directory = tempfile::Builder::new().prefix("lodge-bench-").tempdir()?;
        for name in ["workspace", "home", "gw"] {
            std::fs::create_dir(directory.path().join(name))?;
        }
        let gateway = UnixListener::bind(directory.path().join("gw/gateway.sock"))?;
        let programs = std::env::current_exe()?;
        let programs = programs.parent().context("no directory of programs")?;
        std::fs::create_dir_all(state)?;
        let tools = Tools {
            tier_binary: programs.join("lodge-tier"),
            init_binary: init
                .canonicalize()
                .with_context(|| format!("guest init, {}", init.display()))?,
            state: state.canonicalize()?,
        };
        let cold = directory.path().join("cold");
        std::fs::create_dir(&cold)?;
        std::os::unix::fs::symlink(tools.state.join("images"), cold.join("images"))?;
        std::fs::write(cold.join("snapshots"), "")?;
        Ok(Self {
            cold_tools: Tools {
                state: cold,
                ..tools.clone()
            },
            tools,
            directory: Rc::new(directory),
            _gateway: Rc::new(gateway),
        })
    }

    fn gateway_socket(&self) -> anyhow::Result<PathBuf> {
        Ok(self.directory.path().canonicalize()?.join("gw/gateway.sock"))
    }

    /// The plan of a session with the default profile.
    fn plan(&self, wanted: Wanted) -> anyhow::Result<Plan> {
        let base = self.directory.path().canonicalize()?;
        let wish = Wish {
            profile: Some(Profile::Development),
            tier: Some(wanted.tier),
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
        let mut policy = PolicyFiles::default().load(&spec.workspace, wish)?;
        if !wanted.broker {
            policy.net = Net::None;
        }
        let view = HostView::probe(&policy, &spec)?;
        Ok(plan::plan(&policy, &spec, &view)?)
    }

    /// bwrap with everything but guest init.
    pub(super) fn bwrap_alone(
        &self,
        command: &'static str,
    ) -> impl FnMut() -> anyhow::Result<Duration> + 'static {
        let mut plan = self.plan(PROCESS_ALONE).map(|mut plan| {
            plan.argv = vec![command.to_owned()];
            plan.init_env.clear();
            // Guest init's part of the view.
            let covered = plan.walls.covered.iter().map(PathBuf::from);
            plan.mounts.extend(covered.flat_map(plan::empty_directory));
            plan
        });
        let state = self.tools.state.clone();
        move || {
            let plan = plan.as_mut().map_err(|error| anyhow::anyhow!("{error:#}"))?;
            let bwrap = host::require_process_tier()?;
            // The stand-ins that are mounted over are there already, unlike in Lodge's own rows.
            let hold = placeholder::acquire(&state, &plan.workspace, &plan.placeholders)?;
            let began = Instant::now();
            let (_ours, theirs) = UnixStream::pair()?;
            let status = bwrap::compile(plan, &bwrap)?
                .spawn(theirs.into(), Stdio::inherit())?
                .wait()?;
            let took = began.elapsed();
            drop(hold);
            placeholder::sweep(&state)?;
            anyhow::ensure!(status.success(), "bwrap ended with {status}");
            Ok(took)
        }
    }

    /// What making a plan takes: the policy's files, a look at the machine and the workspace.
    fn plan_alone(&self) -> anyhow::Result<Duration> {
        let began = Instant::now();
        self.plan(PROCESS)?;
        Ok(began.elapsed())
    }

    /// The guest image as the engine knows it.
    pub(super) fn engine_image(&self) -> anyhow::Result<String> {
        // The container tier loads it where the engine does not have it.
        Warm::start(self, CONTAINER)?.end()?;
        Ok(lodge_image::current(&self.tools.state)?.manifest.container.tag)
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
    fn start(scene: &Scene, wanted: Wanted) -> anyhow::Result<Self> {
        let plan = scene.plan(wanted)?;
        Self::start_plan(scene, plan, wanted)
    }

    fn start_plan(scene: &Scene, plan: Plan, wanted: Wanted) -> anyhow::Result<Self> {
        Self::start_watched(scene, plan, wanted, &mut Watch::new())
    }

    fn start_watched(scene: &Scene, plan: Plan, wanted: Wanted, watch: &mut Watch) -> anyhow::Result<Self> {
        let (ours, theirs) = UnixStream::pair()?;
        // A cold start says on standard error that there is no snapshot.
        let (tools, stderr) = if wanted.snapshot {
            (&scene.tools, Stdio::inherit())
        } else {
            (&scene.cold_tools, Stdio::null())
        };
        let mut command = launch::compile(&plan, tools, &scene.gateway_socket()?)?;
        watch.passed();
        let mut child = command.spawn(theirs.into(), stderr)?;
        watch.passed();
        let client = Client::new(ours.into(), PATIENCE);
        watch.passed();
        match client {
            Ok(client) => Ok(Self {
                client: Some(client),
                child,
                plan,
                _hold: command.hold.take(),
            }),
            Err(error) => {
                spawn::kill(&child);
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

/// When the stages of one run were passed.
struct Watch(Vec<Instant>);

impl Watch {
    fn new() -> Self {
        Self(vec![Instant::now()])
    }

    fn passed(&mut self) {
        self.0.push(Instant::now());
    }

    fn stages(&self) -> Vec<Duration> {
        self.0.windows(2).map(|pair| pair[1] - pair[0]).collect()
    }
}

/// The stages of a run, in their order.
const STAGES: [&str; 5] = [
    "making the command: placeholders, options, descriptors",
    "fork and exec of it",
    "until guest init says hello",
    "`true` in it",
    "until all of it has ended",
];

fn start_true_end(scene: &Scene, wanted: Wanted) -> anyhow::Result<Vec<Duration>> {
    let plan = scene.plan(wanted)?;
    let mut watch = Watch::new();
    let warm = Warm::start_watched(scene, plan, wanted, &mut watch)?;
    warm.run_true()?;
    watch.passed();
    warm.end()?;
    watch.passed();
    // As a runner does after a sandbox.
    placeholder::sweep(&scene.tools.state)?;
    Ok(watch.stages())
}

/// Rows that take turns with those of the others.
pub(super) fn rows(scene: &Scene) -> Vec<Row> {
    let start = |name, every, wanted| {
        let scene = scene.clone();
        Row::in_stages(name, every, &STAGES, move || start_true_end(&scene, wanted))
    };
    let warm = |name, wanted| {
        let scene = scene.clone();
        let mut warm = None;
        Row::new(name, 1, move || {
            let warm = match &mut warm {
                Some(warm) => warm,
                cold => cold.insert(Warm::start(&scene, wanted)?),
            };
            warm.run_true()
        })
    };
    let planning = scene.clone();
    vec![
        Row::new("making a plan", 1, move || planning.plan_alone()),
        start("process tier, no network", 1, PROCESS_ALONE),
        start("process tier, broker", 1, PROCESS),
        start("container tier", 5, CONTAINER),
        start("microVM, cold", 20, MICROVM_COLD),
        start("microVM from snapshot", 5, MICROVM),
        warm("command in a warm process sandbox", PROCESS),
        warm("command in a warm container", CONTAINER),
        warm("command in a warm microVM", MICROVM),
    ]
}

pub(super) fn resident(scene: &Scene) -> Vec<Resident> {
    let tiers = [
        ("process tier", PROCESS),
        (
            "container tier (lodge-tier, without the engine's shim)",
            CONTAINER,
        ),
        ("microVM from snapshot", MICROVM),
    ];
    let measure = |(name, wanted)| Resident::new(name, || idle(scene, wanted));
    tiers.into_iter().map(measure).collect()
}

/// Memory of a sandbox in which `sleep` runs.
fn idle(scene: &Scene, wanted: Wanted) -> anyhow::Result<u64> {
    let warm = Warm::start(scene, wanted)?;
    let _sleeping = warm.client()?.start(&warm.start_of(&["/bin/sleep", "60"]))?;
    warm.run_true()?;
    Ok(pss_of_tree(warm.child.id()))
}
