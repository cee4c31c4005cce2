//! Turns: how they begin, what waits for them, how they end.

use super::cx::Cx;
use super::record::{DeliveryId, Queued, Timer};
use super::state::{Turn, TurnRecord};
use super::stream::Final;
use crate::harness::AnyAdapter;
use lodge_proto::event::{EventBody, TurnOutcome};
use lodge_proto::ids::{QueueId, TurnId};
use lodge_proto::input::InputAnswer;
use lodge_proto::message::{Role, Sender, StopReason, Usage};
use lodge_proto::part::{Part, plain_text};
use lodge_proto::session::{Phase, QueueEntry, QueueState, SessionStatus};
use lodge_proto::{ErrorBody, ErrorCode};

/// Time a harness has to settle after an abort before it is killed, so that the whole stays within 5 s.
const ABORT_DEADLINE_MS: u64 = 3_500;
/// Attempts that a harness may announce in a row. More than each of ours makes by itself: this bounds one that would
/// go on for ever.
const MOST_RETRIES: u32 = 8;
/// Longest title that is made from a prompt, in characters.
const TITLE_CHARS: usize = 60;

impl Cx<'_> {
    /// A turn begins. Without a prompt it is one that the harness began by itself.
    pub fn begin_turn(&mut self) {
        if self.core.turn.is_some() {
            return;
        }
        let id = TurnId(self.new_id());
        self.core.turn = Some(Turn {
            id,
            started_at: self.now(),
            usage: Usage::default(),
            messages: Vec::new(),
            aborting: false,
            retries: 0,
            given_up: None,
            prompt: None,
            ending: None,
        });
        self.core.last_error = None;
        self.core.phase = None;
        self.emit(EventBody::TurnStarted {});
        self.status(SessionStatus::Working);
    }

    /// The message of a user, whole.
    pub fn user_message(&mut self, parts: Vec<Part>, sender: Option<Sender>) {
        if self.core.title.is_empty() {
            let title = title_from(&plain_text(&parts));
            if !title.is_empty() {
                self.title(title);
            }
        }
        self.whole_message(
            Role::User,
            Final {
                parts,
                sender,
                ..Final::default()
            },
        );
    }

    /// The harness is done with the turn, retries and all.
    pub fn turn_done(&mut self, outcome: TurnOutcome, error: Option<ErrorBody>) {
        if let Some(turn) = &mut self.core.turn
            && turn.ending.is_none()
        {
            turn.ending = Some((outcome, error));
        }
    }

    /// Every adapter tells of further attempts by these events: too many in a row, and the turn is given up.
    pub(super) fn count_retries(&mut self, body: &EventBody) {
        let Some(turn) = &mut self.core.turn else { return };
        match body {
            EventBody::RetryStart { error, .. } => {
                turn.retries += 1;
                if turn.retries > MOST_RETRIES && turn.given_up.is_none() && !turn.aborting {
                    let message = format!(
                        "{}; given up after {MOST_RETRIES} further attempts",
                        error.message
                    );
                    turn.given_up = Some(ErrorBody {
                        message,
                        ..error.clone()
                    });
                }
            }
            EventBody::RetryEnd { success: true, .. } => turn.retries = 0,
            _ => {}
        }
    }

    /// The steered prompt that the harness has now taken up, if `text` is one: it leaves the queue.
    pub fn take_steered(&mut self, text: &str) -> Option<Queued> {
        let at = self.core.queue.iter().position(|queued| {
            queued.entry.state == QueueState::Steering
                && plain_text(&queued.entry.parts).trim() == text.trim()
        })?;
        let queued = self.core.queue.remove(at);
        self.queue_changed();
        Some(queued)
    }

    /// Steered prompts that the harness gave back unused wait for a turn of their own.
    pub fn unsteer(&mut self) {
        let mut changed = false;
        for queued in &mut self.core.queue {
            if queued.entry.state == QueueState::Steering {
                queued.entry.state = QueueState::Waiting;
                changed = true;
            }
        }
        if changed {
            self.queue_changed();
        }
    }

    pub(super) fn queue_changed(&mut self) {
        let entries = self
            .core
            .queue
            .iter()
            .map(|queued| queued.entry.clone())
            .collect();
        self.emit(EventBody::QueueUpdated { entries });
    }

    pub(super) fn enqueue(&mut self, parts: Vec<Part>, sender: Sender, state: QueueState) -> QueueId {
        let id = QueueId(self.new_id());
        let entry = QueueEntry {
            id,
            state,
            parts,
            created_at: self.now(),
        };
        self.core.queue.push(Queued { entry, sender });
        self.queue_changed();
        id
    }

    /// Whether a prompt would begin a turn now.
    pub(super) fn can_begin(&self) -> bool {
        self.core.turn.is_none()
            && self.core.persisting.is_none()
            && self.core.running
            && matches!(self.core.status, SessionStatus::Starting | SessionStatus::Idle)
    }
}

