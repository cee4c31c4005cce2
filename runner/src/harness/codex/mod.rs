//! codex through its app-server: JSON-RPC lines on standard input and output.
//!
//! A session is one thread. A turn ends with `turn/completed`; items that were open then never end. Model, thinking
//! level and mode go with the prompt that is to use them. Codex's own queue is not used.

mod dialogs;
mod foreign;
mod input;
pub mod launch;
mod messages;
mod responses;
#[cfg(test)]
mod tests;
mod tools;
mod turns;
mod wire;

use super::{Adapter, Answer, shared};
use crate::fold::{Cx, DeliveryId};
use dialogs::Questions;
use lodge_proto::command::CommandBody;
use lodge_proto::event::{NotifyLevel, TurnOutcome};
use lodge_proto::input::{InputAnswer, InputRequest};
use lodge_proto::part::Part;
use lodge_proto::{ErrorBody, ErrorCode};
use messages::Kind;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use wire::{Incoming, Notification};

/// Where something happens.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Place {
    thread_id: String,
    turn_id: String,
}

/// What a request of ours was for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum Call {
    Initialize,
    Open {
        resume: bool,
    },
    /// Opens a copy of the conversation of another session.
    Fork,
    TurnStart,
    Steer,
    Interrupt,
    Compact,
    Models,
    Modes,
    Skills,
    Other,
}

/// What a thread uses.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
struct Settings {
    model: Option<String>,
    effort: Option<String>,
    mode: Option<String>,
}

/// A tool that runs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct OpenTool {
    name: String,
    /// It is a command, which may outlive its turn.
    command: Option<String>,
}

/// State of the turn under way.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
struct Run {
    /// Codex's id of it.
    turn: Option<String>,
    /// The assistant's message that streams.
    message: Option<messages::Open>,
    /// Results that wait for the end of the message with their call.
    results: Vec<Part>,
    tools: BTreeMap<String, OpenTool>,
    /// Items that ended.
    done: BTreeSet<String>,
    compacting: bool,
    /// Number of the attempt that is made again.
    retrying: Option<u32>,
    error: Option<ErrorBody>,
}

/// State of the codex adapter.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Codex {
    /// The session's conversation.
    thread: Option<String>,
    /// This process has opened it.
    open: bool,
    /// It had a turn, so that there is something to be resumed.
    used: bool,
    /// Codex's name of the model provider.
    provider: Option<String>,
    settings: Settings,
    /// To be changed with the next prompt.
    wanted: Settings,
    /// Requests that wait for their answers.
    calls: BTreeMap<String, Call>,
    run: Run,
    /// The newest turns that ended.
    ended: VecDeque<String>,
    /// The next user message on the wire is the prompt that was just given.
    expect_echo: bool,
    /// A prompt that came before the conversation was open.
    held_prompt: Option<Vec<Part>>,
    held_title: Option<String>,
    /// Steered before codex named its turn.
    held_steers: Vec<Vec<Part>>,
    /// Aborted before codex named its turn.
    interrupt: bool,
    compact_asked: bool,
    /// Commands that outlived their turns.
    background: BTreeMap<String, String>,
    /// Tokens used, by thread.
    totals: BTreeMap<String, u64>,
    context: Option<u64>,
    /// Paths of skills by name.
    skills: BTreeMap<String, String>,
    /// Thinking levels by model.
    levels: BTreeMap<String, Vec<String>>,
    questions: BTreeMap<String, Questions>,
    told: BTreeSet<String>,
    garbage: u32,
}

impl Codex {
    /// Sends a request; returns its id and its delivery.
    fn call(&mut self, cx: &mut Cx<'_>, method: &str, params: Value, call: Call) -> (String, DeliveryId) {
        let id = cx.new_id().to_string();
        self.calls.insert(Value::from(id.as_str()).to_string(), call);
        let mut request = json!({ "id": id, "method": method });
        request["params"] = params;
        let delivery = cx.send(&request);
        (id, delivery)
    }

