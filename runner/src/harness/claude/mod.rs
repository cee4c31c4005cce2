//! Claude Code with stream-json on standard input and output, and its control protocol.
//!
//! One process is one conversation. `result` ends a run; the harness numbers no turns, so a turn is ours: it begins
//! with the prompt. A prompt given during a run joins it after the next tool, or gets a run of its own right after
//! it: both belong to the turn under way. Tool output is not streamed.

mod dialogs;
pub mod launch;
mod messages;
mod responses;
mod subagents;
#[cfg(test)]
mod tests;
mod tools;
mod turns;
mod wire;

use super::{Adapter, Answer, shared};
use crate::fold::{Cx, DeliveryId};
use lodge_proto::command::CommandBody;
use lodge_proto::event::NotifyLevel;
use lodge_proto::input::{InputAnswer, InputRequest};
use lodge_proto::message::Usage;
use lodge_proto::part::{Part, PlanEntry};
use lodge_proto::session::ModeInfo;
use lodge_proto::{ErrorBody, ErrorCode};
use messages::{Attempt, native_model};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use subagents::Subagent;
use wire::{Content, Incoming};

/// The harness takes any string for a mode, so the known ones are named here: id, name, description.
const MODES: [(&str, &str, &str); 4] = [
    ("default", "Ask", "Asks before tools that change something"),
    ("acceptEdits", "Accept edits", "Edits files without asking"),
    ("plan", "Plan", "Reads and plans, changes nothing"),
    (
        "bypassPermissions",
        "Full",
        "Never asks: the sandbox alone is the wall",
    ),
];

/// State of the Claude Code adapter.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Claude {
    /// The harness's id of the conversation, known with the first run.
    session: Option<String>,
    /// Its id of the newest line of the conversation.
    newest: Option<String>,
    attempt: Option<Attempt>,
    /// Tool calls of this turn, by the provider's ids.
    calls: BTreeMap<String, Call>,
    /// Prompts that were given and not replayed yet, in order.
    echoes: Vec<Echo>,
    /// What our unanswered control requests are for, by their ids.
    pending: BTreeMap<String, Pending>,
    questions: BTreeMap<String, Questions>,
    compaction: Option<Compaction>,
    /// The command that asked for the compaction under way.
    compact_reply: Option<String>,
    /// The attempt that the harness makes again.
    retrying: Option<u32>,
    /// What the harness said instead of an answer when a model call failed.
    api_error: Option<String>,
    /// The run ended, and a steered prompt begins another one in the same turn.
    goes_on: bool,
    tasks: Vec<(String, PlanEntry)>,
    subagents: BTreeMap<String, Subagent>,
    /// Names of the slash commands.
    commands: Vec<String>,
    /// Thinking levels by the model's own name.
    efforts: BTreeMap<String, Vec<String>>,
    /// Tokens of this run that were counted with their messages.
    counted: Usage,
    garbage: u32,
}

/// A tool call.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Call {
    name: String,
    input: Value,
    /// The user is asked whether it may run.
    asked: bool,
    started: bool,
    ended: bool,
}

impl Call {
    fn new(name: String, input: Value) -> Self {
        Self {
            name,
            input,
            asked: false,
            started: false,
            ended: false,
        }
    }
}

/// A prompt that the harness will repeat when it takes it up.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Echo {
    uuid: String,
    sent: String,
    /// The text by which the queue knows it.
    plain: String,
    /// It was given to a running turn, and is shown when it is taken up.
    steered: bool,
}

/// What an unanswered control request is for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Pending {
    Initialize,
    Model(String),
    Effort(String),
    Mode(String),
    Other,
}

/// Questions of the model that one answer is for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Questions {
    tool_use: String,
    input: Value,
    open: usize,
    answers: Map<String, Value>,
}

/// A compaction under way.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Compaction {
    /// It is made; its summary comes with the next line.
    succeeded: bool,
}

