//! Messages and thoughts, in chunks or whole.

use super::wire::{Chunk, Whole, block_text, text};
use super::{Acp, Streaming};
use crate::fold::{Cx, Final};
use lodge_proto::event::NotifyLevel;
use lodge_proto::ids::MessageId;
use lodge_proto::message::{Role, StopReason};
use lodge_proto::part::Part;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// What of the agent a chunk belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Voice {
    Text,
    Thought,
}

/// A user's message that the agent tells of, as far as received.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Told {
    id: Option<String>,
    text: String,
}

impl Acp {
    /// A piece of the agent's text or thought.
    pub(super) fn chunk(&mut self, cx: &mut Cx<'_>, voice: Voice, chunk: &Chunk) {
        let text = block_text(&chunk.content);
        if text == Some("") || self.replaying {
            return;
        }
        if let Some(text) = text
            && voice == Voice::Text
            && self.aside(cx, text)
        {
            return;
        }
        self.agent_starts(cx);
        if !cx.in_turn() {
            if voice == Voice::Text {
                self.stray(cx, text.unwrap_or_default());
            }
            return;
        }
        self.turn.silent = false;
        if let Some(compaction) = &mut self.compaction
            && compaction.ours
        {
            if voice == Voice::Text {
                compaction.summary.push_str(text.unwrap_or_default());
            }
            return;
        }
        self.told_end(cx);
        self.refused_end(cx);
        self.same_message(cx, voice, chunk.message_id.as_deref());
        match text {
            Some(text) => self.append(cx, voice, text),
            None => self.append_part(cx, content_part(cx.workspace(), &chunk.content)),
        }
        // The message may have begun with this chunk.
        self.note_id(voice, chunk.message_id.as_deref());
    }

    /// Text that is none of the conversation's: some agents of version 1 have no other place for what they notice.
    fn aside(&mut self, cx: &mut Cx<'_>, text: &str) -> bool {
        if let Some(mode) = text.strip_prefix("[MODE_UPDATE] ") {
            let mode = mode.trim().to_owned();
            let known = self.options.modes.contains(&mode);
            if known {
                self.mode_now(cx, &mode);
            }
            return known;
        }
        let notice =
            text.starts_with("Model metadata for `") && text.contains("Defaulting to fallback metadata");
        if notice {
            cx.notify(NotifyLevel::Warning, text.trim());
        }
        notice
    }

    /// Output of the agent outside of any turn: shown as a notice, when it is complete.
    fn stray(&mut self, cx: &mut Cx<'_>, text: &str) {
        if self.stray.is_empty() {
            cx.warn("the agent speaks outside of a turn");
        }
        if self.stray.len() < super::STRAY_BYTES {
            self.stray.push_str(text);
        }
    }

    /// What was said outside of a turn is complete: something else follows.
    pub(super) fn stray_end(&mut self, cx: &mut Cx<'_>) {
        let stray = std::mem::take(&mut self.stray);
        if !stray.trim().is_empty() {
            cx.notify(NotifyLevel::Info, stray.trim());
        }
    }

    /// Ends the message that streams where the chunk belongs to another one.
    fn same_message(&mut self, cx: &mut Cx<'_>, voice: Voice, id: Option<&str>) {
        let Some(open) = &self.message else { return };
        let known = match voice {
            Voice::Text => &open.text_id,
            // Thoughts have ids of their own, one for each block.
            Voice::Thought => return self.note_id(voice, id),
        };
        if known.is_some() && id.is_some() && known.as_deref() != id {
            self.close_message(cx, StopReason::EndTurn);
        }
        self.note_id(voice, id);
    }

    fn note_id(&mut self, voice: Voice, id: Option<&str>) {
        let (Some(open), Some(id)) = (&mut self.message, id) else {
            return;
        };
        let slot = match voice {
            Voice::Text => &mut open.text_id,
            Voice::Thought => &mut open.thought_id,
        };
        // Another thought is another part.
        open.part_ended |= slot.as_deref().is_some_and(|known| known != id);
        *slot = Some(id.to_owned());
    }

    /// The assistant's message that streams; begun where there is none.
    pub(super) fn streaming(&mut self, cx: &mut Cx<'_>) -> &mut Streaming {
        self.message.get_or_insert_with(|| Streaming {
            id: cx.message_start(Role::Assistant, None),
            parts: Vec::new(),
            text_id: None,
            thought_id: None,
            part_ended: false,
        })
    }

    fn append(&mut self, cx: &mut Cx<'_>, voice: Voice, delta: &str) {
        let open = self.streaming(cx);
        let fits = match open.parts.last() {
            Some(Part::Text { .. }) => voice == Voice::Text,
            Some(Part::Thinking { .. }) => voice == Voice::Thought,
            _ => false,
        };
        if !fits || std::mem::take(&mut open.part_ended) {
            open.part_ended = false;
            open.parts.push(match voice {
                Voice::Text => Part::text(""),
                Voice::Thought => Part::Thinking {
                    text: String::new(),
                    redacted: false,
                },
            });
        }
        let index = last_index(&open.parts);
        if let Some(Part::Text { text } | Part::Thinking { text, .. }) = open.parts.last_mut() {
            text.push_str(delta);
        }
        let id = open.id;
        match voice {
            Voice::Text => cx.text_delta(id, index, delta),
            Voice::Thought => cx.thinking_delta(id, index, delta),
        }
    }

    pub(super) fn append_part(&mut self, cx: &mut Cx<'_>, part: Part) {
        self.streaming(cx).parts.push(part);
    }

