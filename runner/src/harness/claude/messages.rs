//! `stream_event` and `assistant`: the assistant's messages.
//!
//! The provider's stream is passed through; beside it each finished block comes again as a whole `assistant` line
//! with the same message id, before its `content_block_stop`. Where the harness calls the model without streaming
//! there are only the whole blocks.

use super::wire::{Assistant, Block, Delta, KnownBlock, StreamEvent, Usage, plain_model};
use super::{Call, Claude, extension};
use crate::fold::{Cx, Final};
use lodge_proto::ids::MessageId;
use lodge_proto::message::{Role, StopReason};
use lodge_proto::part::Part;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// The name of the model in messages that the harness makes by itself.
const SYNTHETIC: &str = "<synthetic>";

/// The assistant's message that is under way.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Attempt {
    id: MessageId,
    /// The provider's id; empty where the beginning was never seen.
    native: String,
    streamed: bool,
    model: Option<String>,
    /// The block that streams, or did last.
    newest: Option<u32>,
    /// Blocks that are complete, by their index in the stream.
    blocks: BTreeMap<u32, Part>,
    /// Tool calls as far as they streamed.
    calls: BTreeMap<u32, PartialCall>,
    stop: Option<StopReason>,
    usage: Usage,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct PartialCall {
    native: String,
    name: String,
    json: String,
}

impl Claude {
    pub(super) fn stream_event(&mut self, cx: &mut Cx<'_>, event: StreamEvent) {
        match event {
            StreamEvent::MessageStart { message } => {
                self.model_answers(cx);
                self.replace_attempt(cx);
                self.begin_attempt(cx, message.id, message.model, true);
                if let Some(attempt) = &mut self.attempt {
                    attempt.usage = message.usage;
                }
            }
            StreamEvent::ContentBlockStart { index, content_block } => {
                self.block_start(cx, index, content_block);
            }
            StreamEvent::ContentBlockDelta { index, delta } => self.delta(cx, index, &delta),
            StreamEvent::ContentBlockStop { index } => self.block_stop(cx, index),
            StreamEvent::MessageDelta { delta, usage } => {
                if let Some(attempt) = &mut self.attempt {
                    attempt.usage.merge(usage);
                    attempt.stop = delta
                        .stop_reason
                        .as_deref()
                        .and_then(stop_reason)
                        .or(attempt.stop);
                }
            }
            StreamEvent::MessageStop => self.finish_attempt(cx, None),
            StreamEvent::Quiet => {}
        }
    }

    fn begin_attempt(&mut self, cx: &mut Cx<'_>, native: String, model: Option<String>, streamed: bool) {
        let model = model.filter(|model| model != SYNTHETIC);
        let model = model.map(|model| super::responses::canonical_model(cx, &model));
        self.attempt = Some(Attempt {
            id: cx.message_start(Role::Assistant, model.clone()),
            native,
            streamed,
            model,
            newest: None,
            blocks: BTreeMap::new(),
            calls: BTreeMap::new(),
            stop: None,
            usage: Usage::default(),
        });
    }

    /// The message that streams; one whose beginning was not seen begins now.
    fn streaming(&mut self, cx: &mut Cx<'_>) -> Option<&mut Attempt> {
        if self.attempt.is_none() {
            if !cx.in_turn() {
                return None;
            }
            self.begin_attempt(cx, String::new(), None, true);
        }
        self.attempt.as_mut()
    }

    fn block_start(&mut self, cx: &mut Cx<'_>, index: u32, block: Block) {
        let Some(attempt) = self.streaming(cx) else { return };
        attempt.newest = Some(index);
        match block {
            Block::Known(KnownBlock::Text { text }) => cx.text_delta(attempt.id, index, &text),
            Block::Known(KnownBlock::Thinking { thinking }) => {
                cx.thinking_delta(attempt.id, index, &thinking);
            }
            Block::Known(KnownBlock::ToolUse { id, name, .. }) => {
                cx.tool_call_start(attempt.id, index, &id, &name);
                let call = PartialCall {
                    native: id,
                    name,
                    json: String::new(),
                };
                attempt.calls.insert(index, call);
            }
            // They come whole in the `assistant` line.
            Block::Known(_) | Block::Other(_) => {}
        }
    }

    fn delta(&mut self, cx: &mut Cx<'_>, index: u32, delta: &Delta) {
        if matches!(delta, Delta::Quiet) {
            return;
        }
        let Some(attempt) = self.streaming(cx) else { return };
        match delta {
            Delta::Text { text } => cx.text_delta(attempt.id, index, text),
            Delta::Thinking { thinking } => cx.thinking_delta(attempt.id, index, thinking),
            Delta::Input { partial_json } => {
                cx.tool_call_delta(attempt.id, index, partial_json);
                if let Some(call) = attempt.calls.get_mut(&index) {
                    call.json.push_str(partial_json);
                }
            }
            Delta::Quiet => {}
        }
    }

