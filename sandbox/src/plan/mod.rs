//! A policy and a session compiled to data: everything a launcher does, in order. A pure function.

mod check;
mod environment;
mod mounts;
mod walls;

use std::collections::BTreeSet;
use std::path::PathBuf;

use lodge_guest::walls::Walls;
use serde::{Deserialize, Serialize};

use crate::policy::{Limits, Nesting, Net, Policy, Tier};
use crate::size::Bytes;
use crate::view::HostView;

pub(crate) use mounts::bind;
pub use mounts::empty_directory;

/// Home directory inside every sandbox.
pub const GUEST_HOME: &str = "/home/guest";
/// Guest init inside every sandbox.
pub const GUEST_INIT: &str = "/run/lodge/init";
/// The gateway's socket inside every sandbox but a microVM.
pub const GUEST_GATEWAY: &str = "/run/lodge/gateway.sock";
/// Port on the guest's loopback that leads to the gateway.
pub const GATEWAY_PORT: u16 = 8377;
/// Number under which guest init inherits its end of the framed stream.
pub const MUX_FD: i32 = 3;
/// Variable of guest init that switches the capture of connections on: port numbers with commas between.
pub const ENV_EGRESS_PORTS: &str = "LODGE_EGRESS_PORTS";
/// Variable of guest init that makes it leave the network it was started in, before anything else.
pub const ENV_OWN_NETWORK: &str = "LODGE_OWN_NETWORK";
/// User and group of a guest whose runner is root.
const GUEST_ID: u32 = 1000;

/// What one session brings. All paths are absolute and free of symbolic links.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionSpec {
    /// Mounted read-write at its own path.
    pub workspace: PathBuf,
    /// Mounted read-write as [`GUEST_HOME`].
    pub private_home: PathBuf,
    /// Mounted as [`GUEST_GATEWAY`].
    pub gateway_socket: PathBuf,
    /// Mounted read-only at their own paths.
    pub harness_roots: Vec<PathBuf>,
    /// Mounted read-only as [`GUEST_INIT`].
    pub init_binary: PathBuf,
    /// User and group of the runner.
    pub uid: u32,
    pub gid: u32,
    pub session_id: String,
}

/// Whether a mount may be written to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Access {
    Read,
    Write,
}

/// How a launcher gets hold of the source of a mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// Root-owned system path, by name.
    System,
    /// Opened without following links and mounted by that descriptor; must be a directory.
    Directory,
    /// The same, and must not be a directory.
    File,
    /// A device of the host, by name, that can be used as one; only around the engine of a tier.
    Device,
}

/// One step of building the file view.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "mount", rename_all = "snake_case")]
pub enum Mount {
    Bind {
        from: PathBuf,
        at: PathBuf,
        access: Access,
        source: Source,
    },
    Symlink {
        to: PathBuf,
        at: PathBuf,
    },
    /// A file of generated content on the sandbox's own root.
    Content {
        at: PathBuf,
        content: String,
    },
    /// An empty read-only file over an existing or absent one.
    EmptyFile {
        at: PathBuf,
    },
    Tmpfs {
        at: PathBuf,
        size: Bytes,
        mode: u32,
    },
    Proc {
        at: PathBuf,
    },
    Dev {
        at: PathBuf,
    },
    RemountReadOnly {
        at: PathBuf,
    },
}

/// Everything a launcher executes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    pub tier: Tier,
    pub session_id: String,
    /// Where commands start; also one of the mounts.
    pub workspace: PathBuf,
    /// In order. In the process tier the whole view; in the others only what comes on top of the guest image
    /// ([`Mount::Bind`] of what was checked, [`Mount::Symlink`], [`Mount::Content`], [`Mount::EmptyFile`],
    /// [`Mount::Tmpfs`]), whose root is read-only.
    pub mounts: Vec<Mount>,
    /// User and group inside; never 0.
    pub uid: u32,
    pub gid: u32,
    /// Whether user namespaces inside are switched off.
    pub deny_user_namespaces: bool,
    pub hostname: String,
    /// Environment of guest init.
    pub init_env: Vec<(String, String)>,
    /// What every command's environment starts from.
    pub guest_env: Vec<(String, String)>,
    pub argv: Vec<String>,
    /// Walls that guest init raises; also part of `init_env`.
    pub walls: Walls,
    /// Protected names that do not exist and are not held: a guest can create them.
    pub unprotected: Vec<String>,
    /// Absent protected names that are made before the start so that they can be held, and removed after the end.
    pub placeholders: Vec<Placeholder>,
    pub network: Network,
    /// What a tier with an engine of its own (Docker, QEMU, cgroup v2) can hold; rlimits and samples are in `walls`.
    pub limits: Limits,
}

/// An empty file or directory made on the host, below the workspace.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Placeholder {
    /// Relative to the workspace.
    pub name: String,
    pub directory: bool,
}

/// The way out besides the gateway's port, which there always is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "mode", rename_all = "snake_case")]
pub enum Network {
    None,
    /// Connections by name through the gateway's broker: proxy variables are set, and guest init answers name
    /// queries and captures connections to `ports`.
    Broker {
        ports: BTreeSet<u16>,
    },
}

/// Why no plan can be made.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// The policy asks for something that cannot be enforced; `place` says where.
    #[error("{place}: {reason}")]
    Unsupported {
        key: &'static str,
        place: String,
        reason: String,
    },
    #[error("{} is not absolute", path.display())]
    Relative { path: PathBuf },
    /// A path would cover, or lie in, a part of the sandbox that is not the user's; `place` says who names it.
    #[error("{place}: {} cannot be used in a sandbox: it collides with {}", path.display(), with.display())]
    Collision {
        place: String,
        path: PathBuf,
        with: PathBuf,
    },
    #[error("cannot write the walls down: {0}")]
    Walls(#[from] serde_json::Error),
}

/// Compiles `policy` for one session on a host that looks like `view`.
pub fn plan(policy: &Policy, spec: &SessionSpec, view: &HostView) -> Result<Plan, PlanError> {
    check::supported(policy)?;
    check::disjoint(policy, spec, view)?;
    let uid = if spec.uid == 0 { GUEST_ID } else { spec.uid };
    let gid = if spec.gid == 0 { GUEST_ID } else { spec.gid };
    let network = network(policy);
    let mounts::View {
        mounts,
        covered,
        unprotected,
        placeholders,
    } = mounts::view(policy, spec, view, &network, (uid, gid));
    let walls = walls::walls(policy, spec, &mounts, &covered);
    Ok(Plan {
        tier: policy.tier,
        session_id: spec.session_id.clone(),
        workspace: spec.workspace.clone(),
        placeholders,
        limits: policy.limits.clone(),
        uid,
        gid,
        deny_user_namespaces: policy.nesting == Nesting::Deny,
        hostname: "lodge".to_owned(),
        init_env: environment::init(policy.tier, &walls, &network)?,
        guest_env: environment::guest(policy, spec, view, &network),
        argv: vec![GUEST_INIT.to_owned()],
        network,
        walls,
        mounts,
        unprotected,
    })
}

fn network(policy: &Policy) -> Network {
    match &policy.net {
        // Without a port there is nothing to lead out.
        Net::Broker { ports, .. } if !ports.is_empty() => Network::Broker { ports: ports.clone() },
        Net::Broker { .. } | Net::None => Network::None,
    }
}
