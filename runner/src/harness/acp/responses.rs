//! Answers to our requests, and how a turn ends.

use super::wire::{Foreground, key, text, usage};
use super::{Acp, Asked, Turn, failure};
use crate::fold::Cx;
use lodge_proto::event::{CompactReason, EventBody, NotifyLevel, TurnOutcome};
use lodge_proto::message::StopReason;
use lodge_proto::part::Part;
use lodge_proto::session::Phase;
use lodge_proto::{ErrorBody, ErrorCode};
use serde_json::{Value, json};

impl Acp {
    pub(super) fn answered(&mut self, cx: &mut Cx<'_>, id: &Value, result: Result<Value, Value>) {
        let id = key(id);
        let Some(asked) = self.pending.remove(&id) else {
            return cx.warn("an answer to a request that was not made");
        };
        cx.resolve(
            &id,
            match &result {
                Ok(_) => Ok(json!({})),
                Err(error) => Err(ErrorBody::new(
                    ErrorCode::InvalidArgument,
                    failure::body(error).message,
                )),
            },
        );
        match (asked, result) {
            (Asked::Initialize, Ok(result)) => self.initialized(cx, &result),
            (Asked::Initialize, Err(_)) if !self.refused => {
                // Some agents refuse a version that they do not know instead of naming theirs.
                self.refused = true;
                self.hello(cx);
            }
            (Asked::Initialize, Err(error)) => {
                let why = failure::body(&error).message;
                self.start_failed(cx, &format!("the agent refused to begin: {why}"));
            }
            (Asked::Open { opening, session }, Ok(result)) => self.opened(cx, opening, session, &result),
            (Asked::Open { opening, .. }, Err(error)) => self.open_failed(cx, opening, &error),
            (Asked::Login, Ok(_)) => self.open_session(cx),
            (Asked::Login, Err(error)) => {
                let why = failure::body(&error).message;
                self.start_failed(cx, &format!("the agent refused the login: {why}"));
            }
            (Asked::Prompt, result) => self.prompt_answered(cx, &id, result),
            (Asked::Steer(text), result) => self.steered(cx, text, &result),
            (asked @ (Asked::Model(_) | Asked::Level(_) | Asked::Mode(_)), result) => {
                self.option_set(cx, asked, result);
            }
            // Only the order counts: an agent that does not know the request refuses it.
            (Asked::Sync, _) => self.settle(cx),
            (Asked::Other, _) => {}
        }
    }

    fn option_set(&mut self, cx: &mut Cx<'_>, asked: Asked, result: Result<Value, Value>) {
        // What was chosen before the session was open is no longer to be chosen again.
        let opening = !self.open;
        match (asked, result) {
            (asked, Ok(result)) => {
                match asked {
                    Asked::Model(native) => self.model_set(cx, &native),
                    Asked::Level(level) => cx.thinking_level(level),
                    Asked::Mode(mode) => cx.mode(mode),
                    _ => {}
                }
                self.config_options(cx, super::wire::list(&result, "configOptions"));
            }
            (asked, Err(error)) if opening => {
                let why = failure::body(&error).message;
                cx.notify(
                    NotifyLevel::Warning,
                    format!("the agent refused {}: {why}", asked.what()),
                );
                self.keep_current(cx);
            }
            _ => {}
        }
        if opening && self.session.is_some() {
            self.settle(cx);
        }
    }

    /// The answer to a prompt ends the turn in version 1; in version 2 it says that the prompt was accepted.
    fn prompt_answered(&mut self, cx: &mut Cx<'_>, id: &str, result: Result<Value, Value>) {
        if self.turn.prompt.as_deref() != Some(id) {
            // Some agents answer a later prompt first: the answer that is still to come ends the later turn.
            let later = self.recorded.iter().position(|recorded| recorded == id);
            match (later, self.turn.prompt.take()) {
                (Some(later), Some(running)) => self.recorded[later] = running,
                (_, running) => {
                    self.turn.prompt = running;
                    return cx.warn("an answer to a prompt whose turn is over");
                }
            }
        }
        let result = match result {
            Ok(result) => result,
            Err(error) => return self.prompt_failed(cx, &error),
        };
        if let Some(usage) = usage(&result, result.get("usage")) {
            add_tokens(cx, usage);
        }
        match text(&result, "stopReason") {
            Some(stop) => self.stopped(cx, stop, None),
            None if self.version >= 2 => self.turn.accepted = true,
            None => self.stopped(cx, "end_turn", None),
        }
    }

    fn prompt_failed(&mut self, cx: &mut Cx<'_>, error: &Value) {
        if cx.is_aborting() || failure::code(error) == failure::CANCELLED {
            return self.finish(cx, TurnOutcome::Aborted, Some(StopReason::Aborted), None);
        }
        let error = failure::body(error);
        self.finish(cx, TurnOutcome::Failed, Some(StopReason::Error), Some(error));
    }

    /// What the agent does in the foreground: this is what begins and ends turns in version 2.
    pub(super) fn state(&mut self, cx: &mut Cx<'_>, state: &Foreground) {
        match state.state.as_str() {
            "running" | "requires_action" => {
                self.turn.running = true;
                self.agent_starts(cx);
            }
            "idle" => {
                // Idleness from before our prompt was taken up says nothing of it.
                let ours = self.turn.running || self.turn.accepted || self.turn.prompt.is_none();
                if !ours || self.held.is_some() {
                    return;
                }
                if !cx.in_turn() {
                    self.turn.running = false;
                    return;
                }
                if let Some(usage) = usage(&Value::Null, state.usage.as_ref()) {
                    add_tokens(cx, usage);
                }
                let stop = state.stop_reason.as_deref().unwrap_or("end_turn");
                self.stopped(cx, stop, state.error.as_ref());
            }
            other => cx.warn(format!("the agent is in the unknown state `{other}`")),
        }
    }

