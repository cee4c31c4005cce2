//! `OpenAI` Chat Completions.

use serde_json::Value;

use super::super::model::{Call, Chat, Choice, Lost, Part, Role, Tool, image, list, text};
use super::content_text;

const KNOWN: [&str; 14] = [
    "model",
    "messages",
    "tools",
    "tool_choice",
    "max_tokens",
    "max_completion_tokens",
    "temperature",
    "top_p",
    "stop",
    "stream",
    "stream_options",
    "reasoning_effort",
    "n",
    "store",
];

pub(super) fn request(value: &Value, lost: &mut Lost) -> Chat {
    if let Some(object) = value.as_object() {
        lost.rest(object, &KNOWN);
    }
    if value["n"].as_u64().is_some_and(|n| n != 1) {
        lost.note("n");
    }
    let mut chat = Chat {
        stream: value["stream"] == true,
        include_usage: value["stream_options"]["include_usage"] == true,
        tools: list(&value["tools"])
            .filter_map(|item| tool(item, lost))
            .collect(),
        choice: choice(&value["tool_choice"]),
        max_tokens: value["max_completion_tokens"]
            .as_u64()
            .or_else(|| value["max_tokens"].as_u64()),
        temperature: value
            .get("temperature")
            .filter(|value| value.is_number())
            .cloned(),
        top_p: value.get("top_p").filter(|value| value.is_number()).cloned(),
        effort: value["reasoning_effort"].as_str().map(str::to_owned),
        ..Chat::default()
    };
    chat.stop = match &value["stop"] {
        Value::String(_) => vec![value["stop"].clone()],
        stop => list(stop).cloned().collect(),
    };
    for message in list(&value["messages"]) {
        add(&mut chat, message, lost);
    }
    chat
}

fn add(chat: &mut Chat, message: &Value, lost: &mut Lost) {
    match message["role"].as_str() {
        Some("system" | "developer") => chat.add_system(&content_text(&message["content"])),
        Some("assistant") => {
            let mut parts = parts(&message["content"], lost);
            let calls = list(&message["tool_calls"]).map(|call| {
                Part::Call(Call {
                    id: text(&call["id"]),
                    name: text(&call["function"]["name"]),
                    arguments: text(&call["function"]["arguments"]),
                })
            });
            parts.extend(calls);
            chat.add(Role::Assistant, parts);
        }
        Some("tool") => {
            let result = Part::Result {
                id: text(&message["tool_call_id"]),
                text: content_text(&message["content"]),
                is_error: false,
            };
            chat.add(Role::User, vec![result]);
        }
        Some("user") => chat.add(Role::User, parts(&message["content"], lost)),
        _ => lost.note("messages.role"),
    }
}

fn parts(content: &Value, lost: &mut Lost) -> Vec<Part> {
    if let Value::String(text) = content {
        return vec![Part::Text(text.clone())];
    }
    let part = |part: &Value| match part["type"].as_str() {
        Some("text" | "refusal") => Some(Part::Text(text(
            part.get("text")
                .or_else(|| part.get("refusal"))
                .unwrap_or(&Value::Null),
        ))),
        Some("image_url") => Some(image(part["image_url"]["url"].as_str().unwrap_or_default())),
        kind => {
            lost.note(kind.unwrap_or("content"));
            None
        }
    };
    list(content).filter_map(part).collect()
}

fn tool(item: &Value, lost: &mut Lost) -> Option<Tool> {
    let function = &item["function"];
    if item["type"] != "function" {
        lost.note("tools.custom");
        return None;
    }
    Some(Tool {
        name: text(&function["name"]),
        description: function["description"].as_str().map(str::to_owned),
        schema: function["parameters"].clone(),
    })
}

fn choice(value: &Value) -> Choice {
    match value.as_str() {
        Some("none") => Choice::None,
        Some("required") => Choice::Any,
        Some(_) => Choice::Auto,
        None => match value["function"]["name"].as_str() {
            Some(name) => Choice::Tool(name.to_owned()),
            None => Choice::Auto,
        },
    }
}
