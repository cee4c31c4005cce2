//! Shapes of Claude Code's lines. Fields that are not used are not read; unknown lines are told apart from malformed
//! ones.

use crate::harness::shared;
use serde::Deserialize;
use serde_json::Value;

/// Why a line was not understood.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Malformed {
    NotJson,
    Unknown(String),
    Shape(String),
}

#[derive(Debug, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum Incoming {
    ControlRequest {
        request_id: String,
        request: Value,
    },
    ControlResponse {
        response: Response,
    },
    ControlCancelRequest {
        request_id: String,
    },
    System(System),
    StreamEvent {
        event: StreamEvent,
        parent_tool_use_id: Option<String>,
    },
    Assistant(Assistant),
    User(User),
    Result(Outcome),
    ToolProgress {
        tool_use_id: String,
    },
    RateLimitEvent {
        #[serde(default)]
        rate_limit_info: Value,
    },
    /// Lines that say nothing beyond what others say.
    #[serde(
        rename = "keep_alive",
        alias = "prompt_suggestion",
        alias = "command_lifecycle"
    )]
    Quiet {},
}

/// Lines whose type is known, so that a wrong shape is not taken for an unknown line.
const KNOWN: &[&str] = &[
    "control_request",
    "control_response",
    "control_cancel_request",
    "system",
    "stream_event",
    "assistant",
    "user",
    "result",
    "tool_progress",
    "rate_limit_event",
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

/// The answer to a control request.
#[derive(Debug, Deserialize)]
pub(super) struct Response {
    #[serde(default)]
    pub(super) subtype: String,
    #[serde(default)]
    pub(super) request_id: String,
    #[serde(default, rename = "response")]
    pub(super) body: Value,
    pub(super) error: Option<String>,
}

/// `system`: which fields are there depends on the subtype.
#[derive(Debug, Deserialize)]
pub(super) struct System {
    #[serde(default)]
    pub(super) subtype: String,
    pub(super) session_id: Option<String>,
    pub(super) model: Option<String>,
    #[serde(rename = "permissionMode")]
    pub(super) permission_mode: Option<String>,
    pub(super) status: Option<String>,
    pub(super) compact_result: Option<String>,
    pub(super) compact_error: Option<String>,
    #[serde(default)]
    pub(super) compact_metadata: CompactMetadata,
    #[serde(default)]
    pub(super) attempt: u32,
    pub(super) max_retries: Option<u32>,
    /// Milliseconds, with a fraction.
    #[serde(default)]
    pub(super) retry_delay_ms: f64,
    pub(super) error_status: Option<u16>,
    pub(super) error: Option<Value>,
    pub(super) tool_use_id: Option<String>,
    pub(super) summary: Option<String>,
    pub(super) content: Option<Value>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct CompactMetadata {
    pub(super) trigger: String,
    pub(super) post_tokens: Option<u64>,
}

/// A whole block of an assistant's message, or a message that the harness made itself.
#[derive(Debug, Deserialize)]
pub(super) struct Assistant {
    pub(super) message: Message,
    pub(super) parent_tool_use_id: Option<String>,
    pub(super) uuid: Option<String>,
    /// The model call failed: the text of the message is the error.
    pub(super) error: Option<Value>,
}

#[derive(Debug, Deserialize)]
pub(super) struct User {
    pub(super) message: Message,
    pub(super) parent_tool_use_id: Option<String>,
    pub(super) uuid: Option<String>,
    #[serde(default, rename = "isReplay")]
    pub(super) is_replay: bool,
    #[serde(default, rename = "isSynthetic")]
    pub(super) is_synthetic: bool,
    #[serde(default)]
    pub(super) tool_use_result: Value,
}

#[derive(Debug, Deserialize)]
pub(super) struct Message {
    #[serde(default)]
    pub(super) id: String,
    pub(super) model: Option<String>,
    #[serde(default)]
    pub(super) content: Content,
    pub(super) stop_reason: Option<String>,
    #[serde(default)]
    pub(super) usage: Usage,
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
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum KnownBlock {
    Text {
        text: String,
    },
    /// Where the provider keeps the thoughts to itself only their signature is there.
    Thinking {
        #[serde(default)]
        thinking: String,
    },
    RedactedThinking {},
    ToolUse {
        id: String,
        name: String,
        #[serde(default)]
        input: Value,
    },
    ToolResult {
        tool_use_id: String,
        #[serde(default)]
        content: Content,
        is_error: Option<bool>,
    },
    Image {
        #[serde(default)]
        source: ImageSource,
    },
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(super) struct ImageSource {
    pub(super) media_type: String,
    pub(super) data: String,
}

/// The provider's own stream, passed through.
#[derive(Debug, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum StreamEvent {
    MessageStart {
        message: Message,
    },
    ContentBlockStart {
        index: u32,
        content_block: Block,
    },
    ContentBlockDelta {
        index: u32,
        delta: Delta,
    },
    ContentBlockStop {
        index: u32,
    },
    MessageDelta {
        #[serde(default)]
        delta: MessageChange,
        #[serde(default)]
        usage: Usage,
    },
    MessageStop,
    /// `ping`, and what later versions add: the whole blocks follow in any case.
    #[serde(other)]
    Quiet,
}

#[derive(Debug, Deserialize)]
#[serde(tag = "type")]
pub(super) enum Delta {
    #[serde(rename = "text_delta")]
    Text { text: String },
    #[serde(rename = "thinking_delta")]
    Thinking { thinking: String },
    #[serde(rename = "input_json_delta")]
    Input { partial_json: String },
    /// Signatures and citations: the harness keeps them for itself.
    #[serde(other)]
    Quiet,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct MessageChange {
    pub(super) stop_reason: Option<String>,
}

/// Tokens; what a line does not say stays as it was.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Usage {
    #[serde(rename = "input_tokens")]
    pub(super) input: Option<u64>,
    #[serde(rename = "output_tokens")]
    pub(super) output: Option<u64>,
    #[serde(rename = "cache_read_input_tokens")]
    pub(super) cache_read: Option<u64>,
    #[serde(rename = "cache_creation_input_tokens")]
    pub(super) cache_write: Option<u64>,
}

impl Usage {
    pub(super) fn merge(&mut self, newer: Self) {
        self.input = newer.input.or(self.input);
        self.output = newer.output.or(self.output);
        self.cache_read = newer.cache_read.or(self.cache_read);
        self.cache_write = newer.cache_write.or(self.cache_write);
    }

    /// The harness's own costs are left out: it prices an unknown model like its default one.
    pub(super) fn canonical(&self) -> lodge_proto::message::Usage {
        lodge_proto::message::Usage {
            input: self.input.unwrap_or_default(),
            output: self.output.unwrap_or_default(),
            cache_read: self.cache_read.unwrap_or_default(),
            cache_write: self.cache_write.unwrap_or_default(),
            cost_nanodollars: 0,
        }
    }
}

/// `result`: the end of a run.
#[derive(Debug, Deserialize)]
pub(super) struct Outcome {
    #[serde(default)]
    pub(super) subtype: String,
    #[serde(default)]
    pub(super) is_error: bool,
    pub(super) api_error_status: Option<u16>,
    pub(super) terminal_reason: Option<String>,
    pub(super) result: Option<String>,
    #[serde(default)]
    pub(super) errors: Vec<String>,
    #[serde(default)]
    pub(super) usage: Usage,
}

/// What `initialize` answers with.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Initialized {
    pub(super) commands: Vec<Command>,
    pub(super) models: Vec<ListedModel>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Command {
    pub(super) name: String,
    pub(super) description: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ListedModel {
    pub(super) value: String,
    pub(super) resolved_model: Option<String>,
    #[serde(default)]
    pub(super) display_name: String,
    #[serde(default)]
    pub(super) supported_effort_levels: Vec<String>,
}

/// A model's name without what Claude Code appends for a larger context window, `[1m]`.
pub(super) fn plain_model(native: &str) -> &str {
    native.split('[').next().unwrap_or(native)
}
