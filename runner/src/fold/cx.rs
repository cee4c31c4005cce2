//! What an adapter may do while a record is applied.

use super::output::Output;
use super::record::{DeliveryId, Launch, Record, Reply, Timer};
use super::state::{BlobSlot, Core, OpenRequest, PendingInput, ReplyTo};
use lodge_proto::event::{EventBody, NotifyLevel};
use lodge_proto::ids::{Origin, RequestId, TurnId, derive_id};
use lodge_proto::input::{ApprovalScope, InputAnswer, InputKind, InputRequest};
use lodge_proto::message::Usage;
use lodge_proto::part::{BlobRef, PlanEntry};
use lodge_proto::session::{Capabilities, CommandInfo, Phase, QueueState, SessionStatus};
use lodge_proto::{ErrorBody, ErrorCode, Event};
use serde_json::Value;
use uuid::Uuid;

/// The context of one record: the session's common state, and the events that come about.
#[derive(Debug)]
pub struct Cx<'a> {
    pub(super) core: &'a mut Core,
    pub(super) out: &'a mut Output,
    pub(super) origin: Origin,
    next_id: u32,
    /// Blobs that the next line holds, with the words that stand for them.
    blobs: Vec<(String, String)>,
}

impl<'a> Cx<'a> {
    pub(super) fn new(core: &'a mut Core, out: &'a mut Output, record: &Record) -> Self {
        let origin = Origin {
            session: core.session,
            generation: core.generation,
            record: record.seq,
            time_ms: record.time_ms,
        };
        Self {
            core,
            out,
            origin,
            next_id: 0,
            blobs: Vec::new(),
        }
    }

    /// Time of the record, UTC milliseconds.
    pub fn now(&self) -> u64 {
        self.origin.time_ms
    }

    /// A new id, the same in every replay.
    pub fn new_id(&mut self) -> Uuid {
        self.next_id += 1;
        derive_id(&self.origin, self.next_id)
    }

    /// With what the harness was started.
    pub fn launch(&self) -> Option<&Launch> {
        self.core.launch.as_ref()
    }

    /// Path of the workspace.
    pub fn workspace(&self) -> &str {
        self.core
            .created
            .as_ref()
            .map_or("", |created| created.workspace.as_str())
    }

    /// User messages to keep where this session is a fork; `None` when all, or when it is no fork.
    pub fn fork_keeps(&self) -> Option<u32> {
        self.core.created.as_ref()?.fork.as_ref()?.keep_user_messages
    }

    /// The model that was asked for, as `provider/model`.
    pub fn wanted_model(&self) -> Option<&str> {
        self.core.model.as_deref()
    }

    /// The thinking level that was asked for.
    pub fn wanted_thinking_level(&self) -> Option<&str> {
        self.core.thinking_level.as_deref()
    }

    /// Whether the session offers this model.
    pub fn offers(&self, model: &str) -> bool {
        self.core
            .launch
            .as_ref()
            .is_some_and(|launch| launch.models.iter().any(|known| known.id == model))
    }

    /// Whether prompts were given to the running turn that it has not taken up.
    pub fn has_steering(&self) -> bool {
        self.core
            .queue
            .iter()
            .any(|queued| queued.entry.state == QueueState::Steering)
    }

    /// The turn under way.
    pub fn turn(&self) -> Option<TurnId> {
        self.core.turn.as_ref().map(|turn| turn.id)
    }

    /// Whether a turn runs that is not yet being stored: what belongs into a turn may be said.
    pub fn in_turn(&self) -> bool {
        self.core.turn.is_some() && self.core.persisting.is_none()
    }

    /// Whether the turn under way is being aborted.
    pub fn is_aborting(&self) -> bool {
        self.core.turn.as_ref().is_some_and(|turn| turn.aborting)
    }

    /// Appends an event to the log.
    pub fn emit(&mut self, body: EventBody) {
        self.count_retries(&body);
        self.core.seq += 1;
        let turn_id = self.turn();
        let event = Event {
            session_id: self.core.session,
            seq: self.core.seq,
            ts: self.now(),
            turn_id,
            body,
        };
        self.out.events.push(event);
    }

    /// A notice for the user.
    pub fn notify(&mut self, level: NotifyLevel, message: impl Into<String>) {
        self.emit(EventBody::Notify {
            level,
            message: message.into(),
        });
    }

