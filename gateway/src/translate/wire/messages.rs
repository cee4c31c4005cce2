//! Anthropic Messages.

use serde_json::{Value, json};

use super::super::model::{Answer, Call, Event, Reason, Usage, object};
use super::{Wire, id, sse};

/// What the block is that is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Open {
    Text,
    Thinking,
    Call(u64),
}

/// Blocks follow one another here, so only the first call streams; the others wait until it is whole.
#[derive(Default)]
pub(super) struct Stream {
    open: Option<Open>,
    blocks: usize,
    /// Calls that were written, or are being written.
    calls: usize,
    /// Bytes of the first call's arguments that were written.
    written: usize,
}

impl Stream {
    fn open(&mut self, kind: Open, block: &Value, out: &mut String) {
        if self.open == Some(kind) {
            return;
        }
        self.close(out);
        self.open = Some(kind);
        let start = json!({ "type": "content_block_start", "index": self.blocks, "content_block": block });
        sse(Some("content_block_start"), &start, out);
    }

    fn close(&mut self, out: &mut String) {
        if self.open.take().is_some() {
            let stop = json!({ "type": "content_block_stop", "index": self.blocks });
            sse(Some("content_block_stop"), &stop, out);
            self.blocks += 1;
        }
    }

    fn delta(&self, delta: &Value, out: &mut String) {
        let event = json!({ "type": "content_block_delta", "index": self.blocks, "delta": delta });
        sse(Some("content_block_delta"), &event, out);
    }

    /// What has come of the first call's arguments since.
    fn rest_of_first(&mut self, so_far: &Answer, out: &mut String) {
        let Some((index, call)) = so_far.calls.first() else {
            return;
        };
        let rest = call.arguments.get(self.written..).unwrap_or_default();
        if self.open == Some(Open::Call(*index)) && !rest.is_empty() {
            self.delta(&json!({ "type": "input_json_delta", "partial_json": rest }), out);
            self.written = call.arguments.len();
        }
    }

    fn call(&mut self, index: u64, call: &Call, out: &mut String) {
        self.calls += 1;
        let block = json!({ "type": "tool_use", "id": call.id, "name": call.name, "input": {} });
        self.open(Open::Call(index), &block, out);
    }
}

impl Wire for Stream {
    fn event(&mut self, event: &Event, so_far: &Answer, out: &mut String) {
        match event {
            Event::Start { .. } => {
                let message = json!({
                    "id": id("msg_", &so_far.id), "type": "message", "role": "assistant", "model": so_far.model,
                    "content": [], "stop_reason": null, "stop_sequence": null, "usage": usage(so_far.usage),
                });
                sse(
                    Some("message_start"),
                    &json!({ "type": "message_start", "message": message }),
                    out,
                );
            }
            Event::Text(text) => {
                self.open(Open::Text, &json!({ "type": "text", "text": "" }), out);
                self.delta(&json!({ "type": "text_delta", "text": text }), out);
            }
            Event::Thinking(text) => {
                let block = json!({ "type": "thinking", "thinking": "", "signature": "" });
                self.open(Open::Thinking, &block, out);
                self.delta(&json!({ "type": "thinking_delta", "thinking": text }), out);
            }
            Event::CallStart { index, .. } if self.calls == 0 => {
                if let Some((_, call)) = so_far.calls.last() {
                    self.call(*index, call, out);
                }
            }
            Event::CallArguments { .. } => self.rest_of_first(so_far, out),
            _ => {}
        }
    }

    fn finish(&mut self, answer: &Answer, out: &mut String) {
        self.close(out);
        for (index, call) in answer.calls.iter().skip(self.calls) {
            self.call(*index, call, out);
            self.delta(
                &json!({ "type": "input_json_delta", "partial_json": call.arguments }),
                out,
            );
            self.close(out);
        }
        let delta = json!({
            "type": "message_delta", "delta": { "stop_reason": reason(answer), "stop_sequence": null },
            "usage": usage(answer.usage),
        });
        sse(Some("message_delta"), &delta, out);
        sse(Some("message_stop"), &json!({ "type": "message_stop" }), out);
    }

    fn fail(&mut self, _: &Answer, message: &str, out: &mut String) {
        let error = json!({ "type": "error", "error": { "type": "api_error", "message": message } });
        sse(Some("error"), &error, out);
    }
}

fn reason(answer: &Answer) -> &'static str {
    match answer.reason {
        Some(Reason::Length) => "max_tokens",
        Some(Reason::Refusal) => "refusal",
        Some(Reason::Tools) => "tool_use",
        // Some providers say `stop` after calls.
        _ if !answer.calls.is_empty() => "tool_use",
        _ => "end_turn",
    }
}

fn usage(usage: Usage) -> Value {
    let cached = usage.cache_read.saturating_add(usage.cache_write);
    json!({
        "input_tokens": usage.input.saturating_sub(cached), "output_tokens": usage.output,
        "cache_read_input_tokens": usage.cache_read, "cache_creation_input_tokens": usage.cache_write,
    })
}

pub(super) fn whole(answer: &Answer) -> Value {
    let mut content = Vec::new();
    if !answer.thinking.is_empty() {
        // Signed by nobody that the caller could show it to: what was is kept here.
        content.push(json!({ "type": "thinking", "thinking": answer.thinking, "signature": "" }));
    }
    if !answer.text.is_empty() {
        content.push(json!({ "type": "text", "text": answer.text }));
    }
    for (_, call) in &answer.calls {
        let input = object(&call.arguments);
        content.push(json!({ "type": "tool_use", "id": call.id, "name": call.name, "input": input }));
    }
    json!({
        "id": id("msg_", &answer.id), "type": "message", "role": "assistant", "model": answer.model, "content": content,
        "stop_reason": reason(answer), "stop_sequence": null, "usage": usage(answer.usage),
    })
}