/// Begins a turn with a prompt and gives it to the harness.
pub(super) fn begin(cx: &mut Cx<'_>, adapter: &mut AnyAdapter, queued: Queued) {
    cx.core.queue_held = false;
    cx.begin_turn();
    cx.user_message(queued.entry.parts.clone(), Some(queued.sender.clone()));
    cx.phase(Phase::Initializing);
    let id = adapter.prompt(cx, &queued.entry.parts);
    if let Some(turn) = &mut cx.core.turn {
        turn.prompt = id.map(|id| (id, queued));
    }
}

/// Begins to abort the turn under way.
pub(super) fn abort(cx: &mut Cx<'_>, adapter: &mut AnyAdapter) {
    let Some(turn) = &mut cx.core.turn else { return };
    if turn.aborting {
        return;
    }
    cx.core.queue_held = true;
    stop(cx, adapter);
}

/// Stops the turn under way, whoever wants it.
fn stop(cx: &mut Cx<'_>, adapter: &mut AnyAdapter) {
    let Some(turn) = &mut cx.core.turn else { return };
    turn.aborting = true;
    let id = turn.id;
    cx.set_timer(Timer::AbortDeadline { turn: id }, ABORT_DEADLINE_MS);
    cx.status(SessionStatus::Aborting);
    // Open questions first: some harnesses answer an abort only after their dialogs.
    for open in std::mem::take(&mut cx.core.requests) {
        adapter.answer(cx, &open.native, &open.request, &InputAnswer::Cancelled {});
        cx.resolved(open.request.id, InputAnswer::Cancelled {}, None);
    }
    adapter.abort(cx);
}

/// After each record: ends the turn that is done, and begins the one that waits.
pub(super) fn settle(cx: &mut Cx<'_>, adapter: &mut AnyAdapter) {
    let gives_up = |turn: &Turn| turn.given_up.is_some() && !turn.aborting && turn.ending.is_none();
    if cx.core.turn.as_ref().is_some_and(gives_up) && cx.core.persisting.is_none() {
        stop(cx, adapter);
    }
    if let Some((outcome, error)) = cx.core.turn.as_mut().and_then(|turn| turn.ending.take()) {
        close(cx, outcome, error);
    }
    if cx.can_begin()
        && !cx.core.queue_held
        && cx.core.status == SessionStatus::Idle
        && let Some(at) = cx
            .core
            .queue
            .iter()
            .position(|queued| queued.entry.state == QueueState::Waiting)
    {
        let queued = cx.core.queue.remove(at);
        cx.queue_changed();
        begin(cx, adapter, queued);
    }
}

/// What the turn came to, where it was stopped: not what the harness makes of it.
fn verdict(
    cx: &mut Cx<'_>,
    outcome: TurnOutcome,
    error: Option<ErrorBody>,
) -> (TurnOutcome, Option<ErrorBody>) {
    let Some(turn) = &mut cx.core.turn else {
        return (outcome, error);
    };
    match (turn.aborting, turn.given_up.take()) {
        (true, _) if outcome == TurnOutcome::Completed => (outcome, error),
        (true, Some(given_up)) => (TurnOutcome::Failed, Some(given_up)),
        (true, None) => (TurnOutcome::Aborted, None),
        (false, _) => (outcome, error),
    }
}

