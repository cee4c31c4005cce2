//! What guest init walls itself and every command with, handed over as JSON in [`ENV`].
//!
//! The caller (the sandbox's plan) decides, init only executes; a wall that cannot be raised ends init
//! before anything else runs.

use serde::{Deserialize, Serialize};

/// Environment variable that holds [`Walls`] as JSON; absent means [`Walls::default`].
pub const ENV: &str = "LODGE_WALLS";

/// The walls of one sandbox. `no_new_privs` and the absence of core dumps are not negotiable, so not in here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Walls {
    /// Resource limits of every command.
    pub limits: Limits,
    /// Directories in the sandbox over which init puts an empty one that cannot be written to, with the privilege
    /// that it gives up afterwards.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub covered: Vec<String>,
    /// Whether the system call filter is loaded.
    pub seccomp: bool,
    /// Whether commands may make namespaces and mounts of their own (a sandbox inside the sandbox).
    pub nesting: bool,
    /// The file view as a second wall behind the mounts; `None` leaves it out. Landlock forbids every mount
    /// call, so it cannot be combined with `nesting`.
    pub landlock: Option<Landlock>,
    /// What init measures and ends everything for.
    pub bounds: Bounds,
}

/// What the kernel does not bound here: init samples it and kills everything beyond. `None` is no bound.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Bounds {
    /// Anonymous memory of all processes and the contents of all tmpfs together, in bytes.
    pub memory: Option<u64>,
    /// Bytes in the files below `disk_roots`.
    pub disk: Option<u64>,
    /// Paths in the sandbox whose growth since the start counts as disk.
    pub disk_roots: Vec<String>,
    /// Bytes of standard output and error of all commands together.
    pub output: Option<u64>,
    /// Seconds since init's start, in boot time.
    pub wall_seconds: Option<u64>,
    /// Seconds without a byte in either direction.
    pub idle_seconds: Option<u64>,
}

impl Default for Walls {
    fn default() -> Self {
        Self {
            limits: Limits::default(),
            covered: Vec::new(),
            seccomp: true,
            nesting: false,
            landlock: None,
            bounds: Bounds::default(),
        }
    }
}

/// Hard limits set with `setrlimit`; `None` leaves what was inherited.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Processes and threads of the sandbox's user in the sandbox's user namespace.
    pub processes: Option<u64>,
    /// Data segment and private writable memory of one process, in bytes.
    pub memory: Option<u64>,
    /// Size of one file, in bytes.
    pub file_size: Option<u64>,
    /// Descriptors of one process.
    pub open_files: Option<u64>,
    /// CPU time of one process, in seconds.
    pub cpu_seconds: Option<u64>,
}

/// Paths below which commands may read and execute, or also write; everything else is denied.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Landlock {
    pub read: Vec<String>,
    pub write: Vec<String>,
}