    /// An error of the agent that did not by itself end the turn.
    pub fn agent_error(&mut self, code: ErrorCode, message: impl Into<String>, recoverable: bool) {
        self.emit(EventBody::AgentError {
            code,
            message: message.into(),
            recoverable,
        });
    }

    /// Says what the agent is doing, if that changed.
    pub fn phase(&mut self, phase: Phase) {
        if self.core.phase != Some(phase) && self.core.turn.is_some() {
            self.core.phase = Some(phase);
            self.emit(EventBody::AgentWorking { phase });
        }
    }

    pub(super) fn status(&mut self, status: SessionStatus) {
        if self.core.status != status {
            self.core.status = status;
            let persisting = self.core.persisting.is_some();
            self.emit(EventBody::Status {
                status,
                text: None,
                persisting,
            });
        }
    }

    /// A line of status text of the harness.
    pub fn status_text(&mut self, text: impl Into<String>) {
        let persisting = self.core.persisting.is_some();
        self.emit(EventBody::Status {
            status: self.core.status,
            text: Some(text.into()),
            persisting,
        });
    }

    /// The harness answers: it is ready for prompts.
    pub fn ready(&mut self) {
        let generation = self.core.generation;
        self.core.timers.remove(&Timer::StartDeadline { generation });
        if self.core.status == SessionStatus::Starting {
            self.status(SessionStatus::Idle);
        }
    }

    /// What the session can do, as the harness said.
    pub fn capabilities(&mut self, change: impl FnOnce(&mut Capabilities)) {
        let mut capabilities = self.core.capabilities.clone();
        change(&mut capabilities);
        if capabilities != self.core.capabilities {
            self.core.capabilities = capabilities.clone();
            self.emit(EventBody::SessionCapabilities { capabilities });
        }
    }

    /// The slash commands of the harness.
    pub fn commands(&mut self, commands: Vec<CommandInfo>) {
        if commands != self.core.commands {
            self.core.commands.clone_from(&commands);
            self.emit(EventBody::CommandsUpdated { commands });
        }
    }

    /// The agent's plan.
    pub fn plan(&mut self, entries: Vec<PlanEntry>) {
        if entries != self.core.plan {
            self.core.plan.clone_from(&entries);
            self.emit(EventBody::PlanUpdated { entries });
        }
    }

    /// The model in use.
    pub fn model(&mut self, model: impl Into<String>) {
        let model = model.into();
        if self.core.model.as_ref() != Some(&model) {
            self.core.model = Some(model.clone());
            self.emit(EventBody::ConfigModelChanged { model });
        }
    }

    /// The thinking level in use.
    pub fn thinking_level(&mut self, level: impl Into<String>) {
        let level = level.into();
        if self.core.thinking_level.as_ref() != Some(&level) {
            self.core.thinking_level = Some(level.clone());
            self.emit(EventBody::ConfigThinkingLevelChanged { level });
        }
    }

    /// The mode in use.
    pub fn mode(&mut self, mode: impl Into<String>) {
        let mode = mode.into();
        if self.core.mode.as_ref() != Some(&mode) {
            self.core.mode = Some(mode.clone());
            self.emit(EventBody::ConfigModeChanged { mode });
        }
    }

    /// The session's title.
    pub fn title(&mut self, title: impl Into<String>) {
        let title = title.into();
        if self.core.title != title {
            self.core.title.clone_from(&title);
            self.emit(EventBody::SessionTitleChanged { title });
        }
    }

    /// Tokens and cost of one model call, and the size of the context after it.
    pub fn add_usage(&mut self, usage: Usage, context_tokens: Option<u64>) {
        self.core.usage = self.core.usage.plus(usage);
        if let Some(turn) = &mut self.core.turn {
            turn.usage = turn.usage.plus(usage);
        }
        self.core.context_tokens = context_tokens.or(self.core.context_tokens);
        let usage = self.core.usage;
        self.emit(EventBody::UsageUpdated {
            usage,
            context_tokens: self.core.context_tokens,
        });
    }

    /// A word that stands for the bytes of a blob, in base64, in the line that is sent next.
    pub fn blob(&mut self, blob: &BlobRef) -> String {
        let word = self.new_id().simple().to_string();
        self.blobs.push((word.clone(), blob.hash.clone()));
        word
    }

