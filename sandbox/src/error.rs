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
