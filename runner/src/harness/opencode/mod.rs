//! opencode's own server, through Lodge's bridge: requests and responses, and a stream of events.
//!
//! One process is one server; the session is one conversation of it, sub-agents are conversations below it. Each
//! call of the model is a message of its own. A turn is ours: it begins with the prompt, and it ends when the
//! conversation is idle and its last message is complete (an abort and an error say "idle" twice, the first time
//! before the message). Prompts given while it is busy join at the next call of the model. The stream has no memory:
//! after a loss the state is asked for.

mod dialogs;
pub mod launch;
mod messages;
pub mod recorded;
mod requests;
mod responses;
mod subagents;
#[cfg(test)]
mod tests;
mod tools;
mod turns;
mod wire;

use super::shared::prompt_text;
use super::{Adapter, Answer, shared};
use crate::fold::{Cx, DeliveryId};
use dialogs::Questions;
use lodge_proto::command::CommandBody;
use lodge_proto::event::NotifyLevel;
use lodge_proto::input::{InputAnswer, InputRequest};
use lodge_proto::part::{Part, PlanEntry, PlanStatus};
use lodge_proto::{ErrorBody, ErrorCode};
use messages::Step;
use requests::{level_names, offer_levels};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use subagents::Subagent;
use turns::Compaction;
use wire::{Event, Incoming};

/// Messages that are remembered after their turn.
const REMEMBERED: usize = 256;
/// Messages that are asked for after the stream was lost.
const REREAD: u32 = 50;
/// The title that a new conversation has, so that no call of a model is spent on one: ours comes from the prompt.
const UNTITLED: &str = "Lodge";

/// What a request of ours was for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Asked {
    Create,
    Resume,
    Fork,
    /// The newest message of a copy.
    Copied {
        session: String,
    },
    Agents,
    Commands,
    Prompt,
    Steer,
    Abort,
    Compact,
    Status,
    Messages,
    Permissions,
    Questions,
    Other,
}

/// State of the turn under way.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
struct Run {
    /// opencode works on it.
    begun: bool,
    /// How often it was said to be idle since it last worked.
    idle: u32,
    /// The message of the prompt.
    prompt: Option<String>,
    /// Messages that are not complete, by opencode's ids.
    steps: BTreeMap<String, Step>,
    /// Prompts that wait for the next call of the model: message and text.
    steered: Vec<(String, String)>,
    /// Number of the attempt that is made again.
    retrying: Option<u32>,
    aborted: bool,
    abort_sent: bool,
    /// The abort was not answered yet.
    abort_pending: bool,
    error: Option<ErrorBody>,
}

/// State of the opencode adapter.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct OpenCode {
    /// The session's conversation.
    session: Option<String>,
    /// This process has it.
    open: bool,
    /// It had a turn, so that there is something to be resumed.
    used: bool,
    /// The event stream stood already once.
    streamed: bool,
    /// Requests that wait for their responses.
    pending: BTreeMap<String, Asked>,
    run: Run,
    /// The next user message on the wire is the prompt that was just given.
    expect_echo: bool,
    /// A prompt that came before the conversation was there.
    held_prompt: Option<Vec<Part>>,
    held_title: Option<String>,
    /// The turn was aborted before opencode worked on it: should it still begin, it is stopped.
    stop_next: bool,
    /// Messages of users, and those among them whose text is known.
    users: VecDeque<String>,
    heard: VecDeque<String>,
    /// Newest message that was copied from another session. opencode's ids rise with time.
    copied: Option<String>,
    /// Messages that are complete.
    done: VecDeque<String>,
    compaction: Option<Compaction>,
    /// A compaction was asked for, outside of a turn; it lasts until opencode is idle.
    compacting_alone: bool,
    questions: BTreeMap<String, Questions>,
    subagents: BTreeMap<String, Subagent>,
    /// The agent to answer with, its mode.
    agent: Option<String>,
    agents: Vec<String>,
    commands: Vec<String>,
    told: BTreeSet<String>,
    garbage: u32,
}

impl OpenCode {
    /// Whether this is about the session's conversation, not about another one of the server.
    fn is_main(&self, session: &str) -> bool {
        self.session.as_deref() == Some(session)
    }