impl Claude {
    fn event(&mut self, cx: &mut Cx<'_>, incoming: Incoming) {
        let subagent = matches!(&incoming, Incoming::Assistant(line) if line.parent_tool_use_id.is_some());
        if subagent || !matches!(incoming, Incoming::Assistant(_)) {
            self.finish_whole(cx);
        }
        match incoming {
            Incoming::ControlRequest { request_id, request } => {
                self.control_request(cx, &request_id, &request);
            }
            Incoming::ControlResponse { response } => self.response(cx, response),
            Incoming::ControlCancelRequest { request_id } => self.cancelled(cx, &request_id),
            Incoming::System(line) => self.system(cx, line),
            Incoming::StreamEvent {
                event,
                parent_tool_use_id: None,
            } => self.stream_event(cx, event),
            Incoming::Assistant(mut line) => {
                if let Some(parent) = &line.parent_tool_use_id {
                    return self.subagent(cx, parent, "assistant", &line.message.content);
                }
                self.newest = line.uuid.take().or(self.newest.take());
                self.assistant(cx, line);
            }
            Incoming::User(line) => {
                if let Some(parent) = &line.parent_tool_use_id {
                    return self.subagent(cx, parent, "user", &line.message.content);
                }
                self.newest = line.uuid.clone().or(self.newest.take());
                self.user(cx, &line);
            }
            Incoming::Result(line) => self.result(cx, &line),
            Incoming::ToolProgress { tool_use_id } => self.start_call(cx, &tool_use_id, true),
            Incoming::RateLimitEvent { rate_limit_info } => rate_limit(cx, &rate_limit_info),
            // The streams of sub-agents say nothing that their whole lines do not.
            Incoming::StreamEvent { .. } | Incoming::Quiet {} => {}
        }
    }

    fn garbage(&mut self, cx: &mut Cx<'_>, line: &[u8], why: &str) {
        shared::garbage(cx, &mut self.garbage, "Claude Code", line, why);
    }

    /// Gives the harness a user's message.
    fn say(&mut self, cx: &mut Cx<'_>, parts: &[Part], steered: bool) -> DeliveryId {
        let uuid = cx.new_id().to_string();
        let sent = self.prompt_text(parts);
        let message = json!({ "role": "user", "content": content(cx, &sent, parts) });
        let line = json!({ "type": "user", "message": message, "parent_tool_use_id": null, "uuid": uuid });
        self.echoes.push(Echo {
            uuid,
            sent,
            plain: lodge_proto::part::plain_text(parts),
            steered,
        });
        cx.send(&line)
    }

    /// Text of a prompt. What begins with `/` and is no command is set off, so that it is not taken for one.
    fn prompt_text(&self, parts: &[Part]) -> String {
        let texts: Vec<String> = parts
            .iter()
            .filter_map(|part| match part {
                Part::Text { text } => Some(text.clone()),
                Part::FileRef { path, lines: None } => Some(format!("@{path}")),
                Part::FileRef {
                    path,
                    lines: Some((first, last)),
                } => Some(format!("@{path} (lines {first} to {last})")),
                _ => None,
            })
            .collect();
        let text = texts.join("\n");
        let word = text.split_whitespace().next().unwrap_or_default();
        match word.strip_prefix('/') {
            Some(name) if !self.commands.iter().any(|known| known == name) => format!(" {text}"),
            _ => text,
        }
    }

    /// Takes back the prompts that the running turn has not taken up.
    fn cancel_steered(&mut self, cx: &mut Cx<'_>) {
        let steered = self.echoes.iter().filter(|echo| echo.steered);
        let uuids: Vec<String> = steered.map(|echo| echo.uuid.clone()).collect();
        for uuid in uuids {
            let request = json!({ "subtype": "cancel_async_message", "message_uuid": uuid });
            self.request(cx, &request, Pending::Other);
        }
    }

    /// What a control request of somebody else asks for, so that its answer is understood.
    fn foreign_request(&mut self, cx: &Cx<'_>, input: &Value) -> Option<CommandBody> {
        let request = input.get("request")?;
        let text = |field: &str| request.get(field).and_then(Value::as_str);
        let pending = match text("subtype")? {
            "interrupt" => {
                return cx.in_turn().then_some(CommandBody::Abort {});
            }
            "initialize" => Pending::Initialize,
            "set_model" => Pending::Model(responses::canonical_model(cx, text("model")?)),
            "set_permission_mode" => Pending::Mode(text("mode")?.to_owned()),
            "apply_flag_settings" => match request.pointer("/settings/effortLevel").and_then(Value::as_str) {
                Some(level) => Pending::Effort(level.to_owned()),
                None => Pending::Other,
            },
            _ => Pending::Other,
        };
        let id = input.get("request_id")?.as_str()?.to_owned();
        self.pending.insert(id, pending);
        None
    }
}

