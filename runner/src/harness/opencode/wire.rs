//! Lines of the bridge, as far as they matter. Tolerant: unknown fields are ignored, missing ones have defaults.

use lodge_proto::message::Usage;
use serde::Deserialize;
use serde_json::Value;

pub(super) use crate::harness::shared::{PROVIDER_PREFIX, canonical_model};

/// Thinking levels of a model that thinks: variants of it that Lodge writes into the configuration, the least first.
pub(super) const LEVELS: [&str; 3] = ["low", "medium", "high"];

/// A line that is none of the protocol.
#[derive(Debug)]
pub(super) enum Malformed {
    NotJson,
    /// A line or an event of an unknown type.
    Unknown(String),
    Shape(String),
}

impl From<serde_json::Error> for Malformed {
    fn from(error: serde_json::Error) -> Self {
        Self::Shape(error.to_string())
    }
}

/// What the bridge says.
#[derive(Debug)]
pub(super) enum Incoming {
    Response(Response),
    Event(Box<Event>),
    /// The event stream stands, or was lost.
    Stream {
        connected: bool,
    },
    /// Something was too large to be passed on.
    Oversize,
    /// A request of ours was none.
    Refused(String),
}

/// The response to a request of ours.
#[derive(Debug, Deserialize)]
pub(super) struct Response {
    #[serde(default)]
    pub(super) id: String,
    /// 0 where there was no response.
    #[serde(default)]
    pub(super) status: u16,
    #[serde(default)]
    pub(super) body: Value,
    #[serde(default)]
    pub(super) error: Option<String>,
}

impl Response {
    pub(super) fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// Why it is none.
    pub(super) fn failure(&self) -> String {
        let said = self
            .body
            .pointer("/data/message")
            .or_else(|| self.body.get("message"))
            .and_then(Value::as_str)
            .or(self.error.as_deref());
        match (said, self.status) {
            (Some(said), _) => said.to_owned(),
            (None, 0) => "no answer".to_owned(),
            (None, status) => format!("status {status}"),
        }
    }
}