    /// Sends a request about the session's conversation.
    fn thread_call(
        &mut self,
        cx: &mut Cx<'_>,
        method: &str,
        mut params: Value,
        call: Call,
    ) -> (String, DeliveryId) {
        params["threadId"] = self.thread.clone().unwrap_or_default().into();
        self.call(cx, method, params, call)
    }

    fn start_turn(&mut self, cx: &mut Cx<'_>, parts: &[Part]) -> DeliveryId {
        let mut params = json!({});
        params["input"] = self.input(cx, parts);
        if let Some(model) = &self.wanted.model {
            params["model"] = model.clone().into();
        }
        if let Some(effort) = &self.wanted.effort {
            params["effort"] = effort.clone().into();
        }
        if let Some(mode) = &self.wanted.mode {
            let model = self.wanted.model.as_ref().or(self.settings.model.as_ref());
            let effort = self.wanted.effort.as_ref().or(self.settings.effort.as_ref());
            let settings =
                json!({ "model": model, "reasoning_effort": effort, "developer_instructions": null });
            params["collaborationMode"] = json!({ "mode": mode, "settings": settings });
        }
        self.thread_call(cx, "turn/start", params, Call::TurnStart).1
    }

    fn send_steer(&mut self, cx: &mut Cx<'_>, parts: &[Part]) {
        let params = json!({ "expectedTurnId": self.run.turn, "input": self.input(cx, parts) });
        self.thread_call(cx, "turn/steer", params, Call::Steer);
    }

    fn send_interrupt(&mut self, cx: &mut Cx<'_>) {
        let params = json!({ "turnId": self.run.turn });
        self.thread_call(cx, "turn/interrupt", params, Call::Interrupt);
    }

    fn notification(&mut self, cx: &mut Cx<'_>, notification: Notification) {
        match notification {
            Notification::TurnStarted(event) => self.turn_started(cx, &event),
            Notification::TurnCompleted(event) => self.turn_completed(cx, &event),
            Notification::ItemStarted(event) => self.item_started(cx, event),
            Notification::ItemCompleted(event) => self.item_completed(cx, event),
            Notification::Usage(event) => self.usage(cx, &event),
            Notification::Plan(event) => self.plan(cx, event),
            Notification::Error(event) => self.error(cx, &event),
            // What codex says of a model before it begins the turn with it: where its own catalog does not have the
            // model, that it does not, with every turn. The gateway's models are rarely in it.
            Notification::Warning(words) if self.run.turn.is_none() && !self.is_in_catalog() => {
                cx.warn(format!("codex: {}", words.message));
            }
            Notification::Warning(words) => self.tell_once(cx, NotifyLevel::Warning, &words.message),
            // For whoever writes clients of codex and its configuration, which is Lodge: not for its users.
            Notification::ConfigWarning(words) | Notification::Deprecation(words) => {
                cx.warn(format!("codex: {}", words.message));
            }
            Notification::Rerouted(event) => {
                let why = event.reason.as_ref().and_then(Value::as_str).unwrap_or_default();
                let message = format!("the provider answers with the model {}. {why}", event.to_model);
                cx.notify(NotifyLevel::Warning, message.trim());
            }
            Notification::Name(event) if self.is_main(&event.thread_id) => {
                if let Some(name) = event.thread_name {
                    cx.title(name);
                }
            }
            Notification::Settings(event) if self.is_main(&event.thread_id) => {
                self.settings_are(cx, event.thread_settings);
                self.offer_levels(cx);
            }
            Notification::Name(_) | Notification::Settings(_) => {}
            Notification::Resolved(event) => {
                cx.withdraw(|native| native.get("id") == Some(&event.request_id));
                self.questions.remove(&event.request_id.to_string());
            }
            delta => self.delta(cx, delta),
        }
    }

