//! Any agent that speaks the Agent Client Protocol: JSON-RPC lines on standard input and output.
//!
//! Version 2 is offered, version 1 is taken. The two differ in what ends a turn: the answer to the prompt, or the
//! idle state. Files and terminals of the client are not offered: an agent's tools stay in its sandbox. One prompt at
//! a time is given to an agent; what waits waits in the runner's own queue.

mod dialogs;
mod diff;
mod failure;
mod forms;
mod handshake;
pub mod home;
pub mod launch;
mod messages;
mod modes;
mod options;
mod plans;
mod recorded;
mod responses;
mod terminals;
#[cfg(test)]
mod tests;
mod tools;
mod updates;
mod wire;

use super::{Adapter, Answer, shared};
use crate::fold::{Cx, DeliveryId};
use handshake::{Abilities, Opening};
use lodge_proto::command::CommandBody;
use lodge_proto::event::{CompactReason, TurnOutcome};
use lodge_proto::ids::MessageId;
use lodge_proto::input::{InputAnswer, InputRequest};
use lodge_proto::message::StopReason;
use lodge_proto::part::{Part, PlanEntry, plain_text};
use lodge_proto::{ErrorBody, ErrorCode};
use messages::Told;
use options::Options;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt::Write as _;
use terminals::Terminal;
use tools::Tool;
use wire::Frame;

/// Unknown updates that are kept as parts, per process.
const KEPT_UNKNOWN: u32 = 50;
/// Output outside of turns that is shown at once, in bytes.
const STRAY_BYTES: usize = 16 * 1024;

/// What a request of ours was about.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Asked {
    Initialize,
    Open {
        opening: Opening,
        session: Option<String>,
    },
    Login,
    Sync,
    Prompt,
    Steer(String),
    /// The agent's name of the model.
    Model(String),
    Level(String),
    Mode(String),
    Other,
}

impl Asked {
    fn what(&self) -> String {
        match self {
            Self::Model(model) => format!("the model `{model}`"),
            Self::Level(level) => format!("the thinking level `{level}`"),
            Self::Mode(mode) => format!("the mode `{mode}`"),
            _ => "a request".to_owned(),
        }
    }
}

/// The assistant's message that streams.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Streaming {
    id: MessageId,
    parts: Vec<Part>,
    /// The agent's ids of the text and of the thought.
    text_id: Option<String>,
    thought_id: Option<String>,
    /// The next piece begins a part.
    part_ended: bool,
}

/// What is known of the turn under way.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
struct Turn {
    /// The request that carries its prompt.
    prompt: Option<String>,
    /// Version 2: the prompt was accepted.
    accepted: bool,
    /// Version 2: the agent works in the foreground.
    running: bool,
    /// Nothing was heard of it yet.
    silent: bool,
    /// Its prompt holds images.
    images: bool,
    /// Text of the prompt, which the agent may tell again.
    echo: Option<String>,
    /// Texts of prompts that were given to it while it ran, likewise.
    injected: Vec<String>,
}

/// A summary of the context that is being made.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Compaction {
    summary: String,
    /// The turn is only for this: what the agent says is the summary.
    ours: bool,
}

/// State of the ACP adapter.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Acp {
    /// The version that the agent speaks.
    version: u32,
    /// A word for the agent.
    agent: String,
    abilities: Abilities,
    /// The agent refused the version that was offered.
    refused: bool,
    /// The agent's id of the session.
    session: Option<String>,
    /// The session takes prompts.
    open: bool,
    /// It was given one.
    prompted: bool,
    /// A prompt that came before.
    held: Option<Vec<Part>>,
    prefer_model: bool,
    prefer_level: bool,
    /// Requests that the agent has not answered.
    pending: BTreeMap<String, Asked>,
    /// Prompts of a recording that wait for their turn.
    recorded: VecDeque<String>,
    turn: Turn,
    message: Option<Streaming>,
    /// Ids of messages of this turn that are complete.
    closed: BTreeSet<String>,
    told: Option<Told>,
    tools: Vec<Tool>,
    terminals: BTreeMap<String, Terminal>,
    plans: BTreeMap<String, Vec<PlanEntry>>,
    compaction: Option<Compaction>,
    options: Options,
    /// Cost of the session so far, in nano-dollars, and tokens of its context.
    cost: u64,
    context: Option<u64>,
    /// The agent tells an old conversation again.
    replaying: bool,
    /// Output outside of a turn.
    stray: String,
    garbage: u32,
    unknown: u32,
}

