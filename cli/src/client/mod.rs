//! The conversation with a runner over its Unix socket: one client on one connection.
//!
//! - [`link`]: frames, commands and their responses
//! - [`image`]: images for prompts
//! - [`turn`]: following one session through one turn, across restarts of the runner

pub mod image;
pub mod link;
pub mod turn;

use crate::failure::Failure;
use lodge_proto::relay::{Actor, Rights};
use lodge_proto::{Command, CommandBody, ErrorCode, SessionId};

/// The person at this machine. It is the account that the backend gives to the holder of a login link.
pub fn local_actor() -> Actor {
    Actor {
        account: "local".to_owned(),
        name: "local".to_owned(),
        rights: Rights::Own,
    }
}

/// A command with fresh ids.
pub fn command(session_id: Option<SessionId>, body: CommandBody) -> Command {
    let id = SessionId::new().to_string();
    let client_id = body.is_mutating().then(|| id.clone());
    Command {
        id,
        session_id,
        client_id,
        body,
    }
}

/// A session's id as typed by a person.
pub fn session_id(text: &str) -> Result<SessionId, Failure> {
    text.parse().map_err(|_| {
        Failure::new(ErrorCode::InvalidArgument, format!("`{text}` is no session id"))
            .mend("lodge sessions list shows the ids")
    })
}