/// An event of the server.
#[derive(Debug)]
pub(super) enum Event {
    Message(Message),
    Part(Part),
    Delta(Delta),
    MessageRemoved(MessageRef),
    Status(StatusEvent),
    Error(ErrorEvent),
    Permission(Permission),
    PermissionReplied(Replied),
    Question(Question),
    QuestionAnswered(Replied),
    Todos(Todos),
    Session(Session),
    Compacted(SessionRef),
    Quiet,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Time {
    pub(super) start: Option<u64>,
    pub(super) end: Option<u64>,
    pub(super) completed: Option<u64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Message {
    pub(super) id: String,
    #[serde(rename = "sessionID")]
    pub(super) session: String,
    pub(super) role: String,
    #[serde(rename = "parentID")]
    pub(super) parent: String,
    #[serde(rename = "modelID")]
    pub(super) model: Option<String>,
    #[serde(rename = "providerID")]
    pub(super) provider: Option<String>,
    pub(super) agent: Option<String>,
    /// True where it is the summary of a compaction; other things where it is a user's.
    pub(super) summary: Value,
    pub(super) time: Time,
    pub(super) finish: Option<String>,
    pub(super) error: Option<NativeError>,
    pub(super) cost: f64,
    pub(super) tokens: Tokens,
}

impl Message {
    pub(super) fn is_summary(&self) -> bool {
        self.summary == Value::Bool(true)
    }

    pub(super) fn is_over(&self) -> bool {
        self.time.completed.is_some() || self.error.is_some()
    }

    pub(super) fn usage(&self) -> Usage {
        let tokens = &self.tokens;
        Usage {
            input: tokens.input,
            output: tokens.output.saturating_add(tokens.reasoning),
            cache_read: tokens.cache.read,
            cache_write: tokens.cache.write,
            cost_nanodollars: nanodollars(self.cost),
        }
    }
}

/// Dollars, as far as they are a cost at all.
fn nanodollars(dollars: f64) -> u64 {
    if !dollars.is_finite() || dollars <= 0.0 {
        return 0;
    }
    // Through its digits: no cast that could lose some.
    format!("{:.0}", dollars * 1e9).parse().unwrap_or_default()
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Tokens {
    pub(super) input: u64,
    pub(super) output: u64,
    pub(super) reasoning: u64,
    pub(super) cache: Cache,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Cache {
    pub(super) read: u64,
    pub(super) write: u64,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct NativeError {
    pub(super) name: String,
    pub(super) data: Value,
}

/// A part of a message.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) id: String,
    pub(super) session: String,
    pub(super) message: String,
    pub(super) content: Content,
}

#[derive(Debug)]
pub(super) enum Content {
    Text(Text),
    Reasoning(Text),
    Tool(Tool),
    Compaction {
        auto: bool,
        overflow: bool,
    },
    /// What is shown in other ways, or means nothing to a user.
    Quiet,
    Other(Value),
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Text {
    #[serde(rename = "text")]
    pub(super) whole: String,
    /// Made by opencode, not by a person.
    pub(super) synthetic: bool,
    pub(super) ignored: bool,
    pub(super) time: Time,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Tool {
    #[serde(rename = "tool")]
    pub(super) name: String,
    #[serde(rename = "callID")]
    pub(super) call: String,
    pub(super) state: ToolState,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct ToolState {
    pub(super) status: String,
    pub(super) input: Value,
    pub(super) output: String,
    pub(super) error: String,
    pub(super) metadata: Value,
    pub(super) attachments: Vec<Value>,
    pub(super) time: Time,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Delta {
    #[serde(rename = "sessionID")]
    pub(super) session: String,
    #[serde(rename = "messageID")]
    pub(super) message: String,
    #[serde(rename = "partID")]
    pub(super) part: String,
    pub(super) field: String,
    #[serde(rename = "delta")]
    pub(super) added: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct MessageRef {
    #[serde(rename = "sessionID")]
    pub(super) session: String,
    #[serde(rename = "messageID")]
    pub(super) message: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct SessionRef {
    #[serde(rename = "sessionID")]
    pub(super) session: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct StatusEvent {
    #[serde(rename = "sessionID")]
    pub(super) session: String,
    pub(super) status: Status,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Status {
    #[serde(rename = "type")]
    pub(super) kind: String,
    pub(super) attempt: u32,
    pub(super) message: String,
    /// When the next attempt is made, UTC milliseconds.
    pub(super) next: f64,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct ErrorEvent {
    #[serde(rename = "sessionID")]
    pub(super) session: Option<String>,
    pub(super) error: NativeError,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Permission {
    pub(super) id: String,
    #[serde(rename = "sessionID")]
    pub(super) session: String,
    #[serde(rename = "permission")]
    pub(super) what: String,
    pub(super) patterns: Vec<String>,
    pub(super) metadata: Value,
    pub(super) tool: Option<ToolRef>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct ToolRef {
    #[serde(rename = "callID")]
    pub(super) call: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Replied {
    #[serde(rename = "sessionID")]
    pub(super) session: String,
    #[serde(rename = "requestID")]
    pub(super) request: String,
    pub(super) reply: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Question {
    pub(super) id: String,
    #[serde(rename = "sessionID")]
    pub(super) session: String,
    pub(super) questions: Vec<Asked>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Asked {
    pub(super) question: String,
    pub(super) header: String,
    pub(super) options: Vec<Choice>,
    pub(super) multiple: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Choice {
    pub(super) label: String,
    pub(super) description: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Todos {
    #[serde(rename = "sessionID")]
    pub(super) session: String,
    pub(super) todos: Vec<Todo>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Todo {
    pub(super) content: String,
    pub(super) status: String,
    pub(super) priority: Option<String>,
}

/// A session that was made or changed.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Session {
    pub(super) id: String,
    #[serde(rename = "parentID")]
    pub(super) parent: Option<String>,
    pub(super) title: String,
}

/// Reads a line of the bridge.
pub(super) fn parse(line: &str) -> Result<Incoming, Malformed> {
    let mut value: Value = serde_json::from_str(line).map_err(|_| Malformed::NotJson)?;
    let kind = kind(&value);
    match kind.as_str() {
        "response" => Ok(Incoming::Response(serde_json::from_value(value)?)),
        "event" => Ok(Incoming::Event(Box::new(event(value["event"].take())?))),
        "stream" => Ok(Incoming::Stream {
            connected: value.get("state").is_some_and(|state| state == "connected"),
        }),
        "oversize" => Ok(Incoming::Oversize),
        "refused" => Ok(Incoming::Refused(text(&value, "error").to_owned())),
        "" => Err(Malformed::Shape("it has no type".to_owned())),
        _ => Err(Malformed::Unknown(kind)),
    }
}

fn event(mut event: Value) -> Result<Event, Malformed> {
    let kind = kind(&event);
    // What the server streams that is no JSON comes as a string.
    if kind.is_empty() && !event.is_null() {
        return Err(Malformed::Shape("an event without a type".to_owned()));
    }
    let mut properties = event.get_mut("properties").map(Value::take).unwrap_or_default();
    let mut inner = |name: &str| properties.get_mut(name).map(Value::take).unwrap_or_default();
    Ok(match kind.as_str() {
        "message.updated" => Event::Message(message(inner("info"))?),
        "message.part.updated" => Event::Part(part(inner("part"))?),
        "session.created" | "session.updated" => Event::Session(serde_json::from_value(inner("info"))?),
        "message.part.delta" => Event::Delta(serde_json::from_value(properties)?),
        "message.removed" => Event::MessageRemoved(serde_json::from_value(properties)?),
        "session.status" => Event::Status(serde_json::from_value(properties)?),
        "session.error" => Event::Error(serde_json::from_value(properties)?),
        "session.compacted" => Event::Compacted(serde_json::from_value(properties)?),
        "permission.asked" => Event::Permission(serde_json::from_value(properties)?),
        "permission.replied" => Event::PermissionReplied(serde_json::from_value(properties)?),
        "question.asked" => Event::Question(serde_json::from_value(properties)?),
        "question.replied" | "question.rejected" => {
            Event::QuestionAnswered(serde_json::from_value(properties)?)
        }
        "todo.updated" => Event::Todos(serde_json::from_value(properties)?),
        known if QUIET.iter().any(|prefix| known.starts_with(prefix)) => Event::Quiet,
        "" => return Err(Malformed::Shape("an event without a type".to_owned())),
        _ => return Err(Malformed::Unknown(kind)),
    })
}

/// Beginnings of the types that say nothing about the conversation, or what others say, too.
const QUIET: &[&str] = &[
    "catalog.",
    "command.",
    "file.",
    "installation.",
    "integration.",
    "lsp.",
    "mcp.",
    "message.part.removed",
    "plugin.",
    "project.",
    "pty.",
    "reference.",
    "server.",
    "session.deleted",
    "session.diff",
    "session.idle",
    "tui.",
    "vcs.",
    "workspace.",
    "worktree.",
];

/// Reads what is known of a message.
pub(super) fn message(info: Value) -> Result<Message, Malformed> {
    let message: Message = serde_json::from_value(info)?;
    if message.id.is_empty() {
        return Err(Malformed::Shape("a message without an id".to_owned()));
    }
    Ok(message)
}

/// Reads a part of a message.
pub(super) fn part(value: Value) -> Result<Part, Malformed> {
    let id = text(&value, "id").to_owned();
    let session = text(&value, "sessionID").to_owned();
    let message = text(&value, "messageID").to_owned();
    if id.is_empty() || message.is_empty() {
        return Err(Malformed::Shape("a part without an id".to_owned()));
    }
    let truth = |name: &str| value.get(name).and_then(Value::as_bool).unwrap_or_default();
    let content = match text(&value, "type") {
        "text" => Content::Text(serde_json::from_value(value)?),
        "reasoning" => Content::Reasoning(serde_json::from_value(value)?),
        "tool" => Content::Tool(serde_json::from_value(value)?),
        "compaction" => Content::Compaction {
            auto: truth("auto"),
            overflow: truth("overflow"),
        },
        "step-start" | "step-finish" | "patch" | "snapshot" | "retry" => Content::Quiet,
        _ => Content::Other(value),
    };
    Ok(Part {
        id,
        session,
        message,
        content,
    })
}

fn kind(value: &Value) -> String {
    text(value, "type").chars().take(60).collect()
}

/// A field that is a string; empty where it is none.
pub(super) fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value.get(field).and_then(Value::as_str).unwrap_or_default()
}