    /// A block ended. A call whose whole line was not seen is complete all the same.
    fn block_stop(&mut self, cx: &mut Cx<'_>, index: u32) {
        let Some(attempt) = &mut self.attempt else { return };
        let Some(call) = attempt.calls.get(&index) else {
            return;
        };
        if attempt.blocks.contains_key(&index) {
            return;
        }
        let Ok(input) = serde_json::from_str::<Value>(&call.json) else {
            return;
        };
        let block = KnownBlock::ToolUse {
            id: call.native.clone(),
            name: call.name.clone(),
            input,
        };
        self.whole_block(cx, Block::Known(block));
    }

    /// One whole block, or a message of the harness itself.
    pub(super) fn assistant(&mut self, cx: &mut Cx<'_>, line: Assistant) {
        if line.error.is_some() {
            // The text is the error's, and the end of the run reports it.
            self.finish_attempt(cx, Some(StopReason::Error));
            self.api_error = Some(line.message.content.text());
            return;
        }
        let message = line.message;
        let known = self
            .attempt
            .as_mut()
            .filter(|attempt| attempt.native == message.id || attempt.native.is_empty());
        if let Some(attempt) = known {
            attempt.native.clone_from(&message.id);
        } else {
            self.model_answers(cx);
            self.replace_attempt(cx);
            self.begin_attempt(cx, message.id, message.model, false);
        }
        for block in message.content.blocks() {
            self.whole_block(cx, block);
        }
        if let Some(attempt) = &mut self.attempt {
            attempt.stop = message
                .stop_reason
                .as_deref()
                .and_then(stop_reason)
                .or(attempt.stop);
            if !attempt.streamed {
                attempt.usage = message.usage;
            }
        }
    }

    fn whole_block(&mut self, cx: &mut Cx<'_>, block: Block) {
        let Some(attempt) = &mut self.attempt else { return };
        let Some(index) = attempt.place(cx, &block) else {
            return;
        };
        let part = match block {
            Block::Known(KnownBlock::Text { text }) => Part::Text { text },
            Block::Known(KnownBlock::Thinking { thinking }) => Part::Thinking {
                redacted: thinking.is_empty(),
                text: thinking,
            },
            Block::Known(KnownBlock::RedactedThinking {}) => Part::Thinking {
                text: String::new(),
                redacted: true,
            },
            Block::Known(KnownBlock::ToolUse { id, name, input }) => {
                cx.tool_call_end(attempt.id, index, &id, &name, &input);
                let tool_call_id = cx.tool_id(&id);
                self.calls
                    .entry(id.clone())
                    .or_insert_with(|| Call::new(name.clone(), input.clone()));
                attempt.calls.entry(index).or_insert_with(|| PartialCall {
                    native: id,
                    name: name.clone(),
                    json: String::new(),
                });
                Part::ToolCall {
                    tool_call_id,
                    name,
                    input,
                }
            }
            Block::Known(KnownBlock::Image { source }) => super::tools::image(&source),
            Block::Known(KnownBlock::ToolResult { content, .. }) => Part::text(content.text()),
            Block::Other(value) => extension("x-claude-block", json!({ "block": value })),
        };
        attempt.blocks.insert(index, part);
    }

    /// Another message begins. One that is complete counts; one that broke off was tried again and comes to nothing.
    fn replace_attempt(&mut self, cx: &mut Cx<'_>) {
        let Some(attempt) = &self.attempt else { return };
        let streamed = cx.streamed_parts(attempt.id);
        let whole = !attempt.blocks.is_empty() && streamed.keys().all(|at| attempt.blocks.contains_key(at));
        if attempt.stop.is_some() || !attempt.streamed || whole {
            return self.finish_attempt(cx, None);
        }
        self.discard_attempt(cx);
    }

    /// The message under way failed and is tried again. Its tokens count.
    pub(super) fn discard_attempt(&mut self, cx: &mut Cx<'_>) {
        if let Some(attempt) = self.attempt.take() {
            cx.discard(attempt.id);
            for call in attempt.calls.values() {
                self.calls.remove(&call.native);
            }
            self.account(cx, attempt.usage);
        }
    }

    /// A message that did not stream ends with the first line that is none of its blocks.
    pub(super) fn finish_whole(&mut self, cx: &mut Cx<'_>) {
        if self.attempt.as_ref().is_some_and(|attempt| !attempt.streamed) {
            self.finish_attempt(cx, None);
        }
    }

