//! `OpenAI` Chat Completions.

use serde_json::Value;

use super::super::effort::Effort;
use super::super::model::{
    Call, Chat, Choice, Format, Lost, Part, Role, Tool, ToolKind, as_input, image, list, number, text,
};
use super::{content_text, custom};

const KNOWN: [&str; 16] = [
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
    "parallel_tool_calls",
    "response_format",
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
        temperature: number(&value["temperature"]),
        top_p: number(&value["top_p"]),
        serial: value["parallel_tool_calls"] == false,
        format: format(&value["response_format"]),
        effort: value["reasoning_effort"].as_str().and_then(Effort::parse),
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
            parts.extend(list(&message["tool_calls"]).map(call).map(Part::Call));
            chat.add(Role::Assistant, parts);
        }
        Some("tool") => {
            let result = Part::Result {
                id: text(&message["tool_call_id"]),
                text: content_text(&message["content"]),
                images: parts(&message["content"], lost)
                    .into_iter()
                    .filter(|part| !matches!(part, Part::Text(_)))
                    .collect(),
                is_error: false,
            };
            chat.add(Role::User, vec![result]);
        }
        Some("user") => chat.add(Role::User, parts(&message["content"], lost)),
        _ => lost.note("messages.role"),
    }
}

fn call(item: &Value) -> Call {
    let (function, own) = (&item["function"], &item["custom"]);
    let is_custom = item["type"] == "custom";
    Call {
        id: text(&item["id"]),
        name: text(if is_custom {
            &own["name"]
        } else {
            &function["name"]
        }),
        kind: if is_custom {
            ToolKind::Custom
        } else {
            ToolKind::Function
        },
        arguments: if is_custom {
            as_input(own["input"].as_str().unwrap_or_default())
        } else {
            text(&function["arguments"])
        },
        namespace: None,
    }
}

fn format(value: &Value) -> Option<Format> {
    match value["type"].as_str()? {
        "json_object" => Some(Format::Json),
        "json_schema" => Some(Format::Schema {
            name: value["json_schema"]["name"].as_str().map(str::to_owned),
            schema: value["json_schema"]["schema"].clone(),
        }),
        _ => None,
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
    match item["type"].as_str() {
        Some("function") => Some(Tool {
            name: text(&function["name"]),
            description: function["description"].as_str().map(str::to_owned),
            schema: function["parameters"].clone(),
            ..Tool::default()
        }),
        Some("custom") => Some(custom(&item["custom"], &item["custom"]["format"]["grammar"])),
        kind => {
            lost.note(&format!("tools.{}", kind.unwrap_or("untyped")));
            None
        }
    }
}

fn choice(value: &Value) -> Choice {
    match value.as_str() {
        Some("none") => Choice::None,
        Some("required") => Choice::Any,
        Some(_) => Choice::Auto,
        None => match value["function"]["name"]
            .as_str()
            .or_else(|| value["custom"]["name"].as_str())
        {
            Some(name) => Choice::Tool(name.to_owned()),
            None => Choice::Auto,
        },
    }
}
