//! `OpenAI` Responses.

use serde_json::Value;

use super::super::model::{Call, Chat, Choice, Lost, Part, Role, Tool, image, list, text};
use super::content_text;

/// The last of them say how the provider is to store and cache, which has no meaning elsewhere.
const KNOWN: [&str; 15] = [
    "model",
    "input",
    "instructions",
    "tools",
    "tool_choice",
    "max_output_tokens",
    "temperature",
    "top_p",
    "stream",
    "reasoning",
    "store",
    "include",
    "prompt_cache_key",
    "client_metadata",
    "parallel_tool_calls",
];

pub(super) fn request(value: &Value, lost: &mut Lost) -> Chat {
    if let Some(object) = value.as_object() {
        lost.rest(object, &KNOWN);
    }
    let mut chat = Chat {
        stream: value["stream"] == true,
        include_usage: true,
        system: text(&value["instructions"]),
        tools: list(&value["tools"])
            .filter_map(|item| tool(item, lost))
            .collect(),
        choice: choice(&value["tool_choice"]),
        max_tokens: value["max_output_tokens"].as_u64(),
        temperature: value
            .get("temperature")
            .filter(|value| value.is_number())
            .cloned(),
        top_p: value.get("top_p").filter(|value| value.is_number()).cloned(),
        effort: value["reasoning"]["effort"].as_str().map(str::to_owned),
        ..Chat::default()
    };
    match &value["input"] {
        Value::String(text) => chat.add(Role::User, vec![Part::Text(text.clone())]),
        input => {
            for item in list(input) {
                add(&mut chat, item, lost);
            }
        }
    }
    chat
}

fn add(chat: &mut Chat, item: &Value, lost: &mut Lost) {
    match item["type"].as_str() {
        None | Some("message") => match item["role"].as_str() {
            Some("system" | "developer") => chat.add_system(&content_text(&item["content"])),
            Some("assistant") => chat.add(Role::Assistant, parts(&item["content"], lost)),
            _ => chat.add(Role::User, parts(&item["content"], lost)),
        },
        Some("function_call") => {
            let call = Call {
                id: text(&item["call_id"]),
                name: text(&item["name"]),
                arguments: text(&item["arguments"]),
            };
            chat.add(Role::Assistant, vec![Part::Call(call)]);
        }
        Some("function_call_output") => {
            let output = &item["output"];
            if list(output).any(|part| part.get("text").is_none()) {
                lost.note("function_call_output.image");
            }
            let result = Part::Result {
                id: text(&item["call_id"]),
                text: content_text(output),
                is_error: false,
            };
            chat.add(Role::User, vec![result]);
        }
        Some(kind) => lost.note(kind),
    }
}

fn parts(content: &Value, lost: &mut Lost) -> Vec<Part> {
    if let Value::String(text) = content {
        return vec![Part::Text(text.clone())];
    }
    let part = |part: &Value| match part["type"].as_str() {
        Some("input_text" | "output_text" | "text") => Some(Part::Text(text(&part["text"]))),
        Some("input_image") => Some(image(part["image_url"].as_str().unwrap_or_default())),
        kind => {
            lost.note(kind.unwrap_or("content"));
            None
        }
    };
    list(content).filter_map(part).collect()
}

fn tool(item: &Value, lost: &mut Lost) -> Option<Tool> {
    if item["type"] != "function" {
        lost.note(&format!("tools.{}", item["type"].as_str().unwrap_or("untyped")));
        return None;
    }
    Some(Tool {
        name: text(&item["name"]),
        description: item["description"].as_str().map(str::to_owned),
        schema: item["parameters"].clone(),
    })
}

fn choice(value: &Value) -> Choice {
    match value.as_str() {
        Some("none") => Choice::None,
        Some("required") => Choice::Any,
        Some(_) => Choice::Auto,
        None => match value["name"].as_str() {
            Some(name) => Choice::Tool(name.to_owned()),
            None => Choice::Auto,
        },
    }
}
