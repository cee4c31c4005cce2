//! OpenAI Responses.

use serde_json::{Value, json};

use super::super::ids::IdSeed;
use super::super::neutral::{Neutral, Role, Turn, text_of};
use super::super::plan::{Item, Plan, Stop, Usage};
use super::{CREATED, MIDSTREAM_ERROR, Wire};

/// Base64 of "scripted".
const ENCRYPTED: &str = "c2NyaXB0ZWQ=";

pub(super) fn neutral(body: &Value) -> Neutral {
    let mut request = Neutral {
        system: body["instructions"].as_str().unwrap_or_default().to_owned(),
        ..Neutral::default()
    };
    match &body["input"] {
        input @ Value::String(_) => request.turns.push(Turn::of(Role::User, Some(input))),
        Value::Array(items) => items.iter().for_each(|item| read_item(item, &mut request)),
        _ => {}
    }
    for tool in body["tools"].as_array().into_iter().flatten() {
        let kind = tool["type"].as_str();
        if let Some(name) = tool["name"].as_str().or(kind) {
            let is_function = kind == Some("function");
            let schema = if is_function {
                tool["parameters"].clone()
            } else {
                json!({ "_type": kind })
            };
            request.tools.insert(name.to_owned(), schema);
        }
    }
    request
}

fn read_item(item: &Value, request: &mut Neutral) {
    let kind = item["type"].as_str().unwrap_or("message");
    if kind == "message" {
        let content = item.get("content");
        match item["role"].as_str() {
            Some("system" | "developer") => {
                request.system.push_str(&text_of(content));
                request.system.push('\n');
            }
            role => request.turns.push(Turn::of(Role::parse(role), content)),
        }
    } else if kind.ends_with("call_output") {
        let mut turn = Turn::of(Role::Tool, item.get("output"));
        if turn.text.is_empty() && !item["output"].is_string() {
            turn.text = item["output"].to_string();
        }
        request.turns.push(turn);
    } else if kind.ends_with("_call") {
        request.turns.push(Turn {
            role: Role::Assistant,
            text: String::new(),
            images: Vec::new(),
        });
    }
}

fn usage(usage: Usage) -> Value {
    json!({
        "input_tokens": usage.input,
        "output_tokens": usage.output,
        "total_tokens": usage.input.saturating_add(usage.output),
        "input_tokens_details": { "cached_tokens": usage.cached },
        "output_tokens_details": { "reasoning_tokens": 0 },
    })
}

fn text_part(text: &str) -> Value {
    json!({ "type": "output_text", "text": text, "annotations": [] })
}

/// An output item as it is when complete.
fn item_done(id: &str, item: &Item) -> Value {
    match item {
        Item::Text(_) => json!({
            "id": id, "type": "message", "status": "completed", "role": "assistant",
            "content": [text_part(&item.full())],
        }),
        Item::Think(_) => json!({
            "id": id, "type": "reasoning", "summary": [{ "type": "summary_text", "text": item.full() }],
            "encrypted_content": ENCRYPTED,
        }),
        Item::Tool { name, args, id: call } => json!({
            "id": id, "type": "function_call", "status": "completed", "call_id": call, "name": name,
            "arguments": args,
        }),
    }
}

fn item_id(seed: IdSeed, index: usize, item: &Item) -> String {
    let prefix = match item {
        Item::Text(_) => "msg_",
        Item::Think(_) => "rs_",
        Item::Tool { .. } => "fc_",
    };
    seed.id(prefix, index)
}

fn response(model: &str, seed: IdSeed) -> Value {
    json!({
        "id": seed.id("resp_", 0), "object": "response", "created_at": CREATED, "status": "in_progress",
        "model": model, "output": [], "error": null, "incomplete_details": null,
        "parallel_tool_calls": true, "tools": [], "usage": null, "metadata": {},
    })
}

fn complete(mut response: Value, output: Vec<Value>, plan: &Plan) -> Value {
    let cut = plan.stop == Stop::Length;
    response["status"] = json!(if cut { "incomplete" } else { "completed" });
    if cut {
        response["incomplete_details"] = json!({ "reason": "max_output_tokens" });
    }
    response["output"] = Value::Array(output);
    response["usage"] = usage(plan.usage);
    response
}

pub(super) fn full(model: &str, seed: IdSeed, plan: &Plan) -> Value {
    let done = |(index, item)| item_done(&item_id(seed, index, item), item);
    complete(
        response(model, seed),
        plan.items.iter().enumerate().map(done).collect(),
        plan,
    )
}

pub(super) struct Stream {
    seed: IdSeed,
    model: String,
    sequence: u64,
    output: Vec<Value>,
}

