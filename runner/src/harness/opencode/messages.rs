//! Messages and their parts.

use super::requests::offer_levels;
use super::wire::{Content, Delta, Message, MessageRef, Part as NativePart, Text, canonical_model};
use super::{OpenCode, extension, remember};
use crate::fold::{Cx, Final};
use lodge_proto::event::EventBody;
use lodge_proto::ids::MessageId;
use lodge_proto::message::{Role, StopReason, Usage};
use lodge_proto::part::Part;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// What a part is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Kind {
    Text,
    Thinking,
    Tool,
    Other,
}

/// A part of a message that is not complete.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Slot {
    pub(super) part: String,
    pub(super) kind: Kind,
    /// Its place, once it has something to show.
    index: Option<u32>,
    /// What it is in the end, where that is not what streamed.
    whole: Option<Part>,
    pub(super) tool: Option<super::tools::Call>,
}

/// One call of the model: a message that is not complete.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Step {
    id: Option<MessageId>,
    model: Option<String>,
    provider: Option<String>,
    pub(super) slots: Vec<Slot>,
    next: u32,
    /// Parts of attempts that failed.
    dead: Vec<String>,
    /// It was said to be over before any part of it was known, and its tokens were counted.
    pub(super) over: bool,
}

impl Step {
    pub(super) fn slot(&mut self, part: &str, kind: Kind) -> &mut Slot {
        let at = self.slots.iter().position(|slot| slot.part == part);
        let at = at.unwrap_or_else(|| {
            self.slots.push(Slot {
                part: part.to_owned(),
                kind,
                index: None,
                whole: None,
                tool: None,
            });
            self.slots.len() - 1
        });
        &mut self.slots[at]
    }

    /// The attempt failed and is made again: forget what came of it.
    pub(super) fn discard(&mut self, cx: &mut Cx<'_>) {
        if let Some(id) = self.id.take() {
            cx.discard(id);
        }
        // A tool that ran has run: its call belongs to an attempt that was complete.
        self.dead.extend(self.slots.drain(..).map(|slot| slot.part));
        self.next = 0;
    }
}

impl OpenCode {
    /// Whether this message was said in the session of which this one is a copy.
    fn was_copied(&self, message: &str) -> bool {
        self.copied.as_deref().is_some_and(|newest| message <= newest)
    }

    pub(super) fn message(&mut self, cx: &mut Cx<'_>, message: &Message) {
        if !self.is_main(&message.session) {
            return self.subagent_message(cx, message);
        }
        if self.was_copied(&message.id) {
            return;
        }
        if message.role == "user" {
            remember(&mut self.users, &message.id);
            return;
        }
        if message.is_summary() {
            return self.summary_message(cx, message);
        }
        if !cx.in_turn() || self.done.contains(&message.id) {
            return;
        }
        if !self.run.steps.contains_key(&message.id) {
            self.run.begun = true;
            self.run.idle = 0;
            self.run.error = None;
            self.take_up(cx, &message.parent);
        }
        let step = self.run.steps.entry(message.id.clone()).or_default();
        if let (Some(provider), Some(model)) = (&message.provider, &message.model) {
            let model = canonical_model(provider, model);
            step.provider = model.split('/').next().map(str::to_owned);
            step.model = Some(model.clone());
            cx.model(model);
            offer_levels(cx);
        }
        if let Some(agent) = message.agent.as_ref().filter(|agent| self.agents.contains(agent)) {
            cx.mode(agent.clone());
        }
        if !message.is_over() {
            return;
        }
        // opencode says what a message is by the time the line is written: on a busy machine the first line may tell of
        // the end already, and the parts are still to come.
        if message.error.is_none() && step.slots.is_empty() {
            if !std::mem::replace(&mut step.over, true) {
                count(cx, message);
            }
            return self.settle(cx);
        }
        self.message_over(cx, message);
    }

    fn message_over(&mut self, cx: &mut Cx<'_>, message: &Message) {
        let mut stop = stop_reason(message.finish.as_deref());
        if let Some(error) = &message.error {
            let aborted = self.failed(error);
            stop = Some(if aborted {
                StopReason::Aborted
            } else {
                StopReason::Error
            });
        }
        let usage = message.usage();
        let known = usage != Usage::default();
        let counted = self.run.steps.get(&message.id).is_some_and(|step| step.over);
        self.finish_step(cx, &message.id, stop, known.then_some(usage));
        if !counted {
            count(cx, message);
        }
        self.settle(cx);
    }

