//! The assistant's message: codex sends its reasoning, text and tool calls as items; those of one model request are
//! one message here. `thread/tokenUsage/updated` ends it, after its tools, so results wait for the end of their call.

use super::Codex;
use super::wire::{canonical_model, canonical_provider};
use crate::fold::{Cx, Final};
use lodge_proto::ids::MessageId;
use lodge_proto::message::{Role, StopReason, Usage};
use lodge_proto::part::Part;
use serde::{Deserialize, Serialize};

/// What a part of the message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Kind {
    Text,
    /// The provider's summary of its reasoning.
    Summary,
    /// The reasoning itself.
    Reasoning,
    Call,
}

/// One part; its index is that in the message.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Slot {
    native: String,
    kind: Kind,
    /// What was streamed.
    text: String,
    /// The part as the item's end reports it.
    done: Option<Part>,
}

/// The message that streams.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Open {
    id: MessageId,
    slots: Vec<Slot>,
}

/// What becomes of parts that never ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Partial {
    Keep,
    /// They come again with the next attempt.
    Drop,
}

impl Codex {
    /// The part for an item, and the message it is in; both are made where there are none.
    fn slot(&mut self, cx: &mut Cx<'_>, native: &str, kind: Kind) -> (MessageId, u32, &mut Slot) {
        let model = self.model();
        let open = self.run.message.get_or_insert_with(|| Open {
            id: cx.message_start(Role::Assistant, model),
            slots: Vec::new(),
        });
        let known = open
            .slots
            .iter()
            .position(|slot| slot.native == native && slot.kind == kind);
        let at = known.unwrap_or_else(|| {
            open.slots.push(Slot {
                native: native.to_owned(),
                kind,
                text: String::new(),
                done: None,
            });
            open.slots.len() - 1
        });
        (
            open.id,
            u32::try_from(at).unwrap_or(u32::MAX),
            &mut open.slots[at],
        )
    }

    /// The model in use, as `provider/model`.
    fn model(&self) -> Option<String> {
        Some(canonical_model(
            self.provider.as_deref()?,
            self.settings.model.as_deref()?,
        ))
    }

    /// Text was added to an item.
    pub(super) fn stream(&mut self, cx: &mut Cx<'_>, native: &str, kind: Kind, delta: &str) {
        if delta.is_empty() || self.run.done.contains(native) {
            return;
        }
        let (id, index, slot) = self.slot(cx, native, kind);
        if slot.done.is_some() {
            return;
        }
        slot.text.push_str(delta);
        match kind {
            Kind::Text => cx.text_delta(id, index, delta),
            Kind::Summary | Kind::Reasoning => cx.thinking_delta(id, index, delta),
            Kind::Call => {}
        }
    }

    /// A part of the reasoning begins: parts are paragraphs.
    pub(super) fn summary_part(&mut self, cx: &mut Cx<'_>, native: &str, index: u32) {
        if index > 0 {
            self.stream(cx, native, Kind::Summary, "\n\n");
        }
    }

    /// The model speaks again. Where tools had ended, what came before was an answer of its own, whose end was not
    /// seen.
    pub(super) fn speaks(&mut self, cx: &mut Cx<'_>) {
        if !self.run.results.is_empty() && self.run.tools.is_empty() {
            self.close(cx, None, None, Partial::Keep);
        }
    }

    /// An item of text is complete.
    pub(super) fn text_done(&mut self, cx: &mut Cx<'_>, native: &str, kind: Kind, text: &str) {
        if text.is_empty() || self.run.done.contains(native) {
            return;
        }
        let rest = {
            let (_, _, slot) = self.slot(cx, native, kind);
            text.strip_prefix(slot.text.as_str())
                .unwrap_or_default()
                .to_owned()
        };
        self.stream(cx, native, kind, &rest);
        let (_, _, slot) = self.slot(cx, native, kind);
        text.clone_into(&mut slot.text);
        slot.done = Some(match kind {
            Kind::Text | Kind::Call => Part::text(text),
            Kind::Summary | Kind::Reasoning => Part::Thinking {
                text: text.to_owned(),
                redacted: false,
            },
        });
    }

