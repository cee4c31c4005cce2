//! Turns: their begin and end, items, errors, usage, plans.

use super::messages::{Kind, Partial, remark};
use super::tools::Tool;
use super::wire::{
    ErrorEvent, Item, ItemEvent, KnownItem, PlanEvent, Step, TurnError, TurnEvent, UsageEvent,
};
use super::{Call, Codex, Place, Run};
use crate::fold::Cx;
use lodge_proto::event::{CompactReason, EventBody, NotifyLevel, TurnOutcome};
use lodge_proto::message::{StopReason, Usage};
use lodge_proto::part::{Part, PlanEntry, PlanStatus};
use lodge_proto::session::Phase;
use lodge_proto::{ErrorBody, ErrorCode};
use serde_json::{Map, Value, json};

/// Turns remembered as ended: commands in the background speak under their ids.
const ENDED_TURNS: usize = 32;
/// Threads whose usage is remembered.
const THREADS: usize = 64;

impl Codex {
    /// Whether this is about the conversation of the session, not about one of its sub-agents.
    pub(super) fn is_main(&self, thread: &str) -> bool {
        thread.is_empty() || self.thread.as_deref().is_none_or(|main| main == thread)
    }

    /// Takes `turn` as the one under way; false where it is over.
    ///
    /// A turn whose begin was not seen begins now. A thread has one turn at a time: where another is taken to run,
    /// its end was not seen, and both are one turn here.
    pub(super) fn adopt(&mut self, cx: &mut Cx<'_>, turn: &str) -> bool {
        if turn.is_empty() || self.run.turn.as_deref() == Some(turn) {
            return true;
        }
        if self.ended.iter().any(|ended| ended == turn) {
            return false;
        }
        self.held_prompt = None;
        if let Some(before) = self.run.turn.replace(turn.to_owned()) {
            self.remember_ended(before);
        }
        cx.begin_turn();
        cx.fork_point(turn);
        for parts in std::mem::take(&mut self.held_steers) {
            self.send_steer(cx, &parts);
        }
        if std::mem::take(&mut self.interrupt) {
            self.send_interrupt(cx);
        }
        true
    }

    fn remember_ended(&mut self, turn: String) {
        if self.ended.len() == ENDED_TURNS {
            self.ended.pop_front();
        }
        self.ended.push_back(turn);
    }

    pub(super) fn turn_started(&mut self, cx: &mut Cx<'_>, event: &TurnEvent) {
        if self.is_main(&event.thread_id) && self.adopt(cx, &event.turn.id) {
            self.used = true;
            cx.phase(Phase::Initializing);
        }
    }

    pub(super) fn turn_completed(&mut self, cx: &mut Cx<'_>, event: &TurnEvent) {
        if !self.is_main(&event.thread_id) || !self.adopt(cx, &event.turn.id) {
            return;
        }
        let (outcome, stop) = match event.turn.status.as_deref() {
            Some("interrupted") => (TurnOutcome::Aborted, Some(StopReason::Aborted)),
            Some("failed") => (TurnOutcome::Failed, Some(StopReason::Error)),
            _ => (TurnOutcome::Completed, None),
        };
        let known = self.run.error.take();
        let error = (outcome == TurnOutcome::Failed).then(|| {
            let said = event.turn.error.as_ref().map(provider_error);
            said.or(known)
                .unwrap_or_else(|| ErrorBody::new(ErrorCode::ProviderError, "the turn failed"))
        });
        self.end_turn(cx, outcome, stop, error);
    }

    /// Ends the turn under way and closes what it leaves open.
    pub(super) fn end_turn(
        &mut self,
        cx: &mut Cx<'_>,
        outcome: TurnOutcome,
        stop: Option<StopReason>,
        error: Option<ErrorBody>,
    ) {
        let completed = outcome == TurnOutcome::Completed;
        self.retry_over(cx, completed);
        self.compaction_over(cx, false);
        let left = self.end_tools(cx, completed, "It was stopped with the turn.");
        self.close(cx, stop, None, Partial::Keep);
        if left && outcome == TurnOutcome::Aborted {
            // An interrupt does not reach commands that run.
            self.thread_call(cx, "thread/backgroundTerminals/clean", json!({}), Call::Other);
        }
        if cx.has_steering() {
            cx.unsteer();
        }
        if let Some(turn) = std::mem::take(&mut self.run).turn {
            self.remember_ended(turn);
        }
        self.held_steers.clear();
        self.questions.clear();
        self.interrupt = false;
        self.expect_echo = false;
        cx.turn_done(outcome, error);
    }

