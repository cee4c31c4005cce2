//! Why a sandbox cannot be built.

use std::io;
use std::path::PathBuf;

/// One variant per step that can fail.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// The machine lacks something without which no guest is started.
    #[error("{wall} is missing: {problem}; mend it with: {mend}")]
    MissingWall {
        wall: &'static str,
        problem: String,
        mend: String,
    },
    /// A path of the plan could not be opened without following a symbolic link.
    #[error("cannot open {} for the sandbox: {source}", path.display())]
    Open { path: PathBuf, source: io::Error },
    /// A path is no longer of the kind it was when the plan was made.
    #[error("{} changed while the sandbox was prepared", path.display())]
    Changed { path: PathBuf },
    /// The stand-in of an absent control file could not be made, or not be written down.
    #[error("cannot hold the absent control files of the workspace: {}: {source}", path.display())]
    Placeholder { path: PathBuf, source: io::Error },
    /// The delegated cgroup takes no group with the limits of the policy.
    #[error("cannot make a cgroup below {}: {source}", base.display())]
    Cgroup { base: PathBuf, source: io::Error },
    /// A limit that is set is not held as well as the policy demands.
    #[error("limits.require: {key} is only {how} here ({by}); {mend}")]
    Limit {
        key: &'static str,
        how: &'static str,
        by: String,
        mend: String,
    },
    /// Memory for generated content could not be had.
    #[error("cannot prepare {what} for the sandbox: {source}")]
    Content { what: String, source: io::Error },
    /// A path or value cannot be handed to bwrap.
    #[error("{what} contains a NUL byte")]
    Nul { what: String },
    /// bwrap could not be started.
    #[error("cannot start {}: {source}", program.display())]
    Spawn { program: PathBuf, source: io::Error },
}