    /// The message under way ends; `why` where it was cut off.
    pub(super) fn finish_attempt(&mut self, cx: &mut Cx<'_>, why: Option<StopReason>) {
        let Some(attempt) = self.attempt.take() else {
            return;
        };
        let mut parts = cx.streamed_parts(attempt.id);
        // Arguments that never became complete are no call.
        parts.retain(|_, part| {
            !matches!(
                part,
                Part::ToolCall {
                    input: Value::Null,
                    ..
                }
            )
        });
        parts.extend(attempt.blocks);
        while parts
            .last_key_value()
            .is_some_and(|(_, part)| is_empty_text(part))
        {
            parts.pop_last();
        }
        let provider = attempt.model.as_deref().and_then(|model| model.split_once('/'));
        let usage = attempt.usage.canonical();
        let end = Final {
            parts: parts.into_values().collect(),
            provider: provider.map(|(provider, _)| provider.to_owned()),
            model: attempt.model.clone(),
            // What an interrupt cuts off ends without a reason of its own.
            stop_reason: attempt
                .stop
                .or(why)
                .or_else(|| cx.is_aborting().then_some(StopReason::Aborted)),
            usage: Some(usage).filter(|usage| *usage != lodge_proto::message::Usage::default()),
            sender: None,
        };
        cx.message_end(attempt.id, end);
        self.account(cx, attempt.usage);
        if why.is_none() {
            for call in attempt.calls.values() {
                self.start_call(cx, &call.native, false);
            }
        }
    }

    fn account(&mut self, cx: &mut Cx<'_>, usage: Usage) {
        let usage = usage.canonical();
        if usage == lodge_proto::message::Usage::default() || !cx.in_turn() {
            return;
        }
        self.counted = self.counted.plus(usage);
        let context = usage.input + usage.cache_read + usage.cache_write + usage.output;
        cx.add_usage(usage, Some(context));
    }
}

impl Attempt {
    /// Where a whole block belongs: the place where it streamed, or behind all others. `None` for one that is there.
    fn place(&self, cx: &Cx<'_>, block: &Block) -> Option<u32> {
        let streamed = cx.streamed_parts(self.id);
        let free = |at: &u32| !self.blocks.contains_key(at);
        let place = |fits: &dyn Fn(&Part) -> bool| {
            let (at, _) = streamed.iter().find(|(at, part)| free(at) && fits(part))?;
            Some(*at)
        };
        let there = |fits: &dyn Fn(&Part) -> bool| self.streamed && self.blocks.values().any(fits);
        let found = match block {
            Block::Known(KnownBlock::ToolUse { id, .. }) => {
                let call = self.calls.iter().find(|(_, call)| call.native == *id);
                call.map(|(at, _)| *at)
            }
            Block::Known(KnownBlock::Text { text }) => {
                let found = place(&|part| part.as_text().is_some_and(|sent| text.starts_with(sent)));
                if found.is_none() && there(&|part| part.as_text() == Some(text)) {
                    return None;
                }
                found
            }
            Block::Known(KnownBlock::Thinking { thinking }) => {
                let thought = |part: &Part| match part {
                    Part::Thinking { text, .. } => Some(text.clone()),
                    _ => None,
                };
                let found = place(&|part| thought(part).is_some_and(|sent| thinking.starts_with(&sent)));
                if found.is_none() && there(&|part| thought(part).as_ref() == Some(thinking)) {
                    return None;
                }
                found
            }
            _ => None,
        };
        let ends = [
            streamed.keys().next_back(),
            self.blocks.keys().next_back(),
            self.calls.keys().next_back(),
        ];
        let behind = ends.into_iter().flatten().max().map_or(0, |last| last + 1);
        let newest = self
            .newest
            .filter(|at| free(at) && !streamed.contains_key(at) && !self.calls.contains_key(at));
        Some(found.or(newest).unwrap_or(behind))
    }
}

fn is_empty_text(part: &Part) -> bool {
    matches!(part, Part::Text { text } if text.is_empty())
}

fn stop_reason(native: &str) -> Option<StopReason> {
    Some(match native {
        "end_turn" | "stop_sequence" | "pause_turn" => StopReason::EndTurn,
        "tool_use" => StopReason::ToolUse,
        "max_tokens" | "model_context_window_exceeded" => StopReason::MaxTokens,
        "refusal" => StopReason::Refusal,
        _ => return None,
    })
}

/// The model's own name in a canonical one.
pub(super) fn native_model(model: &str) -> &str {
    plain_model(model.split_once('/').map_or(model, |(_, name)| name))
}
