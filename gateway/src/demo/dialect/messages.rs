//! Anthropic Messages.

use serde_json::{Value, json};

use super::super::ids::IdSeed;
use super::super::neutral::{Neutral, Role, Turn, text_of};
use super::super::plan::{Item, Plan, Stop, Usage};
use super::{MIDSTREAM_ERROR, Wire};

/// Base64 of "scripted-signature".
const SIGNATURE: &str = "c2NyaXB0ZWQtc2lnbmF0dXJl";

/// Above what the user says in the middle of a turn: Claude Code sends it as a message of the system.
const MID_TURN: &str = "The user sent a new message while you were working:\n";

pub(super) fn neutral(body: &Value) -> Neutral {
    let mut request = Neutral {
        system: text_of(body.get("system")),
        ..Neutral::default()
    };
    for message in body["messages"].as_array().into_iter().flatten() {
        let role = Role::parse(message["role"].as_str());
        match &message["content"] {
            Value::Array(parts) if role == Role::User => user_turns(parts, &mut request.turns),
            content => request.turns.push(said(Turn::of(role, Some(content)))),
        }
    }
    for tool in body["tools"].as_array().into_iter().flatten() {
        if let Some(name) = tool["name"].as_str() {
            request
                .tools
                .insert(name.to_owned(), tool["input_schema"].clone());
        }
    }
    request
}

fn said(turn: Turn) -> Turn {
    match turn.text.strip_prefix(MID_TURN) {
        Some(text) if turn.role == Role::Other => Turn {
            role: Role::User,
            text: text.to_owned(),
            ..turn
        },
        _ => turn,
    }
}

/// Results of tools come in the user's message; what is beside them is the user speaking.
fn user_turns(parts: &[Value], turns: &mut Vec<Turn>) {
    let (results, rest): (Vec<_>, Vec<_>) = parts.iter().partition(|part| part["type"] == "tool_result");
    turns.extend(
        results
            .into_iter()
            .map(|part| Turn::of(Role::Tool, part.get("content"))),
    );
    if !rest.is_empty() {
        let rest = Value::Array(rest.into_iter().cloned().collect());
        turns.push(Turn::of(Role::User, Some(&rest)));
    }
}

fn stop_reason(stop: Stop) -> &'static str {
    match stop {
        Stop::End => "end_turn",
        Stop::Tool => "tool_use",
        Stop::Length => "max_tokens",
        Stop::Refusal => "refusal",
    }
}

/// Cached tokens are not part of the input count in this dialect.
fn usage(usage: Usage, output: u64) -> Value {
    json!({
        "input_tokens": usage.input.saturating_sub(usage.cached),
        "output_tokens": output,
        "cache_read_input_tokens": usage.cached,
        "cache_creation_input_tokens": 0,
    })
}

fn tool_use_id(id: &str) -> String {
    id.replace("call_", "toolu_")
}

pub(super) fn full(model: &str, seed: IdSeed, plan: &Plan) -> Value {
    let block = |item: &Item| match item {
        Item::Text(_) => json!({ "type": "text", "text": item.full() }),
        Item::Think(_) => json!({ "type": "thinking", "thinking": item.full(), "signature": SIGNATURE }),
        Item::Tool { name, args, id } => {
            // Without a stream the dialect has no way to carry arguments that are not JSON.
            let input = serde_json::from_str(args).unwrap_or_else(|_| json!({}));
            json!({ "type": "tool_use", "id": tool_use_id(id), "name": name, "input": input })
        }
    };
    json!({
        "id": seed.id("msg_", 0), "type": "message", "role": "assistant", "model": model,
        "content": plan.items.iter().map(block).collect::<Vec<_>>(),
        "stop_reason": stop_reason(plan.stop), "stop_sequence": null,
        "usage": usage(plan.usage, plan.usage.output),
    })
}

pub(super) struct Stream {
    id: String,
    model: String,
    usage: Usage,
    index: usize,
}

impl Stream {
    pub(super) fn new(model: String, seed: IdSeed, usage: Usage) -> Self {
        Self {
            id: seed.id("msg_", 0),
            model,
            usage,
            index: 0,
        }
    }

    fn block_delta(&self, delta: &Value, out: &mut String) {
        event(
            &json!({ "type": "content_block_delta", "index": self.index, "delta": delta }),
            out,
        );
    }
}

fn event(value: &Value, out: &mut String) {
    let kind = value["type"].as_str().unwrap_or_default();
    out.push_str("event: ");
    out.push_str(kind);
    out.push_str("\ndata: ");
    out.push_str(&value.to_string());
    out.push_str("\n\n");
}

impl Wire for Stream {
    fn begin(&mut self, out: &mut String) {
        let message = json!({
            "id": self.id, "type": "message", "role": "assistant", "model": self.model, "content": [],
            "stop_reason": null, "stop_sequence": null, "usage": usage(self.usage, 1),
        });
        event(&json!({ "type": "message_start", "message": message }), out);
        event(&json!({ "type": "ping" }), out);
    }

    fn open(&mut self, item: &Item, out: &mut String) {
        let block = match item {
            Item::Text(_) => json!({ "type": "text", "text": "" }),
            Item::Think(_) => json!({ "type": "thinking", "thinking": "", "signature": "" }),
            Item::Tool { name, id, .. } => {
                json!({ "type": "tool_use", "id": tool_use_id(id), "name": name, "input": {} })
            }
        };
        event(
            &json!({ "type": "content_block_start", "index": self.index, "content_block": block }),
            out,
        );
    }

    fn delta(&mut self, item: &Item, text: &str, out: &mut String) {
        let delta = match item {
            Item::Text(_) => json!({ "type": "text_delta", "text": text }),
            Item::Think(_) => json!({ "type": "thinking_delta", "thinking": text }),
            Item::Tool { .. } => json!({ "type": "input_json_delta", "partial_json": text }),
        };
        self.block_delta(&delta, out);
    }

    fn close(&mut self, item: &Item, out: &mut String) {
        if matches!(item, Item::Think(_)) {
            self.block_delta(&json!({ "type": "signature_delta", "signature": SIGNATURE }), out);
        }
        event(&json!({ "type": "content_block_stop", "index": self.index }), out);
        self.index += 1;
    }

    fn fail(&mut self, _item: &Item, out: &mut String) {
        let error = json!({ "type": "overloaded_error", "message": MIDSTREAM_ERROR });
        event(&json!({ "type": "error", "error": error }), out);
    }

    fn finish(&mut self, plan: &Plan, out: &mut String) {
        let delta = json!({ "stop_reason": stop_reason(plan.stop), "stop_sequence": null });
        let usage = usage(plan.usage, plan.usage.output);
        event(
            &json!({ "type": "message_delta", "delta": delta, "usage": usage }),
            out,
        );
        event(&json!({ "type": "message_stop" }), out);
    }
}