    fn event(&mut self, cx: &mut Cx<'_>, event: Event) {
        match event {
            Event::Message(message) => self.message(cx, &message),
            Event::Part(part) => self.part(cx, part),
            Event::Delta(delta) => self.delta(cx, &delta),
            Event::MessageRemoved(removed) => self.removed(cx, &removed),
            Event::Status(event) if self.is_main(&event.session) => self.status(cx, &event.status),
            Event::Error(event) => self.error(cx, &event),
            Event::Permission(permission) => self.permission(cx, permission),
            Event::PermissionReplied(replied) => dialogs::permission_replied(cx, &replied),
            Event::Question(question) => self.question(cx, question),
            Event::QuestionAnswered(replied) => self.question_answered(cx, &replied),
            Event::Todos(todos) if self.is_main(&todos.session) => cx.plan(plan(todos.todos)),
            Event::Session(session) => self.session_changed(cx, session),
            Event::Compacted(event) if self.is_main(&event.session) => self.compacted(cx),
            // Of other conversations, or of nothing that is shown.
            Event::Status(_) | Event::Todos(_) | Event::Compacted(_) | Event::Quiet => {}
        }
    }

    fn session_changed(&mut self, cx: &mut Cx<'_>, session: wire::Session) {
        if let Some(parent) = &session.parent {
            if self.is_main(parent) || self.subagents.contains_key(parent) {
                self.subagents.entry(session.id).or_default();
            }
        } else if self.is_main(&session.id)
            && !session.title.is_empty()
            && session.title != UNTITLED
            && !session.title.starts_with("New session - ")
        {
            cx.title(session.title);
        }
    }

    /// The event stream stands. What was said while it did not is asked for.
    fn connected(&mut self, cx: &mut Cx<'_>) {
        if !std::mem::replace(&mut self.streamed, true) || !self.open {
            return;
        }
        let messages = format!("message?limit={REREAD}");
        self.ask_session(cx, "GET", &messages, None, Asked::Messages);
        self.ask(cx, "GET", "/permission", None, Asked::Permissions);
        self.ask(cx, "GET", "/question", None, Asked::Questions);
        self.ask(cx, "GET", "/session/status", None, Asked::Status);
    }

    fn garbage(&mut self, cx: &mut Cx<'_>, line: &[u8], why: &str) {
        shared::garbage(cx, &mut self.garbage, "opencode", line, why);
    }
}

