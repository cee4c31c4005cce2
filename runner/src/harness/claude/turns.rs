//! How a run goes: `system` lines, retries, compaction, the replay of prompts, `result`.

use super::wire::{Block, Outcome, System, User, plain_model};
use super::{Claude, Compaction, Pending, extension};
use crate::fold::{Cx, Final};
use lodge_proto::event::{CompactReason, EventBody, NotifyLevel, TurnOutcome};
use lodge_proto::message::{Role, StopReason, Usage};
use lodge_proto::part::Part;
use lodge_proto::session::Phase;
use lodge_proto::{ErrorBody, ErrorCode};
use serde_json::{Value, json};

/// Begins what the harness says when it cannot resume.
const NO_CONVERSATION: &str = "No conversation found";
/// Begins the line by which the harness tells the model of an interruption.
const INTERRUPTED: &str = "[Request interrupted by user";

impl Claude {
    pub(super) fn system(&mut self, cx: &mut Cx<'_>, line: System) {
        match line.subtype.as_str() {
            "init" => self.init(cx, line),
            "status" => self.status(cx, line),
            "api_retry" => self.retry(cx, &line),
            "compact_boundary" => self.boundary(cx, &line),
            "thinking_tokens" => {
                if cx.in_turn() {
                    cx.phase(Phase::Thinking);
                }
            }
            "task_started" | "task_progress" => {
                if let Some(native) = &line.tool_use_id {
                    self.start_call(cx, native, true);
                }
            }
            "task_notification" => self.task_ended(cx, line),
            "local_command_output" | "informational" | "notification" => {
                if let Some(text) = line.content.as_ref().and_then(Value::as_str) {
                    cx.notify(NotifyLevel::Info, text);
                }
            }
            "hook_started"
            | "hook_progress"
            | "hook_response"
            | "files_persisted"
            | "session_state_changed"
            | "elicitation_complete" => {}
            other => cx.warn(format!(
                "Claude Code sent a system line of the unknown subtype `{other}`"
            )),
        }
    }

    /// A run begins: said with every run, not once.
    fn init(&mut self, cx: &mut Cx<'_>, line: System) {
        if let Some(session) = line.session_id {
            self.session = Some(session);
        }
        if let Some(native) = &line.model {
            let model = super::responses::canonical_model(cx, plain_model(native));
            self.levels(cx, &model);
            cx.model(model);
        }
        if let Some(mode) = line.permission_mode {
            cx.mode(mode);
        }
        if cx.is_aborting() {
            // The interrupt came before the run and found nothing to interrupt.
            self.request(cx, &json!({ "subtype": "interrupt" }), Pending::Other);
        }
        if std::mem::take(&mut self.goes_on)
            && let Some(echo) = self.echoes.iter_mut().find(|echo| echo.steered)
        {
            // Its replay comes later, in the middle of the answer.
            echo.steered = false;
            let plain = echo.plain.clone();
            steered(cx, &plain);
        }
    }

    fn status(&mut self, cx: &mut Cx<'_>, line: System) {
        if let Some(mode) = line.permission_mode {
            cx.mode(mode);
        }
        match line.compact_result.as_deref() {
            Some("success") => {
                if let Some(compaction) = &mut self.compaction {
                    compaction.succeeded = true;
                }
            }
            Some(_) => {
                let why = line.compact_error.unwrap_or_else(|| "it failed".to_owned());
                self.compact_end(cx, None, Some(why));
            }
            None => {}
        }
        match line.status.as_deref() {
            Some("compacting") => self.compact_start(cx, self.threshold_or_manual()),
            Some("requesting") => {
                self.compacted(cx);
                cx.phase(Phase::Initializing);
            }
            Some(other) => cx.status_text(other),
            None => {}
        }
    }

    /// The harness tries the model call again.
    fn retry(&mut self, cx: &mut Cx<'_>, line: &System) {
        if !cx.in_turn() {
            return cx.warn("Claude Code tries again outside of a turn");
        }
        self.discard_attempt(cx);
        self.retrying = Some(line.attempt);
        let why = line.error.as_ref().map_or_else(String::new, |error| match error {
            Value::String(text) => text.replace('_', " "),
            other => other.to_string(),
        });
        let message = match line.error_status {
            Some(status) => format!("the model provider answered {status}: {why}"),
            None => format!("the model call failed: {why}"),
        };
        // A delay is a few minutes at most, far from the limits of the conversion.
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let delay_ms = line.retry_delay_ms.max(0.0).round() as u64;
        cx.phase(Phase::Retrying);
        cx.emit(EventBody::RetryStart {
            attempt: line.attempt,
            max_attempts: line.max_retries,
            delay_ms,
            error: ErrorBody::new(error_code(line.error_status), message),
        });
    }

    fn retried(&mut self, cx: &mut Cx<'_>, success: bool) {
        if let Some(attempt) = self.retrying.take()
            && cx.in_turn()
        {
            cx.emit(EventBody::RetryEnd { success, attempt });
        }
    }

