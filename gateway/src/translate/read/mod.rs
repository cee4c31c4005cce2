//! Requests as their callers write them.

mod chat;
mod gemini;
mod messages;
mod responses;

use serde_json::{Value, json};

use super::model::{Chat, Lost, Tool, ToolKind, text};
use crate::dialect::Dialect;

/// A request in the caller's dialect, and what of it is lost already.
pub(super) fn request(dialect: Dialect, value: &Value, lost: &mut Lost) -> Chat {
    match dialect {
        Dialect::Chat => chat::request(value, lost),
        Dialect::Responses => responses::request(value, lost),
        Dialect::Messages => messages::request(value, lost),
        Dialect::Gemini => gemini::request(value, lost),
    }
}

/// Text of content that is a string or a list of parts.
fn content_text(content: &Value) -> String {
    match content {
        Value::String(text) => text.clone(),
        Value::Array(parts) => {
            let texts: Vec<&str> = parts.iter().filter_map(|part| part["text"].as_str()).collect();
            texts.join("\n")
        }
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

/// A tool that takes text, as a function of one argument. What the text has to be is said in words: a grammar binds no
/// other provider's models.
fn custom(item: &Value, grammar: &Value) -> Tool {
    let mut description = text(&item["description"]);
    if let Some(definition) = grammar["definition"].as_str() {
        let syntax = grammar["syntax"].as_str().unwrap_or("lark");
        if !description.is_empty() {
            description.push_str("\n\n");
        }
        for piece in ["`input` must match this ", syntax, " grammar:\n", definition] {
            description.push_str(piece);
        }
    }
    Tool {
        name: text(&item["name"]),
        namespace: None,
        kind: ToolKind::Custom,
        description: (!description.is_empty()).then_some(description),
        schema: json!({
            "type": "object", "properties": { "input": { "type": "string", "description": "The whole input of the tool, as it is." } },
            "required": ["input"], "additionalProperties": false,
        }),
    }
}