/// Closes the turn: all that is left is that history stores it.
fn close(cx: &mut Cx<'_>, outcome: TurnOutcome, error: Option<ErrorBody>) {
    let (stop, why) = match outcome {
        TurnOutcome::Aborted => (StopReason::Aborted, "aborted"),
        TurnOutcome::Interrupted => (
            StopReason::Interrupted,
            "interrupted: the harness ended before the tool did",
        ),
        TurnOutcome::Completed | TurnOutcome::Failed => {
            (StopReason::Error, "the turn ended before the tool did")
        }
    };
    cx.close_open(stop, why);
    cx.withdraw(|_| true);
    let (outcome, error) = verdict(cx, outcome, error);
    let Some(turn) = &cx.core.turn else { return };
    let id = turn.id;
    cx.core.timers.remove(&Timer::AbortDeadline { turn: id });
    if let Some(error) = &error {
        cx.agent_error(error.code, error.message.clone(), true);
        // The error is part of the conversation: a reload shows the same as the live view did.
        let part = Part::Error {
            code: error.code,
            message: error.message.clone(),
        };
        cx.whole_message(
            Role::System,
            Final {
                parts: vec![part],
                ..Final::default()
            },
        );
    }
    cx.core.last_error.clone_from(&error);
    let now = cx.now();
    let last_seq = cx.core.seq;
    let Some(turn) = &mut cx.core.turn else { return };
    cx.core.persisting = Some(TurnRecord {
        id,
        started_at: turn.started_at,
        ended_at: now,
        outcome,
        error,
        usage: turn.usage,
        messages: std::mem::take(&mut turn.messages),
        last_seq,
    });
    cx.core.phase = None;
    let status = cx.core.status;
    cx.emit(EventBody::Status {
        status,
        text: None,
        persisting: true,
    });
}

/// History has the turn: it is over.
pub(super) fn acknowledged(cx: &mut Cx<'_>, turn: TurnId, message_version: u64) {
    if cx.core.persisting.as_ref().is_none_or(|record| record.id != turn) {
        return;
    }
    let Some(record) = cx.core.persisting.take() else {
        return;
    };
    cx.emit(EventBody::TurnEnded {
        outcome: record.outcome,
        usage: record.usage,
        error: record.error,
    });
    cx.core.turn = None;
    cx.core.updated_at = cx.now();
    let next = match (cx.core.running, cx.core.stopping.is_some()) {
        (true, true) => SessionStatus::Stopping,
        (true, false) => SessionStatus::Idle,
        (false, _) => SessionStatus::Stopped,
    };
    cx.emit(EventBody::AgentIdle { message_version });
    cx.core.status = next;
    cx.emit(EventBody::Status {
        status: next,
        text: None,
        persisting: false,
    });
}

/// The prompt of a turn whose harness died: did it arrive? Never sent again by itself.
pub(super) fn prompt_uncertain(cx: &mut Cx<'_>) {
    let Some((id, mut queued)) = cx.core.turn.as_mut().and_then(|turn| turn.prompt.take()) else {
        return;
    };
    let pending = cx.core.inputs.iter().any(|input| input.id == id);
    if pending {
        queued.entry.state = QueueState::Uncertain;
        cx.core.queue.insert(0, queued);
        cx.queue_changed();
    }
}

/// An input for the harness cannot be put together. A turn that waits for it fails; what was steered stays behind.
pub(super) fn input_lost(cx: &mut Cx<'_>, input: &DeliveryId, error: &ErrorBody) {
    let before = cx.core.inputs.len();
    cx.core
        .inputs
        .retain(|pending| pending.id != *input || pending.begun);
    if cx.core.inputs.len() == before {
        return;
    }
    if cx.has_steering() {
        cx.agent_error(error.code, error.message.clone(), true);
        cx.unsteer();
    } else {
        cx.turn_done(TurnOutcome::Failed, Some(error.clone()));
    }
}

/// The error of a harness that went away.
pub(super) fn crash_error(cx: &Cx<'_>, how: &str) -> ErrorBody {
    let mut message = format!("{} {how}", cx.core.harness());
    if !cx.core.stderr.is_empty() {
        message.push_str("; it said last: ");
        message.push_str(
            &cx.core
                .stderr
                .iter()
                .map(String::as_str)
                .collect::<Vec<_>>()
                .join(" / "),
        );
    }
    ErrorBody::new(ErrorCode::HarnessCrashed, message)
}

fn title_from(text: &str) -> String {
    let line = text
        .lines()
        .map(str::trim)
        .find(|line| !line.is_empty())
        .unwrap_or_default();
    let mut title: String = line
        .chars()
        .filter(|c| !c.is_control())
        .take(TITLE_CHARS)
        .collect();
    if line.chars().count() > TITLE_CHARS {
        title.push('…');
    }
    title
}
