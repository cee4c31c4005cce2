//! `OpenAI` Chat Completions.

use serde_json::{Value, json};

use super::super::model::{Answer, Event, Reason, Usage};
use super::{Wire, created, id, sse};

pub(super) struct Stream {
    usage: bool,
    /// The provider's index of each call that was begun.
    calls: Vec<u64>,
}

impl Stream {
    pub(super) fn new(usage: bool) -> Self {
        Self {
            usage,
            calls: Vec::new(),
        }
    }
}

fn chunk(answer: &Answer, choices: &Value) -> Value {
    json!({
        "id": id("chatcmpl-", &answer.id), "object": "chat.completion.chunk", "created": created(),
        "model": answer.model, "choices": choices,
    })
}

fn delta(answer: &Answer, delta: &Value, out: &mut String) {
    let choices = json!([{ "index": 0, "delta": delta, "finish_reason": null }]);
    sse(None, &chunk(answer, &choices), out);
}

impl Wire for Stream {
    fn event(&mut self, event: &Event, so_far: &Answer, out: &mut String) {
        match event {
            Event::Start { .. } => delta(so_far, &json!({ "role": "assistant", "content": "" }), out),
            Event::Text(text) => delta(so_far, &json!({ "content": text }), out),
            Event::Thinking(text) => delta(so_far, &json!({ "reasoning_content": text }), out),
            Event::CallStart { index, id, name } => {
                let call = json!({
                    "index": self.calls.len(), "id": id, "type": "function",
                    "function": { "name": name, "arguments": "" },
                });
                self.calls.push(*index);
                delta(so_far, &json!({ "tool_calls": [call] }), out);
            }
            Event::CallArguments { index, json } => {
                let own = self.calls.iter().rposition(|call| call == index).unwrap_or(0);
                let call = json!({ "index": own, "function": { "arguments": json } });
                delta(so_far, &json!({ "tool_calls": [call] }), out);
            }
            _ => {}
        }
    }

    fn finish(&mut self, answer: &Answer, out: &mut String) {
        let choices = json!([{ "index": 0, "delta": {}, "finish_reason": reason(answer) }]);
        sse(None, &chunk(answer, &choices), out);
        if self.usage {
            let mut last = chunk(answer, &json!([]));
            last["usage"] = usage(answer.usage);
            sse(None, &last, out);
        }
        out.push_str("data: [DONE]\n\n");
    }

    fn fail(&mut self, _: &Answer, message: &str, out: &mut String) {
        sse(
            None,
            &json!({ "error": { "message": message, "type": "api_error", "code": null } }),
            out,
        );
    }
}

fn reason(answer: &Answer) -> &'static str {
    match answer.reason {
        Some(Reason::Length) => "length",
        Some(Reason::Refusal) => "content_filter",
        Some(Reason::Tools) => "tool_calls",
        _ => "stop",
    }
}

fn usage(usage: Usage) -> Value {
    json!({
        "prompt_tokens": usage.input, "completion_tokens": usage.output,
        "total_tokens": usage.input.saturating_add(usage.output),
        "prompt_tokens_details": { "cached_tokens": usage.cache_read },
        "completion_tokens_details": { "reasoning_tokens": usage.reasoning },
    })
}

pub(super) fn whole(answer: &Answer) -> Value {
    let mut message = json!({ "role": "assistant", "content": answer.text });
    if !answer.thinking.is_empty() {
        message["reasoning_content"] = json!(answer.thinking);
    }
    if !answer.calls.is_empty() {
        let call = |(_, call): &(u64, super::super::model::Call)| json!({ "id": call.id, "type": "function", "function": { "name": call.name, "arguments": call.arguments } });
        message["tool_calls"] = answer.calls.iter().map(call).collect();
    }
    json!({
        "id": id("chatcmpl-", &answer.id), "object": "chat.completion", "created": created(), "model": answer.model,
        "choices": [{ "index": 0, "message": message, "finish_reason": reason(answer) }],
        "usage": usage(answer.usage),
    })
}
