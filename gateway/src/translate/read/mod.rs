//! Requests as their callers write them.

mod chat;
mod gemini;
mod messages;
mod responses;

use serde_json::Value;

use super::model::{Chat, Lost};
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
