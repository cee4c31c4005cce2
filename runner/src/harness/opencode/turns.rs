//! Turns: work and idleness, errors, retries, compaction, the end.

use super::wire::{ErrorEvent, Message, NativeError, Status, text};
use super::{Asked, OpenCode, Run, remember};
use crate::fold::Cx;
use lodge_proto::event::{CompactReason, EventBody, TurnOutcome};
use lodge_proto::message::{StopReason, Usage};
use lodge_proto::session::Phase;
use lodge_proto::{ErrorBody, ErrorCode};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Name of the error that an abort leaves.
const ABORTED: &str = "MessageAbortedError";
/// Longest pause before a retry that is believed, in milliseconds.
const LONGEST_PAUSE: u64 = 3_600_000;

/// A compaction under way.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Compaction {
    /// The message that asks for it.
    request: String,
    /// The message that is the summary.
    message: Option<String>,
    summary: String,
    error: Option<ErrorBody>,
}

impl OpenCode {
    pub(super) fn status(&mut self, cx: &mut Cx<'_>, status: &Status) {
        match status.kind.as_str() {
            "busy" => self.busy(cx),
            "idle" => self.idle(cx),
            "retry" => self.retry(cx, status),
            other => {
                let other: String = other.chars().take(40).collect();
                cx.warn(format!("opencode has the unknown status `{other}`"));
            }
        }
    }

    fn busy(&mut self, cx: &mut Cx<'_>) {
        if cx.turn().is_none() {
            // A compaction that was asked for is no turn.
            if self.compacting_alone {
                return;
            }
            self.run = Run::default();
            cx.begin_turn();
            cx.phase(Phase::Initializing);
            if std::mem::take(&mut self.stop_next) {
                self.run.aborted = true;
                self.send_abort(cx);
            }
        }
        if cx.in_turn() {
            self.run.begun = true;
            self.run.idle = 0;
        }
    }

    pub(super) fn send_abort(&mut self, cx: &mut Cx<'_>) {
        self.run.abort_sent = true;
        self.run.abort_pending = true;
        self.ask_session(cx, "POST", "abort", None, Asked::Abort);
    }

    fn idle(&mut self, cx: &mut Cx<'_>) {
        if !cx.in_turn() {
            self.compacting_alone = false;
            self.compaction_over(cx);
            return;
        }
        if self.run.begun || self.run.abort_sent {
            self.run.idle = self.run.idle.saturating_add(1);
            self.settle(cx);
        }
    }

    /// Ends the turn if it is over: idle, the last message complete, an abort answered.
    pub(super) fn settle(&mut self, cx: &mut Cx<'_>) {
        let run = &self.run;
        let complete = run.steps.values().all(|step| step.over) || run.idle > 1;
        if cx.in_turn() && run.idle > 0 && complete && !run.abort_pending {
            self.end_turn(cx);
        }
    }

    fn retry(&mut self, cx: &mut Cx<'_>, status: &Status) {
        if !cx.in_turn() {
            return cx.warn("opencode tries again outside of a turn");
        }
        self.run.begun = true;
        self.run.idle = 0;
        for step in self.run.steps.values_mut() {
            step.discard(cx);
        }
        self.run.retrying = Some(status.attempt);
        cx.phase(Phase::Retrying);
        // A float on the wire; whatever is no time is no pause.
        let next = format!("{:.0}", status.next).parse::<u64>().unwrap_or_default();
        let delay_ms = next.saturating_sub(cx.now());
        cx.emit(EventBody::RetryStart {
            attempt: status.attempt,
            max_attempts: None,
            delay_ms: if delay_ms > LONGEST_PAUSE { 0 } else { delay_ms },
            error: ErrorBody::new(ErrorCode::ProviderError, status.message.clone()),
        });
    }

    pub(super) fn error(&mut self, cx: &mut Cx<'_>, event: &ErrorEvent) {
        let ours = event
            .session
            .as_deref()
            .is_none_or(|session| self.is_main(session));
        if !ours {
            return;
        }
        if !cx.in_turn() {
            if event.error.name != ABORTED
                && let Some(compaction) = &mut self.compaction
            {
                compaction.error = Some(provider_error(&event.error));
            }
            return;
        }
        let aborted = self.failed(&event.error);
        // What could not even begin is never said to be idle.
        if !aborted && !self.run.begun {
            self.end_turn(cx);
        }
    }

    /// Notes an error of the turn; true where it is what an abort leaves.
    pub(super) fn failed(&mut self, error: &NativeError) -> bool {
        let aborted = error.name == ABORTED;
        if aborted {
            self.run.aborted = true;
        } else {
            self.run.error = Some(provider_error(error));
        }
        aborted
    }

    /// The turn is over; closes what it leaves open.
    pub(super) fn end_turn(&mut self, cx: &mut Cx<'_>) {
        let aborted = self.run.aborted || cx.is_aborting();
        let (outcome, stop) = match (&self.run.error, aborted) {
            (_, true) => (TurnOutcome::Aborted, StopReason::Aborted),
            (Some(_), false) => (TurnOutcome::Failed, StopReason::Error),
            (None, false) => (TurnOutcome::Completed, StopReason::EndTurn),
        };
        self.stop_next = aborted && !self.run.begun && self.held_prompt.is_none() && self.used;
        let error = self.run.error.take().filter(|_| outcome == TurnOutcome::Failed);
        self.close(cx, stop, outcome == TurnOutcome::Completed);
        if cx.has_steering() {
            self.take_back(cx);
            cx.unsteer();
        }
        self.run = Run::default();
        self.expect_echo = false;
        cx.turn_done(outcome, error);
    }

