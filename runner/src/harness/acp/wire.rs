//! Shapes of ACP's lines. Both versions are read by one set of types: what an agent says counts, not which version
//! it announced. Fields that are not used are not read.

use serde::Deserialize;
use serde_json::Value;

/// One JSON-RPC message of the agent.
#[derive(Debug)]
pub(super) enum Frame {
    Request {
        id: Value,
        method: String,
        params: Value,
    },
    Notification {
        method: String,
        params: Value,
    },
    /// The answer to a request of ours; the error as it came.
    Answer {
        id: Value,
        result: Result<Value, Value>,
    },
}

/// One message; why it is none. Its fields are moved out of it: most lines are pieces of text, in great number.
pub(super) fn frame(value: Value) -> Result<Frame, String> {
    let Value::Object(mut fields) = value else {
        return Err("it is no object".to_owned());
    };
    let mut take = |name: &str| fields.remove(name).unwrap_or_default();
    let id = take("id");
    let method = match take("method") {
        Value::Null => None,
        Value::String(method) => Some(method),
        _ => return Err("its `method` is no text".to_owned()),
    };
    match (method, id) {
        (Some(method), Value::Null) => Ok(Frame::Notification {
            method,
            params: take("params"),
        }),
        (Some(method), id) => Ok(Frame::Request {
            id,
            method,
            params: take("params"),
        }),
        (None, Value::Null) => Err("it has neither `method` nor `id`".to_owned()),
        (None, id) => Ok(Frame::Answer {
            id,
            result: match take("error") {
                Value::Null => Ok(take("result")),
                error => Err(error),
            },
        }),
    }
}

/// How a request is found again: ids of ours are texts, those of a recording may be numbers.
pub(super) fn key(id: &Value) -> String {
    id.as_str().map_or_else(|| id.to_string(), str::to_owned)
}

/// What a `session/update` says.
#[derive(Debug, Deserialize)]
#[serde(
    tag = "sessionUpdate",
    rename_all = "snake_case",
    rename_all_fields = "camelCase"
)]
pub(super) enum Said {
    UserMessageChunk(Chunk),
    AgentMessageChunk(Chunk),
    AgentThoughtChunk(Chunk),
    UserMessage(Whole),
    AgentMessage(Whole),
    AgentThought(Whole),
    ToolCall(ToolFields),
    ToolCallUpdate(ToolFields),
    ToolCallContentChunk {
        tool_call_id: String,
        content: Value,
    },
    TerminalUpdate(TerminalFields),
    TerminalOutputChunk {
        terminal_id: String,
        data: String,
    },
    Plan {
        #[serde(default)]
        entries: Vec<Value>,
    },
    PlanUpdate {
        plan: Value,
    },
    PlanRemoved {
        #[serde(alias = "planId")]
        id: String,
    },
    AvailableCommandsUpdate {
        #[serde(default)]
        available_commands: Vec<Value>,
    },
    CurrentModeUpdate {
        current_mode_id: String,
    },
    ConfigOptionUpdate {
        #[serde(default)]
        config_options: Vec<Value>,
    },
    SessionInfoUpdate {
        title: Option<String>,
    },
    UsageUpdate {
        used: Option<u64>,
        cost: Option<Cost>,
    },
    StateUpdate(Foreground),
    Notice {
        #[serde(default)]
        severity: String,
        title: String,
        description: Option<String>,
    },
    CompactionUpdate {
        #[serde(default)]
        status: String,
        summary: Option<Vec<Value>>,
        error: Option<String>,
    },
    CompactionSummaryChunk {
        content: Value,
    },
}

/// Updates whose type is known, so that a wrong shape is not taken for an unknown update.
const KNOWN: &[&str] = &[
    "user_message_chunk",
    "agent_message_chunk",
    "agent_thought_chunk",
    "user_message",
    "agent_message",
    "agent_thought",
    "tool_call",
    "tool_call_update",
    "tool_call_content_chunk",
    "terminal_update",
    "terminal_output_chunk",
    "plan",
    "plan_update",
    "plan_removed",
    "available_commands_update",
    "current_mode_update",
    "config_option_update",
    "session_info_update",
    "usage_update",
    "state_update",
    "notice",
    "compaction_update",
    "compaction_summary_chunk",
];

/// An update that was not understood.
#[derive(Debug)]
pub(super) enum Strange {
    /// Of a type that is not known; whole.
    Unknown(String, Value),
    Shape(String),
}

pub(super) fn update(mut value: Value) -> Result<Said, Strange> {
    if let Some(piece) = piece(&mut value) {
        return Ok(piece);
    }
    let Some(kind) = value.get("sessionUpdate").and_then(Value::as_str) else {
        return Err(Strange::Shape("an update without `sessionUpdate`".to_owned()));
    };
    if !KNOWN.contains(&kind) {
        let kind = kind.chars().take(40).collect();
        return Err(Strange::Unknown(kind, value));
    }
    let kind = kind.to_owned();
    serde_json::from_value(value).map_err(|error| Strange::Shape(format!("{kind}: {error}")))
}

/// A piece of a message, which is nearly every update: taken apart without reading it into anything else first.
fn piece(value: &mut Value) -> Option<Said> {
    let said = match value.get("sessionUpdate")?.as_str()? {
        "agent_message_chunk" => Said::AgentMessageChunk,
        "agent_thought_chunk" => Said::AgentThoughtChunk,
        "user_message_chunk" => Said::UserMessageChunk,
        _ => return None,
    };
    let message_id = match value.get_mut("messageId").map(Value::take) {
        None | Some(Value::Null) => None,
        Some(Value::String(id)) => Some(id),
        Some(other) => {
            value["messageId"] = other;
            return None;
        }
    };
    let content = value.get_mut("content").map(Value::take).unwrap_or_default();
    Some(said(Chunk { message_id, content }))
}

