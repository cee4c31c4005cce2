//! The supervisor: starts the roles as child processes, restarts what crashes, stops all in order.
//!
//! A role dies with its supervisor (also under `kill -9`); the shims, which are no children of ours, do not.
//!
//! - [`lock`]: one supervisor a data directory
//! - [`state`]: `lodge.json`, what others may know of a running supervisor
//! - [`child`]: one start of one role
//! - [`keeper`]: the life of one role, across restarts
//! - [`logfile`]: what roles print

pub mod child;
pub mod keeper;
pub mod lock;
pub mod logfile;
pub mod state;

use crate::data::DataDir;
use crate::failure::Failure;
use child::Spec;
use keeper::Keeper;
use lock::DataLock;
use lodge_proto::ErrorCode;
use state::{Kind, State, StateFile};
use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;
use tokio::sync::mpsc;

/// The processes of a Lodge. They are started in this order and stopped in the order of [`STOP_ORDER`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    Gateway,
    History,
    Runner,
    Backend,
}

/// Clients first, then what they use.
const STOP_ORDER: [Role; 4] = [Role::Backend, Role::Runner, Role::History, Role::Gateway];

impl Role {
    pub const ALL: [Self; 4] = [Self::Gateway, Self::History, Self::Runner, Self::Backend];

    /// The subcommand that runs it, and the name of its log.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Gateway => "gateway",
            Self::History => "history",
            Self::Runner => "runner",
            Self::Backend => "backend",
        }
    }

    /// How long it may take to stop before it is killed. The runner interrupts turns and ends its shims; the gateway gives
    /// streams 5 s to end, and settles what it cuts.
    const fn grace(self) -> Duration {
        match self {
            Self::Runner => Duration::from_secs(15),
            Self::Gateway => Duration::from_secs(10),
            _ => Duration::from_secs(5),
        }
    }
}

/// What to start.
#[derive(Debug, Clone)]
pub struct Plan {
    pub data: DataDir,
    /// Where the backend listens; without it no backend is started.
    pub listen: Option<SocketAddr>,
    /// Directories in which sessions may work, besides the one in the data directory.
    pub workspaces: Vec<PathBuf>,
    /// Tools ask before they run.
    pub ask_permissions: bool,
}

/// A running set of roles. Dropping it kills them; [`Supervisor::stop`] is the way to end it.
#[derive(Debug)]
pub struct Supervisor {
    keepers: Vec<Keeper>,
    failures: mpsc::Receiver<Failure>,
    state: StateFile,
    // Last, so that the directory is free only when everything else is gone.
    _lock: DataLock,
}

impl Supervisor {
    /// Locks the data directory, clears what an earlier death left, and starts the roles one after the other.
    pub async fn start(plan: &Plan) -> Result<Self, Failure> {
        plan.data.create()?;
        let lock = DataLock::take(&plan.data)?;
        remove_stale(&plan.data);
        let kind = if plan.listen.is_some() {
            Kind::Up
        } else {
            Kind::Call
        };
        let state = StateFile::new(plan.data.state(), State::new(kind));
        state.publish()?;
        let (report, failures) = mpsc::channel(Role::ALL.len());
        let mut running = Self {
            keepers: Vec::new(),
            failures,
            state,
            _lock: lock,
        };
        let roles = Role::ALL
            .into_iter()
            .filter(|role| *role != Role::Backend || plan.listen.is_some());
        for role in roles {
            let spec = spec(plan, role)?;
            match Keeper::start(spec, running.state.clone(), report.clone()).await {
                Ok(keeper) => running.keepers.push(keeper),
                Err(failure) => {
                    running.stop().await;
                    return Err(failure);
                }
            }
        }
        Ok(running)
    }

    /// What others may know of this supervisor.
    pub fn state(&self) -> &StateFile {
        &self.state
    }

    /// Waits until a role crashes again and again.
    pub async fn failed(&mut self) -> Failure {
        match self.failures.recv().await {
            Some(failure) => failure,
            // The sender lives in every keeper; without one there is nothing to wait for.
            None => std::future::pending().await,
        }
    }

    /// Stops every role, the clients of others first, and frees the data directory.
    pub async fn stop(mut self) {
        for role in STOP_ORDER {
            for at in (0..self.keepers.len()).rev() {
                if self.keepers[at].role() == role {
                    self.keepers.swap_remove(at).stop().await;
                }
            }
        }
        self.state.remove();
    }
}

/// Sockets outlive their processes; the lock says that nobody listens on these.
fn remove_stale(data: &DataDir) {
    let _ = std::fs::remove_file(data.state());
    let Ok(entries) = std::fs::read_dir(data.path().join("run")) else {
        return;
    };
    for path in entries.flatten().map(|entry| entry.path()) {
        if path.extension().is_some_and(|extension| extension == "sock") {
            let _ = std::fs::remove_file(path);
        }
    }
}

fn spec(plan: &Plan, role: Role) -> Result<Spec, Failure> {
    let program = std::env::current_exe().map_err(|e| {
        Failure::new(
            ErrorCode::Internal,
            format!("this program's own path is unknown: {e}"),
        )
    })?;
    let mut args: Vec<OsString> = vec![role.as_str().into(), "--data".into(), plan.data.path().into()];
    args.extend(["--supervisor".into(), std::process::id().to_string().into()]);
    match (role, plan.listen) {
        (Role::Backend, Some(listen)) => args.extend(["--listen".into(), listen.to_string().into()]),
        (Role::Runner, _) => {
            args.push("--stop-sessions".into());
            if plan.ask_permissions {
                args.push("--ask-permissions".into());
            }
            for workspace in &plan.workspaces {
                args.extend(["--workspace".into(), workspace.into()]);
            }
        }
        _ => {}
    }
    Ok(Spec {
        role,
        program,
        args,
        log: plan.data.log(role.as_str()),
    })
}