    /// Something is added to an item of the turn under way. What belongs to a turn that is over, or to a sub-agent,
    /// stays in the journal.
    fn delta(&mut self, cx: &mut Cx<'_>, notification: Notification) {
        let place = match &notification {
            Notification::Text(delta)
            | Notification::SummaryPart(delta)
            | Notification::Summary(delta)
            | Notification::Reasoning(delta)
            | Notification::Output(delta)
            | Notification::Typed(delta)
            | Notification::Progress(delta) => &delta.place,
            Notification::Patch(event) => &event.place,
            _ => return,
        };
        if !self.is_main(&place.thread_id) || !self.adopt(cx, &place.turn_id) {
            return;
        }
        match notification {
            Notification::Text(delta) => self.stream(cx, &delta.item_id, Kind::Text, &delta.text),
            Notification::SummaryPart(delta) => self.summary_part(cx, &delta.item_id, delta.summary_index),
            Notification::Summary(delta) => self.stream(cx, &delta.item_id, Kind::Summary, &delta.text),
            Notification::Reasoning(delta) => self.stream(cx, &delta.item_id, Kind::Reasoning, &delta.text),
            Notification::Output(delta) => cx.tool_output_delta(&delta.item_id, &delta.text),
            Notification::Typed(delta) if !delta.text.is_empty() => {
                let typed = format!("[typed] {}\n", delta.text.trim_end());
                cx.tool_output_delta(&delta.item_id, &typed);
            }
            Notification::Progress(delta) => {
                cx.tool_output_delta(&delta.item_id, &format!("{}\n", delta.text));
            }
            Notification::Patch(event) => self.patch_updated(cx, &event.item_id, &event.changes),
            _ => {}
        }
    }

    /// Whether codex's own catalog has the model of the next turn.
    fn is_in_catalog(&self) -> bool {
        let model = self.wanted.model.as_ref().or(self.settings.model.as_ref());
        model.is_some_and(|model| self.levels.contains_key(model))
    }

    fn garbage(&mut self, cx: &mut Cx<'_>, line: &[u8], why: &str) {
        shared::garbage(cx, &mut self.garbage, "codex", line, why);
    }
}

