//! Descriptions of sessions: what they are, what they can, how they stand.

use crate::ids::{MessageId, QueueId, SessionId, ToolCallId, TurnId};
use crate::input::InputRequest;
use crate::limits::SessionLimits;
use crate::message::{Message, Usage};
use crate::part::{Part, PlanEntry};
use crate::workspace::{NetworkSummary, SeenFinding};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use ts_rs::TS;

/// Life of a session's harness. Allowed steps are in the runner's one table of transitions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, TS)]
#[serde(rename_all = "snake_case")]
pub enum SessionStatus {
    Starting,
    Idle,
    Working,
    Aborting,
    Stopping,
    /// No harness runs; the next prompt resumes it.
    Stopped,
    Failed,
}

/// What a working agent is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, TS)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    Initializing,
    Generating,
    Thinking,
    ToolRunning,
    Compacting,
    Retrying,
    WaitingForInput,
}

/// Isolation tier of a guest.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, TS)]
#[serde(rename_all = "snake_case")]
pub enum Tier {
    #[default]
    Process,
    Container,
    Microvm,
}

/// A model as a session offers it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, TS)]
#[ts(optional_fields)]
pub struct ModelInfo {
    /// What `set_model` takes: `provider/model`.
    pub id: String,
    pub name: String,
    pub provider: String,
    /// Tokens; absent where unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(type = "number")]
    pub context_window: Option<u64>,
    #[serde(default)]
    pub reasoning: bool,
}

/// A mode of the harness (plan, ask, full …).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, TS)]
#[ts(optional_fields)]
pub struct ModeInfo {
    pub id: String,
    pub name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
}

/// A slash command of the harness.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, TS)]
#[ts(optional_fields)]
pub struct CommandInfo {
    pub name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
}

/// What a session can do. It comes from the harness at start, never from a table of names in a client.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(default)]
pub struct Capabilities {
    pub steer: bool,
    pub follow_up: bool,
    pub queue: bool,
    pub abort: bool,
    pub abort_retry: bool,
    /// A new session can go on from a copy of the whole conversation.
    pub fork: bool,
    /// It can also go on from before one of the user's messages.
    pub fork_at_message: bool,
    pub compact: bool,
    pub resume: bool,
    pub images: bool,
    pub plan: bool,
    pub permissions: bool,
    pub set_title: bool,
    pub models: Vec<ModelInfo>,
    pub thinking_levels: Vec<String>,
    pub modes: Vec<ModeInfo>,
}

/// Where a queued prompt stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "snake_case")]
pub enum QueueState {
    /// Waits for the end of the turn.
    Waiting,
    /// Given to the harness, which has not taken it up yet.
    Steering,
    /// Its delivery broke off: it may or may not have reached the harness. Never resent by itself.
    Uncertain,
}

/// One prompt that waits.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, TS)]
pub struct QueueEntry {
    pub id: QueueId,
    pub state: QueueState,
    pub parts: Vec<Part>,
    #[ts(type = "number")]
    pub created_at: u64,
}

/// What a session is: one row of the session list.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, TS)]
#[ts(optional_fields)]
pub struct SessionInfo {
    pub id: SessionId,
    pub title: String,
    pub harness: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub harness_version: Option<String>,
    pub workspace: String,
    pub tier: Tier,
    /// Profile of the sandbox's policy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub profile: Option<String>,
    /// What it may use of what its user may; absent: all of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<SessionLimits>,
    pub status: SessionStatus,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub thinking_level: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<SessionId>,
    /// Other open sessions on the same workspace: both may write its files.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub shares_workspace_with: Vec<SessionId>,
    /// A question waits for the user.
    #[serde(default)]
    pub needs_input: bool,
    #[ts(type = "number")]
    pub created_at: u64,
    #[ts(type = "number")]
    pub updated_at: u64,
    #[ts(type = "number")]
    pub message_count: u64,
}

/// A tool call that runs now.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, TS)]
pub struct RunningTool {
    pub tool_call_id: ToolCallId,
    pub name: String,
    #[ts(type = "unknown")]
    pub input: Value,
    /// Output so far.
    pub output: Vec<Part>,
    #[ts(type = "number")]
    pub started_at: u64,
}

/// Everything a client needs to show a session at one moment: a reload costs this one frame.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, TS)]
#[ts(optional_fields)]
pub struct SessionState {
    pub session: SessionInfo,
    pub capabilities: Capabilities,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<Phase>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub turn_id: Option<TurnId>,
    /// The turn has ended and waits for history.
    #[serde(default)]
    pub persisting: bool,
    /// The newest finished messages, in order of their index. Older ones come from `get_messages`.
    pub messages: Vec<Message>,
    /// Messages before the first of `messages` exist.
    pub has_older: bool,
    /// Messages that still stream: their parts as far as received.
    pub streaming: Vec<Message>,
    pub running_tools: Vec<RunningTool>,
    pub requests: Vec<InputRequest>,
    pub queue: Vec<QueueEntry>,
    pub plan: Vec<PlanEntry>,
    pub commands: Vec<CommandInfo>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<String>,
    /// Sum over the session.
    pub usage: Usage,
    /// Tokens of the context now in use, as the harness reports it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(type = "number")]
    pub context_tokens: Option<u64>,
    /// Why the last turn failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_error: Option<crate::error::ErrorBody>,
    /// What turns left in the workspace that is worth a look: one a kind and path, the newest 500 in the order in
    /// which they were said.
    #[serde(default)]
    pub findings: Vec<SeenFinding>,
    /// The last findings were cut: there are more.
    #[serde(default)]
    pub findings_truncated: bool,
    #[serde(default)]
    pub network: NetworkSummary,
}

/// Place of a message within its session: what history pages by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, TS)]
pub struct MessageAnchor {
    pub message_id: MessageId,
    #[ts(type = "number")]
    pub index: u64,
}
