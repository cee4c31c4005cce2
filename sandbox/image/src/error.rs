//! Why there is no image.

use std::io;
use std::path::{Path, PathBuf};

use crate::kernel::KernelError;

/// One variant per step that can fail.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// Nothing was built yet.
    #[error("there is no guest image in {}; build it with: lodge image build", state.display())]
    NotBuilt { state: PathBuf },
    /// What was built is not there any more, or not as it was written.
    #[error("the guest image {} is damaged: {reason}; build it again with: lodge image build --refresh", path.display())]
    Damaged { path: PathBuf, reason: String },
    /// The recipe embedded in this program is wrong.
    #[error("the embedded dependencies.toml: {reason}")]
    Recipe { reason: String },
    #[error("the recipe has no package group `{name}`; groups are {known}")]
    UnknownGroup { name: String, known: String },
    /// A program that builds images is not installed.
    #[error("{tool} is not installed; install it with: {mend}")]
    MissingTool { tool: &'static str, mend: &'static str },
    /// An ordinary user has no further user ids to build with.
    #[error(
        "user {user} has no subordinate ids in /etc/subuid; add them with: sudo usermod --add-subuids 100000-165535 --add-subgids 100000-165535 {user}"
    )]
    NoSubordinateIds { user: String },
    /// apt of this machine knows no mirror of the recipe's suite.
    #[error(
        "apt of this machine has no source of Debian {suite} in /etc/apt; name one with: lodge image build --mirror URL"
    )]
    NoSource { suite: String },
    #[error("the mirror {mirror:?} is not an http or https address")]
    Mirror { mirror: String },
    /// A program failed.
    #[error("{tool} failed ({status}): {said}")]
    Tool {
        tool: &'static str,
        status: String,
        said: String,
    },
    /// A program did not end.
    #[error("{tool} did not end within {seconds} s")]
    TimedOut { tool: &'static str, seconds: u64 },
    #[error("cannot {action} {}: {source}", path.display())]
    File {
        action: &'static str,
        path: PathBuf,
        source: io::Error,
    },
    /// Something in a harness's tree cannot go into an image.
    #[error("{}: {reason}", path.display())]
    Harness { path: PathBuf, reason: &'static str },
    #[error("cannot write the manifest: {0}")]
    Manifest(#[from] serde_json::Error),
    #[error(transparent)]
    Kernel(#[from] KernelError),
}

impl ImageError {
    pub(crate) fn file(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::File { action, path, source }
    }
}
