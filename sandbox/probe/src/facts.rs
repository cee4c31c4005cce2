//! What the program inside is told about the scene outside: where to aim, never what it would find there.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// File in the workspace that holds [`Facts`] as JSON.
pub const FACTS: &str = ".probe/facts.json";
/// The program inside, relative to the workspace.
pub const PROGRAM: &str = ".probe/lodge-probe";

/// Where to aim.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    /// In everything that an attack writes: what the observer looks for.
    pub token: String,
    /// Whether this is the positive control, outside of any sandbox.
    pub outside: bool,
    /// Whether amounts stay small although this is a sandbox: nobody knows whether it has bounds.
    #[serde(default)]
    pub modest: bool,
    /// Directory that holds the whole scene, on the host.
    pub root: PathBuf,
    pub workspace: PathBuf,
    /// Home of the victim.
    pub home: PathBuf,
    /// Private files and directories of the machine itself.
    #[serde(default)]
    pub private: Vec<Original>,
    /// Files of the victim that hold a canary.
    pub secrets: Vec<PathBuf>,
    /// Files whose content runs at the victim's next login.
    pub start_files: Vec<PathBuf>,
    pub other_workspace: PathBuf,
    /// Programs that Lodge or the victim will run.
    pub programs: Vec<Original>,
    /// Sockets of services, by family: `engine`, `session`, `display`, `lodge`.
    pub sockets: BTreeMap<String, Vec<PathBuf>>,
    pub abstract_socket: String,
    /// A process of the victim with a secret in its environment.
    pub victim: i32,
    pub sysv_key: i32,
    pub mq_name: String,
    /// Listeners on the host's loopback and on all its addresses.
    pub tcp: u16,
    pub tcp6: u16,
    pub udp: u16,
    /// The host's other addresses.
    pub addresses: Vec<IpAddr>,
    /// The gateway's socket as the host names it.
    pub gateway: PathBuf,
    /// Set when a broker answers behind the gateway's socket.
    pub broker: Option<BrokerFacts>,
    pub bounds: BoundsFacts,
}

/// A file or directory of the machine: a sandbox with files of its own may have another one of that name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Original {
    pub path: PathBuf,
    inode: u64,
    /// Seconds and nanoseconds of the last change.
    changed: (i64, i64),
}

impl Original {
    /// What lies at `path` now; `None` when nothing does.
    pub fn of(path: impl Into<PathBuf>) -> Option<Self> {
        let path = path.into();
        let meta = std::fs::metadata(&path).ok()?;
        Some(Self {
            inode: meta.ino(),
            changed: (meta.mtime(), meta.mtime_nsec()),
            path,
        })
    }

    /// Whether the very same thing is to be seen here.
    pub fn is_here(&self) -> bool {
        Self::of(&self.path).as_ref() == Some(self)
    }
}

/// Names that the broker behind the scene's gateway socket knows.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BrokerFacts {
    /// Allowed, answers over plain HTTP on port 80 and TLS on 443.
    pub allowed: String,
    /// Not allowed, would resolve.
    pub unlisted: String,
    /// Allowed by name, resolves to addresses that must not be dialled.
    pub inward: Vec<String>,
    /// Allowed by name, resolves to a good address first and to loopback later.
    pub rebinding: String,
    /// Allowed by name, its server redirects to `unlisted`.
    pub redirecting: String,
    /// The key of another session.
    pub foreign_key: String,
    /// This session's own.
    pub own_key: String,
}

/// The bounds that the tightened policy of the check sets, so that an attack knows when it has gone beyond.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BoundsFacts {
    pub processes: u64,
    /// Bytes.
    pub memory: u64,
    pub tmp: u64,
    pub disk: u64,
    pub file_size: u64,
    pub output: u64,
    pub open_files: u64,
    pub cpu_seconds: u64,
}

/// One attempt inside a probe.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    pub name: String,
    pub outcome: Outcome,
    /// Whether `done` is a breach by itself, or only when its effect is seen outside.
    pub needs_effect: bool,
    /// Only tried as a control, in place of what cannot be shown on this machine.
    #[serde(default)]
    pub substitute: bool,
    pub detail: String,
}

/// How an attempt went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    Done,
    Denied,
    /// It worked up to a bound.
    Limited,
    /// Something the attempt needs is not there.
    Missing,
}

/// What the program inside prints, as one line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GuestReport {
    pub id: String,
    pub steps: Vec<Step>,
}
