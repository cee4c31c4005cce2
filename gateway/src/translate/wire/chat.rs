//! `OpenAI` Chat Completions.

use serde_json::{Value, json};

use super::super::model::{Answer, Call, Event, Reason, ToolKind, Usage, input_of};
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
            // One that takes text is known when it is whole.
            Event::CallStart { call, .. } if call.kind == ToolKind::Custom => {}
            Event::CallStart { index, call } => {
                let mut call = written(call);
                call["index"] = json!(self.calls.len());
                self.calls.push(*index);
                delta(so_far, &json!({ "tool_calls": [call] }), out);
            }
            Event::CallArguments { index, json } => {
                let Some(own) = self.calls.iter().rposition(|call| call == index) else {
                    return;
                };
                let call = json!({ "index": own, "function": { "arguments": json } });
                delta(so_far, &json!({ "tool_calls": [call] }), out);
            }
            _ => {}
        }
    }

    fn finish(&mut self, answer: &Answer, out: &mut String) {
        for (_, call) in answer
            .calls
            .iter()
            .filter(|(_, call)| call.kind == ToolKind::Custom)
        {
            let mut call = written(call);
            call["index"] = json!(self.calls.len());
            self.calls.push(u64::MAX);
            delta(answer, &json!({ "tool_calls": [call] }), out);
        }
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

fn written(call: &Call) -> Value {
    if call.kind == ToolKind::Custom {
        let custom = json!({ "name": call.name, "input": input_of(&call.arguments) });
        return json!({ "id": call.id, "type": "custom", "custom": custom });
    }
    let function = json!({ "name": call.name, "arguments": call.arguments });
    json!({ "id": call.id, "type": "function", "function": function })
}

fn reason(answer: &Answer) -> &'static str {
    match answer.reason {
        Some(Reason::Length) => "length",
        Some(Reason::Refusal) => "content_filter",
        Some(Reason::Tools) => "tool_calls",
        // Some providers say `stop` after calls.
        _ if !answer.calls.is_empty() => "tool_calls",
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
        message["tool_calls"] = answer.calls.iter().map(|(_, call)| written(call)).collect();
    }
    json!({
        "id": id("chatcmpl-", &answer.id), "object": "chat.completion", "created": created(), "model": answer.model,
        "choices": [{ "index": 0, "message": message, "finish_reason": reason(answer) }],
        "usage": usage(answer.usage),
    })
}
