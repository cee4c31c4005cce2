//! Frames of relays, read.

use lodge_proto::frame::Kind;
use lodge_proto::relay::{CommandEnvelope, ToRunner};

/// A frame that a relay may send.
#[derive(Debug)]
pub enum FromRelay {
    Control(ToRunner),
    Command(Box<CommandEnvelope>),
}

/// A frame that a relay may not send; the connection is of no further use.
#[derive(Debug, thiserror::Error)]
pub enum RouteError {
    #[error("a relay does not send frames of the kind {0:?}")]
    Kind(Kind),
    #[error("a frame of the kind {kind:?} cannot be read")]
    Json { kind: Kind, source: serde_json::Error },
}

/// Reads one frame.
pub fn read(kind: Kind, payload: &[u8]) -> Result<FromRelay, RouteError> {
    let json = |source| RouteError::Json { kind, source };
    match kind {
        Kind::Control => Ok(FromRelay::Control(serde_json::from_slice(payload).map_err(json)?)),
        Kind::Command => Ok(FromRelay::Command(Box::new(
            serde_json::from_slice(payload).map_err(json)?,
        ))),
        Kind::Event | Kind::Reply | Kind::Credit | Kind::Blob => Err(RouteError::Kind(kind)),
    }
}
