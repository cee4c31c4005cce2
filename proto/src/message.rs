//! Durable messages.

use crate::ids::{MessageId, SessionId, TurnId};
use crate::part::Part;
use serde::{Deserialize, Serialize};
use ts_rs::TS;

/// Who speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, TS)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    User,
    Assistant,
    System,
    Tool,
}

/// The person or program that wrote a user message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, TS)]
pub struct Sender {
    pub account: String,
    pub name: String,
}

/// Why an assistant stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "snake_case")]
pub enum StopReason {
    EndTurn,
    ToolUse,
    MaxTokens,
    Refusal,
    Aborted,
    Error,
    /// The harness or its pipes ended; what was received is kept.
    Interrupted,
}

/// Tokens and cost. Classes are apart: `input` does not contain the cached tokens.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(default)]
pub struct Usage {
    #[ts(type = "number")]
    pub input: u64,
    #[ts(type = "number")]
    pub output: u64,
    #[ts(type = "number")]
    pub cache_read: u64,
    #[ts(type = "number")]
    pub cache_write: u64,
    /// Cost in nano-dollars (10⁻⁹ USD), as far as known.
    #[ts(type = "number")]
    pub cost_nanodollars: u64,
}

impl Usage {
    /// The sum of both, saturating.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            input: self.input.saturating_add(other.input),
            output: self.output.saturating_add(other.output),
            cache_read: self.cache_read.saturating_add(other.cache_read),
            cache_write: self.cache_write.saturating_add(other.cache_write),
            cost_nanodollars: self.cost_nanodollars.saturating_add(other.cost_nanodollars),
        }
    }
}

/// One durable message of a session.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, TS)]
#[ts(optional_fields)]
pub struct Message {
    pub id: MessageId,
    pub session_id: SessionId,
    pub turn_id: TurnId,
    /// Position in the session, from 0, without gap.
    #[ts(type = "number")]
    pub index: u64,
    pub role: Role,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sender: Option<Sender>,
    pub parts: Vec<Part>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider: Option<String>,
    pub harness: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop_reason: Option<StopReason>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<Usage>,
    /// UTC milliseconds.
    #[ts(type = "number")]
    pub created_at: u64,
    /// Rises when the message is replaced; the first is 1.
    pub version: u32,
}
