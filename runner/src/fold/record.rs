//! Journal records as the fold sees them.

use super::approvals::Given;
use lodge_proto::ErrorBody;
use lodge_proto::command::CommandBody;
use lodge_proto::ids::{QueueId, RequestId, SessionId, TurnId};
use lodge_proto::limits::SessionLimits;
use lodge_proto::message::{Message, Sender};
use lodge_proto::session::{ModelInfo, Tier};
use lodge_proto::trust::CodeChange;
use lodge_proto::workspace::Finding;
use serde::{Deserialize, Serialize};

/// Names one delivery: an input to the harness or an appended record. Known before the bytes are written, so
/// that a repetition is recognised.
pub type DeliveryId = [u8; 16];

/// One record of a session's journal.
#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    /// Gap-free from 1 over the life of the session.
    pub seq: u64,
    /// UTC milliseconds.
    pub time_ms: u64,
    pub body: RecordBody,
}

/// What a record says.
#[derive(Debug, Clone, PartialEq)]
pub enum RecordBody {
    /// A shim took over the journal.
    Generation { generation: u64 },
    /// The guest runs and its harness was started.
    Started,
    /// The guest or its harness could not be started.
    StartFailed { message: String },
    /// One line of the harness's standard output, without its line feed.
    Out(Vec<u8>),
    /// One line of its standard error.
    Err(Vec<u8>),
    /// A line over the limit; it was dropped.
    Oversize { stream: String, length: u64 },
    /// An input is about to be written to the harness.
    InBegin { id: DeliveryId, bytes: Vec<u8> },
    /// It was written whole.
    InDone { id: DeliveryId },
    /// The harness ended.
    Exit(Exit),
    /// The shim died; the runner closes its generation.
    Closed { reason: String },
    /// A command of a client.
    Cmd(Box<JournalCommand>),
    /// A timer fired.
    Timer(Timer),
    /// A fact of the runner.
    Note(Box<Note>),
    /// A bound of the sandbox was crossed and everything in it is being killed.
    Limit(Limit),
    /// A record of a later version.
    Unknown(u8),
}

/// A bound that was crossed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limit {
    /// Key of the policy.
    pub key: String,
    /// As the key counts: bytes, processes or seconds.
    pub allowed: u64,
    pub found: u64,
}

/// How the harness ended. Unknown never reads as success.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Exit {
    pub code: Option<i32>,
    pub signal: Option<i32>,
    pub reason: Option<String>,
}

impl Exit {
    /// For people: "exited with status 1", "was killed by signal 9".
    pub fn describe(&self) -> String {
        let how = match (self.code, self.signal) {
            (Some(code), _) => format!("exited with status {code}"),
            (None, Some(signal)) => format!("was killed by signal {signal}"),
            (None, None) => "ended, how is not known".to_owned(),
        };
        match &self.reason {
            Some(reason) if !reason.is_empty() => format!("{how} ({reason})"),
            _ => how,
        }
    }
}

/// A command as it stands in the journal.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JournalCommand {
    pub sender: Sender,
    pub client_id: String,
    pub body: CommandBody,
}

/// Timers of a session. A timer is part of the fold's state; the record says that it fired.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(tag = "timer", rename_all = "snake_case")]
pub enum Timer {
    /// The harness had its time to settle after an abort.
    AbortDeadline { turn: TurnId },
    /// The harness had its time to answer its first request.
    StartDeadline { generation: u64 },
}