impl Acp {
    fn request(&mut self, cx: &mut Cx<'_>, method: &str, params: &Value, asked: Asked) -> String {
        let id = cx.new_id().to_string();
        self.pending.insert(id.clone(), asked);
        cx.send(&json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params }));
        id
    }

    fn is_open(&self) -> bool {
        self.open
    }

    /// Work that the agent begins by itself gets a turn; version 1 has no way to end one.
    fn agent_starts(&mut self, cx: &mut Cx<'_>) {
        if self.turn.running && self.turn.prompt.is_none() {
            cx.begin_turn();
        }
    }

    /// Gives the agent a prompt.
    fn deliver(&mut self, cx: &mut Cx<'_>, parts: &[Part]) -> DeliveryId {
        let id = self
            .recorded
            .pop_front()
            .unwrap_or_else(|| cx.new_id().to_string());
        self.pending.insert(id.clone(), Asked::Prompt);
        self.prompted = true;
        let blocks = blocks(cx, parts);
        self.turn.echo = Some(plain_text(parts));
        self.turn.prompt = Some(id.clone());
        self.turn.images = parts.iter().any(|part| matches!(part, Part::Image { .. }));
        let params = json!({ "sessionId": self.session, "prompt": blocks });
        cx.send(&json!({ "jsonrpc": "2.0", "id": id, "method": "session/prompt", "params": params }))
    }

    /// One message of a line.
    fn frame(&mut self, cx: &mut Cx<'_>, line: &[u8], value: Value) {
        match wire::frame(value) {
            Ok(Frame::Answer { id, result }) => {
                self.stray_end(cx);
                self.answered(cx, &id, result);
            }
            Ok(Frame::Request { id, method, params }) => {
                self.stray_end(cx);
                self.asked(cx, &id, &method, &params);
            }
            Ok(Frame::Notification { method, params }) => self.notified(cx, &method, params),
            Err(why) => self.garbage(cx, line, &why),
        }
    }

    fn garbage(&mut self, cx: &mut Cx<'_>, line: &[u8], why: &str) {
        shared::garbage(cx, &mut self.garbage, "the agent", line, why);
    }
}

impl Adapter for Acp {
    fn started(&mut self, cx: &mut Cx<'_>) {
        self.hello(cx);
    }

    fn line(&mut self, cx: &mut Cx<'_>, line: &[u8]) {
        if line.iter().all(u8::is_ascii_whitespace) {
            return;
        }
        let Ok(text) = std::str::from_utf8(line) else {
            return self.garbage(cx, line, "not UTF-8");
        };
        match serde_json::from_str(text) {
            // Version 2 allows several messages in one line, which is no longer than any other.
            Ok(Value::Array(batch)) if !batch.is_empty() => {
                for value in batch {
                    self.frame(cx, line, value);
                }
            }
            Ok(value) => self.frame(cx, line, value),
            Err(_) => self.garbage(cx, line, "not JSON"),
        }
    }

    fn gone(&mut self, cx: &mut Cx<'_>) {
        self.stray_end(cx);
        let failed = ErrorBody::new(ErrorCode::HarnessCrashed, "the agent ended");
        self.compacted(cx, false, None, Some(&failed));
        *self = Self {
            session: self.session.take(),
            prompted: self.prompted,
            version: self.version,
            agent: std::mem::take(&mut self.agent),
            cost: self.cost,
            ..Self::default()
        };
    }

    fn prompt(&mut self, cx: &mut Cx<'_>, parts: &[Part]) -> Option<DeliveryId> {
        self.stray_end(cx);
        self.turn = Turn {
            silent: true,
            ..Turn::default()
        };
        self.replaying &= !self.open;
        // An agent takes prompts only in a session, and that may still be opened.
        if !self.open && self.recorded.is_empty() {
            self.held = Some(parts.to_vec());
            return None;
        }
        self.replaying = false;
        Some(self.deliver(cx, parts))
    }

    fn may_take_images(&self) -> bool {
        self.version == 0
    }