impl Adapter for OpenCode {
    fn started(&mut self, cx: &mut Cx<'_>) {
        // A session of its own would be empty: what is resumed is asked for by its name.
        if self.session.is_some() && self.used {
            self.ask_session(cx, "GET", "", None, Asked::Resume);
        } else {
            self.session = None;
            self.open_new(cx);
        }
        self.ask(cx, "GET", "/agent", None, Asked::Agents);
        self.ask(cx, "GET", "/command", None, Asked::Commands);
        let levels = level_names(cx);
        let models = cx
            .launch()
            .map(|launch| launch.models.clone())
            .unwrap_or_default();
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
            can.models = models;
            can.thinking_levels = levels;
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
            Ok(Incoming::Response(response)) => self.response(cx, response),
            Ok(Incoming::Event(event)) => self.event(cx, *event),
            Ok(Incoming::Stream { connected: true }) => self.connected(cx),
            Ok(Incoming::Stream { connected: false }) => cx.warn("the event stream of opencode was lost"),
            Ok(Incoming::Oversize) => cx.agent_error(
                ErrorCode::HarnessCrashed,
                "opencode reported something of over 12 MiB; it was dropped",
                true,
            ),
            Ok(Incoming::Refused(why)) => cx.warn(format!("the bridge refused a request: {why}")),
            Err(wire::Malformed::Unknown(kind)) => {
                if self.told.insert(kind.clone()) {
                    cx.warn(format!("opencode sent an event of the unknown type `{kind}`"));
                }
            }
            Err(wire::Malformed::NotJson) => self.garbage(cx, line, "not JSON"),
            Err(wire::Malformed::Shape(why)) => self.garbage(cx, line, &why),
        }
    }

    fn gone(&mut self, cx: &mut Cx<'_>) {
        self.interrupted(cx);
        *self = Self {
            session: self.session.take(),
            used: self.used,
            agent: self.agent.take(),
            agents: std::mem::take(&mut self.agents),
            commands: std::mem::take(&mut self.commands),
            copied: self.copied.take(),
            done: std::mem::take(&mut self.done),
            ..Self::default()
        };
    }

    fn prompt(&mut self, cx: &mut Cx<'_>, parts: &[Part]) -> Option<DeliveryId> {
        self.run = Run::default();
        // It repeats texts; there is none where the prompt is an image alone.
        self.expect_echo = !prompt_text(parts).is_empty();
        self.stop_next = false;
        self.compacting_alone = false;
        if !self.open {
            self.held_prompt = Some(parts.to_vec());
            return None;
        }
        Some(self.send_prompt(cx, parts))
    }

    fn steer(&mut self, cx: &mut Cx<'_>, parts: &[Part]) {
        // A command would begin a run of its own and is given as text.
        let mut body = json!({ "parts": requests::blocks(cx, &prompt_text(parts), parts) });
        if let Some(agent) = &self.agent {
            body["agent"] = agent.clone().into();
        }
        self.ask_session(cx, "POST", "prompt_async", Some(body), Asked::Steer);
    }

    fn clear_steering(&mut self, cx: &mut Cx<'_>) {
        self.take_back(cx);
    }

    fn abort(&mut self, cx: &mut Cx<'_>) {
        if self.held_prompt.take().is_some() {
            self.run.aborted = true;
            self.end_turn(cx);
        } else {
            self.send_abort(cx);
        }
    }

    fn answer(&mut self, cx: &mut Cx<'_>, native: &Value, _request: &InputRequest, answer: &InputAnswer) {
        self.answer_request(cx, native, answer);
    }

    fn set_model(&mut self, cx: &mut Cx<'_>, model: &str) -> Result<Answer, ErrorBody> {
        if !model.contains('/') {
            return Err(ErrorBody::new(
                ErrorCode::InvalidArgument,
                format!("`{model}` is not of the form provider/model"),
            ));
        }
        // It goes with the next prompt.
        cx.model(model);
        offer_levels(cx);
        Ok(Answer::Now(json!({})))
    }

    fn set_thinking_level(&mut self, cx: &mut Cx<'_>, level: &str) -> Result<Answer, ErrorBody> {
        cx.thinking_level(level);
        Ok(Answer::Now(json!({})))
    }

    fn set_mode(&mut self, cx: &mut Cx<'_>, mode: &str) -> Result<Answer, ErrorBody> {
        self.agent = Some(mode.to_owned());
        cx.mode(mode);
        Ok(Answer::Now(json!({})))
    }

    fn compact(&mut self, cx: &mut Cx<'_>, instructions: Option<&str>) -> Result<Answer, ErrorBody> {
        if instructions.is_some_and(|text| !text.trim().is_empty()) {
            return Err(unsupported("opencode takes no instructions for its compaction"));
        }
        let model = cx
            .wanted_model()
            .and_then(|model| model.split_once('/'))
            .map(|(provider, id)| (format!("{}{provider}", wire::PROVIDER_PREFIX), id.to_owned()));
        let Some((provider, model)) = model.filter(|_| self.open) else {
            return Err(ErrorBody::new(
                ErrorCode::Unavailable,
                "there is no conversation with a model yet",
            ));
        };
        let body = json!({ "providerID": provider, "modelID": model, "auto": false });
        let (id, _) = self.ask_session(cx, "POST", "summarize", Some(body), Asked::Compact);
        Ok(Answer::Later(id))
    }

    fn abort_retry(&mut self, _cx: &mut Cx<'_>) -> Result<Answer, ErrorBody> {
        Err(unsupported(
            "opencode cannot end its retries but with the turn: abort it",
        ))
    }

    fn set_title(&mut self, cx: &mut Cx<'_>, title: &str) {
        if title.is_empty() {
            return;
        }
        if self.open {
            let body = json!({ "title": title });
            self.ask_session(cx, "PATCH", "", Some(body), Asked::Other);
        } else {
            self.held_title = Some(title.to_owned());
        }
    }

    fn foreign_input(&mut self, cx: &mut Cx<'_>, line: &[u8]) -> Option<CommandBody> {
        self.foreign(cx, line)
    }

    fn native_session(&self) -> Option<String> {
        self.session.clone().filter(|_| self.used)
    }
}

fn unsupported(why: &str) -> ErrorBody {
    ErrorBody::new(ErrorCode::UnsupportedByHarness, why)
}

/// An extension part.
fn extension(name: &str, fields: &Value) -> Part {
    let fields = fields.as_object().cloned().unwrap_or_default();
    Part::extension(name, fields).unwrap_or_else(|| Part::text(""))
}

/// Adds to a list of which only the newest are kept.
fn remember(list: &mut VecDeque<String>, id: &str) {
    if list.iter().any(|known| known == id) {
        return;
    }
    if list.len() == REMEMBERED {
        list.pop_front();
    }
    list.push_back(id.to_owned());
}

fn plan(todos: Vec<wire::Todo>) -> Vec<PlanEntry> {
    todos
        .into_iter()
        .filter(|todo| todo.status != "cancelled")
        .map(|todo| PlanEntry {
            content: todo.content,
            status: match todo.status.as_str() {
                "completed" => PlanStatus::Completed,
                "in_progress" => PlanStatus::InProgress,
                _ => PlanStatus::Pending,
            },
            priority: todo.priority,
        })
        .collect()
}

/// A notice, once a process.
fn tell_once(told: &mut BTreeSet<String>, cx: &mut Cx<'_>, message: &str) {
    if told.insert(message.to_owned()) {
        cx.notify(NotifyLevel::Warning, message);
    }
}
