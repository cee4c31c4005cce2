//! OpenAI Chat Completions.

use serde_json::{Value, json};

use super::super::ids::IdSeed;
use super::super::neutral::{Neutral, Role, Turn, text_of};
use super::super::plan::{Item, Plan, Stop, Usage};
use super::super::{CONTEXT_WINDOW, MAX_OUTPUT, MODEL, MODEL_NAME};
use super::{CREATED, MIDSTREAM_ERROR, Wire};

pub(super) fn neutral(body: &Value) -> Neutral {
    let mut request = Neutral::default();
    for message in body["messages"].as_array().into_iter().flatten() {
        let content = message.get("content");
        match message["role"].as_str() {
            Some("system" | "developer") => {
                request.system.push_str(&text_of(content));
                request.system.push('\n');
            }
            role => request.turns.push(Turn::of(Role::parse(role), content)),
        }
    }
    for tool in body["tools"].as_array().into_iter().flatten() {
        let function = tool.get("function").unwrap_or(tool);
        if let Some(name) = function["name"].as_str() {
            request
                .tools
                .insert(name.to_owned(), function["parameters"].clone());
        }
    }
    request
}

fn usage(usage: Usage) -> Value {
    json!({
        "prompt_tokens": usage.input,
        "completion_tokens": usage.output,
        "total_tokens": usage.input.saturating_add(usage.output),
        "prompt_tokens_details": { "cached_tokens": usage.cached },
    })
}

fn finish_reason(stop: Stop) -> &'static str {
    match stop {
        Stop::End => "stop",
        Stop::Tool => "tool_calls",
        Stop::Length => "length",
        Stop::Refusal => "content_filter",
    }
}

pub(super) fn full(model: &str, seed: IdSeed, plan: &Plan) -> Value {
    let mut message = json!({ "role": "assistant", "content": null });
    let mut text = String::new();
    let mut calls = Vec::new();
    for item in &plan.items {
        match item {
            Item::Text(_) => {
                text.push_str(&item.full());
                message["content"] = json!(text);
            }
            Item::Think(_) => message["reasoning_content"] = json!(item.full()),
            Item::Tool { name, args, id } => calls.push(json!({
                "id": id, "type": "function", "function": { "name": name, "arguments": args },
            })),
        }
    }
    if !calls.is_empty() {
        message["tool_calls"] = json!(calls);
    }
    json!({
        "id": seed.id("chatcmpl-", 0), "object": "chat.completion", "created": CREATED, "model": model,
        "choices": [{ "index": 0, "message": message, "finish_reason": finish_reason(plan.stop) }],
        "usage": usage(plan.usage),
    })
}

/// Shaped so that clients of OpenAI and of Anthropic can both read it.
pub(super) fn models(one: bool) -> Value {
    let model = json!({
        "id": MODEL, "object": "model", "created": CREATED, "owned_by": "lodge", "type": "model",
        "display_name": MODEL_NAME, "created_at": "2023-11-14T22:13:20Z",
        "context_window": CONTEXT_WINDOW, "max_output_tokens": MAX_OUTPUT,
    });
    if one {
        return model;
    }
    json!({ "object": "list", "data": [model], "has_more": false, "first_id": MODEL, "last_id": MODEL })
}

pub(super) struct Stream {
    id: String,
    model: String,
    calls: usize,
}

impl Stream {
    pub(super) fn new(model: String, seed: IdSeed) -> Self {
        Self {
            id: seed.id("chatcmpl-", 0),
            model,
            calls: 0,
        }
    }

    fn chunk(&self, fields: &Value, out: &mut String) {
        let mut chunk = json!({
            "id": self.id, "object": "chat.completion.chunk", "created": CREATED, "model": self.model,
        });
        for (key, value) in fields.as_object().into_iter().flatten() {
            chunk[key] = value.clone();
        }
        data(&chunk, out);
    }

    fn delta_chunk(&self, delta: &Value, finish: Option<&str>, out: &mut String) {
        self.chunk(
            &json!({ "choices": [{ "index": 0, "delta": delta, "finish_reason": finish }] }),
            out,
        );
    }
}

fn data(value: &Value, out: &mut String) {
    out.push_str("data: ");
    out.push_str(&value.to_string());
    out.push_str("\n\n");
}

impl Wire for Stream {
    fn begin(&mut self, out: &mut String) {
        self.delta_chunk(&json!({ "role": "assistant", "content": "" }), None, out);
    }

    fn open(&mut self, item: &Item, out: &mut String) {
        if let Item::Tool { name, id, .. } = item {
            let function = json!({ "name": name, "arguments": "" });
            let call = json!({ "index": self.calls, "id": id, "type": "function", "function": function });
            self.delta_chunk(&json!({ "tool_calls": [call] }), None, out);
        }
    }

    fn delta(&mut self, item: &Item, text: &str, out: &mut String) {
        let delta = match item {
            Item::Text(_) => json!({ "content": text }),
            Item::Think(_) => json!({ "reasoning_content": text }),
            Item::Tool { .. } => {
                json!({ "tool_calls": [{ "index": self.calls, "function": { "arguments": text } }] })
            }
        };
        self.delta_chunk(&delta, None, out);
    }

    fn close(&mut self, item: &Item, _out: &mut String) {
        self.calls += usize::from(matches!(item, Item::Tool { .. }));
    }

    fn fail(&mut self, _item: &Item, out: &mut String) {
        let error = json!({ "message": MIDSTREAM_ERROR, "type": "server_error", "code": 500 });
        data(&json!({ "error": error }), out);
    }

    fn finish(&mut self, plan: &Plan, out: &mut String) {
        self.delta_chunk(&json!({}), Some(finish_reason(plan.stop)), out);
        self.chunk(&json!({ "choices": [], "usage": usage(plan.usage) }), out);
        out.push_str("data: [DONE]\n\n");
    }
}