    fn steer(&mut self, cx: &mut Cx<'_>, parts: &[Part]) {
        let params = json!({
            "sessionId": self.session,
            "prompt": blocks(cx, parts),
            "_meta": { "steering": { "idleBehavior": "promptRequired" } },
        });
        self.request(cx, "_session/steering", &params, Asked::Steer(plain_text(parts)));
    }

    /// What was steered cannot be taken back: the agent has it.
    fn clear_steering(&mut self, _cx: &mut Cx<'_>) {}

    fn abort(&mut self, cx: &mut Cx<'_>) {
        if self.held.take().is_some() {
            return self.finish(cx, TurnOutcome::Aborted, Some(StopReason::Aborted), None);
        }
        let params = json!({ "sessionId": self.session });
        cx.send(&json!({ "jsonrpc": "2.0", "method": "session/cancel", "params": params }));
    }

    fn answer(&mut self, cx: &mut Cx<'_>, native: &Value, _request: &InputRequest, answer: &InputAnswer) {
        self.reply(cx, native, answer);
    }

    fn set_model(&mut self, cx: &mut Cx<'_>, model: &str) -> Result<Answer, ErrorBody> {
        self.use_model(cx, model).map(Answer::Later)
    }

    fn set_thinking_level(&mut self, cx: &mut Cx<'_>, level: &str) -> Result<Answer, ErrorBody> {
        self.use_level(cx, level).map(Answer::Later)
    }

    fn set_mode(&mut self, cx: &mut Cx<'_>, mode: &str) -> Result<Answer, ErrorBody> {
        self.use_mode(cx, mode).map(Answer::Later)
    }

    fn compact(&mut self, cx: &mut Cx<'_>, instructions: Option<&str>) -> Result<Answer, ErrorBody> {
        let command = self.options.compact.clone().ok_or_else(|| {
            ErrorBody::new(
                ErrorCode::UnsupportedByHarness,
                "this agent has no command that compacts",
            )
        })?;
        if !self.open {
            return Err(not_open());
        }
        let mut text = format!("/{command}");
        if let Some(instructions) = instructions {
            let _ = write!(text, " {instructions}");
        }
        cx.begin_turn();
        self.turn = Turn::default();
        self.compacting(cx, CompactReason::Manual);
        self.deliver(cx, &[Part::text(text)]);
        Ok(Answer::Now(json!({ "turn_id": cx.turn() })))
    }

    fn abort_retry(&mut self, _cx: &mut Cx<'_>) -> Result<Answer, ErrorBody> {
        Err(ErrorBody::new(
            ErrorCode::UnsupportedByHarness,
            "an agent over ACP does not tell of its retries",
        ))
    }

    fn foreign_input(&mut self, cx: &mut Cx<'_>, line: &[u8]) -> Option<CommandBody> {
        self.recorded_input(cx, line)
    }

    fn native_session(&self) -> Option<String> {
        self.session.clone()
    }
}

fn not_open() -> ErrorBody {
    ErrorBody::new(
        ErrorCode::Unavailable,
        "the agent's session is still being opened",
    )
}

/// A prompt as the agent takes it. Links to files are understood by every agent.
fn blocks(cx: &mut Cx<'_>, parts: &[Part]) -> Vec<Value> {
    let workspace = cx.workspace().to_owned();
    let mut blocks = Vec::new();
    for part in parts {
        match part {
            Part::Text { text } => blocks.push(json!({ "type": "text", "text": text })),
            Part::FileRef { path, lines } => {
                let uri = format!("file://{}", encoded(&format!("{workspace}/{path}")));
                blocks.push(json!({ "type": "resource_link", "uri": uri, "name": path }));
                if let Some((first, last)) = lines {
                    let text = format!("(lines {first} to {last} of {path})");
                    blocks.push(json!({ "type": "text", "text": text }));
                }
            }
            Part::Image { blob, .. } => {
                let data = cx.blob(blob);
                blocks.push(json!({ "type": "image", "data": data, "mimeType": blob.media_type }));
            }
            _ => {}
        }
    }
    blocks
}

/// A path as it stands in an address.
fn encoded(path: &str) -> String {
    let mut out = String::with_capacity(path.len());
    for byte in path.bytes() {
        if byte.is_ascii_alphanumeric() || b"/-_.~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}
