//! Shapes of pi's lines. Fields that are not used are not read; unknown events are told apart from malformed ones.

use crate::harness::shared;
use serde::Deserialize;
use serde_json::Value;

pub(super) use crate::harness::shared::{PROVIDER_PREFIX, canonical_model};

/// `provider/model` as pi takes it.
pub(super) fn native_model(model: &str) -> Option<(String, &str)> {
    let (provider, id) = model.split_once('/')?;
    Some((format!("{PROVIDER_PREFIX}{provider}"), id))
}

/// Why a line was not understood.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Malformed {
    NotJson,
    Unknown(String),
    Shape(String),
}

#[derive(Debug, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", rename_all_fields = "camelCase")]
pub(super) enum Incoming {
    Response(Response),
    AgentStart {},
    AgentSettled {},
    MessageStart {
        message: Message,
    },
    MessageUpdate {
        assistant_message_event: Delta,
    },
    MessageEnd {
        message: Message,
    },
    ToolExecutionStart {
        tool_call_id: String,
        tool_name: String,
        #[serde(default)]
        args: Value,
    },
    ToolExecutionUpdate {
        tool_call_id: String,
        #[serde(default)]
        partial_result: ToolResult,
    },
    ToolExecutionEnd {
        tool_call_id: String,
        tool_name: String,
        #[serde(default)]
        result: ToolResult,
        #[serde(default)]
        is_error: bool,
        duration_ms: Option<u64>,
    },
    AutoRetryStart {
        #[serde(default)]
        attempt: u32,
        max_attempts: Option<u32>,
        #[serde(default)]
        delay_ms: u64,
        #[serde(default)]
        error_message: String,
    },
    AutoRetryEnd {
        #[serde(default)]
        success: bool,
        #[serde(default)]
        attempt: u32,
    },
    CompactionStart {
        #[serde(default)]
        reason: String,
    },
    CompactionEnd {
        result: Option<CompactionResult>,
        error_message: Option<String>,
        #[serde(default)]
        aborted: bool,
    },
    ThinkingLevelChanged {
        level: String,
    },
    SessionInfoChanged {
        name: Option<String>,
    },
    ExtensionUiRequest(Value),
    ExtensionError {
        #[serde(default)]
        error: String,
    },
    /// Events that say nothing beyond what others say.
    #[serde(
        rename = "turn_start",
        alias = "turn_end",
        alias = "agent_end",
        alias = "queue_update",
        alias = "entry_appended",
        alias = "bash_execution_update",
        alias = "summarization_retry_start",
        alias = "summarization_retry_end"
    )]
    Quiet {},
}

/// Events whose type is known, so that a wrong shape is not taken for an unknown event.
const KNOWN: &[&str] = &[
    "response",
    "agent_start",
    "agent_settled",
    "message_start",
    "message_update",
    "message_end",
    "tool_execution_start",
    "tool_execution_update",
    "tool_execution_end",
    "auto_retry_start",
    "auto_retry_end",
    "compaction_start",
    "compaction_end",
    "thinking_level_changed",
    "session_info_changed",
    "extension_ui_request",
    "extension_error",
];

pub(super) fn parse(text: &str) -> Result<Incoming, Malformed> {
    match serde_json::from_str(text) {
        Ok(incoming) => Ok(incoming),
        Err(error) => {
            let value: Value = serde_json::from_str(text).map_err(|_| Malformed::NotJson)?;
            match value.get("type").and_then(Value::as_str) {
                Some(kind) if !KNOWN.contains(&kind) => {
                    Err(Malformed::Unknown(kind.chars().take(40).collect()))
                }
                Some(_) => Err(Malformed::Shape(error.to_string())),
                None => Err(Malformed::Shape("it has no `type`".to_owned())),
            }
        }
    }
}

#[derive(Debug, Deserialize)]
pub(super) struct Response {
    /// What we sent: a string; the requests of others may have any value.
    #[serde(default)]
    pub(super) id: Value,
    #[serde(default)]
    pub(super) command: String,
    #[serde(default)]
    pub(super) success: bool,
    #[serde(default)]
    pub(super) data: Value,
    pub(super) error: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Message {
    pub(super) role: String,
    #[serde(default)]
    pub(super) content: Content,
    pub(super) provider: Option<String>,
    pub(super) model: Option<String>,
    pub(super) stop_reason: Option<String>,
    #[serde(rename = "errorMessage")]
    pub(super) error: Option<String>,
    pub(super) usage: Option<Usage>,
    pub(super) tool_call_id: Option<String>,
    pub(super) tool_name: Option<String>,
    pub(super) details: Option<Value>,
    #[serde(default)]
    pub(super) is_error: bool,
}

/// Content is a text or a list of blocks.
pub(super) type Content = shared::Content<KnownBlock>;
pub(super) type Block = shared::Block<KnownBlock>;

impl shared::Known for KnownBlock {
    fn of_text(text: String) -> Self {
        Self::Text { text }
    }

    fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text { text } => Some(text),
            _ => None,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(tag = "type", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub(super) enum KnownBlock {
    Text {
        text: String,
    },
    Thinking {
        #[serde(default)]
        thinking: String,
        #[serde(default)]
        redacted: bool,
    },
    ToolCall {
        id: String,
        name: String,
        #[serde(default)]
        arguments: Value,
    },
    Image {
        #[serde(default)]
        data: String,
        #[serde(default)]
        mime_type: String,
    },
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Usage {
    pub(super) input: u64,
    pub(super) output: u64,
    pub(super) cache_read: u64,
    pub(super) cache_write: u64,
    pub(super) total_tokens: u64,
    pub(super) cost: Cost,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Cost {
    /// US dollars.
    pub(super) total: f64,
}

impl Usage {
    pub(super) fn canonical(&self) -> lodge_proto::message::Usage {
        // Costs are far below 2^53 nano-dollars (nine million dollars): the conversion is exact enough.
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let cost_nanodollars = (self.cost.total.max(0.0) * 1e9).round() as u64;
        lodge_proto::message::Usage {
            input: self.input,
            output: self.output,
            cache_read: self.cache_read,
            cache_write: self.cache_write,
            cost_nanodollars,
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", rename_all_fields = "camelCase")]
pub(super) enum Delta {
    #[serde(rename = "text_delta")]
    Text { content_index: u32, delta: String },
    #[serde(rename = "thinking_delta")]
    Thinking { content_index: u32, delta: String },
    ToolcallStart {
        content_index: u32,
        #[serde(default)]
        id: String,
        #[serde(default)]
        tool_name: String,
    },
    #[serde(rename = "toolcall_delta")]
    ToolcallArguments { content_index: u32, delta: String },
    ToolcallEnd {
        content_index: u32,
        tool_call: KnownBlock,
    },
    #[serde(other)]
    Quiet,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct ToolResult {
    pub(super) content: Content,
    pub(super) details: Option<Value>,
}

impl ToolResult {
    pub(super) fn text(&self) -> String {
        self.content.text()
    }
}

#[derive(Debug, Deserialize)]
pub(super) struct CompactionResult {
    pub(super) summary: Option<String>,
}
