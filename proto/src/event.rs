//! Events: what a session does, as a log of numbered events.

use crate::error::{ErrorBody, ErrorCode};
use crate::ids::{MessageId, RequestId, SessionId, ToolCallId, TurnId};
use crate::input::{ApprovalScope, InputAnswer, InputRequest};
use crate::message::{Message, Role, Usage};
use crate::opaque::{Known, Opaque};
use crate::part::{Part, PlanEntry};
use crate::session::{Capabilities, CommandInfo, Phase, QueueEntry, SessionInfo, SessionStatus};
use crate::workspace::Finding;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use ts_rs::TS;

/// One event of a session's log.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, TS)]
#[ts(optional_fields)]
pub struct Event {
    pub session_id: SessionId,
    /// Starts at 1, has no gap, never repeats within an epoch. 0 marks `session.heartbeat`, which has no number.
    #[ts(type = "number")]
    pub seq: u64,
    /// UTC milliseconds of the record that caused it.
    #[ts(type = "number")]
    pub ts: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub turn_id: Option<TurnId>,
    #[serde(flatten)]
    pub body: EventBody,
}

/// How a turn ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, TS)]
#[serde(rename_all = "snake_case")]
pub enum TurnOutcome {
    Completed,
    Aborted,
    Failed,
    /// Harness, shim or machine died; what was received is kept and the session stays resumable.
    Interrupted,
}

impl TurnOutcome {
    /// As on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Completed => "completed",
            Self::Aborted => "aborted",
            Self::Failed => "failed",
            Self::Interrupted => "interrupted",
        }
    }
}

/// Weight of a notice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "snake_case")]
pub enum NotifyLevel {
    Info,
    Warning,
    Error,
}

/// Why a context is compacted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "snake_case")]
pub enum CompactReason {
    Manual,
    Threshold,
    Overflow,
}

/// What became of a guest's connections to one place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "snake_case")]
pub enum NetworkDecision {
    Allowed,
    Denied,
    /// The user is being asked; another decision follows.
    Asked,
}

/// How an event may be treated for a reader that lags.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Delivery {
    /// Never dropped.
    Must,
    /// May give way to a snapshot of its part.
    Foldable,
    /// A gauge: only the newest counts.
    Lossy,
}