    pub(super) fn item_started(&mut self, cx: &mut Cx<'_>, event: ItemEvent) {
        if !self.is_main(&event.place.thread_id) || !self.adopt(cx, &event.place.turn_id) {
            return;
        }
        let Item::Known(item) = Item::read(event.item) else {
            return;
        };
        match item {
            KnownItem::UserMessage { id, content } => self.user_message(cx, id, content),
            KnownItem::AgentMessage { .. } => self.speaks(cx),
            KnownItem::Reasoning { .. } => {
                self.speaks(cx);
                cx.phase(Phase::Thinking);
            }
            KnownItem::ContextCompaction { id } => self.compaction_started(cx, &id),
            item => {
                if let Some(tool) = Tool::read(cx.workspace(), item) {
                    self.retry_over(cx, true);
                    self.tool_started(cx, &tool);
                }
            }
        }
    }

    pub(super) fn item_completed(&mut self, cx: &mut Cx<'_>, event: ItemEvent) {
        if !self.is_main(&event.place.thread_id) {
            return sub_agent(cx, &event.place, event.item);
        }
        if !self.adopt(cx, &event.place.turn_id) {
            return self.late(cx, &event.item);
        }
        match Item::read(event.item) {
            Item::Known(KnownItem::UserMessage { id, content }) => self.user_message(cx, id, content),
            Item::Known(KnownItem::AgentMessage { id, text }) => {
                self.retry_over(cx, true);
                self.text_done(cx, &id, Kind::Text, &text);
                self.run.done.insert(id);
            }
            Item::Known(KnownItem::Reasoning { id, summary, content }) => {
                self.retry_over(cx, true);
                self.reasoning_done(cx, &id, &summary, &content);
            }
            Item::Known(KnownItem::ContextCompaction { id }) => {
                self.compaction_started(cx, &id);
                self.compaction_over(cx, true);
            }
            Item::Known(item) => {
                if let Some(tool) = Tool::read(cx.workspace(), item) {
                    self.tool_completed(cx, tool);
                }
            }
            Item::Other(item) => {
                let id = item
                    .get("id")
                    .and_then(Value::as_str)
                    .unwrap_or_default()
                    .to_owned();
                if self.run.done.insert(id) {
                    remark(cx, "x-codex-item", Map::from_iter([("item".to_owned(), item)]));
                }
            }
        }
    }

    /// The echo of a prompt, a steered prompt that was taken up, or one that codex makes by itself.
    fn user_message(&mut self, cx: &mut Cx<'_>, id: String, content: Vec<Value>) {
        if !self.run.done.insert(id) {
            return;
        }
        if std::mem::take(&mut self.expect_echo) {
            return;
        }
        // An answer that was cut off by a steered prompt never ends; what was said of it stays.
        let cut = self.run.message.is_some().then_some(StopReason::Aborted);
        self.close(cx, cut, None, Partial::Keep);
        let texts: Vec<&str> = content
            .iter()
            .filter_map(|input| input.get("text")?.as_str())
            .collect();
        let text = texts.join("\n");
        let parts: Vec<Part> = content.into_iter().filter_map(input_part).collect();
        match cx.take_steered(&text) {
            Some(queued) => cx.user_message(queued.entry.parts, Some(queued.sender)),
            None if parts.is_empty() => {}
            None => cx.user_message(parts, None),
        }
    }

    pub(super) fn error(&mut self, cx: &mut Cx<'_>, event: &ErrorEvent) {
        let mine = self.is_main(&event.place.thread_id) && self.adopt(cx, &event.place.turn_id);
        let error = provider_error(&event.error);
        if !mine || !cx.in_turn() {
            return cx.agent_error(error.code, error.message, event.will_retry);
        }
        if !event.will_retry {
            self.retry_over(cx, false);
            self.run.error = Some(error);
            return;
        }
        // What streamed of the failed attempt comes again.
        self.close(cx, None, None, Partial::Drop);
        let (attempt, max_attempts) = attempts(&event.error.message);
        let attempt = attempt.unwrap_or_else(|| self.run.retrying.unwrap_or_default().saturating_add(1));
        self.run.retrying = Some(attempt);
        cx.phase(Phase::Retrying);
        cx.emit(EventBody::RetryStart {
            attempt,
            max_attempts,
            // Codex waits a while and does not say how long.
            delay_ms: 0,
            error,
        });
    }

