//! Anthropic Messages.

use serde_json::Value;

use super::super::effort::Effort;
use super::super::model::{Call, Chat, Choice, Format, Lost, Part, Role, Tool, list, number, text};
use super::content_text;

const KNOWN: [&str; 14] = [
    "model",
    "messages",
    "system",
    "tools",
    "tool_choice",
    "max_tokens",
    "temperature",
    "top_p",
    "top_k",
    "output_config",
    "output_format",
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
        system: system(&value["system"]),
        tools: list(&value["tools"])
            .filter_map(|item| tool(item, lost))
            .collect(),
        choice: choice(&value["tool_choice"]),
        max_tokens: value["max_tokens"].as_u64(),
        temperature: number(&value["temperature"]),
        top_p: number(&value["top_p"]),
        top_k: number(&value["top_k"]),
        serial: value["tool_choice"]["disable_parallel_tool_use"] == true,
        format: format(&value["output_config"]["format"]).or_else(|| format(&value["output_format"])),
        stop: list(&value["stop_sequences"]).cloned().collect(),
        effort: effort(value),
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

/// What Claude Code tells its vendor of itself stands before its prompt, and changes from one request to the next: no other
/// vendor's cache would know the prompt again.
const OF_VENDOR: &str = "x-anthropic-billing-header:";

fn system(content: &Value) -> String {
    let is_prompt = |part: &&str| !part.starts_with(OF_VENDOR);
    let parts = list(content).filter_map(|part| part["text"].as_str());
    match content {
        Value::Array(_) => parts.filter(is_prompt).collect::<Vec<_>>().join("\n"),
        content => content_text(content),
    }
}

fn note_cache(content: &Value, lost: &mut Lost) {
    if list(content).any(|block| block.get("cache_control").is_some()) {
        lost.note("cache_control");
    }
}

/// How hard to think, from how much room there is for it.
fn effort(value: &Value) -> Option<Effort> {
    let thinking = &value["thinking"];
    if thinking["type"] == "disabled" {
        return None;
    }
    let stated = value["output_config"]["effort"].as_str().and_then(Effort::parse);
    let by_room = match (thinking["type"].as_str(), thinking["budget_tokens"].as_u64()) {
        (Some("enabled"), Some(budget)) => Some(Effort::of_budget(budget)),
        (Some("enabled"), None) => Some(Effort::High),
        (Some("adaptive"), _) => Some(Effort::Medium),
        _ => None,
    };
    stated.or(by_room)
}

fn format(value: &Value) -> Option<Format> {
    (value["type"] == "json_schema").then(|| Format::Schema {
        name: None,
        schema: value["schema"].clone(),
    })
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
        Some("image") => image(block),
        Some("thinking") => Part::Thinking {
            text: text(&block["thinking"]),
            signature: block["signature"].as_str().map(str::to_owned),
        },
        Some("tool_use") => Part::Call(Call {
            id: text(&block["id"]),
            name: text(&block["name"]),
            arguments: block["input"].to_string(),
            ..Call::default()
        }),
        Some("tool_result") => {
            let images = list(&block["content"]).filter(|part| part["type"] != "text");
            Part::Result {
                id: text(&block["tool_use_id"]),
                text: content_text(&block["content"]),
                images: images.filter_map(|part| result_image(part, lost)).collect(),
                is_error: block["is_error"] == true,
            }
        }
        kind => {
            lost.note(kind.unwrap_or("content"));
            return None;
        }
    })
}

fn image(block: &Value) -> Part {
    let source = &block["source"];
    match source["type"].as_str() {
        Some("base64") => Part::Image {
            media_type: text(&source["media_type"]),
            data: text(&source["data"]),
        },
        _ => Part::ImageUrl(text(&source["url"])),
    }
}

fn result_image(part: &Value, lost: &mut Lost) -> Option<Part> {
    if part["type"] == "image" {
        return Some(image(part));
    }
    lost.note(&format!(
        "tool_result.{}",
        part["type"].as_str().unwrap_or("content")
    ));
    None
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
        ..Tool::default()
    })
}

fn choice(value: &Value) -> Choice {
    match value["type"].as_str() {
        Some("none") => Choice::None,
        Some("any") => Choice::Any,
        Some("tool") => Choice::Tool(text(&value["name"])),
        _ => Choice::Auto,
    }
}