impl Adapter for Claude {
    fn started(&mut self, cx: &mut Cx<'_>) {
        self.request(cx, &json!({ "subtype": "initialize" }), Pending::Initialize);
        let modes = MODES.map(|(id, name, description)| ModeInfo {
            id: id.to_owned(),
            name: name.to_owned(),
            description: Some(description.to_owned()),
        });
        cx.capabilities(|can| {
            can.steer = true;
            can.follow_up = true;
            can.queue = true;
            can.abort = true;
            can.fork = true;
            can.fork_at_message = true;
            can.compact = true;
            can.resume = true;
            can.plan = true;
            can.permissions = true;
            can.set_title = true;
            can.images = true;
            can.modes = modes.to_vec();
        });
    }

    fn line(&mut self, cx: &mut Cx<'_>, line: &[u8]) {
        if line.iter().all(u8::is_ascii_whitespace) {
            return;
        }
        let Ok(text) = std::str::from_utf8(line) else {
            return self.garbage(cx, line, "not UTF-8");
        };
        match wire::parse(text) {
            Ok(incoming) => self.event(cx, incoming),
            Err(wire::Malformed::Unknown(kind)) => {
                cx.warn(format!("Claude Code sent a line of the unknown type `{kind}`"));
            }
            Err(wire::Malformed::NotJson) => self.garbage(cx, line, "not JSON"),
            Err(wire::Malformed::Shape(why)) => self.garbage(cx, line, &why),
        }
    }

    fn gone(&mut self, cx: &mut Cx<'_>) {
        self.finish_attempt(cx, Some(lodge_proto::message::StopReason::Interrupted));
        self.compact_end(cx, None, Some("the harness ended before it did".to_owned()));
        // The plan is the conversation's: the next process goes on with it.
        *self = Self {
            session: self.session.take(),
            newest: self.newest.take(),
            tasks: std::mem::take(&mut self.tasks),
            commands: std::mem::take(&mut self.commands),
            ..Self::default()
        };
    }

    fn prompt(&mut self, cx: &mut Cx<'_>, parts: &[Part]) -> Option<DeliveryId> {
        self.echoes.clear();
        self.api_error = None;
        match &self.newest {
            Some(newest) => cx.fork_point(newest),
            None if self.session.is_none() && cx.forked_from().is_none() => cx.fork_point(""),
            // What a conversation that was taken over ends with is not told.
            None => {}
        }
        Some(self.say(cx, parts, false))
    }

    fn steer(&mut self, cx: &mut Cx<'_>, parts: &[Part]) {
        self.say(cx, parts, true);
    }

    fn clear_steering(&mut self, cx: &mut Cx<'_>) {
        self.cancel_steered(cx);
        self.echoes.retain(|echo| !echo.steered);
    }

    fn abort(&mut self, cx: &mut Cx<'_>) {
        // What waits in the harness would begin a run of its own after the interrupt.
        self.cancel_steered(cx);
        self.request(cx, &json!({ "subtype": "interrupt" }), Pending::Other);
    }

    fn answer(&mut self, cx: &mut Cx<'_>, native: &Value, request: &InputRequest, answer: &InputAnswer) {
        self.answer_request(cx, native, request, answer);
    }

    fn set_model(&mut self, cx: &mut Cx<'_>, model: &str) -> Result<Answer, ErrorBody> {
        let request = json!({ "subtype": "set_model", "model": native_model(model) });
        let id = self.request(cx, &request, Pending::Model(model.to_owned()));
        Ok(Answer::Later(id))
    }

    fn set_thinking_level(&mut self, cx: &mut Cx<'_>, level: &str) -> Result<Answer, ErrorBody> {
        let request = json!({ "subtype": "apply_flag_settings", "settings": { "effortLevel": level } });
        let id = self.request(cx, &request, Pending::Effort(level.to_owned()));
        Ok(Answer::Later(id))
    }