    /// Gives the harness one line. It is delivered once, in order.
    pub fn send(&mut self, line: &Value) -> DeliveryId {
        let (mut bytes, blobs) = cut_words(line.to_string(), std::mem::take(&mut self.blobs));
        bytes.push(b'\n');
        let id = self.new_id().into_bytes();
        if !self.core.transcript {
            self.core.inputs.push(PendingInput {
                id,
                bytes,
                blobs,
                begun: false,
            });
        }
        id
    }

    /// Starts a timer, or moves it.
    pub fn set_timer(&mut self, timer: Timer, after_ms: u64) {
        self.core.timers.insert(timer, self.now() + after_ms);
    }

    /// Puts a question of the harness to the user. `native` is what the adapter needs for the answer.
    pub fn ask(
        &mut self,
        native: Value,
        title: impl Into<String>,
        message: Option<String>,
        kind: InputKind,
    ) -> RequestId {
        let id = RequestId(self.new_id());
        let request = InputRequest {
            id,
            title: title.into(),
            message,
            expires_at: None,
            kind,
        };
        self.core.requests.push(OpenRequest {
            request: request.clone(),
            native,
            rule: None,
            lent: Vec::new(),
        });
        self.phase(Phase::WaitingForInput);
        self.emit(EventBody::AgentInputNeeded { request });
        id
    }

    /// The native part of an open question that matches.
    pub fn question(&self, mut matches: impl FnMut(&Value) -> bool) -> Option<&Value> {
        let mut natives = self.core.requests.iter().map(|open| &open.native);
        natives.find(|native| matches(native))
    }

    /// Takes back the questions whose native part matches: the harness answered them itself.
    pub fn withdraw(&mut self, mut matches: impl FnMut(&Value) -> bool) {
        let (gone, kept) = std::mem::take(&mut self.core.requests)
            .into_iter()
            .partition(|open| matches(&open.native));
        self.core.requests = kept;
        let gone: Vec<OpenRequest> = gone;
        for open in gone {
            self.resolved(open.request.id, InputAnswer::Cancelled {}, None);
        }
    }

    /// Notes that a question was answered on the wire, by somebody else than this fold.
    pub fn answered(&mut self, mut matches: impl FnMut(&Value) -> bool, answer: InputAnswer) {
        if let Some(at) = self.core.requests.iter().position(|open| matches(&open.native)) {
            let open = self.core.requests.remove(at);
            self.resolved(open.request.id, answer, None);
        }
    }

    pub(super) fn resolved(
        &mut self,
        request_id: RequestId,
        answer: InputAnswer,
        remembered: Option<ApprovalScope>,
    ) {
        self.emit(EventBody::AgentInputResolved {
            request_id,
            answer,
            remembered,
        });
        if self.core.requests.is_empty() && self.core.phase == Some(Phase::WaitingForInput) {
            let phase = if self.core.tools.is_empty() {
                Phase::Generating
            } else {
                Phase::ToolRunning
            };
            self.phase(phase);
        }
    }

    /// Answers the command that waits under the harness's own request id, if one does.
    pub fn resolve(&mut self, native_id: &str, result: Result<Value, ErrorBody>) {
        if let Some(ReplyTo { account, client_id }) = self.core.deferred.remove(native_id) {
            self.out.replies.push(Reply {
                account,
                client_id,
                result,
            });
        }
    }

    /// A line for the runner's own log. Never prompt text.
    pub fn warn(&mut self, message: impl Into<String>) {
        self.out.warnings.push(message.into());
    }
}

/// A line without the words that stand for blobs, and where they stood.
fn cut_words(line: String, words: Vec<(String, String)>) -> (Vec<u8>, Vec<BlobSlot>) {
    let mut found: Vec<(usize, usize, String)> = words
        .into_iter()
        .filter_map(|(word, hash)| line.find(&word).map(|at| (at, word.len(), hash)))
        .collect();
    if found.is_empty() {
        return (line.into_bytes(), Vec::new());
    }
    found.sort_unstable();
    let (mut bytes, mut from) = (Vec::with_capacity(line.len() + 1), 0);
    let mut slots = Vec::with_capacity(found.len());
    for (at, length, hash) in found {
        bytes.extend_from_slice(&line.as_bytes()[from..at]);
        slots.push(BlobSlot {
            at: bytes.len(),
            hash,
        });
        from = at + length;
    }
    bytes.extend_from_slice(&line.as_bytes()[from..]);
    (bytes, slots)
}
