//! `OpenAI` Responses.

use serde_json::{Value, json};

use super::super::model::{Answer, Call, Event, Reason, ToolKind, Usage, input_of, object};
use super::{Wire, created, id, sse};

/// An item that is being written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Open {
    Text,
    Thinking,
    Call,
}

/// Items follow one another; calls are written when they are whole, since only then it is known that none is interleaved.
#[derive(Default)]
pub(super) struct Stream {
    sequence: u64,
    open: Option<Open>,
    /// Where in the answer's text, or thinking, the open item begins.
    from: usize,
    output: Vec<Value>,
}

impl Stream {
    fn emit(&mut self, kind: &str, mut fields: Value, out: &mut String) {
        fields["type"] = json!(kind);
        fields["sequence_number"] = json!(self.sequence);
        self.sequence += 1;
        sse(Some(kind), &fields, out);
    }

    fn item_id(&self, open: Open, answer: &Answer) -> String {
        let prefix = match open {
            Open::Text => "msg_",
            Open::Thinking => "rs_",
            Open::Call => "fc_",
        };
        format!("{}_{}", id(prefix, &answer.id), self.output.len())
    }

    /// An event about the open item.
    fn about(&mut self, kind: &str, open: Open, answer: &Answer, mut fields: Value, out: &mut String) {
        fields["item_id"] = json!(self.item_id(open, answer));
        fields["output_index"] = json!(self.output.len());
        match open {
            Open::Text => fields["content_index"] = json!(0),
            Open::Thinking => fields["summary_index"] = json!(0),
            Open::Call => {}
        }
        self.emit(kind, fields, out);
    }

    fn open(&mut self, open: Open, answer: &Answer, from: usize, out: &mut String) {
        if self.open == Some(open) {
            return;
        }
        self.close(answer, out);
        (self.open, self.from) = (Some(open), from);
        let id = self.item_id(open, answer);
        let (item, kind, part) = match open {
            Open::Text => (
                json!({ "id": id, "type": "message", "status": "in_progress", "role": "assistant", "content": [] }),
                "response.content_part.added",
                text_part(""),
            ),
            _ => (
                json!({ "id": id, "type": "reasoning", "summary": [] }),
                "response.reasoning_summary_part.added",
                json!({ "type": "summary_text", "text": "" }),
            ),
        };
        let added = json!({ "output_index": self.output.len(), "item": item });
        self.emit("response.output_item.added", added, out);
        self.about(kind, open, answer, json!({ "part": part }), out);
    }

    fn close(&mut self, answer: &Answer, out: &mut String) {
        let Some(open) = self.open.take() else { return };
        let whole = if open == Open::Text {
            &answer.text
        } else {
            &answer.thinking
        };
        let text = whole.get(self.from..).unwrap_or_default();
        let (done, part_done, part) = match open {
            Open::Text => (
                "response.output_text.done",
                "response.content_part.done",
                text_part(text),
            ),
            _ => (
                "response.reasoning_summary_text.done",
                "response.reasoning_summary_part.done",
                json!({ "type": "summary_text", "text": text }),
            ),
        };
        self.about(done, open, answer, json!({ "text": text }), out);
        self.about(part_done, open, answer, json!({ "part": part }), out);
        let id = self.item_id(open, answer);
        let item = if open == Open::Text {
            message(&id, text)
        } else {
            reasoning(&id, text)
        };
        self.done(item, out);
    }

    fn done(&mut self, item: Value, out: &mut String) {
        let index = self.output.len();
        let fields = json!({ "output_index": index, "item": &item });
        self.output.push(item);
        self.emit("response.output_item.done", fields, out);
    }

    fn call(&mut self, answer: &Answer, call: &Call, out: &mut String) {
        let id = self.item_id(Open::Call, answer);
        let whole = call_item(&id, call);
        let mut item = whole.clone();
        item["status"] = json!("in_progress");
        let (field, kind) = match call.kind {
            ToolKind::Function => ("arguments", "response.function_call_arguments"),
            ToolKind::Custom => ("input", "response.custom_tool_call_input"),
            ToolKind::LocalShell => ("", ""),
        };
        let text = item
            .get_mut(field)
            .map(|field| std::mem::replace(field, json!("")));
        let added = json!({ "output_index": self.output.len(), "item": item });
        self.emit("response.output_item.added", added, out);
        if let Some(text) = text {
            let delta = json!({ "delta": text });
            self.about(&format!("{kind}.delta"), Open::Call, answer, delta, out);
            let mut done = json!({});
            done[field] = text;
            self.about(&format!("{kind}.done"), Open::Call, answer, done, out);
        }
        self.done(whole, out);
    }
}

