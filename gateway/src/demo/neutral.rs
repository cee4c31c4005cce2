//! What of a request the plan needs, whatever dialect it came in.

use std::collections::BTreeMap;

use serde_json::Value;

use super::image::{Image, images};
use super::script::BLOCK_SEPARATOR;

/// Who a turn is from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    User,
    Assistant,
    /// The result of a tool call.
    Tool,
    /// Anything else a dialect allows between turns; the plan passes over it.
    Other,
}

impl Role {
    /// The role of a chat-shaped message.
    pub fn parse(role: Option<&str>) -> Self {
        match role {
            Some("user") => Self::User,
            Some("assistant" | "model") => Self::Assistant,
            Some("tool") => Self::Tool,
            _ => Self::Other,
        }
    }
}

/// One turn of the conversation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Turn {
    pub role: Role,
    pub text: String,
    pub images: Vec<Image>,
}

impl Turn {
    /// A turn from chat-shaped content: a string, or a list of parts.
    pub fn of(role: Role, content: Option<&Value>) -> Self {
        Self {
            role,
            text: text_of(content),
            images: images(content),
        }
    }
}

/// A request in no dialect.
#[derive(Clone, Debug, Default)]
pub struct Neutral {
    pub model: String,
    pub stream: bool,
    pub system: String,
    pub turns: Vec<Turn>,
    /// Parameter schema by tool name.
    pub tools: BTreeMap<String, Value>,
}

/// The text of chat-shaped content, blocks separated so that a script in one block stands alone.
pub fn text_of(content: Option<&Value>) -> String {
    match content {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Array(parts)) => parts
            .iter()
            .filter_map(part_text)
            .collect::<Vec<_>>()
            .join(BLOCK_SEPARATOR),
        _ => String::new(),
    }
}

fn part_text(part: &Value) -> Option<&str> {
    match part {
        Value::String(text) => Some(text),
        _ => match part["type"].as_str()? {
            "text" | "input_text" | "output_text" => part["text"].as_str(),
            _ => None,
        },
    }
}
