//! Messages and tool calls while they stream.
//!
//! Adapters say what they see; this module sees to it that the log keeps its promises whatever a harness does: the
//! deltas of a message join to its text, a tool call that started ends once, nothing stays open behind a turn.

use super::cx::Cx;
use lodge_proto::event::EventBody;
use lodge_proto::ids::MessageId;
use lodge_proto::message::{Message, Role, Sender, StopReason, Usage};
use lodge_proto::part::Part;
use lodge_proto::session::Phase;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;

/// A message that has begun.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct OpenMessage {
    pub(super) id: MessageId,
    pub(super) role: Role,
    /// Parts as far as received, by the index the harness gave them.
    pub(super) parts: BTreeMap<u32, Part>,
    pub(super) model: Option<String>,
    /// It ended in an error, and whether the harness tries again is not known yet.
    pub(super) held: Option<Box<Final>>,
    pub(super) started_at: u64,
}

/// The end of a message as the harness reports it: the truth about its parts.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Final {
    /// Parts at the indices their deltas had.
    pub parts: Vec<Part>,
    pub model: Option<String>,
    pub provider: Option<String>,
    pub stop_reason: Option<StopReason>,
    pub usage: Option<Usage>,
    pub sender: Option<Sender>,
}

impl Cx<'_> {
    /// Whether messages and tools may appear now. A harness that starts by itself gets a turn; what comes late, for
    /// a turn that is being stored, is dropped (it stays in the journal).
    pub(super) fn may_stream(&mut self) -> bool {
        if self.core.persisting.is_some() {
            self.warn("the harness went on after the end of its turn");
            return false;
        }
        self.begin_turn();
        true
    }

    /// A message begins. A failed attempt that was held back counts now.
    pub fn message_start(&mut self, role: Role, model: Option<String>) -> MessageId {
        self.commit_held();
        let id = MessageId(self.new_id());
        if !self.may_stream() {
            return id;
        }
        self.core.open_messages.push(OpenMessage {
            id,
            role,
            parts: BTreeMap::new(),
            model,
            held: None,
            started_at: self.now(),
        });
        self.emit(EventBody::StreamMessageStart { message_id: id, role });
        id
    }

    /// The parts of an open message as far as they streamed, by their indices.
    pub fn streamed_parts(&self, id: MessageId) -> BTreeMap<u32, Part> {
        let open = self.core.open_messages.iter().find(|open| open.id == id);
        open.map(|open| open.parts.clone()).unwrap_or_default()
    }

    fn open_part(&mut self, id: MessageId, index: u32, new: impl FnOnce() -> Part) -> Option<&mut Part> {
        let open = self
            .core
            .open_messages
            .iter_mut()
            .find(|open| open.id == id && open.held.is_none())?;
        Some(open.parts.entry(index).or_insert_with(new))
    }

    /// Text is appended to a part. Without effect on a message that is not open or a part of another type.
    pub fn text_delta(&mut self, id: MessageId, part_index: u32, delta: &str) {
        if delta.is_empty() {
            return;
        }
        if let Some(Part::Text { text }) = self.open_part(id, part_index, || Part::text("")) {
            text.push_str(delta);
            if self
                .core
                .open_messages
                .iter()
                .any(|open| open.id == id && open.role == Role::Assistant)
            {
                self.phase(Phase::Generating);
            }
            self.emit(EventBody::StreamTextDelta {
                message_id: id,
                part_index,
                delta: delta.to_owned(),
            });
        }
    }

    /// Reasoning is appended to a part.
    pub fn thinking_delta(&mut self, id: MessageId, part_index: u32, delta: &str) {
        if delta.is_empty() {
            return;
        }
        let new = || Part::Thinking {
            text: String::new(),
            redacted: false,
        };
        if let Some(Part::Thinking { text, .. }) = self.open_part(id, part_index, new) {
            text.push_str(delta);
            self.phase(Phase::Thinking);
            self.emit(EventBody::StreamThinkingDelta {
                message_id: id,
                part_index,
                delta: delta.to_owned(),
            });
        }
    }

    /// A tool call begins inside a message.
    pub fn tool_call_start(&mut self, id: MessageId, part_index: u32, native: &str, name: &str) {
        let taken = |open: &&OpenMessage| open.id == id && !open.parts.contains_key(&part_index);
        if !self.core.open_messages.iter().any(|open| taken(&open)) {
            return;
        }
        let tool_call_id = self.beginning_tool_id(native);
        let part = Part::ToolCall {
            tool_call_id,
            name: name.to_owned(),
            input: Value::Null,
        };
        if let Some(open) = self.core.open_messages.iter_mut().find(|open| open.id == id) {
            open.parts.insert(part_index, part);
        }
        self.emit(EventBody::StreamToolCallStart {
            message_id: id,
            part_index,
            tool_call_id,
            name: name.to_owned(),
        });
    }

    /// Arguments of a tool call stream.
    pub fn tool_call_delta(&mut self, id: MessageId, part_index: u32, delta: &str) {
        let call = self
            .core
            .open_messages
            .iter()
            .find(|open| open.id == id)
            .and_then(|open| open.parts.get(&part_index));
        if let (Some(Part::ToolCall { tool_call_id, .. }), false) = (call, delta.is_empty()) {
            let tool_call_id = *tool_call_id;
            self.emit(EventBody::StreamToolCallDelta {
                message_id: id,
                part_index,
                tool_call_id,
                delta: delta.to_owned(),
            });
        }
    }

    /// A tool call is complete.
    pub fn tool_call_end(&mut self, id: MessageId, part_index: u32, native: &str, name: &str, input: &Value) {
        self.tool_call_start(id, part_index, native, name);
        let tool_call_id = self.tool_id(native);
        let part = Part::ToolCall {
            tool_call_id,
            name: name.to_owned(),
            input: input.clone(),
        };
        let open = self.core.open_messages.iter_mut().find(|open| open.id == id);
        match open.and_then(|open| open.parts.get_mut(&part_index)) {
            Some(known @ Part::ToolCall { .. }) if *known != part => *known = part,
            // It is complete already, or this place holds something else: the end of the message decides.
            _ => return,
        }
        self.emit(EventBody::StreamToolCallEnd {
            message_id: id,
            part_index,
            tool_call_id,
            name: name.to_owned(),
            input: input.clone(),
        });
    }

    /// A message is complete. What its deltas lack is sent as deltas first; where they contradict the end, the
    /// message is discarded and comes again under a new id. An assistant's message without parts is discarded.
    pub fn message_end(&mut self, id: MessageId, end: Final) {
        let Some(at) = self.core.open_messages.iter().position(|open| open.id == id) else {
            return;
        };
        if end.parts.is_empty() && self.core.open_messages[at].role == Role::Assistant {
            return self.discard(id);
        }
        let id = self.reconcile(id, &end.parts);
        self.finish_message(id, end);
    }

    /// Closes a message whose deltas are known to join to its parts.
    fn finish_message(&mut self, id: MessageId, end: Final) {
        let Some(at) = self.core.open_messages.iter().position(|open| open.id == id) else {
            return;
        };
        let open = self.core.open_messages.remove(at);
        let message = Message {
            id,
            session_id: self.core.session,
            turn_id: self
                .core
                .turn
                .as_ref()
                .map_or_else(Default::default, |turn| turn.id),
            index: self.core.message_count,
            role: open.role,
            sender: end.sender,
            parts: end.parts,
            model: end.model.or(open.model),
            provider: end.provider,
            harness: self.core.harness().to_owned(),
            stop_reason: end.stop_reason,
            usage: end.usage,
            created_at: open.started_at,
            version: 1,
        };
        if message.role == Role::User {
            self.core.user_messages += 1;
        }
        self.core.keep(message.clone());
        self.emit(EventBody::StreamMessageEnd { message });
    }

    /// A message failed; whether it counts shows when the harness tries again or gives up.
    pub fn message_failed(&mut self, id: MessageId, end: Final) {
        if let Some(open) = self.core.open_messages.iter_mut().find(|open| open.id == id) {
            open.held = Some(Box::new(end));
        }
    }

    /// The harness tries again: failed attempts come to nothing.
    pub fn discard_failed(&mut self) {
        let failed: Vec<MessageId> = self
            .core
            .open_messages
            .iter()
            .filter(|open| open.held.is_some())
            .map(|open| open.id)
            .collect();
        for id in failed {
            self.discard(id);
        }
    }

    /// The harness does not try again: failed attempts count.
    pub fn commit_held(&mut self) {
        while let Some(open) = self
            .core
            .open_messages
            .iter_mut()
            .find(|open| open.held.is_some())
        {
            let id = open.id;
            if let Some(end) = open.held.take() {
                self.message_end(id, *end);
            }
        }
    }

    /// A message that was started comes to nothing.
    pub fn discard(&mut self, id: MessageId) {
        let before = self.core.open_messages.len();
        self.core.open_messages.retain(|open| open.id != id);
        if self.core.open_messages.len() < before {
            self.emit(EventBody::StreamMessageDiscarded { message_id: id });
        }
    }

    /// Makes what was streamed equal to `parts`; returns the id under which it now is.
    fn reconcile(&mut self, id: MessageId, parts: &[Part]) -> MessageId {
        let Some(open) = self.core.open_messages.iter().find(|open| open.id == id) else {
            return id;
        };
        let id = if extends(&open.parts, parts) {
            id
        } else {
            self.restart(id)
        };
        for (index, part) in (0u32..).zip(parts) {
            match part {
                Part::Text { text } => {
                    let sent = self.streamed_len(id, index);
                    self.text_delta(id, index, text.get(sent..).unwrap_or_default());
                }
                Part::Thinking { text, .. } => {
                    let sent = self.streamed_len(id, index);
                    self.thinking_delta(id, index, text.get(sent..).unwrap_or_default());
                }
                _ => {}
            }
        }
        id
    }

    fn streamed_len(&self, id: MessageId, index: u32) -> usize {
        let open = self.core.open_messages.iter().find(|open| open.id == id);
        match open.and_then(|open| open.parts.get(&index)) {
            Some(Part::Text { text } | Part::Thinking { text, .. }) => text.len(),
            _ => 0,
        }
    }

    fn restart(&mut self, id: MessageId) -> MessageId {
        let Some(open) = self.core.open_messages.iter().find(|open| open.id == id).cloned() else {
            return id;
        };
        self.discard(id);
        let id = MessageId(self.new_id());
        let role = open.role;
        self.core.open_messages.push(OpenMessage {
            id,
            parts: BTreeMap::new(),
            held: None,
            ..open
        });
        self.emit(EventBody::StreamMessageStart { message_id: id, role });
        id
    }

    /// A whole message at once.
    pub fn whole_message(&mut self, role: Role, end: Final) -> MessageId {
        let id = self.message_start(role, None);
        self.message_end(id, end);
        id
    }

    /// Closes what is open: partial messages are kept with `stop_reason`, tools end as errors with `why`.
    pub(super) fn close_open(&mut self, stop_reason: StopReason, why: &str) {
        self.commit_held();
        while let Some(open) = self.core.open_messages.first() {
            let id = open.id;
            let parts: Vec<Part> = open
                .parts
                .values()
                .filter(|part| !is_blank(part))
                .cloned()
                .collect();
            if parts.is_empty() {
                self.discard(id);
            } else {
                self.finish_message(
                    id,
                    Final {
                        parts,
                        stop_reason: Some(stop_reason),
                        ..Final::default()
                    },
                );
            }
        }
        while let Some(tool) = self.core.tools.first() {
            let (native, name) = (tool.native.clone(), tool.name.clone());
            let mut output = vec![];
            if !tool.output.is_empty() {
                output.push(Part::text(tool.output.clone()));
            }
            output.push(Part::text(why));
            self.tool_end(&native, &name, output, true, None);
        }
        self.core.tool_ids.clear();
    }
}

fn is_blank(part: &Part) -> bool {
    match part {
        Part::Text { text } | Part::Thinking { text, .. } => text.is_empty(),
        // Arguments that never became complete are no call.
        Part::ToolCall { input, .. } => input.is_null(),
        _ => false,
    }
}

/// Whether `parts` says everything that was streamed, and perhaps more.
fn extends(streamed: &BTreeMap<u32, Part>, parts: &[Part]) -> bool {
    streamed.iter().all(|(index, sent)| {
        let whole = parts.get(*index as usize);
        match (sent, whole) {
            (Part::Text { text: sent }, Some(Part::Text { text }))
            | (Part::Thinking { text: sent, .. }, Some(Part::Thinking { text, .. })) => {
                text.starts_with(sent.as_str())
            }
            (Part::Text { text } | Part::Thinking { text, .. }, _)
            | (_, Some(Part::Text { text } | Part::Thinking { text, .. })) => text.is_empty(),
            _ => true,
        }
    })
}