    /// A message is complete, or nothing more comes of it.
    pub(super) fn finish_step(
        &mut self,
        cx: &mut Cx<'_>,
        native: &str,
        stop_reason: Option<StopReason>,
        usage: Option<Usage>,
    ) {
        let Some(mut step) = self.run.steps.remove(native) else {
            return;
        };
        remember(&mut self.done, native);
        let Some(id) = step.id else { return };
        let results = self.end_calls(cx, &mut step, stop_reason);
        let streamed = cx.streamed_parts(id);
        let mut parts = Vec::new();
        for index in 0..step.next {
            let whole = step
                .slots
                .iter_mut()
                .find(|slot| slot.index == Some(index))
                .and_then(|slot| slot.whole.take());
            let part = whole.or_else(|| streamed.get(&index).cloned());
            parts.push(match part {
                // Its arguments never became complete.
                Some(Part::ToolCall {
                    tool_call_id,
                    name,
                    input: Value::Null,
                }) => Part::ToolCall {
                    tool_call_id,
                    name,
                    input: json!({}),
                },
                Some(part) => part,
                None => Part::text(""),
            });
        }
        cx.message_end(
            id,
            Final {
                parts,
                model: step.model,
                provider: step.provider,
                stop_reason,
                usage,
                sender: None,
            },
        );
        if !results.is_empty() {
            cx.whole_message(
                Role::Tool,
                Final {
                    parts: results,
                    ..Final::default()
                },
            );
        }
    }

    pub(super) fn part(&mut self, cx: &mut Cx<'_>, part: NativePart) {
        if !self.is_main(&part.session) {
            return self.subagent_part(cx, &part);
        }
        if self.was_copied(&part.message) {
            return;
        }
        if let Content::Compaction { auto, overflow } = part.content {
            return self.compaction_started(cx, &part.message, auto, overflow);
        }
        if self.is_summary(&part.message) {
            if let Content::Text(text) = part.content {
                self.summary_text(text.whole);
            }
            return;
        }
        if self.users.contains(&part.message) {
            if let Content::Text(text) = &part.content {
                self.user_text(cx, &part.message, text);
            }
            return;
        }
        if !cx.in_turn() || self.done.contains(&part.message) || matches!(part.content, Content::Quiet) {
            return;
        }
        let step = self.run.steps.entry(part.message.clone()).or_default();
        if step.dead.contains(&part.id) {
            return;
        }
        match part.content {
            Content::Text(text) => self.whole_text(cx, &part.message, &part.id, Kind::Text, &text.whole),
            Content::Reasoning(text) => {
                self.whole_text(cx, &part.message, &part.id, Kind::Thinking, &text.whole);
            }
            Content::Tool(tool) => self.tool(cx, &part.message, &part.id, &tool),
            Content::Other(value) => {
                step.slot(&part.id, Kind::Other).whole =
                    Some(extension("x-opencode-part", &json!({ "part": value })));
                self.place(cx, &part.message, &part.id);
            }
            Content::Compaction { .. } | Content::Quiet => {}
        }
    }

    /// The message and the place of a part; both come about with the first that is to be shown.
    pub(super) fn place(&mut self, cx: &mut Cx<'_>, native: &str, part: &str) -> Option<(MessageId, u32)> {
        if let Some(attempt) = self.run.retrying.take() {
            cx.emit(EventBody::RetryEnd {
                success: true,
                attempt,
            });
        }
        let step = self.run.steps.get_mut(native)?;
        let id = match step.id {
            Some(id) => id,
            None => *step
                .id
                .insert(cx.message_start(Role::Assistant, step.model.clone())),
        };
        let slot = step.slots.iter_mut().find(|slot| slot.part == part)?;
        let index = *slot.index.get_or_insert_with(|| {
            step.next += 1;
            step.next - 1
        });
        Some((id, index))
    }