macro_rules! events {
    ($($(#[$doc:meta])* $variant:ident = $tag:literal, $class:ident {
        $($(#[$field_meta:meta])* $field:ident : $ty:ty),* $(,)?
    })*) => {
        /// What happened, tagged by `event`.
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize, TS)]
        #[serde(tag = "event")]
        #[ts(optional_fields)]
        pub enum EventBody {
            $($(#[$doc])* #[serde(rename = $tag)] $variant { $($(#[$field_meta])* $field: $ty),* },)*
            /// An event that this build does not know.
            #[serde(untagged)]
            #[ts(skip)]
            Other(Opaque<EventTags>),
        }

        /// The events this build knows.
        #[derive(Debug, Clone, Copy)]
        pub struct EventTags;

        impl Known for EventTags {
            const TAG: &'static str = "event";
            const TAGS: &'static [&'static str] = &[$($tag),*];
        }

        impl EventBody {
            /// The tag, `turn.started` for example.
            pub fn tag(&self) -> &str {
                match self {
                    $(Self::$variant { .. } => $tag,)*
                    Self::Other(opaque) => opaque.tag(),
                }
            }

            /// How it may be treated for a reader that lags.
            pub const fn delivery(&self) -> Delivery {
                match self {
                    $(Self::$variant { .. } => Delivery::$class,)*
                    Self::Other(_) => Delivery::Must,
                }
            }
        }
    };
}

events! {
    SessionCreated = "session.created", Must { session: SessionInfo }
    /// The harness was stopped, or the session was deleted.
    SessionClosed = "session.closed", Must { reason: String }
    SessionTitleChanged = "session.title_changed", Must { title: String }
    SessionCapabilities = "session.capabilities", Must { capabilities: Capabilities }
    SessionHeartbeat = "session.heartbeat", Lossy { status: SessionStatus }

    TurnStarted = "turn.started", Must {}
    /// Exactly one a turn, after the turn is in history.
    TurnEnded = "turn.ended", Must {
        outcome: TurnOutcome,
        usage: Usage,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        error: Option<ErrorBody>,
    }

    AgentWorking = "agent.working", Must { phase: Phase }
    AgentIdle = "agent.idle", Must {
        /// Messages of the session: a client whose copy has another count is stale.
        #[ts(type = "number")]
        message_version: u64,
    }
    AgentError = "agent.error", Must { code: ErrorCode, message: String, recoverable: bool }
    AgentInputNeeded = "agent.input_needed", Must { request: InputRequest }
    AgentInputResolved = "agent.input_resolved", Must {
        request_id: RequestId, answer: InputAnswer,
        /// Nobody was asked: an approval of this scope was remembered.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        remembered: Option<ApprovalScope>,
    }

    StreamMessageStart = "stream.message_start", Must { message_id: MessageId, role: Role }
    StreamTextDelta = "stream.text_delta", Foldable { message_id: MessageId, part_index: u32, delta: String }
    StreamThinkingDelta = "stream.thinking_delta", Foldable { message_id: MessageId, part_index: u32, delta: String }
    StreamToolCallStart = "stream.tool_call_start", Must {
        message_id: MessageId, part_index: u32, tool_call_id: ToolCallId, name: String,
    }
    StreamToolCallDelta = "stream.tool_call_delta", Foldable {
        message_id: MessageId, part_index: u32, tool_call_id: ToolCallId, delta: String,
    }
    StreamToolCallEnd = "stream.tool_call_end", Must {
        message_id: MessageId, part_index: u32, tool_call_id: ToolCallId, name: String,
        #[ts(type = "unknown")]
        input: Value,
    }
    /// The whole message: it replaces its deltas.
    StreamMessageEnd = "stream.message_end", Must { message: Message }
    /// A message that was started comes to nothing, a failed attempt that is retried for example.
    StreamMessageDiscarded = "stream.message_discarded", Must { message_id: MessageId }

    ToolStart = "tool.start", Must {
        tool_call_id: ToolCallId, name: String,
        #[ts(type = "unknown")]
        input: Value,
    }
    ToolProgress = "tool.progress", Foldable {
        tool_call_id: ToolCallId, name: String,
        /// Text to append to the output so far.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        delta: Option<String>,
        /// The whole output so far, where it is no mere extension of what was sent before.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        output: Option<Vec<Part>>,
    }
    ToolEnd = "tool.end", Must {
        tool_call_id: ToolCallId, name: String, output: Vec<Part>, is_error: bool,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[ts(type = "number")]
        duration_ms: Option<u64>,
    }

    RetryStart = "retry.start", Must {
        attempt: u32,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        max_attempts: Option<u32>,
        #[ts(type = "number")]
        delay_ms: u64,
        error: ErrorBody,
    }
    RetryEnd = "retry.end", Must { success: bool, attempt: u32 }
    CompactStart = "compact.start", Must { reason: CompactReason }
    CompactEnd = "compact.end", Must {
        success: bool,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        summary: Option<String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        error: Option<ErrorBody>,
    }
    StreamResyncRequired = "stream.resync_required", Must {
        #[ts(type = "number")]
        from_seq: u64,
    }

    PlanUpdated = "plan.updated", Must { entries: Vec<PlanEntry> }
    QueueUpdated = "queue.updated", Must { entries: Vec<QueueEntry> }
    CommandsUpdated = "commands.updated", Must { commands: Vec<CommandInfo> }
    ConfigModelChanged = "config.model_changed", Must { model: String }
    ConfigThinkingLevelChanged = "config.thinking_level_changed", Must { level: String }
    ConfigModeChanged = "config.mode_changed", Must { mode: String }
    UsageUpdated = "usage.updated", Lossy {
        /// Sum over the session.
        usage: Usage,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[ts(type = "number")]
        context_tokens: Option<u64>,
    }
    /// New in the workspace since the turn before: what tools outside of the sandbox may trip over.
    WorkspaceFindings = "workspace.findings", Must {
        items: Vec<Finding>,
        /// There are more, or the workspace was too large to look through.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        truncated: bool,
    }
    /// What the guest reached or tried to reach besides models. Equal ones of about a second are counted together.
    NetworkAccess = "network.access", Must {
        /// A name in lower case, an address, or words in parentheses where there is none.
        host: String,
        port: u16,
        decision: NetworkDecision,
        /// What decided: a pattern with its list, or a key of the policy.
        rule: String,
        /// For people; empty where the rule says it all.
        reason: String,
        /// Connections that began; 0 where some only ended.
        connections: u32,
        /// Bytes from the guest, of connections that ended.
        #[ts(type = "number")]
        sent_bytes: u64,
        /// Bytes to the guest, of connections that ended.
        #[ts(type = "number")]
        received_bytes: u64,
    }
    Notify = "notify", Must { level: NotifyLevel, message: String }
    /// The session's status, or a line of status text of the harness.
    Status = "status", Must {
        status: SessionStatus,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        text: Option<String>,
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        persisting: bool,
    }
}

impl EventBody {
    /// State events may follow a turn's end; all others belong inside their turn.
    pub fn is_state(&self) -> bool {
        let tag = self.tag();
        // It speaks about the log, not about a turn.
        let about_the_log = matches!(self, Self::StreamResyncRequired { .. });
        about_the_log
            || !(tag.starts_with("stream.")
                || tag.starts_with("tool.")
                || tag.starts_with("turn.")
                || tag.starts_with("retry."))
    }
}
