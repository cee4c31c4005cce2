//! Shapes of the app-server's lines. Fields that are not used are not read; unknown methods are told apart from
//! malformed ones.

use super::Place;
use lodge_proto::message::Usage;
use serde::Deserialize;
use serde_json::Value;

pub(super) use crate::harness::shared::{PROVIDER_PREFIX, canonical_model, canonical_provider};

/// Why a line was not understood.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Malformed {
    NotJson,
    Unknown(String),
    Shape(String),
}

/// A line: JSON-RPC 2.0 without the version member.
#[derive(Debug)]
pub(super) enum Incoming {
    Response {
        id: Value,
        result: Result<Value, RpcError>,
    },
    Request {
        id: Value,
        method: String,
        params: Value,
    },
    Notification(Notification),
    /// A notification that says nothing beyond what others say.
    Quiet,
}

#[derive(Debug, Deserialize)]
struct Head {
    id: Option<Value>,
    method: Option<String>,
    result: Option<Value>,
    error: Option<RpcError>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct RpcError {
    pub(super) message: String,
}

#[derive(Debug, Deserialize)]
#[serde(tag = "method", content = "params")]
pub(super) enum Notification {
    #[serde(rename = "turn/started")]
    TurnStarted(TurnEvent),
    #[serde(rename = "turn/completed")]
    TurnCompleted(TurnEvent),
    #[serde(rename = "item/started")]
    ItemStarted(ItemEvent),
    #[serde(rename = "item/completed")]
    ItemCompleted(ItemEvent),
    #[serde(rename = "item/agentMessage/delta", alias = "item/plan/delta")]
    Text(Delta),
    #[serde(rename = "item/reasoning/summaryPartAdded")]
    SummaryPart(Delta),
    #[serde(rename = "item/reasoning/summaryTextDelta")]
    Summary(Delta),
    #[serde(rename = "item/reasoning/textDelta")]
    Reasoning(Delta),
    #[serde(
        rename = "item/commandExecution/outputDelta",
        alias = "item/fileChange/outputDelta"
    )]
    Output(Delta),
    #[serde(rename = "item/commandExecution/terminalInteraction")]
    Typed(Delta),
    #[serde(rename = "item/mcpToolCall/progress")]
    Progress(Delta),
    #[serde(rename = "item/fileChange/patchUpdated")]
    Patch(PatchEvent),
    #[serde(rename = "thread/tokenUsage/updated")]
    Usage(UsageEvent),
    #[serde(rename = "turn/plan/updated")]
    Plan(PlanEvent),
    #[serde(rename = "error")]
    Error(ErrorEvent),
    #[serde(rename = "warning")]
    Warning(Words),
    #[serde(rename = "configWarning")]
    ConfigWarning(Words),
    #[serde(rename = "deprecationNotice")]
    Deprecation(Words),
    #[serde(rename = "model/rerouted")]
    Rerouted(Rerouted),
    #[serde(rename = "thread/name/updated")]
    Name(NameEvent),
    #[serde(rename = "thread/settings/updated")]
    Settings(SettingsEvent),
    #[serde(rename = "serverRequest/resolved")]
    Resolved(ResolvedEvent),
}

const KNOWN: &[&str] = &[
    "turn/started",
    "turn/completed",
    "item/started",
    "item/completed",
    "item/agentMessage/delta",
    "item/plan/delta",
    "item/reasoning/summaryPartAdded",
    "item/reasoning/summaryTextDelta",
    "item/reasoning/textDelta",
    "item/commandExecution/outputDelta",
    "item/fileChange/outputDelta",
    "item/commandExecution/terminalInteraction",
    "item/mcpToolCall/progress",
    "item/fileChange/patchUpdated",
    "thread/tokenUsage/updated",
    "turn/plan/updated",
    "error",
    "warning",
    "configWarning",
    "deprecationNotice",
    "model/rerouted",
    "thread/name/updated",
    "thread/settings/updated",
    "serverRequest/resolved",
];