    /// The model began to answer: what was to be recovered from is over.
    pub(super) fn model_answers(&mut self, cx: &mut Cx<'_>) {
        self.retried(cx, true);
        self.compacted(cx);
    }

    /// `/compact` runs as the user's own command; otherwise the context was full.
    fn threshold_or_manual(&self) -> CompactReason {
        let typed = self.echoes.iter().any(|echo| echo.sent.starts_with("/compact"));
        if typed || self.compact_reply.is_some() {
            CompactReason::Manual
        } else {
            CompactReason::Threshold
        }
    }

    fn compact_start(&mut self, cx: &mut Cx<'_>, reason: CompactReason) {
        if self.compaction.is_some() {
            return;
        }
        self.compaction = Some(Compaction { succeeded: false });
        cx.phase(Phase::Compacting);
        cx.emit(EventBody::CompactStart { reason });
    }

    /// The context after a compaction begins here.
    fn boundary(&mut self, cx: &mut Cx<'_>, line: &System) {
        let reason = match line.compact_metadata.trigger.as_str() {
            "manual" => CompactReason::Manual,
            _ => CompactReason::Threshold,
        };
        self.compact_start(cx, reason);
        if let Some(compaction) = &mut self.compaction {
            compaction.succeeded = true;
        }
        if let Some(tokens) = line.compact_metadata.post_tokens {
            cx.add_usage(Usage::default(), Some(tokens));
        }
    }

    pub(super) fn compact_end(&mut self, cx: &mut Cx<'_>, summary: Option<String>, why: Option<String>) {
        if self.compaction.take().is_some() {
            cx.emit(EventBody::CompactEnd {
                success: why.is_none(),
                summary,
                error: why.map(|why| ErrorBody::new(ErrorCode::ProviderError, why)),
            });
        }
    }

    /// Ends a compaction whose summary did not come.
    fn compacted(&mut self, cx: &mut Cx<'_>) {
        if self
            .compaction
            .as_ref()
            .is_some_and(|compaction| compaction.succeeded)
        {
            self.compact_end(cx, None, None);
        }
    }

    /// A background task ended. One that belongs to a running tool ends with its result.
    fn task_ended(&mut self, cx: &mut Cx<'_>, line: System) {
        let native = line.tool_use_id.unwrap_or_default();
        if self.calls.get(&native).is_some_and(|call| !call.ended) {
            return;
        }
        let status = line.status.unwrap_or_else(|| "ended".to_owned());
        let summary = line.summary.unwrap_or_default();
        let level = match status.as_str() {
            "failed" => NotifyLevel::Warning,
            _ => NotifyLevel::Info,
        };
        cx.notify(level, format!("background task {status}: {summary}"));
    }

    /// A user's message on the wire: tool results, replays of prompts, what the harness tells the model.
    pub(super) fn user(&mut self, cx: &mut Cx<'_>, line: &User) {
        let others = self.tool_results(cx, line);
        let texts: Vec<&str> = others.iter().filter_map(Block::text).collect();
        let text = texts.join("\n");
        if others.is_empty() || text.starts_with(INTERRUPTED) {
            return;
        }
        if let Some(output) = local_command(&text) {
            return self.command_output(cx, output);
        }
        if line.is_replay {
            return self.replay(cx, line.uuid.as_deref(), &text);
        }
        if line.is_synthetic && self.compaction.is_some() {
            return self.compact_end(cx, Some(text), None);
        }
        if !cx.in_turn() {
            return cx.warn("Claude Code spoke for the user outside of a turn");
        }
        let part = extension("x-claude-context", json!({ "text": text }));
        let end = Final {
            parts: vec![part],
            ..Final::default()
        };
        cx.whole_message(Role::System, end);
    }

    /// What a command of the harness printed.
    fn command_output(&mut self, cx: &mut Cx<'_>, (level, output): (NotifyLevel, &str)) {
        // Commands that we gave through the control protocol have an answer of their own.
        let ours = self.pending.values().any(|pending| *pending != Pending::Other);
        if !output.is_empty() && !ours && self.compact_reply.is_none() {
            cx.notify(level, output);
        }
    }

    /// The harness took up a prompt that it was given.
    fn replay(&mut self, cx: &mut Cx<'_>, uuid: Option<&str>, text: &str) {
        let at = self
            .echoes
            .iter()
            .position(|echo| Some(echo.uuid.as_str()) == uuid)
            .or_else(|| {
                self.echoes
                    .iter()
                    .position(|echo| echo.sent.trim() == text.trim())
            });
        match at.map(|at| self.echoes.remove(at)) {
            Some(echo) if !echo.steered => {}
            Some(echo) if cx.in_turn() => steered(cx, &echo.plain),
            None if cx.in_turn() => cx.user_message(vec![Part::text(text)], None),
            _ => cx.warn("Claude Code took up a prompt outside of a turn"),
        }
    }