    /// Something of the new attempt is complete, or codex gave up.
    pub(super) fn retry_over(&mut self, cx: &mut Cx<'_>, success: bool) {
        if let Some(attempt) = self.run.retrying.take()
            && cx.in_turn()
        {
            cx.emit(EventBody::RetryEnd { success, attempt });
        }
    }

    fn compaction_started(&mut self, cx: &mut Cx<'_>, id: &str) {
        if !self.run.done.insert(id.to_owned()) {
            return;
        }
        self.close(cx, None, None, Partial::Keep);
        let reason = if std::mem::take(&mut self.compact_asked) {
            CompactReason::Manual
        } else {
            CompactReason::Threshold
        };
        self.run.compacting = true;
        cx.phase(Phase::Compacting);
        cx.emit(EventBody::CompactStart { reason });
    }

    fn compaction_over(&mut self, cx: &mut Cx<'_>, success: bool) {
        if !std::mem::take(&mut self.run.compacting) {
            return;
        }
        let error = (!success).then(|| {
            let known = self.run.error.clone();
            known.unwrap_or_else(|| ErrorBody::new(ErrorCode::ProviderError, "the compaction did not end"))
        });
        // Codex does not show its summary.
        cx.emit(EventBody::CompactEnd {
            success,
            summary: None,
            error,
        });
    }

    /// Usage is told after each model request, and again where nothing was used: when a thread is resumed, when a
    /// request is cut off, when a compaction changed the size of the context.
    pub(super) fn usage(&mut self, cx: &mut Cx<'_>, event: &UsageEvent) {
        let Place { thread_id, turn_id } = &event.place;
        let main = self.is_main(thread_id);
        let total = event.token_usage.total.total;
        let before = self.totals.insert(thread_id.clone(), total);
        if self.totals.len() > THREADS {
            self.totals.pop_first();
        }
        let of_now = if main {
            self.run.turn.as_ref() == Some(turn_id)
        } else {
            cx.in_turn()
        };
        let used = (of_now && before.unwrap_or_default() != total)
            .then(|| event.token_usage.last.canonical())
            .filter(|usage| *usage != Usage::default());
        let context = event.token_usage.last.total;
        let context = (main && context > 0).then_some(context);
        if used.is_some() || (context.is_some() && context != self.context) {
            cx.add_usage(used.unwrap_or_default(), context);
        }
        self.context = context.or(self.context);
        if main && used.is_some() {
            self.close(cx, None, used, Partial::Keep);
        }
    }

    pub(super) fn plan(&mut self, cx: &mut Cx<'_>, event: PlanEvent) {
        if !self.is_main(&event.place.thread_id) {
            return;
        }
        // Whether there are plans depends on the model.
        cx.capabilities(|can| can.plan = true);
        cx.plan(event.steps.into_iter().map(plan_entry).collect());
        if let Some(text) = event.explanation.filter(|text| !text.is_empty()) {
            cx.status_text(text);
        }
    }

    /// The process is gone: nothing that was open will end.
    pub(super) fn interrupted(&mut self, cx: &mut Cx<'_>) {
        self.retry_over(cx, false);
        self.compaction_over(cx, false);
        self.end_tools(cx, false, "Interrupted: the harness ended before the tool did.");
        self.close(cx, Some(StopReason::Interrupted), None, Partial::Keep);
        self.run = Run::default();
    }

    /// A warning of codex, once a process: it repeats some with every turn.
    pub(super) fn tell_once(&mut self, cx: &mut Cx<'_>, level: NotifyLevel, message: &str) {
        if self.told.len() < 64 && self.told.insert(message.to_owned()) {
            cx.notify(level, message.trim());
        }
    }
}

/// What a sub-agent did. Its own deltas are not shown.
fn sub_agent(cx: &mut Cx<'_>, place: &Place, item: Value) {
    let fields = Map::from_iter([
        ("thread".to_owned(), Value::from(place.thread_id.as_str())),
        ("item".to_owned(), item),
    ]);
    remark(cx, "x-codex-agent", fields);
}

