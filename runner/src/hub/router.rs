//! Frames of relays, read.

use lodge_proto::frame::{Header, Kind};
use lodge_proto::relay::{CommandEnvelope, ToRunner};

/// A frame that a relay may send.
#[derive(Debug)]
pub enum FromRelay {
    Control(ToRunner),
    Command(Box<CommandEnvelope>),
    /// What a client typed into a terminal; with none, a piece of an image.
    Typed {
        terminal: u32,
        bytes: Vec<u8>,
    },
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
pub fn read(header: &Header, payload: &[u8]) -> Result<FromRelay, RouteError> {
    let kind = header.kind;
    let json = |source| RouteError::Json { kind, source };
    match kind {
        Kind::Control => Ok(FromRelay::Control(serde_json::from_slice(payload).map_err(json)?)),
        Kind::Command => Ok(FromRelay::Command(Box::new(
            serde_json::from_slice(payload).map_err(json)?,
        ))),
        Kind::Blob => Ok(FromRelay::Typed {
            // A number that no terminal can have is that of none.
            terminal: u32::try_from(header.session).unwrap_or(0),
            bytes: payload.to_vec(),
        }),
        Kind::Event | Kind::Reply | Kind::Credit => Err(RouteError::Kind(kind)),
    }
}
