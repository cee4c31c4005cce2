//! One session: the task that owns its state, and how others reach it.

mod actor;
mod approvals;
mod drive;
mod fill;
mod findings;
pub mod journal;
mod launch;
pub mod link;
pub mod log;
mod network;
pub mod port;
mod recover;
mod requests;
mod trusting;

use crate::conns::{ConnId, Outbox, ReplyPort};
use crate::fold::{JournalCommand, Origin};
use crate::guest::Streams;
use crate::shared::Shared;
use crate::store::SessionRow;
use lodge_proto::ids::MessageId;
use lodge_proto::session::SessionInfo;
use lodge_proto::{Cursor, ErrorBody, SessionId};
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot};

/// Requests that may wait for one session.
const REQUESTS: usize = 1024;

/// What others ask of a session.
#[derive(Debug)]
pub enum Request {
    /// A client opens the session, or comes back with a cursor.
    Subscribe {
        outbox: Outbox,
        channel: u32,
        cursor: Option<Cursor>,
    },
    Unsubscribe {
        conn: ConnId,
        channel: u32,
    },
    /// A relay's connection is gone with all its clients.
    ConnGone {
        conn: ConnId,
    },
    /// A command that belongs into the journal.
    Command {
        command: Box<JournalCommand>,
        reply: ReplyPort,
    },
    /// A question about the state.
    Query {
        query: Query,
        reply: ReplyPort,
    },
    /// Run commands in the sandbox; the harness is started where none runs.
    Sandbox {
        reply: oneshot::Sender<Result<Streams, ErrorBody>>,
    },
    /// What a copy of this session goes on from.
    Origin {
        before: Option<MessageId>,
        reply: oneshot::Sender<Result<Origin, ErrorBody>>,
    },
    /// Answered once the session has found its shim, or that it has none.
    Opened {
        reply: oneshot::Sender<()>,
    },
    /// Start the harness, if it does not run.
    Start {
        reply: Option<Answering>,
    },
    /// Stop the harness.
    Stop {
        reason: String,
        done: oneshot::Sender<()>,
    },
    /// The user's approvals for always are others than before.
    ApprovalsChanged {
        done: Option<oneshot::Sender<()>>,
    },
    /// Other open sessions in the same workspace.
    SharedWith {
        sessions: Vec<SessionId>,
    },
    /// The runner ends; with `stop` the harness does too.
    Shutdown {
        stop: bool,
        done: oneshot::Sender<()>,
    },
    /// The session is deleted: end everything and let go of its files.
    Discard {
        done: oneshot::Sender<()>,
    },
}

/// A claimed command that the hub will keep the answer of.
#[derive(Debug)]
pub struct Answering {
    pub reply: ReplyPort,
    pub account: String,
    pub client_id: String,
}

/// Questions that change nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Query {
    State,
    Messages {
        cursor: Option<String>,
        limit: Option<u32>,
    },
    Commands,
    Approvals,
    Stats,
}

/// A handle to a session's task.
#[derive(Debug, Clone)]
pub struct SessionHandle {
    requests: mpsc::Sender<Request>,
}

impl SessionHandle {
    /// Sends a request; `false` when the task is gone.
    pub async fn send(&self, request: Request) -> bool {
        self.requests.send(request).await.is_ok()
    }
}

/// What a session tells the hub.
#[derive(Debug)]
pub enum Report {
    /// Its row in the list changed.
    Changed(Box<SessionInfo>),
    /// It brought an approval for always.
    ApprovalsChanged(SessionId),
    /// Its task ended.
    Ended(SessionId),
}

/// Starts the task of a session: it finds its shim or its journal by itself.
pub fn open(
    shared: Arc<Shared>,
    row: SessionRow,
    handle: u64,
    reports: mpsc::UnboundedSender<Report>,
) -> SessionHandle {
    let (requests, inbox) = mpsc::channel(REQUESTS);
    tokio::spawn(actor::run(shared, row, handle, inbox, reports));
    SessionHandle { requests }
}