    /// Closes what is open of the turn.
    fn close(&mut self, cx: &mut Cx<'_>, stop: StopReason, success: bool) {
        while let Some(native) = self.run.steps.keys().next().cloned() {
            self.finish_step(cx, &native, Some(stop), None);
        }
        if let Some(attempt) = self.run.retrying.take()
            && cx.in_turn()
        {
            cx.emit(EventBody::RetryEnd { success, attempt });
        }
        self.compaction_over(cx);
        self.questions.clear();
    }

    /// Prompts that were given and not taken up are removed from the conversation: they are to be given anew.
    pub(super) fn take_back(&mut self, cx: &mut Cx<'_>) {
        for (native, _) in std::mem::take(&mut self.run.steered) {
            let what = format!("message/{native}");
            self.ask_session(cx, "DELETE", &what, None, Asked::Other);
        }
    }

    /// The process is gone in the middle of whatever it did.
    pub(super) fn interrupted(&mut self, cx: &mut Cx<'_>) {
        if let Some(compaction) = &mut self.compaction {
            let error = || ErrorBody::new(ErrorCode::HarnessCrashed, "opencode ended before it was made");
            compaction.error.get_or_insert_with(error);
        }
        self.close(cx, StopReason::Interrupted, false);
    }

    /// Whoever asked turned away from a turn under way.
    pub(super) fn leave(&mut self, cx: &mut Cx<'_>) {
        self.interrupted(cx);
        self.run = Run::default();
        self.expect_echo = false;
        let error = ErrorBody::new(ErrorCode::DeadlineExceeded, "opencode did not answer this prompt");
        cx.turn_done(TurnOutcome::Interrupted, Some(error));
    }

    pub(super) fn compaction_started(&mut self, cx: &mut Cx<'_>, message: &str, auto: bool, overflow: bool) {
        let known = self.compaction.as_ref().map(|compaction| &compaction.request);
        if known.is_some_and(|known| known == message) || self.heard.iter().any(|known| known == message) {
            return;
        }
        self.compaction_over(cx);
        remember(&mut self.heard, message);
        self.compacting_alone = cx.turn().is_none();
        self.compaction = Some(Compaction {
            request: message.to_owned(),
            ..Compaction::default()
        });
        // What did not fit is tried again.
        self.run.error = None;
        cx.phase(Phase::Compacting);
        cx.emit(EventBody::CompactStart {
            reason: match (auto, overflow) {
                (false, _) => CompactReason::Manual,
                (true, true) => CompactReason::Overflow,
                (true, false) => CompactReason::Threshold,
            },
        });
    }

    pub(super) fn is_summary(&self, message: &str) -> bool {
        let compaction = self.compaction.as_ref();
        compaction.is_some_and(|compaction| compaction.message.as_deref() == Some(message))
    }

    pub(super) fn summary_text(&mut self, text: String) {
        if let Some(compaction) = &mut self.compaction {
            compaction.summary = text;
        }
    }

    /// The message that is the summary is no answer to the user.
    pub(super) fn summary_message(&mut self, cx: &mut Cx<'_>, message: &Message) {
        if self.done.contains(&message.id) {
            return;
        }
        let Some(compaction) = &mut self.compaction else {
            return;
        };
        compaction.message = Some(message.id.clone());
        if !message.is_over() {
            return;
        }
        compaction.error = message.error.as_ref().map(provider_error);
        remember(&mut self.done, &message.id);
        let usage = message.usage();
        if usage != Usage::default() {
            cx.add_usage(usage, None);
        }
        if let Some(error) = &message.error
            && cx.in_turn()
        {
            self.failed(error);
        }
    }

    pub(super) fn compacted(&mut self, cx: &mut Cx<'_>) {
        self.compaction_over(cx);
    }

    fn compaction_over(&mut self, cx: &mut Cx<'_>) {
        let Some(compaction) = self.compaction.take() else {
            return;
        };
        cx.emit(EventBody::CompactEnd {
            success: compaction.error.is_none(),
            summary: Some(compaction.summary).filter(|summary| !summary.is_empty()),
            error: compaction.error,
        });
    }
}

/// An error of opencode in words, with the code that it means.
pub(super) fn provider_error(error: &NativeError) -> ErrorBody {
    let said = text(&error.data, "message");
    let status = error.data.get("statusCode").and_then(Value::as_u64);
    let body: Value = serde_json::from_str(text(&error.data, "responseBody")).unwrap_or_default();
    let words = body
        .pointer("/error/message")
        .or_else(|| body.get("message"))
        .and_then(Value::as_str)
        .unwrap_or(if said.is_empty() { &error.name } else { said });
    let code = match (status, error.name.as_str()) {
        (Some(402), _) => ErrorCode::BudgetExceeded,
        (Some(429), _) => ErrorCode::RateLimited,
        _ => ErrorCode::ProviderError,
    };
    let message = match (status, words) {
        (Some(status), words) => format!("the model provider answered {status}: {words}"),
        (None, "") => "the model call failed".to_owned(),
        (None, words) => words.lines().next().unwrap_or_default().to_owned(),
    };
    ErrorBody::new(code, message)
}