impl Stream {
    pub(super) fn new(model: String, seed: IdSeed) -> Self {
        Self {
            seed,
            model,
            sequence: 0,
            output: Vec::new(),
        }
    }

    fn event(&mut self, kind: &str, mut fields: Value, out: &mut String) {
        fields["type"] = json!(kind);
        fields["sequence_number"] = json!(self.sequence);
        self.sequence += 1;
        out.push_str("event: ");
        out.push_str(kind);
        out.push_str("\ndata: ");
        out.push_str(&fields.to_string());
        out.push_str("\n\n");
    }

    /// An event about the current item.
    fn item_event(&mut self, kind: &str, item: &Item, fields: Value, out: &mut String) {
        let index = self.output.len();
        let mut fields = fields;
        fields["item_id"] = json!(item_id(self.seed, index, item));
        fields["output_index"] = json!(index);
        match item {
            Item::Text(_) => fields["content_index"] = json!(0),
            Item::Think(_) => fields["summary_index"] = json!(0),
            Item::Tool { .. } => {}
        }
        self.event(kind, fields, out);
    }
}

impl Wire for Stream {
    fn begin(&mut self, out: &mut String) {
        for kind in ["response.created", "response.in_progress"] {
            let response = response(&self.model, self.seed);
            self.event(kind, json!({ "response": response }), out);
        }
    }

    fn open(&mut self, item: &Item, out: &mut String) {
        let index = self.output.len();
        let id = item_id(self.seed, index, item);
        let added = match item {
            Item::Text(_) => {
                json!({ "id": id, "type": "message", "status": "in_progress", "role": "assistant", "content": [] })
            }
            Item::Think(_) => json!({ "id": id, "type": "reasoning", "summary": [] }),
            Item::Tool { name, id: call, .. } => json!({
                "id": id, "type": "function_call", "status": "in_progress", "call_id": call, "name": name,
                "arguments": "",
            }),
        };
        self.event(
            "response.output_item.added",
            json!({ "output_index": index, "item": added }),
            out,
        );
        match item {
            Item::Text(_) => {
                self.item_event(
                    "response.content_part.added",
                    item,
                    json!({ "part": text_part("") }),
                    out,
                );
            }
            Item::Think(_) => {
                let part = json!({ "part": { "type": "summary_text", "text": "" } });
                self.item_event("response.reasoning_summary_part.added", item, part, out);
            }
            Item::Tool { .. } => {}
        }
    }

    fn delta(&mut self, item: &Item, text: &str, out: &mut String) {
        let kind = match item {
            Item::Text(_) => "response.output_text.delta",
            Item::Think(_) => "response.reasoning_summary_text.delta",
            Item::Tool { .. } => "response.function_call_arguments.delta",
        };
        self.item_event(kind, item, json!({ "delta": text }), out);
    }

    fn close(&mut self, item: &Item, out: &mut String) {
        let full = item.full();
        match item {
            Item::Text(_) => {
                self.item_event("response.output_text.done", item, json!({ "text": full }), out);
                self.item_event(
                    "response.content_part.done",
                    item,
                    json!({ "part": text_part(&full) }),
                    out,
                );
            }
            Item::Think(_) => {
                let kind = "response.reasoning_summary_text.done";
                self.item_event(kind, item, json!({ "text": full }), out);
                let part = json!({ "part": { "type": "summary_text", "text": full } });
                self.item_event("response.reasoning_summary_part.done", item, part, out);
            }
            Item::Tool { .. } => {
                let kind = "response.function_call_arguments.done";
                self.item_event(kind, item, json!({ "arguments": full }), out);
            }
        }
        let index = self.output.len();
        let done = item_done(&item_id(self.seed, index, item), item);
        self.output.push(done.clone());
        self.event(
            "response.output_item.done",
            json!({ "output_index": index, "item": done }),
            out,
        );
    }

    fn fail(&mut self, item: &Item, out: &mut String) {
        self.close(item, out);
        let mut response = response(&self.model, self.seed);
        response["status"] = json!("failed");
        response["output"] = Value::Array(std::mem::take(&mut self.output));
        response["error"] = json!({ "code": "server_error", "message": MIDSTREAM_ERROR });
        self.event("response.failed", json!({ "response": response }), out);
    }

    fn finish(&mut self, plan: &Plan, out: &mut String) {
        let output = std::mem::take(&mut self.output);
        let done = complete(response(&self.model, self.seed), output, plan);
        let kind = format!("response.{}", done["status"].as_str().unwrap_or("completed"));
        self.event(&kind, json!({ "response": done }), out);
    }
}