fn input_part(input: Value) -> Option<Part> {
    match input.get("text").and_then(Value::as_str) {
        Some(text) => Some(Part::text(text)),
        // A picture comes back as data; it is not carried inline.
        None if input.get("url").is_some() => Some(Part::text("[image]")),
        None => Part::extension("x-codex-input", Map::from_iter([("input".to_owned(), input)])),
    }
}

fn plan_entry(step: Step) -> PlanEntry {
    PlanEntry {
        content: step.step,
        status: match step.status.as_str() {
            "inProgress" | "in_progress" => PlanStatus::InProgress,
            "completed" => PlanStatus::Completed,
            _ => PlanStatus::Pending,
        },
        priority: None,
    }
}

/// `n` and `m` of "Reconnecting... n/m".
fn attempts(message: &str) -> (Option<u32>, Option<u32>) {
    let numbers = message.rsplit(' ').next().and_then(|word| word.split_once('/'));
    match numbers {
        Some((attempt, max)) => (attempt.parse().ok(), max.parse().ok()),
        None => (None, None),
    }
}

/// The error of a model request in words, with the code that codex or the status means.
pub(super) fn provider_error(error: &TurnError) -> ErrorBody {
    let info = &error.codex_error_info;
    let name = info
        .as_str()
        .or_else(|| info.as_object()?.keys().next().map(String::as_str))
        .unwrap_or_default();
    let status = info
        .as_object()
        .and_then(|info| info.values().next())
        .and_then(|info| info.get("httpStatusCode"))
        .and_then(Value::as_u64);
    let code = match (name, status) {
        ("usageLimitExceeded" | "sessionBudgetExceeded", _) | (_, Some(402)) => ErrorCode::BudgetExceeded,
        (_, Some(429)) => ErrorCode::RateLimited,
        ("sandboxError", _) => ErrorCode::SandboxDenied,
        _ => ErrorCode::ProviderError,
    };
    let report = error.additional_details.as_deref().unwrap_or(&error.message);
    let body = ErrorBody::new(code, in_words(report, status));
    if info.is_null() {
        body
    } else {
        body.with_details(json!({ "codex": info }))
    }
}

/// What the provider said, without codex's words around it.
fn in_words(report: &str, status: Option<u64>) -> String {
    let (report, _) = report.split_once(", url: ").unwrap_or((report, ""));
    let said = match report.strip_prefix("unexpected status ") {
        Some(rest) => rest.split_once(": ").map_or(rest, |(_, said)| said),
        None => report,
    };
    let json: Value = serde_json::from_str(said).unwrap_or_default();
    let message = json
        .pointer("/error/message")
        .or_else(|| json.get("message"))
        .and_then(Value::as_str)
        .unwrap_or(said);
    match status {
        Some(status) if said.len() < report.len() => {
            format!("the model provider answered {status}: {message}")
        }
        _ if message.is_empty() => "the model call failed".to_owned(),
        _ => message.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(message: &str, info: Value) -> ErrorBody {
        provider_error(&TurnError {
            message: message.to_owned(),
            codex_error_info: info,
            additional_details: None,
        })
    }

    #[test]
    fn errors_say_what_the_provider_said() {
        let quota = error(
            "unexpected status 402 Payment Required: no money left, url: http://127.0.0.1:8377/x/v1/responses",
            json!({ "httpConnectionFailed": { "httpStatusCode": 402 } }),
        );
        assert_eq!(quota.code, ErrorCode::BudgetExceeded);
        assert_eq!(quota.message, "the model provider answered 402: no money left");
        let bad = error(r#"{"error":{"message":"no such model"}}"#, "badRequest".into());
        assert_eq!(bad.code, ErrorCode::ProviderError);
        assert_eq!(bad.message, "no such model");
        let limit = error("try again at 10:00", "usageLimitExceeded".into());
        assert_eq!(limit.code, ErrorCode::BudgetExceeded);
    }

    #[test]
    fn attempts_are_read_from_the_message() {
        assert_eq!(attempts("Reconnecting... 2/5"), (Some(2), Some(5)));
        assert_eq!(attempts("the stream broke"), (None, None));
    }
}
