//! pi's lines.

use serde_json::{Value, json};
use std::io::{BufWriter, Stdout, Write as _};

/// Tokens that every call claims to have read.
const INPUT_TOKENS: u64 = 10;

#[derive(Debug)]
pub(crate) struct Wire(BufWriter<Stdout>);

impl Wire {
    pub(crate) fn new() -> Self {
        Self(BufWriter::with_capacity(64 * 1024, std::io::stdout()))
    }

    pub(crate) fn send(&mut self, line: &Value) -> std::io::Result<()> {
        serde_json::to_writer(&mut self.0, line)?;
        self.0.write_all(b"\n")
    }

    pub(crate) fn raw(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.0.write_all(bytes)?;
        self.0.write_all(b"\n")
    }

    /// The beginning of a line.
    pub(crate) fn torn(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.0.write_all(bytes)
    }

    pub(crate) fn flush(&mut self) -> std::io::Result<()> {
        self.0.flush()
    }
}

/// An event without fields.
pub(crate) fn event(kind: &str) -> Value {
    json!({ "type": kind })
}

/// The answer to a request.
pub(crate) fn response(request: &Value, result: Result<Value, String>) -> Value {
    let mut line = json!({
        "id": request.get("id"),
        "type": "response",
        "command": request.get("type"),
        "success": result.is_ok(),
    });
    if request.get("id").is_none()
        && let Some(fields) = line.as_object_mut()
    {
        fields.remove("id");
    }
    match result {
        Ok(Value::Null) => {}
        Ok(data) => line["data"] = data,
        Err(error) => line["error"] = error.into(),
    }
    line
}

/// Begin or end of a message.
pub(crate) fn message(kind: &str, message: &Value) -> Value {
    json!({ "type": kind, "message": message })
}

pub(crate) fn user(text: &str) -> Value {
    json!({ "role": "user", "content": [{ "type": "text", "text": text }] })
}

pub(crate) fn assistant(content: &[Value], model: (&str, &str), stop: &str, output: u64) -> Value {
    let (provider, model) = model;
    json!({
        "role": "assistant", "content": content, "api": "openai-completions", "provider": provider,
        "model": model, "usage": usage(output), "stopReason": stop,
    })
}

fn usage(output: u64) -> Value {
    let input = if output > 0 { INPUT_TOKENS } else { 0 };
    json!({
        "input": input, "output": output, "cacheRead": 0, "cacheWrite": 0, "totalTokens": input + output,
        "cost": { "input": 0, "output": 0, "cacheRead": 0, "cacheWrite": 0, "total": 0 },
    })
}

/// A step of the assistant's message that streams.
pub(crate) fn update(step: &Value) -> Value {
    json!({ "type": "message_update", "usage": usage(0), "assistantMessageEvent": step })
}

pub(crate) fn tool_result(id: &str, text: &str) -> Value {
    json!({
        "role": "toolResult", "toolCallId": id, "toolName": "bash",
        "content": [{ "type": "text", "text": text }], "isError": false,
    })
}