impl Wire for Stream {
    fn event(&mut self, event: &Event, so_far: &Answer, out: &mut String) {
        match event {
            Event::Start { .. } => {
                for kind in ["response.created", "response.in_progress"] {
                    self.emit(
                        kind,
                        json!({ "response": response(so_far, "in_progress", &[]) }),
                        out,
                    );
                }
            }
            Event::Text(text) => {
                self.open(Open::Text, so_far, so_far.text.len() - text.len(), out);
                let delta = json!({ "delta": text });
                self.about("response.output_text.delta", Open::Text, so_far, delta, out);
            }
            Event::Thinking(text) => {
                self.open(Open::Thinking, so_far, so_far.thinking.len() - text.len(), out);
                let delta = json!({ "delta": text });
                self.about(
                    "response.reasoning_summary_text.delta",
                    Open::Thinking,
                    so_far,
                    delta,
                    out,
                );
            }
            _ => {}
        }
    }

    fn finish(&mut self, answer: &Answer, out: &mut String) {
        self.close(answer, out);
        for (_, call) in &answer.calls {
            self.call(answer, call, out);
        }
        let status = status(answer);
        let response = response(answer, status, &self.output);
        self.emit(
            &format!("response.{status}"),
            json!({ "response": response }),
            out,
        );
    }

    fn fail(&mut self, answer: &Answer, message: &str, out: &mut String) {
        self.close(answer, out);
        let mut response = response(answer, "failed", &self.output);
        response["error"] = json!({ "code": "server_error", "message": message });
        self.emit("response.failed", json!({ "response": response }), out);
    }
}

fn status(answer: &Answer) -> &'static str {
    match answer.reason {
        Some(Reason::Length | Reason::Refusal) => "incomplete",
        _ => "completed",
    }
}

fn text_part(text: &str) -> Value {
    json!({ "type": "output_text", "text": text, "annotations": [] })
}

fn message(id: &str, text: &str) -> Value {
    json!({ "id": id, "type": "message", "status": "completed", "role": "assistant", "content": [text_part(text)] })
}

fn reasoning(id: &str, text: &str) -> Value {
    json!({ "id": id, "type": "reasoning", "summary": [{ "type": "summary_text", "text": text }] })
}

/// A call as the item of the tool that the caller knows.
fn call_item(id: &str, call: &Call) -> Value {
    let mut item = json!({ "id": id, "status": "completed", "call_id": call.id });
    match call.kind {
        ToolKind::Function => {
            item["type"] = json!("function_call");
            item["name"] = json!(call.name);
            item["arguments"] = json!(call.arguments);
        }
        ToolKind::Custom => {
            item["type"] = json!("custom_tool_call");
            item["name"] = json!(call.name);
            item["input"] = json!(input_of(&call.arguments));
        }
        ToolKind::LocalShell => {
            let mut action = object(&call.arguments);
            action["type"] = json!("exec");
            if !action["command"].is_array() {
                // Some models write it as one line.
                let line = action["command"].as_str().unwrap_or_default();
                action["command"] = json!(["bash", "-lc", line]);
            }
            if !action["env"].is_object() {
                action["env"] = json!({});
            }
            item["type"] = json!("local_shell_call");
            item["action"] = action;
        }
    }
    if let Some(namespace) = &call.namespace {
        item["namespace"] = json!(namespace);
    }
    item
}

fn response(answer: &Answer, status: &str, output: &[Value]) -> Value {
    let details = match answer.reason {
        Some(Reason::Length) if status == "incomplete" => json!({ "reason": "max_output_tokens" }),
        Some(Reason::Refusal) if status == "incomplete" => json!({ "reason": "content_filter" }),
        _ => Value::Null,
    };
    let usage = if status == "in_progress" {
        Value::Null
    } else {
        usage(answer.usage)
    };
    json!({
        "id": id("resp_", &answer.id), "object": "response", "created_at": created(), "status": status,
        "model": answer.model, "output": output, "error": null, "incomplete_details": details,
        "parallel_tool_calls": true, "tools": [], "usage": usage, "metadata": {},
    })
}

fn usage(usage: Usage) -> Value {
    json!({
        "input_tokens": usage.input, "output_tokens": usage.output,
        "total_tokens": usage.input.saturating_add(usage.output),
        "input_tokens_details": { "cached_tokens": usage.cache_read },
        "output_tokens_details": { "reasoning_tokens": usage.reasoning },
    })
}

pub(super) fn whole(answer: &Answer) -> Value {
    let mut output: Vec<Value> = Vec::new();
    let name = |prefix: &str, at: usize| format!("{}_{at}", id(prefix, &answer.id));
    if !answer.thinking.is_empty() {
        output.push(reasoning(&name("rs_", output.len()), &answer.thinking));
    }
    if !answer.text.is_empty() {
        output.push(message(&name("msg_", output.len()), &answer.text));
    }
    for (_, call) in &answer.calls {
        output.push(call_item(&name("fc_", output.len()), call));
    }
    response(answer, status(answer), &output)
}