    /// The end of a run. Judged by `is_error` and `terminal_reason`: the subtype says `success` of failed calls too.
    pub(super) fn result(&mut self, cx: &mut Cx<'_>, line: &Outcome) {
        let aborted = line
            .terminal_reason
            .as_deref()
            .is_some_and(|reason| reason.starts_with("aborted"));
        let said = self.api_error.take();
        let (outcome, error) = match (aborted, line.is_error) {
            (true, _) => (TurnOutcome::Aborted, None),
            (false, false) => (TurnOutcome::Completed, None),
            (false, true) => (TurnOutcome::Failed, Some(run_error(line, said))),
        };
        self.finish_attempt(
            cx,
            match outcome {
                TurnOutcome::Aborted => Some(StopReason::Aborted),
                TurnOutcome::Failed => Some(StopReason::Error),
                _ => None,
            },
        );
        self.retried(cx, outcome == TurnOutcome::Completed);
        self.compacted(cx);
        self.compact_end(cx, None, Some("it did not finish".to_owned()));
        self.count_rest(cx, line);
        if let Some(reply) = self.compact_reply.take() {
            cx.resolve(&reply, error.clone().map_or(Ok(json!({})), Err));
        }
        if no_conversation(line) {
            self.session = None;
            cx.notify(
                NotifyLevel::Warning,
                "Claude Code has no record of this conversation any more; the next start begins a new one",
            );
        }
        if !cx.in_turn() {
            if let Some(error) = error {
                cx.agent_error(error.code, error.message, true);
            }
            return;
        }
        let waits = cx.has_steering() && self.echoes.iter().any(|echo| echo.steered);
        if waits && !aborted && !cx.is_aborting() {
            // It came too late for this run: the harness takes it up in another one, which is the same turn to us.
            if let Some(error) = error {
                cx.agent_error(error.code, error.message, true);
            }
            self.goes_on = true;
            return cx.phase(Phase::Initializing);
        }
        self.run_over();
        cx.unsteer();
        cx.turn_done(outcome, error);
    }

    /// Model calls that did not stream (of sub-agents, of compactions) are in the sum of the run.
    fn count_rest(&mut self, cx: &mut Cx<'_>, line: &Outcome) {
        let (sum, seen) = (line.usage.canonical(), std::mem::take(&mut self.counted));
        let rest = Usage {
            input: sum.input.saturating_sub(seen.input),
            output: sum.output.saturating_sub(seen.output),
            cache_read: sum.cache_read.saturating_sub(seen.cache_read),
            cache_write: sum.cache_write.saturating_sub(seen.cache_write),
            cost_nanodollars: 0,
        };
        if rest != Usage::default() && cx.in_turn() {
            cx.add_usage(rest, None);
        }
    }

    fn run_over(&mut self) {
        self.goes_on = false;
        self.echoes.clear();
        self.calls.clear();
        self.questions.clear();
        self.subagents.clear();
    }
}

/// A steered prompt was taken up.
fn steered(cx: &mut Cx<'_>, text: &str) {
    match cx.take_steered(text) {
        Some(queued) => cx.user_message(queued.entry.parts, Some(queued.sender)),
        None => cx.user_message(vec![Part::text(text)], None),
    }
}

/// The output of a command that ran inside the harness, out of its tags.
fn local_command(text: &str) -> Option<(NotifyLevel, &str)> {
    let inside = |tag: &str| {
        let rest = text.strip_prefix(&format!("<{tag}>"))?;
        Some(rest.strip_suffix(&format!("</{tag}>")).unwrap_or(rest).trim())
    };
    inside("local-command-stdout")
        .map(|output| (NotifyLevel::Info, output))
        .or_else(|| inside("local-command-stderr").map(|output| (NotifyLevel::Warning, output)))
}

fn no_conversation(line: &Outcome) -> bool {
    line.errors.iter().any(|error| error.starts_with(NO_CONVERSATION))
}

fn error_code(status: Option<u16>) -> ErrorCode {
    match status {
        Some(402) => ErrorCode::BudgetExceeded,
        Some(429) => ErrorCode::RateLimited,
        _ => ErrorCode::ProviderError,
    }
}

/// The error of a failed run, in the harness's own words.
fn run_error(line: &Outcome, said: Option<String>) -> ErrorBody {
    let said = line.result.clone().filter(|text| !text.is_empty()).or(said);
    let message = match said {
        Some(text) => text,
        None if line.errors.is_empty() => format!("the run failed ({})", line.subtype),
        None => line.errors.join("; "),
    };
    let code = match line.subtype.as_str() {
        _ if no_conversation(line) => ErrorCode::NotFound,
        "error_max_budget_usd" => ErrorCode::BudgetExceeded,
        _ => error_code(line.api_error_status),
    };
    ErrorBody::new(code, message)
}