    /// Reasoning is complete. Without any text the provider keeps it to itself.
    pub(super) fn reasoning_done(
        &mut self,
        cx: &mut Cx<'_>,
        native: &str,
        summary: &[String],
        content: &[String],
    ) {
        self.text_done(cx, native, Kind::Summary, &summary.join("\n\n"));
        self.text_done(cx, native, Kind::Reasoning, &content.join("\n\n"));
        if summary.is_empty() && content.is_empty() && !self.run.done.contains(native) {
            let (_, _, slot) = self.slot(cx, native, Kind::Summary);
            let text = slot.text.clone();
            let redacted = text.is_empty();
            slot.done = Some(Part::Thinking { text, redacted });
        }
        self.run.done.insert(native.to_owned());
    }

    /// A tool call is complete: codex does not stream arguments.
    pub(super) fn tool_call(&mut self, cx: &mut Cx<'_>, native: &str, name: &str, input: &serde_json::Value) {
        let (id, index, _) = self.slot(cx, native, Kind::Call);
        cx.tool_call_end(id, index, native, name, input);
        let part = Part::ToolCall {
            tool_call_id: cx.tool_id(native),
            name: name.to_owned(),
            input: input.clone(),
        };
        let (_, _, slot) = self.slot(cx, native, Kind::Call);
        slot.done = Some(part);
    }

    /// Whether the message that streams has this call.
    pub(super) fn calls(&self, native: &str) -> bool {
        let slots = self.run.message.iter().flat_map(|open| &open.slots);
        slots
            .into_iter()
            .any(|slot| slot.native == native && slot.kind == Kind::Call)
    }

    /// Ends the message that streams, and tells the results of its tools.
    pub(super) fn close(
        &mut self,
        cx: &mut Cx<'_>,
        stop: Option<StopReason>,
        usage: Option<Usage>,
        partial: Partial,
    ) {
        if let Some(open) = self.run.message.take() {
            let calls = open.slots.iter().any(|slot| slot.kind == Kind::Call);
            let natural = if calls {
                StopReason::ToolUse
            } else {
                StopReason::EndTurn
            };
            let parts = open
                .slots
                .into_iter()
                .filter_map(|slot| slot.part(partial))
                .collect();
            let end = Final {
                parts,
                model: self.model(),
                provider: self
                    .provider
                    .as_deref()
                    .map(|name| canonical_provider(name).to_owned()),
                stop_reason: stop.or(Some(natural)),
                usage,
                sender: None,
            };
            cx.message_end(open.id, end);
        }
        self.tell_results(cx);
    }

    /// Tells results whose calls were told.
    pub(super) fn tell_results(&mut self, cx: &mut Cx<'_>) {
        for part in std::mem::take(&mut self.run.results) {
            cx.whole_message(
                Role::Tool,
                Final {
                    parts: vec![part],
                    ..Final::default()
                },
            );
        }
    }
}

impl Slot {
    fn part(self, partial: Partial) -> Option<Part> {
        match (self.done, self.kind) {
            (Some(part), _) => Some(part),
            (None, _) if self.text.is_empty() || partial == Partial::Drop => None,
            (None, Kind::Text) => Some(Part::Text { text: self.text }),
            (None, Kind::Summary | Kind::Reasoning) => Some(Part::Thinking {
                text: self.text,
                redacted: false,
            }),
            (None, Kind::Call) => None,
        }
    }
}

/// A message that is neither the user's nor the assistant's.
pub(super) fn remark(cx: &mut Cx<'_>, name: &str, fields: serde_json::Map<String, serde_json::Value>) {
    if !cx.in_turn() {
        return cx.warn(format!("codex said something outside of a turn: {name}"));
    }
    if let Some(part) = Part::extension(name, fields) {
        cx.whole_message(
            Role::System,
            Final {
                parts: vec![part],
                ..Final::default()
            },
        );
    }
}