/// Facts that the runner adds to the journal.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "note", rename_all = "snake_case")]
pub enum Note {
    /// The session began. First record of every journal.
    Created(Box<Created>),
    /// The harness is about to be started with these.
    Launch(Box<Launch>),
    /// History has stored a turn.
    HistoryAck { turn: TurnId, message_version: u64 },
    /// Another session works in the same workspace, or no longer does.
    WorkspaceShared { with: Vec<SessionId> },
    /// The harness could not be started.
    LaunchFailed { error: ErrorBody },
    /// What a turn left in the workspace that is worth a look.
    Findings { items: Vec<Finding>, truncated: bool },
    /// The runner's database has an approval for always.
    ApprovalKept { approval: RequestId },
    /// The approvals for always that the runner's database has for this session; they replace what was known.
    Approvals { given: Vec<Given> },
    /// The guest reached something besides models, or tried to.
    NetworkAccess(Box<super::network::Access>),
    /// A connection of the guest waits for the user, for so many seconds.
    NetworkAsked {
        question: String,
        host: String,
        port: u16,
        seconds: u32,
    },
    /// The gateway needs no answer to this question any more, or has it.
    NetworkClosed { question: String },
    /// The gateway knows no question any more.
    NetworkReset {},
    /// Whether the harness that is about to be started runs what the workspace brings for it.
    WorkspaceCode {
        trusted: bool,
        files: u32,
        /// Since it was trusted last.
        changed: Vec<CodeChange>,
        /// Why it cannot be trusted.
        reason: Option<String>,
    },
    /// The harness was asked to stop, by the user or for good.
    Stopping { reason: String },
    /// An input could not be put together: an image of it is lost. Nothing of it was delivered.
    InputLost { input: DeliveryId, error: ErrorBody },
}

/// What a session began as.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Created {
    pub session: SessionId,
    pub harness: String,
    pub workspace: String,
    pub title: Option<String>,
    pub model: Option<String>,
    pub thinking_level: Option<String>,
    pub tier: Tier,
    /// Profile of the sandbox's policy; a session of an earlier release has none and runs in the default one.
    #[serde(default)]
    pub profile: Option<String>,
    /// What was asked for; the policy decides at every start anew.
    #[serde(default)]
    pub wish: Wish,
    /// What history already holds for this session: it is a fork, or its journal was lost.
    pub fork: Option<Fork>,
}

/// The sandbox and the bounds that a session asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wish {
    pub tier: Option<Tier>,
    pub profile: Option<String>,
    /// What it may use of models; a session of an earlier release has no bounds of its own.
    #[serde(default)]
    pub limits: Option<SessionLimits>,
}

/// A conversation that was taken over.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Fork {
    /// The session this one was forked from.
    pub parent: Option<SessionId>,
    /// User messages that were kept; the harness is to go on from before the next one. `None`: all.
    pub keep_user_messages: Option<u32>,
    /// Messages that history already holds for the new session.
    pub message_count: u64,
    /// The newest of them.
    pub messages: Vec<Message>,
    /// What the harness goes on from. `None`: nothing was said in the parent, or its conversation is lost.
    #[serde(default)]
    pub source: Option<Source>,
}

/// A copied conversation, by the harness's own names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Source {
    /// The conversation, as the parent's files name it.
    pub native: String,
    /// The place in it to go on from; `None`: its end.
    pub point: Option<String>,
}

/// With what a harness is started.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Launch {
    pub harness_version: String,
    pub models: Vec<ModelInfo>,
    /// Ids of those that take no images.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub text_models: Vec<String>,
    /// Whether a conversation of this session is there to be resumed.
    pub resume: bool,
    /// Whether the user is to be asked before each tool runs.
    #[serde(default)]
    pub ask_permissions: bool,
    /// What the policy came to; a launch of an earlier release does not say.
    #[serde(default)]
    pub tier: Option<Tier>,
    #[serde(default)]
    pub profile: Option<String>,
}

/// A prompt that waits, or that was given to the harness.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Queued {
    pub entry: lodge_proto::session::QueueEntry,
    pub sender: Sender,
}

impl Queued {
    /// The entry's id.
    pub fn id(&self) -> QueueId {
        self.entry.id
    }
}

/// The answer to a command, and how to find who asked.
#[derive(Debug, Clone, PartialEq)]
pub struct Reply {
    pub account: String,
    pub client_id: String,
    pub result: Result<serde_json::Value, ErrorBody>,
}