    /// The turn ended for a reason that the agent names.
    fn stopped(&mut self, cx: &mut Cx<'_>, stop: &str, error: Option<&Value>) {
        // Some agents say `end_turn` of a turn that was cancelled: what was asked to stop has been stopped.
        if cx.is_aborting() || stop == "cancelled" {
            return self.finish(cx, TurnOutcome::Aborted, Some(StopReason::Aborted), None);
        }
        let reason = match stop {
            "max_tokens" => StopReason::MaxTokens,
            "refusal" => StopReason::Refusal,
            "error" => {
                let said = error.and_then(|error| text(error, "message")).unwrap_or_default();
                self.discard_echo(cx, said);
                let error = error.map_or_else(
                    || ErrorBody::new(ErrorCode::ProviderError, "the agent failed and did not say why"),
                    failure::body,
                );
                return self.finish(cx, TurnOutcome::Failed, Some(StopReason::Error), Some(error));
            }
            "max_turn_requests" => {
                cx.notify(
                    NotifyLevel::Warning,
                    "the agent stopped at its limit of model calls for one turn",
                );
                StopReason::EndTurn
            }
            "end_turn" => {
                // Gemini CLI ends so what it takes to be too long for its model.
                if self.turn.silent && self.turn.images {
                    cx.notify(
                        NotifyLevel::Warning,
                        "the agent ended the turn without a word: a smaller image may be what it can take",
                    );
                }
                StopReason::EndTurn
            }
            other => {
                cx.warn(format!("the agent stopped for the unknown reason `{other}`"));
                StopReason::EndTurn
            }
        };
        self.finish(cx, TurnOutcome::Completed, Some(reason), None);
    }

    /// Ends the turn, and everything in it that is open.
    pub(super) fn finish(
        &mut self,
        cx: &mut Cx<'_>,
        outcome: TurnOutcome,
        stop: Option<StopReason>,
        error: Option<ErrorBody>,
    ) {
        if cx.in_turn() {
            self.told_end(cx);
            self.close_message(cx, stop.unwrap_or(StopReason::Error));
            self.tools_end(cx, outcome == TurnOutcome::Aborted);
            self.compacted(cx, outcome == TurnOutcome::Completed, None, error.as_ref());
            cx.turn_done(outcome, error);
        }
        self.turn = Turn::default();
        self.message = None;
        self.told = None;
        self.tools.clear();
        self.terminals.clear();
        self.closed.clear();
    }

    fn steered(&mut self, cx: &mut Cx<'_>, text: String, result: &Result<Value, Value>) {
        let outcome = result
            .as_ref()
            .ok()
            .map(|result| result.get("outcome").and_then(Value::as_str));
        match outcome {
            // The turn was over before the prompt came: it gets one of its own.
            None | Some(Some("promptRequired")) => cx.unsteer(),
            // Any other answer means that the agent has it now.
            Some(_) if cx.in_turn() => {
                if let Some(queued) = cx.take_steered(&text) {
                    self.turn.injected.push(text);
                    self.close_message(cx, StopReason::EndTurn);
                    cx.user_message(queued.entry.parts, Some(queued.sender));
                }
            }
            Some(_) => {
                cx.take_steered(&text);
            }
        }
    }

    /// The size of the context, and the cost of the session so far.
    pub(super) fn context(&mut self, cx: &mut Cx<'_>, used: Option<u64>, cost: Option<u64>) {
        let cost = cost.unwrap_or(self.cost);
        // A new process may count from nothing.
        let added = cost.checked_sub(self.cost).unwrap_or(cost);
        if added == 0 && (used.is_none() || used == self.context) {
            return;
        }
        self.cost = cost;
        self.context = used.or(self.context);
        let usage = lodge_proto::message::Usage {
            cost_nanodollars: added,
            ..lodge_proto::message::Usage::default()
        };
        cx.add_usage(usage, used);
    }

    /// The agent begins to summarise its context.
    pub(super) fn compacting(&mut self, cx: &mut Cx<'_>, reason: CompactReason) {
        if self.compaction.is_some() {
            return;
        }
        self.compaction = Some(super::Compaction {
            summary: String::new(),
            ours: reason == CompactReason::Manual,
        });
        cx.phase(Phase::Compacting);
        cx.emit(EventBody::CompactStart { reason });
    }

    /// The summary is made, or was not.
    pub(super) fn compacted(
        &mut self,
        cx: &mut Cx<'_>,
        success: bool,
        summary: Option<String>,
        error: Option<&ErrorBody>,
    ) {
        let Some(compaction) = self.compaction.take() else {
            return;
        };
        let summary = summary.unwrap_or(compaction.summary);
        cx.emit(EventBody::CompactEnd {
            success,
            summary: (success && !summary.trim().is_empty()).then_some(summary),
            error: error.cloned(),
        });
    }

    /// Something of the agent that Lodge does not know: kept, as far as it is not too much.
    pub(super) fn strange(&mut self, cx: &mut Cx<'_>, part: Part) {
        if self.unknown >= super::KEPT_UNKNOWN || !cx.in_turn() || self.replaying {
            return cx.warn("the agent sent something unknown that is only in the journal");
        }
        self.unknown += 1;
        let end = crate::fold::Final {
            parts: vec![part],
            ..crate::fold::Final::default()
        };
        cx.whole_message(lodge_proto::message::Role::System, end);
    }
}

fn add_tokens(cx: &mut Cx<'_>, usage: lodge_proto::message::Usage) {
    if usage != lodge_proto::message::Usage::default() {
        cx.add_usage(usage, None);
    }
}
