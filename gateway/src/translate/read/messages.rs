//! Anthropic Messages.

use serde_json::Value;

use super::super::model::{Call, Chat, Choice, Lost, Part, Role, Tool, list, text};
use super::content_text;

const KNOWN: [&str; 11] = [
    "model",
    "messages",
    "system",
    "tools",
    "tool_choice",
    "max_tokens",
    "temperature",
    "top_p",
    "stop_sequences",
    "stream",
    "thinking",
];

pub(super) fn request(value: &Value, lost: &mut Lost) -> Chat {
    if let Some(object) = value.as_object() {
        lost.rest(object, &KNOWN);
    }
    let mut chat = Chat {
        stream: value["stream"] == true,
        include_usage: true,
        system: content_text(&value["system"]),
        tools: list(&value["tools"])
            .filter_map(|item| tool(item, lost))
            .collect(),
        choice: choice(&value["tool_choice"], lost),
        max_tokens: value["max_tokens"].as_u64(),
        temperature: value
            .get("temperature")
            .filter(|value| value.is_number())
            .cloned(),
        top_p: value.get("top_p").filter(|value| value.is_number()).cloned(),
        stop: list(&value["stop_sequences"]).cloned().collect(),
        effort: effort(&value["thinking"]),
        ..Chat::default()
    };
    note_cache(&value["system"], lost);
    for message in list(&value["messages"]) {
        let role = match message["role"].as_str() {
            Some("assistant") => Role::Assistant,
            Some("system") => {
                chat.add_system(&content_text(&message["content"]));
                continue;
            }
            _ => Role::User,
        };
        note_cache(&message["content"], lost);
        chat.add(role, parts(&message["content"], lost));
    }
    chat
}

fn note_cache(content: &Value, lost: &mut Lost) {
    if list(content).any(|block| block.get("cache_control").is_some()) {
        lost.note("cache_control");
    }
}

/// How hard to think, from how much room there is for it.
fn effort(thinking: &Value) -> Option<String> {
    let effort = match (thinking["type"].as_str()?, thinking["budget_tokens"].as_u64()) {
        ("enabled", Some(0..=4096)) => "low",
        ("enabled", Some(0..=16384)) | ("adaptive", _) => "medium",
        ("enabled", _) => "high",
        _ => return None,
    };
    Some(effort.to_owned())
}

fn parts(content: &Value, lost: &mut Lost) -> Vec<Part> {
    if let Value::String(text) = content {
        return vec![Part::Text(text.clone())];
    }
    list(content).filter_map(|block| part(block, lost)).collect()
}

fn part(block: &Value, lost: &mut Lost) -> Option<Part> {
    Some(match block["type"].as_str() {
        Some("text") => Part::Text(text(&block["text"])),
        Some("image") => match block["source"]["type"].as_str() {
            Some("base64") => Part::Image {
                media_type: text(&block["source"]["media_type"]),
                data: text(&block["source"]["data"]),
            },
            _ => Part::ImageUrl(text(&block["source"]["url"])),
        },
        Some("thinking") => Part::Thinking {
            text: text(&block["thinking"]),
            signature: block["signature"].as_str().map(str::to_owned),
        },
        Some("tool_use") => Part::Call(Call {
            id: text(&block["id"]),
            name: text(&block["name"]),
            arguments: block["input"].to_string(),
        }),
        Some("tool_result") => {
            if list(&block["content"]).any(|part| part["type"] != "text") {
                lost.note("tool_result.image");
            }
            Part::Result {
                id: text(&block["tool_use_id"]),
                text: content_text(&block["content"]),
                is_error: block["is_error"] == true,
            }
        }
        kind => {
            lost.note(kind.unwrap_or("content"));
            return None;
        }
    })
}

fn tool(item: &Value, lost: &mut Lost) -> Option<Tool> {
    if item.get("cache_control").is_some() {
        lost.note("cache_control");
    }
    if item["type"].as_str().is_some_and(|kind| kind != "custom") {
        lost.note(&format!("tools.{}", item["type"].as_str().unwrap_or_default()));
        return None;
    }
    Some(Tool {
        name: text(&item["name"]),
        description: item["description"].as_str().map(str::to_owned),
        schema: item["input_schema"].clone(),
    })
}

fn choice(value: &Value, lost: &mut Lost) -> Choice {
    if value["disable_parallel_tool_use"] == true {
        lost.note("disable_parallel_tool_use");
    }
    match value["type"].as_str() {
        Some("none") => Choice::None,
        Some("any") => Choice::Any,
        Some("tool") => Choice::Tool(text(&value["name"])),
        _ => Choice::Auto,
    }
}