    /// The text of a part as far as it goes.
    fn whole_text(&mut self, cx: &mut Cx<'_>, native: &str, part: &str, kind: Kind, text: &str) {
        let step = self.run.steps.entry(native.to_owned()).or_default();
        step.slot(part, kind);
        if text.is_empty() {
            return;
        }
        let Some((id, index)) = self.place(cx, native, part) else {
            return;
        };
        let known = match cx.streamed_parts(id).remove(&index) {
            Some(Part::Text { text } | Part::Thinking { text, .. }) => text,
            _ => String::new(),
        };
        match text.strip_prefix(known.as_str()) {
            Some(rest) => add(cx, id, index, kind, rest),
            // Spaces at the end are cut off; that is not worth a new message.
            None if text.trim_end() == known.trim_end() => {}
            None => {
                let whole = match kind {
                    Kind::Thinking => Part::Thinking {
                        text: text.to_owned(),
                        redacted: false,
                    },
                    _ => Part::text(text),
                };
                let slot = self.run.steps.get_mut(native);
                if let Some(slot) = slot.map(|step| step.slot(part, kind)) {
                    slot.whole = Some(whole);
                }
            }
        }
    }

    pub(super) fn delta(&mut self, cx: &mut Cx<'_>, delta: &Delta) {
        if !self.is_main(&delta.session) || delta.field != "text" || delta.added.is_empty() || !cx.in_turn() {
            return;
        }
        let slot = self
            .run
            .steps
            .get(&delta.message)
            .and_then(|step| step.slots.iter().find(|slot| slot.part == delta.part));
        // Which kind of text it is was said before; where that was lost, the whole part still comes.
        let Some(kind) = slot.map(|slot| slot.kind) else {
            return;
        };
        if let Some((id, index)) = self.place(cx, &delta.message, &delta.part) {
            add(cx, id, index, kind, &delta.added);
        }
    }

    /// A user's text: the echo of a prompt, a prompt that waits for the next call of the model, or one that came
    /// about in another way.
    fn user_text(&mut self, cx: &mut Cx<'_>, native: &str, text: &Text) {
        if text.synthetic || text.ignored || self.heard.iter().any(|known| known == native) {
            return;
        }
        remember(&mut self.heard, native);
        if std::mem::take(&mut self.expect_echo) {
            self.run.prompt = Some(native.to_owned());
            cx.fork_point(native);
        } else if self.compaction.is_some() {
            // After an overflow the prompt is given once more.
        } else if cx.in_turn() {
            self.run.steered.push((native.to_owned(), text.whole.clone()));
        } else {
            cx.warn("opencode shows a prompt outside of a turn");
        }
    }

    /// The model is called for the prompt `parent`: those before it are taken up, too.
    fn take_up(&mut self, cx: &mut Cx<'_>, parent: &str) {
        let Some(last) = self.run.steered.iter().position(|(native, _)| native == parent) else {
            return;
        };
        for (_, text) in self.run.steered.drain(..=last) {
            match cx.take_steered(&text) {
                Some(queued) => cx.user_message(queued.entry.parts, Some(queued.sender)),
                None => cx.user_message(vec![Part::text(text)], None),
            }
        }
    }

    pub(super) fn removed(&mut self, cx: &mut Cx<'_>, removed: &MessageRef) {
        if !self.is_main(&removed.session) {
            return;
        }
        self.run.steered.retain(|(native, _)| *native != removed.message);
        if let Some(mut step) = self.run.steps.remove(&removed.message) {
            step.discard(cx);
            remember(&mut self.done, &removed.message);
        }
    }
}

/// Adds the tokens of a message that is over.
fn count(cx: &mut Cx<'_>, message: &Message) {
    let usage = message.usage();
    if usage == Usage::default() {
        return;
    }
    let context = usage
        .input
        .saturating_add(usage.output)
        .saturating_add(usage.cache_read)
        .saturating_add(usage.cache_write);
    cx.add_usage(usage, Some(context).filter(|context| *context > 0));
}

fn add(cx: &mut Cx<'_>, id: MessageId, index: u32, kind: Kind, text: &str) {
    match kind {
        Kind::Text => cx.text_delta(id, index, text),
        Kind::Thinking => cx.thinking_delta(id, index, text),
        Kind::Tool | Kind::Other => {}
    }
}

fn stop_reason(finish: Option<&str>) -> Option<StopReason> {
    Some(match finish? {
        "stop" => StopReason::EndTurn,
        "tool-calls" => StopReason::ToolUse,
        "length" => StopReason::MaxTokens,
        "content-filter" => StopReason::Refusal,
        "error" => StopReason::Error,
        _ => return None,
    })
}