impl Adapter for Codex {
    fn started(&mut self, cx: &mut Cx<'_>) {
        let client = json!({ "name": "lodge", "title": "Lodge", "version": env!("CARGO_PKG_VERSION") });
        // Modes and the list of background commands are experimental.
        let can = json!({ "experimentalApi": true, "requestAttestation": false });
        let params = json!({ "clientInfo": client, "capabilities": can });
        self.call(cx, "initialize", params, Call::Initialize);
        cx.capabilities(|can| {
            can.steer = true;
            can.follow_up = true;
            can.queue = true;
            can.abort = true;
            can.fork = true;
            can.fork_at_message = true;
            can.compact = true;
            can.resume = true;
            can.set_title = true;
            can.images = true;
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
            Ok(Incoming::Response { id, result }) => self.response(cx, &id, result),
            Ok(Incoming::Request { id, method, params }) => self.request(cx, &id, &method, params),
            Ok(Incoming::Notification(notification)) => self.notification(cx, notification),
            Ok(Incoming::Quiet) => {}
            Err(wire::Malformed::Unknown(method)) => {
                cx.warn(format!(
                    "codex sent a notification of the unknown method `{method}`"
                ));
            }
            Err(wire::Malformed::NotJson) => self.garbage(cx, line, "not JSON"),
            Err(wire::Malformed::Shape(why)) => self.garbage(cx, line, &why),
        }
    }

    fn gone(&mut self, cx: &mut Cx<'_>) {
        self.interrupted(cx);
        // Whether codex keeps the mode of a conversation is not known: it is asked for again.
        let mode = self.wanted.mode.take().or(self.settings.mode.take());
        self.wanted.mode = mode;
        *self = Self {
            thread: self.thread.take(),
            used: self.used,
            provider: self.provider.take(),
            settings: std::mem::take(&mut self.settings),
            wanted: std::mem::take(&mut self.wanted),
            totals: std::mem::take(&mut self.totals),
            context: self.context,
            skills: std::mem::take(&mut self.skills),
            ..Self::default()
        };
    }

    fn prompt(&mut self, cx: &mut Cx<'_>, parts: &[Part]) -> Option<DeliveryId> {
        self.expect_echo = true;
        if !self.open {
            self.held_prompt = Some(parts.to_vec());
            return None;
        }
        Some(self.start_turn(cx, parts))
    }

    fn steer(&mut self, cx: &mut Cx<'_>, parts: &[Part]) {
        if self.run.turn.is_some() {
            self.send_steer(cx, parts);
        } else {
            self.held_steers.push(parts.to_vec());
        }
    }

    fn clear_steering(&mut self, cx: &mut Cx<'_>) {
        let told = self.held_steers.is_empty();
        self.held_steers.clear();
        if told {
            cx.notify(
                NotifyLevel::Warning,
                "codex was already given what was steered and cannot give it back",
            );
        }
    }

    fn abort(&mut self, cx: &mut Cx<'_>) {
        if self.held_prompt.take().is_some() {
            self.expect_echo = false;
            self.end_turn(cx, TurnOutcome::Aborted, None, None);
        } else if self.run.turn.is_some() {
            self.send_interrupt(cx);
        } else {
            self.interrupt = true;
        }
    }

    fn answer(&mut self, cx: &mut Cx<'_>, native: &Value, _request: &InputRequest, answer: &InputAnswer) {
        self.answer_request(cx, native, answer);
    }

    fn set_model(&mut self, cx: &mut Cx<'_>, model: &str) -> Result<Answer, ErrorBody> {
        let current = self.provider.as_deref().map(wire::canonical_provider);
        match model.split_once('/') {
            Some((provider, id)) if Some(provider) == current => {
                self.wanted.model = Some(id.to_owned());
                cx.model(model);
                self.offer_levels(cx);
                Ok(Answer::Now(json!({})))
            }
            Some(_) => Err(ErrorBody::new(
                ErrorCode::UnsupportedByHarness,
                "codex cannot change the provider of a conversation; begin another session",
            )),
            None => Err(ErrorBody::new(
                ErrorCode::InvalidArgument,
                format!("`{model}` is not of the form provider/model"),
            )),
        }
    }

    fn set_thinking_level(&mut self, cx: &mut Cx<'_>, level: &str) -> Result<Answer, ErrorBody> {
        self.wanted.effort = Some(level.to_owned());
        cx.thinking_level(level);
        Ok(Answer::Now(json!({})))
    }

    fn set_mode(&mut self, cx: &mut Cx<'_>, mode: &str) -> Result<Answer, ErrorBody> {
        self.wanted.mode = Some(mode.to_owned());
        cx.mode(mode);
        Ok(Answer::Now(json!({})))
    }

    fn compact(&mut self, cx: &mut Cx<'_>, instructions: Option<&str>) -> Result<Answer, ErrorBody> {
        if instructions.is_some_and(|text| !text.trim().is_empty()) {
            return Err(ErrorBody::new(
                ErrorCode::UnsupportedByHarness,
                "codex takes no instructions for its compaction",
            ));
        }
        self.compact_asked = true;
        let (id, _) = self.thread_call(cx, "thread/compact/start", json!({}), Call::Compact);
        Ok(Answer::Later(id))
    }

    fn abort_retry(&mut self, _cx: &mut Cx<'_>) -> Result<Answer, ErrorBody> {
        Err(ErrorBody::new(
            ErrorCode::UnsupportedByHarness,
            "codex cannot end its retries but with the turn: abort it",
        ))
    }

    fn set_title(&mut self, cx: &mut Cx<'_>, title: &str) {
        if title.is_empty() {
            return;
        }
        if self.open {
            self.thread_call(cx, "thread/name/set", json!({ "name": title }), Call::Other);
        } else {
            self.held_title = Some(title.to_owned());
        }
    }

    fn foreign_input(&mut self, cx: &mut Cx<'_>, line: &[u8]) -> Option<CommandBody> {
        self.foreign(cx, line)
    }

    fn native_session(&self) -> Option<String> {
        self.thread.clone().filter(|_| self.used)
    }
}