    fn set_mode(&mut self, cx: &mut Cx<'_>, mode: &str) -> Result<Answer, ErrorBody> {
        let request = json!({ "subtype": "set_permission_mode", "mode": mode });
        let id = self.request(cx, &request, Pending::Mode(mode.to_owned()));
        Ok(Answer::Later(id))
    }

    fn compact(&mut self, cx: &mut Cx<'_>, instructions: Option<&str>) -> Result<Answer, ErrorBody> {
        // It is a run like any other to the harness, with a result of its own: a turn, so that it can be aborted and
        // prompts wait for it.
        cx.begin_turn();
        let id = cx.new_id().to_string();
        let text = format!("/compact {}", instructions.unwrap_or_default());
        let message = json!({ "role": "user", "content": text.trim_end() });
        cx.send(&json!({ "type": "user", "message": message, "parent_tool_use_id": null, "uuid": id }));
        self.compact_reply = Some(id.clone());
        Ok(Answer::Later(id))
    }

    fn abort_retry(&mut self, _cx: &mut Cx<'_>) -> Result<Answer, ErrorBody> {
        Err(ErrorBody::new(
            ErrorCode::UnsupportedByHarness,
            "Claude Code cannot end a retry alone; abort the turn",
        ))
    }

    fn set_title(&mut self, cx: &mut Cx<'_>, title: &str) {
        if !title.is_empty() {
            let request = json!({ "subtype": "rename_session", "title": title });
            self.request(cx, &request, Pending::Other);
        }
    }

    fn foreign_input(&mut self, cx: &mut Cx<'_>, line: &[u8]) -> Option<CommandBody> {
        let input: Value = serde_json::from_slice(line).ok()?;
        match input.get("type")?.as_str()? {
            "user" => {
                let content = input.pointer("/message/content")?.clone();
                let text = serde_json::from_value::<Content>(content).ok()?.text();
                if let Some(rest) = text.strip_prefix("/compact").filter(|_| !cx.in_turn()) {
                    let instructions = Some(rest.trim().to_owned()).filter(|rest| !rest.is_empty());
                    return Some(CommandBody::Compact { instructions });
                }
                let parts = vec![Part::text(text)];
                Some(if cx.in_turn() {
                    CommandBody::Steer { parts }
                } else {
                    CommandBody::Prompt { parts }
                })
            }
            "control_request" => self.foreign_request(cx, &input),
            "control_response" => {
                self.answered_on_the_wire(cx, input.get("response")?);
                None
            }
            _ => None,
        }
    }

    fn native_session(&self) -> Option<String> {
        self.session.clone()
    }
}

/// The content of a prompt: its text alone, or blocks where it holds images.
fn content(cx: &mut Cx<'_>, text: &str, parts: &[Part]) -> Value {
    let mut blocks = Vec::new();
    for part in parts {
        if let Part::Image { blob, .. } = part {
            let source = json!({ "type": "base64", "media_type": blob.media_type, "data": cx.blob(blob) });
            blocks.push(json!({ "type": "image", "source": source }));
        }
    }
    if blocks.is_empty() {
        return text.into();
    }
    if !text.trim().is_empty() {
        blocks.push(json!({ "type": "text", "text": text }));
    }
    blocks.into()
}

/// The provider limits this account.
fn rate_limit(cx: &mut Cx<'_>, info: &Value) {
    let status = info.get("status").and_then(Value::as_str).unwrap_or_default();
    if !status.is_empty() && status != "allowed" {
        let kind = info
            .get("rateLimitType")
            .and_then(Value::as_str)
            .unwrap_or("rate");
        cx.notify(
            NotifyLevel::Warning,
            format!("the provider's {kind} limit: {}", status.replace('_', " ")),
        );
    }
}

/// A part that only this harness has.
fn extension(name: &str, fields: Value) -> Part {
    let fields = match fields {
        Value::Object(fields) => fields,
        _ => Map::new(),
    };
    Part::extension(name, fields).unwrap_or_else(|| Part::text(""))
}