/// Events that say nothing beyond what others say: the life of threads and of codex's own account, and the diff of
/// the whole turn, which repeats those of its file changes.
const QUIET: &[&str] = &[
    "account/rateLimits/updated",
    "account/updated",
    "mcpServer/startupStatus/updated",
    "remoteControl/status/changed",
    "skills/changed",
    "thread/archived",
    "thread/closed",
    "thread/compacted",
    "thread/goal/cleared",
    "thread/readState/changed",
    "thread/started",
    "thread/status/changed",
    "thread/unarchived",
    "turn/diff/updated",
];

pub(super) fn parse(text: &str) -> Result<Incoming, Malformed> {
    let head: Head = serde_json::from_str(text).map_err(|error| {
        if serde_json::from_str::<Value>(text).is_ok() {
            Malformed::Shape(error.to_string())
        } else {
            Malformed::NotJson
        }
    })?;
    match (head.id, head.method) {
        (Some(id), Some(method)) => {
            let mut line: Value = serde_json::from_str(text).map_err(|_| Malformed::NotJson)?;
            let params = line.get_mut("params").map(Value::take).unwrap_or_default();
            Ok(Incoming::Request { id, method, params })
        }
        (Some(id), None) => Ok(Incoming::Response {
            id,
            result: match head.error {
                Some(error) => Err(error),
                None => Ok(head.result.unwrap_or_default()),
            },
        }),
        (None, Some(method)) if QUIET.contains(&method.as_str()) => Ok(Incoming::Quiet),
        (None, Some(method)) if KNOWN.contains(&method.as_str()) => serde_json::from_str(text)
            .map(Incoming::Notification)
            .map_err(|error| Malformed::Shape(error.to_string())),
        (None, Some(method)) => Err(Malformed::Unknown(method.chars().take(60).collect())),
        (None, None) => Err(Malformed::Shape("it has neither `id` nor `method`".to_owned())),
    }
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct TurnEvent {
    #[serde(default)]
    pub(super) thread_id: String,
    pub(super) turn: TurnState,
}

#[derive(Debug, Deserialize)]
pub(super) struct TurnState {
    pub(super) id: String,
    pub(super) status: Option<String>,
    pub(super) error: Option<TurnError>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct TurnError {
    pub(super) message: String,
    /// A name, or an object of one name with the HTTP status.
    pub(super) codex_error_info: Value,
    pub(super) additional_details: Option<String>,
}

#[derive(Debug, Deserialize)]
pub(super) struct ItemEvent {
    #[serde(flatten)]
    pub(super) place: Place,
    pub(super) item: Value,
}

/// Something was added to an item.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Delta {
    #[serde(flatten)]
    pub(super) place: Place,
    pub(super) item_id: String,
    #[serde(default, rename = "delta", alias = "stdin", alias = "message")]
    pub(super) text: String,
    #[serde(default)]
    pub(super) summary_index: u32,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct PatchEvent {
    #[serde(flatten)]
    pub(super) place: Place,
    pub(super) item_id: String,
    #[serde(default)]
    pub(super) changes: Vec<Change>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct UsageEvent {
    #[serde(flatten)]
    pub(super) place: Place,
    pub(super) token_usage: TokenUsage,
}

#[derive(Debug, Deserialize)]
pub(super) struct TokenUsage {
    pub(super) total: Tokens,
    pub(super) last: Tokens,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Tokens {
    #[serde(rename = "totalTokens")]
    pub(super) total: u64,
    #[serde(rename = "inputTokens")]
    input: u64,
    #[serde(rename = "cachedInputTokens")]
    cache_read: u64,
    #[serde(rename = "cacheWriteInputTokens")]
    cache_write: u64,
    #[serde(rename = "outputTokens")]
    output: u64,
}

impl Tokens {
    /// Codex counts cached tokens as input too. It knows no prices.
    pub(super) fn canonical(&self) -> Usage {
        Usage {
            input: self
                .input
                .saturating_sub(self.cache_read)
                .saturating_sub(self.cache_write),
            output: self.output,
            cache_read: self.cache_read,
            cache_write: self.cache_write,
            cost_nanodollars: 0,
        }
    }
}

#[derive(Debug, Deserialize)]
pub(super) struct PlanEvent {
    #[serde(flatten)]
    pub(super) place: Place,
    pub(super) explanation: Option<String>,
    #[serde(default, rename = "plan")]
    pub(super) steps: Vec<Step>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Step {
    pub(super) step: String,
    #[serde(default)]
    pub(super) status: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ErrorEvent {
    #[serde(flatten)]
    pub(super) place: Place,
    #[serde(default)]
    pub(super) error: TurnError,
    #[serde(default)]
    pub(super) will_retry: bool,
}

#[derive(Debug, Deserialize)]
pub(super) struct Words {
    #[serde(default, alias = "summary")]
    pub(super) message: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Rerouted {
    pub(super) to_model: String,
    pub(super) reason: Option<Value>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct NameEvent {
    #[serde(default)]
    pub(super) thread_id: String,
    pub(super) thread_name: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct SettingsEvent {
    #[serde(default)]
    pub(super) thread_id: String,
    pub(super) thread_settings: ThreadSettings,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct ThreadSettings {
    pub(super) model: Option<String>,
    pub(super) model_provider: Option<String>,
    pub(super) effort: Option<String>,
    pub(super) collaboration_mode: Option<CollaborationMode>,
}

#[derive(Debug, Deserialize)]
pub(super) struct CollaborationMode {
    pub(super) mode: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ResolvedEvent {
    pub(super) request_id: Value,
}

/// One change of a file. For a new or a deleted file `diff` is its content.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Change {
    #[serde(default)]
    pub(super) path: String,
    #[serde(default)]
    pub(super) kind: Value,
    #[serde(default)]
    pub(super) diff: String,
}

/// An item of a turn; what is not known is carried as it came.
#[derive(Debug)]
pub(super) enum Item {
    Known(KnownItem),
    Other(Value),
}

impl Item {
    pub(super) fn read(value: Value) -> Self {
        match KnownItem::deserialize(&value) {
            Ok(known) => Self::Known(known),
            Err(_) => Self::Other(value),
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(tag = "type", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub(super) enum KnownItem {
    UserMessage {
        id: String,
        #[serde(default)]
        content: Vec<Value>,
    },
    /// `plan` is the text of a plan that is proposed in plan mode.
    #[serde(alias = "plan")]
    AgentMessage {
        id: String,
        #[serde(default)]
        text: String,
    },
    Reasoning {
        id: String,
        #[serde(default)]
        summary: Vec<String>,
        #[serde(default)]
        content: Vec<String>,
    },
    CommandExecution {
        id: String,
        #[serde(default)]
        command: String,
        cwd: Option<String>,
        aggregated_output: Option<String>,
        exit_code: Option<i64>,
        duration_ms: Option<u64>,
        status: Option<String>,
    },
    FileChange {
        id: String,
        #[serde(default)]
        changes: Vec<Change>,
        status: Option<String>,
    },
    McpToolCall {
        id: String,
        #[serde(default)]
        server: String,
        #[serde(default)]
        tool: String,
        #[serde(default)]
        arguments: Value,
        #[serde(default)]
        result: Value,
        #[serde(default)]
        error: Value,
        duration_ms: Option<u64>,
    },
    DynamicToolCall {
        id: String,
        #[serde(default)]
        tool: String,
        #[serde(default)]
        arguments: Value,
        #[serde(default)]
        content_items: Value,
        success: Option<bool>,
        duration_ms: Option<u64>,
    },
    WebSearch {
        id: String,
        #[serde(default)]
        query: String,
        #[serde(default)]
        action: Value,
    },
    ImageView {
        id: String,
        #[serde(default)]
        path: String,
    },
    ImageGeneration {
        id: String,
        revised_prompt: Option<String>,
        saved_path: Option<String>,
        status: Option<String>,
    },
    CollabAgentToolCall {
        id: String,
        #[serde(default)]
        tool: String,
        prompt: Option<String>,
        #[serde(default)]
        receiver_thread_ids: Vec<String>,
        #[serde(default)]
        agents_states: Value,
        status: Option<String>,
    },
    ContextCompaction {
        id: String,
    },
}