    /// Ends the message that streams.
    pub(super) fn close_message(&mut self, cx: &mut Cx<'_>, stop_reason: StopReason) {
        self.seal_calls(cx);
        let Some(open) = self.message.take() else { return };
        self.closed.extend(open.text_id);
        let end = Final {
            parts: open.parts,
            stop_reason: Some(stop_reason),
            ..Final::default()
        };
        cx.message_end(open.id, end);
    }

    /// Some agents say an error as text too: that message is none of the model's.
    pub(super) fn discard_echo(&mut self, cx: &mut Cx<'_>, error: &str) {
        let says = |parts: &[Part]| match parts {
            [Part::Text { text }] => text.trim() == error.trim(),
            _ => false,
        };
        if let Some(open) = self.message.take_if(|open| says(&open.parts)) {
            cx.discard(open.id);
        }
    }

    /// A message of the agent as a whole: what streamed of it must join to it.
    pub(super) fn whole(&mut self, cx: &mut Cx<'_>, voice: Voice, mut whole: Whole) {
        let Some(content) = whole.replacement() else {
            return;
        };
        let chunk = |content: Value| Chunk {
            message_id: Some(whole.message_id.clone()),
            content,
        };
        if self.closed.contains(&whole.message_id) {
            return cx.warn("the agent corrects a message that is already stored");
        }
        let open = self.message.as_ref().filter(|open| match voice {
            Voice::Text => open.text_id.as_ref() == Some(&whole.message_id),
            Voice::Thought => open.thought_id.as_ref() == Some(&whole.message_id),
        });
        let Some(open) = open else {
            for block in content {
                self.chunk(cx, voice, &chunk(block));
            }
            return;
        };
        let said = spoken(&open.parts, voice);
        let all: String = content.iter().filter_map(block_text).collect();
        match all.strip_prefix(said.as_str()) {
            Some(rest) => self.chunk(cx, voice, &chunk(json!({ "type": "text", "text": rest }))),
            None if open.parts.iter().all(|part| part.as_text().is_some()) => {
                let id = open.id;
                self.message = None;
                cx.discard(id);
                for block in content {
                    self.chunk(cx, voice, &chunk(block));
                }
            }
            None => cx.warn("the agent corrects a message that holds more than text"),
        }
    }

    /// A piece of a user's message: the echo of a prompt, or one that the agent took from elsewhere.
    pub(super) fn told(&mut self, cx: &mut Cx<'_>, id: Option<String>, content: &Value) {
        if self.replaying {
            return;
        }
        self.agent_starts(cx);
        if !cx.in_turn() {
            return cx.warn("the agent tells of a user's message outside of a turn");
        }
        if self.told.as_ref().is_some_and(|told| told.id != id) {
            self.told_end(cx);
        }
        let told = self.told.get_or_insert_with(|| Told {
            id,
            text: String::new(),
        });
        told.text.push_str(block_text(content).unwrap_or_default());
    }

    /// A user's message is complete. What we sent ourselves was shown when it was sent.
    pub(super) fn told_end(&mut self, cx: &mut Cx<'_>) {
        let Some(told) = self.told.take() else { return };
        let said = told.text.trim();
        let prompt = self.turn.echo.take();
        // Agents of version 2 tell each prompt again, version 1 has no such rule.
        if self.version >= 2 && prompt.is_some() || prompt.is_some_and(|prompt| prompt.trim() == said) {
            return;
        }
        if let Some(at) = self.turn.injected.iter().position(|text| text.trim() == said) {
            self.turn.injected.remove(at);
            return;
        }
        if said.is_empty() || !cx.in_turn() {
            return;
        }
        self.close_message(cx, StopReason::EndTurn);
        match cx.take_steered(&told.text) {
            Some(queued) => cx.user_message(queued.entry.parts, Some(queued.sender)),
            None => cx.user_message(vec![Part::text(told.text)], None),
        }
    }
}

/// What of a voice is in these parts.
fn spoken(parts: &[Part], voice: Voice) -> String {
    parts
        .iter()
        .filter_map(|part| match (part, voice) {
            (Part::Text { text }, Voice::Text) | (Part::Thinking { text, .. }, Voice::Thought) => {
                Some(text.as_str())
            }
            _ => None,
        })
        .collect()
}

/// Index of the last part.
pub(super) fn last_index(parts: &[Part]) -> u32 {
    u32::try_from(parts.len().saturating_sub(1)).unwrap_or(u32::MAX)
}

/// A content block that is no text.
pub(super) fn content_part(workspace: &str, block: &Value) -> Part {
    if text(block, "type") == Some("resource_link")
        && let Some(path) = text(block, "uri").and_then(|uri| uri.strip_prefix("file://"))
        && let Some(path) = path.strip_prefix(workspace)
    {
        return Part::FileRef {
            path: path.trim_start_matches('/').to_owned(),
            lines: None,
        };
    }
    let mut block = block.clone();
    // Binary content is not carried inline, and there is no blob of it.
    for data in ["/data", "/resource/blob"] {
        if let Some(data) = block.pointer_mut(data) {
            let length = data.as_str().map_or(0, str::len);
            *data = format!("[{length} bytes of base64]").into();
        }
    }
    extension("x-acp-content", "content", block)
}

/// A part that only ACP has.
pub(super) fn extension(name: &str, field: &str, value: Value) -> Part {
    let fields = serde_json::Map::from_iter([(field.to_owned(), value)]);
    Part::extension(name, fields).unwrap_or_else(|| Part::text(""))
}

impl Streaming {
    /// Whether this message is the one of that id.
    pub(super) fn is(&self, id: MessageId) -> bool {
        self.id == id
    }
}
