//! Why a machine does not run.

use std::io;
use std::path::PathBuf;

use lodge_guest::mux::{Kind, MuxError};
use lodge_image::ImageError;
use lodge_sandbox::SandboxError;

/// One variant per step that can fail.
#[derive(Debug, thiserror::Error)]
pub enum MicrovmError {
    #[error(transparent)]
    Sandbox(#[from] SandboxError),
    #[error(transparent)]
    Image(#[from] ImageError),
    /// The image was built for containers only.
    #[error("the guest image has no kernel; build it again with: lodge image build --refresh")]
    NoKernel,
    /// Something in the plan cannot be done in this tier.
    #[error("{} cannot be part of a microVM's view: {reason}", path.display())]
    View { path: PathBuf, reason: &'static str },
    #[error("QEMU is at {}, which is not below /usr: its wall would not show it", path.display())]
    Elsewhere { path: PathBuf },
    #[error("cannot {step}: {source}")]
    System { step: &'static str, source: io::Error },
    #[error("cannot {action} {}: {source}", path.display())]
    File {
        action: &'static str,
        path: PathBuf,
        source: io::Error,
    },
    /// The machine ended before guest init said hello. What its console and QEMU said last follows.
    #[error("the machine ended before its init answered: {said}")]
    Died { said: String },
    #[error("the machine's init did not answer within {seconds} s: {said}")]
    Silent { seconds: u64, said: String },
    /// What came from the machine is not what guest init would send.
    #[error("the machine was ended: it broke the protocol of its stream: {0}")]
    Protocol(#[from] ProtocolError),
    #[error("QEMU's monitor: {reason}")]
    Monitor { reason: String },
    /// A snapshot is not what it was when it was written.
    #[error("the snapshot {} is damaged: {reason}", path.display())]
    Snapshot { path: PathBuf, reason: String },
}

impl MicrovmError {
    pub(super) fn system(step: &'static str) -> impl Fn(io::Error) -> Self {
        move |source| Self::System { step, source }
    }

    pub(super) fn file(action: &'static str, path: &std::path::Path) -> impl Fn(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::File {
            action,
            path: path.clone(),
            source,
        }
    }
}

/// How either end of the stream can break its rules.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProtocolError {
    #[error(transparent)]
    Frame(#[from] MuxError),
    #[error("a {kind:?} frame on stream {stream} goes the wrong way")]
    Direction { kind: Kind, stream: u32 },
    #[error("the first frame was {kind:?} and not its hello")]
    NoHello { kind: Kind },
    #[error("it speaks version {version} of the protocol")]
    Version { version: u32 },
    #[error("connection {stream} was opened twice")]
    Reopened { stream: u32 },
    #[error("connection {stream} sent more than it was granted")]
    Overrun { stream: u32 },
}
