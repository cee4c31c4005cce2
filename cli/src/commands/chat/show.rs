//! What a turn shows: canonical events, or text.

use crate::terminal::render::Renderer;
use crate::terminal::try_print;
use lodge_proto::session::SessionState;
use lodge_proto::{Event, SessionId};

/// Where the steps of a turn go.
#[derive(Debug)]
pub(super) enum Output {
    Json,
    Text(Box<Renderer>),
}

impl Output {
    pub(super) fn new(json: bool, session: SessionId, is_new: bool) -> Self {
        if json {
            return Self::Json;
        }
        if is_new {
            eprintln!("session {session}");
        }
        Self::Text(Box::default())
    }

    /// Fails when nobody reads any more.
    pub(super) fn event(&mut self, event: &Event, line: &str) -> std::io::Result<()> {
        match self {
            Self::Json => try_print(&format!("{line}\n")),
            Self::Text(renderer) => try_print(&renderer.render(event)),
        }
    }

    /// Events are missing here; what they led to is in the state.
    pub(super) fn jump(reason: Option<&str>, state: &SessionState) {
        let reason = reason.unwrap_or("this reader was too far behind");
        eprintln!(
            "lodge: events were folded ({reason}); the session has {} messages",
            state.session.message_count
        );
    }
}