/// A piece of a message.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Chunk {
    pub(super) message_id: Option<String>,
    #[serde(default)]
    pub(super) content: Value,
}

/// A field of version 2 that patches.
#[derive(Debug, Default)]
pub(super) enum Patch<T> {
    /// It was left out: what there is stays.
    #[default]
    Stay,
    /// It is `null`.
    Clear,
    Replace(T),
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Patch<T> {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        Ok(Option::deserialize(from)?.map_or(Self::Clear, Self::Replace))
    }
}

impl<T: Default> Patch<T> {
    /// What is in its place now, where anything changes.
    pub(super) fn value(self) -> Option<T> {
        match self {
            Self::Stay => None,
            Self::Clear => Some(T::default()),
            Self::Replace(value) => Some(value),
        }
    }
}

/// A message as a whole: it replaces what was said of it before.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Whole {
    pub(super) message_id: String,
    #[serde(default)]
    content: Patch<Vec<Value>>,
}

impl Whole {
    /// What replaces the message, where anything does; nothing at all where it is cleared.
    pub(super) fn replacement(&mut self) -> Option<Vec<Value>> {
        std::mem::take(&mut self.content).value()
    }
}

/// What an update says of a tool call; what it leaves out stays as it was.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ToolFields {
    pub(super) tool_call_id: String,
    pub(super) title: Option<String>,
    pub(super) name: Option<String>,
    pub(super) kind: Option<String>,
    pub(super) status: Option<String>,
    pub(super) content: Option<Vec<Value>>,
    pub(super) raw_input: Option<Value>,
    pub(super) raw_output: Option<Value>,
    pub(super) locations: Option<Vec<Value>>,
    #[serde(rename = "_meta")]
    pub(super) meta: Option<Value>,
}

impl ToolFields {
    /// Whether the call is over, and then whether it failed.
    pub(super) fn ended(&self) -> Option<bool> {
        match self.status.as_deref() {
            Some("completed") => Some(false),
            Some("failed" | "cancelled") => Some(true),
            _ => None,
        }
    }
}

/// A terminal of the agent that it shows us.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct TerminalFields {
    pub(super) terminal_id: String,
    #[serde(default)]
    pub(super) output: Patch<TerminalOutput>,
    #[serde(default)]
    pub(super) exit_status: Patch<ExitStatus>,
}

#[derive(Debug, Default, Deserialize)]
pub(super) struct TerminalOutput {
    #[serde(default)]
    pub(super) data: String,
}

#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ExitStatus {
    pub(super) exit_code: Option<i64>,
    pub(super) signal: Option<String>,
}

/// What the agent does in the foreground (version 2).
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Foreground {
    pub(super) state: String,
    pub(super) stop_reason: Option<String>,
    pub(super) error: Option<Value>,
    pub(super) usage: Option<Value>,
}

/// Money so far in the whole session.
#[derive(Debug, Deserialize)]
pub(super) struct Cost {
    #[serde(default)]
    pub(super) amount: f64,
    #[serde(default)]
    pub(super) currency: String,
}

impl Cost {
    pub(super) fn nanodollars(&self) -> Option<u64> {
        // Costs are far below 2^53 nano-dollars (nine million dollars): the conversion is exact enough.
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let nano = (self.amount.max(0.0) * 1e9).round() as u64;
        (self.currency.is_empty() || self.currency == "USD").then_some(nano)
    }
}

/// Tokens of an answer to a prompt, or of the idle state.
pub(super) fn usage(answer: &Value, usage: Option<&Value>) -> Option<lodge_proto::message::Usage> {
    let number = |value: &Value, field: &str| value.get(field).and_then(Value::as_u64).unwrap_or_default();
    if let Some(usage) = usage.filter(|usage| usage.is_object()) {
        let mut tokens = lodge_proto::message::Usage {
            input: number(usage, "inputTokens"),
            output: number(usage, "outputTokens"),
            cache_read: number(usage, "cachedReadTokens"),
            cache_write: number(usage, "cachedWriteTokens"),
            cost_nanodollars: 0,
        };
        // Some count the tokens of thoughts as output, some apart: the total tells.
        let thought = number(usage, "thoughtTokens");
        let sum = [
            tokens.input,
            tokens.output,
            tokens.cache_read,
            tokens.cache_write,
            thought,
        ]
        .into_iter()
        .fold(0, u64::saturating_add);
        if thought > 0 && number(usage, "totalTokens") == sum {
            tokens.output = tokens.output.saturating_add(thought);
        }
        return Some(tokens);
    }
    let count = answer.pointer("/_meta/quota/token_count")?;
    Some(lodge_proto::message::Usage {
        input: number(count, "input_tokens"),
        output: number(count, "output_tokens"),
        ..lodge_proto::message::Usage::default()
    })
}

/// Text of a field.
pub(super) fn text<'a>(value: &'a Value, field: &str) -> Option<&'a str> {
    value.get(field).and_then(Value::as_str)
}

/// Members of a list field.
pub(super) fn list<'a>(value: &'a Value, field: &str) -> &'a [Value] {
    value
        .get(field)
        .and_then(Value::as_array)
        .map(Vec::as_slice)
        .unwrap_or_default()
}

/// Text of a content block that is one.
pub(super) fn block_text(block: &Value) -> Option<&str> {
    if text(block, "type") == Some("text") {
        text(block, "text")
    } else {
        None
    }
}
