//! Gemini `generateContent`.

use serde_json::{Value, json};

use super::super::model::{Answer, Event, Reason, Usage, object};
use super::Wire;

/// Calls are whole here, so they are written at the end.
pub(super) struct Stream {
    /// One JSON array instead of events; whether its first element was written.
    array: Option<bool>,
}

impl Stream {
    pub(super) fn new(array: bool) -> Self {
        Self {
            array: array.then_some(false),
        }
    }

    fn write(&mut self, value: &Value, out: &mut String) {
        let before = self.array.as_mut().map(|began| std::mem::replace(began, true));
        let start = match before {
            None => "data: ",
            Some(true) => ",\r\n",
            Some(false) => "[",
        };
        out.push_str(start);
        // The vendor's own client takes these two for the end of a line.
        let text = value.to_string();
        out.push_str(&text.replace('\u{2028}', "\\u2028").replace('\u{2029}', "\\u2029"));
        if self.array.is_none() {
            out.push_str("\r\n\r\n");
        }
    }

    fn end(&self, out: &mut String) {
        match self.array {
            Some(true) => out.push(']'),
            Some(false) => out.push_str("[]"),
            None => {}
        }
    }
}

impl Wire for Stream {
    fn event(&mut self, event: &Event, so_far: &Answer, out: &mut String) {
        let part = match event {
            Event::Text(text) => json!({ "text": text }),
            Event::Thinking(text) => json!({ "text": text, "thought": true }),
            _ => return,
        };
        let candidates = json!([{ "content": { "role": "model", "parts": [part] }, "index": 0 }]);
        self.write(&response(so_far, &candidates), out);
    }

    fn finish(&mut self, answer: &Answer, out: &mut String) {
        self.write(&last(answer, calls(answer)), out);
        self.end(out);
    }

    fn fail(&mut self, _: &Answer, message: &str, out: &mut String) {
        self.write(
            &json!({ "error": { "code": 502, "message": message, "status": "UNAVAILABLE" } }),
            out,
        );
        self.end(out);
    }
}

fn response(answer: &Answer, candidates: &Value) -> Value {
    json!({ "candidates": candidates, "modelVersion": answer.model, "responseId": answer.id })
}

fn calls(answer: &Answer) -> Vec<Value> {
    answer
        .calls
        .iter()
        .map(|(_, call)| {
            json!({ "functionCall": { "id": call.id, "name": call.name, "args": object(&call.arguments) } })
        })
        .collect()
}

/// With the reason and the usage.
fn last(answer: &Answer, mut parts: Vec<Value>) -> Value {
    if parts.is_empty() {
        parts.push(json!({ "text": "" }));
    }
    let reason = match answer.reason {
        Some(Reason::Length) => "MAX_TOKENS",
        Some(Reason::Refusal) => "SAFETY",
        _ => "STOP",
    };
    let candidates =
        json!([{ "content": { "role": "model", "parts": parts }, "finishReason": reason, "index": 0 }]);
    let mut response = response(answer, &candidates);
    response["usageMetadata"] = usage(answer.usage);
    response
}

fn usage(usage: Usage) -> Value {
    json!({
        "promptTokenCount": usage.input, "candidatesTokenCount": usage.output.saturating_sub(usage.reasoning),
        "thoughtsTokenCount": usage.reasoning, "cachedContentTokenCount": usage.cache_read,
        "totalTokenCount": usage.input.saturating_add(usage.output),
    })
}

pub(super) fn whole(answer: &Answer) -> Value {
    let mut parts = Vec::new();
    if !answer.thinking.is_empty() {
        parts.push(json!({ "text": answer.thinking, "thought": true }));
    }
    if !answer.text.is_empty() {
        parts.push(json!({ "text": answer.text }));
    }
    parts.extend(calls(answer));
    last(answer, parts)
}
