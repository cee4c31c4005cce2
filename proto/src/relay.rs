//! What relay, runner and client say to each other besides events and commands.
//!
//! **Client to relay** (WebSocket text): [`ClientFrame`], a command or the cursors of all sessions at once.
//!
//! **Relay to client** (WebSocket text): one JSON object with exactly one of the fields `event`, `response`,
//! `control`. Frames that concern a session carry the relay's own handle for it in `session`; the handle is bound
//! to a session by the `subscribed` control. The relay wraps the runner's bytes without parsing them:
//! `{"event":…,"session":7}`: the handle comes last, and of two equal names a JSON reader keeps the last. A client
//! drops an event whose `session_id` is not the one its handle is bound to.
//!
//! **Terminals**: binary WebSocket frames, both ways: the terminal's id as `u32`, little endian, then its bytes. Between
//! relay and runner they are `Blob` frames on the client's channel with the terminal's id in place of the session
//! handle; the first after an attachment, which may be empty, has the flag `FOLDED`.
//!
//! **Images**: over HTTP between client and relay; between relay and runner each on a connection of its own, where
//! `blob_put` or `blob_get` is followed by `Blob` frames with the session handle 0, and an empty one at the end.
//!
//! **Relay to runner** (frames): `Command` frames with a [`CommandEnvelope`], `Control` frames with [`ToRunner`].
//!
//! **Runner to relay** (frames): `Event` frames on a client's channel (what was missed) or on channel 0 (live, for
//! every client that joined the session), `Reply` frames with a [`Response`](crate::Response), `Control` frames.

use crate::command::Command;
use crate::cursor::Cursor;
use crate::error::ErrorBody;
use crate::ids::SessionId;
use crate::session::SessionState;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::collections::BTreeMap;
use ts_rs::TS;

/// Version of this protocol, said in `hello` by both sides.
pub const VERSION: u32 = 1;

/// A text frame from a client.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, TS)]
#[serde(untagged)]
pub enum ClientFrame {
    Hello { hello: Hello },
    Command(Box<Command>),
}

/// The client's first frame, and again after `runner_ready`: where it stands in each session it shows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, TS)]
pub struct Hello {
    pub version: u32,
    /// Last event seen of each session; `null` for a session that is opened anew.
    pub cursors: BTreeMap<SessionId, Option<Cursor>>,
}

/// What the server found at a client's cursor.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, TS)]
#[serde(tag = "verdict", rename_all = "snake_case")]
pub enum Verdict {
    /// Everything after the cursor follows, then live events.
    Ok {},
    /// The state at `cursor` replaces what the client has.
    Snapshot { state: Box<SessionState> },
    /// The client's numbers are of another epoch or lie ahead; the state replaces what it has.
    Gap {
        reason: String,
        state: Box<SessionState>,
    },
}

/// Controls that a client sees.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, TS)]
#[serde(tag = "type", rename_all = "snake_case")]
#[ts(optional_fields)]
pub enum ToClient {
    /// The server's first frame.
    Welcome {
        version: u32,
        account: String,
        name: String,
    },
    /// Binds the frame's session handle to `session_id`. `cursor` is where the following events begin.
    Subscribed {
        session_id: SessionId,
        cursor: Cursor,
        #[serde(flatten)]
        verdict: Verdict,
    },
    /// A subscription failed.
    SubscribeFailed {
        session_id: SessionId,
        error: ErrorBody,
    },
    /// The session's row in the list changed; sent for every session of the account.
    SessionChanged {
        session: Box<crate::session::SessionInfo>,
    },
    SessionRemoved {
        session_id: SessionId,
    },
    /// The runner went away; the relay looks for it again.
    RunnerLost {
        error: ErrorBody,
    },
    /// The runner is there: send `hello` with your cursors, and unanswered commands again under their old ids.
    RunnerReady {},
    /// The shell of a terminal ended; its id is free.
    TerminalClosed {
        session_id: SessionId,
        terminal_id: u32,
        exit: crate::workspace::TerminalExit,
    },
    /// This client was too slow for a terminal's output and is no longer attached: `terminal.attach` shows where it
    /// stands.
    TerminalLagged {
        terminal_id: u32,
    },
    /// A frame of the client could not be read.
    Rejected {
        error: ErrorBody,
    },
}

/// Who acts, as authenticated by the backend.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Actor {
    pub account: String,
    /// Name for people.
    pub name: String,
    pub rights: Rights,
}

/// What an actor may do with the sessions behind one runner.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rights {
    /// Read only.
    View,
    /// Everything an owner may do.
    Own,
}

/// A command on its way from relay to runner.
#[derive(Debug, Serialize, Deserialize)]
pub struct CommandEnvelope {
    pub actor: Actor,
    /// The client's bytes, as received.
    pub command: Box<RawValue>,
}

/// Controls from relay to runner.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ToRunner {
    /// First frame of a connection.
    Hello { version: u32 },
    /// A client appeared on the frame's channel.
    Attach { actor: Actor },
    /// The client of the frame's channel is gone.
    Detach {},
    /// Cursors of the client on the frame's channel.
    Subscribe {
        cursors: BTreeMap<SessionId, Option<Cursor>>,
    },
    /// The client on the frame's channel fell behind the relay's tail of this session: a snapshot, please.
    Resync { session_id: SessionId },
    /// The client on the frame's channel is too slow for this terminal's output and is no longer attached.
    TerminalDetach { terminal_id: u32 },
    /// An image follows on the frame's channel, in `Blob` frames whose session handle is 0; an empty one ends it. The
    /// answer is a `Reply` frame with a [`BlobRef`](crate::part::BlobRef). A connection of its own is wise: the runner
    /// reads no further while too many transfers are under way.
    BlobPut { actor: Actor },
    /// This image, please: a `Reply` frame with its [`BlobRef`](crate::part::BlobRef), then its bytes in `Blob` frames
    /// whose session handle is 0, then an empty one.
    BlobGet { actor: Actor, hash: String },
}

/// Controls from runner to relay that are not passed to clients.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ToRelay {
    /// First frame of a connection: who this runner belongs to.
    Hello { version: u32, runner_epoch: u64 },
    /// From here on the client of the frame's channel takes the live events of the frame's session handle.
    Join { session_id: SessionId },
    /// The client of the frame's channel takes no more of them.
    Leave {},
}

/// A control frame from the runner: for a client (wrapped and passed on) or for the relay itself.
///
/// Which of the two is told by the frame's flag [`crate::frame::flags::FOR_RELAY`], so that the relay need not
/// parse what it passes on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum RunnerControl {
    Relay(ToRelay),
    Client(Box<ToClient>),
}
