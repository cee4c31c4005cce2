//! The rules that every session's log obeys, as a checker for live sessions and tests.
//!
//! - `seq` starts at 1 and has no gap
//! - every `turn.started` has exactly one `turn.ended`, and only state events follow it
//! - the text of `stream.message_end` equals its deltas joined
//! - every `tool.start` has exactly one `tool.end`
//! - no message id is used twice, and no assistant message is empty
//! - a message that is discarded (a failed attempt that is retried) never ends

use crate::event::{Event, EventBody};
use crate::ids::{MessageId, ToolCallId, TurnId};
use crate::message::{Message, Role};
use crate::part::Part;
use std::collections::{BTreeMap, HashMap, HashSet};

/// A rule that was broken, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("event {seq}: {what}")]
pub struct Violation {
    pub seq: u64,
    pub what: String,
}

#[derive(Debug, Default)]
struct OpenMessage {
    text: BTreeMap<u32, String>,
    thinking: BTreeMap<u32, String>,
}

/// Takes a session's events one by one and says which rule each breaks.
#[derive(Debug, Default)]
pub struct Checker {
    seq: u64,
    turn: Option<TurnId>,
    ended_turns: HashSet<TurnId>,
    open_messages: HashMap<MessageId, OpenMessage>,
    closed_messages: HashSet<MessageId>,
    open_tools: HashSet<ToolCallId>,
    closed_tools: HashSet<ToolCallId>,
}

type Check = Result<(), String>;

impl Checker {
    /// A checker before the first event.
    pub fn new() -> Self {
        Self::default()
    }

    /// A checker that joins a log after event `seq`, between turns.
    pub fn after(seq: u64) -> Self {
        Self {
            seq,
            ..Self::default()
        }
    }

    /// Checks the next event.
    pub fn event(&mut self, event: &Event) -> Result<(), Violation> {
        let violation = |what| Violation { seq: event.seq, what };
        if matches!(event.body, EventBody::SessionHeartbeat { .. }) {
            // A heartbeat is no part of the log: it moves no number.
            return if event.seq == 0 {
                Ok(())
            } else {
                Err(violation("a heartbeat has a number".to_owned()))
            };
        }
        if event.seq != self.seq + 1 {
            return Err(violation(format!("expected seq {}", self.seq + 1)));
        }
        self.seq = event.seq;
        self.turns(event).map_err(violation)?;
        self.messages(event).map_err(violation)?;
        self.tools(event).map_err(violation)
    }

    /// Checks that nothing is left open at the end of a complete log.
    pub fn finish(&self) -> Result<(), Violation> {
        let violation = |what| Err(Violation { seq: self.seq, what });
        if let Some(turn) = self.turn {
            return violation(format!("turn {turn} never ended"));
        }
        if let Some(id) = self.open_messages.keys().next() {
            return violation(format!("message {id} never ended"));
        }
        if let Some(id) = self.open_tools.iter().next() {
            return violation(format!("tool call {id} never ended"));
        }
        Ok(())
    }

    fn turns(&mut self, event: &Event) -> Check {
        match &event.body {
            EventBody::TurnStarted {} => {
                let id = event.turn_id.ok_or("turn.started without turn_id")?;
                if let Some(open) = self.turn {
                    return Err(format!("turn {id} starts while {open} runs"));
                }
                if self.ended_turns.contains(&id) {
                    return Err(format!("turn {id} starts again"));
                }
                self.turn = Some(id);
                Ok(())
            }
            EventBody::TurnEnded { .. } => {
                let id = event.turn_id.ok_or("turn.ended without turn_id")?;
                if self.turn.take() != Some(id) {
                    return Err(format!("turn {id} ends but does not run"));
                }
                if let Some(open) = self.open_messages.keys().next() {
                    return Err(format!("turn {id} ends while message {open} streams"));
                }
                if let Some(open) = self.open_tools.iter().next() {
                    return Err(format!("turn {id} ends while tool call {open} runs"));
                }
                self.ended_turns.insert(id);
                Ok(())
            }
            body if !body.is_state() && (self.turn.is_none() || event.turn_id != self.turn) => {
                Err(format!("{} outside of its turn", body.tag()))
            }
            _ => Ok(()),
        }
    }

    fn messages(&mut self, event: &Event) -> Check {
        match &event.body {
            EventBody::StreamMessageStart { message_id, .. } => {
                let closed = self.closed_messages.contains(message_id);
                if closed
                    || self
                        .open_messages
                        .insert(*message_id, OpenMessage::default())
                        .is_some()
                {
                    return Err(format!("message id {message_id} is used twice"));
                }
                Ok(())
            }
            EventBody::StreamTextDelta {
                message_id,
                part_index,
                delta,
            } => {
                self.open(message_id)?
                    .text
                    .entry(*part_index)
                    .or_default()
                    .push_str(delta);
                Ok(())
            }
            EventBody::StreamThinkingDelta {
                message_id,
                part_index,
                delta,
            } => {
                self.open(message_id)?
                    .thinking
                    .entry(*part_index)
                    .or_default()
                    .push_str(delta);
                Ok(())
            }
            EventBody::StreamMessageEnd { message } => {
                let open = self.open_messages.remove(&message.id);
                let open = open.ok_or_else(|| format!("message {} ends but does not stream", message.id))?;
                self.closed_messages.insert(message.id);
                ended_message(message, &open)
            }
            EventBody::StreamMessageDiscarded { message_id } => {
                self.open(message_id)?;
                self.open_messages.remove(message_id);
                self.closed_messages.insert(*message_id);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn open(&mut self, id: &MessageId) -> Result<&mut OpenMessage, String> {
        self.open_messages
            .get_mut(id)
            .ok_or_else(|| format!("message {id} does not stream"))
    }

    fn tools(&mut self, event: &Event) -> Check {
        match &event.body {
            EventBody::ToolStart { tool_call_id, .. } => {
                if self.closed_tools.contains(tool_call_id) || !self.open_tools.insert(*tool_call_id) {
                    return Err(format!("tool call {tool_call_id} starts twice"));
                }
                Ok(())
            }
            EventBody::ToolProgress { tool_call_id, .. } if !self.open_tools.contains(tool_call_id) => {
                Err(format!("tool call {tool_call_id} progresses but does not run"))
            }
            EventBody::ToolEnd { tool_call_id, .. } => {
                if !self.open_tools.remove(tool_call_id) {
                    return Err(format!("tool call {tool_call_id} ends but does not run"));
                }
                self.closed_tools.insert(*tool_call_id);
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

fn ended_message(message: &Message, open: &OpenMessage) -> Check {
    if message.role == Role::Assistant && message.parts.is_empty() {
        return Err(format!("assistant message {} is empty", message.id));
    }
    let text: String = message.parts.iter().filter_map(Part::as_text).collect();
    let streamed: String = open.text.values().map(String::as_str).collect();
    if text != streamed {
        return Err(format!("text of message {} differs from its deltas", message.id));
    }
    let thinking: String = message
        .parts
        .iter()
        .filter_map(|part| match part {
            Part::Thinking { text, .. } => Some(text.as_str()),
            _ => None,
        })
        .collect();
    let streamed: String = open.thinking.values().map(String::as_str).collect();
    if thinking != streamed {
        return Err(format!(
            "thinking of message {} differs from its deltas",
            message.id
        ));
    }
    Ok(())
}
