//! `OpenAI` Responses.

use serde_json::{Value, json};

use super::super::effort::Effort;
use super::super::model::{
    Call, Chat, Choice, Format, Lost, Part, Role, Tool, ToolKind, as_input, image, list, number, text,
};
use super::{content_text, custom};

/// The last of them say how the provider is to store and cache, which has no meaning elsewhere.
const KNOWN: [&str; 16] = [
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
    "text",
    "parallel_tool_calls",
    "store",
    "include",
    "prompt_cache_key",
    "client_metadata",
];

/// Under which calls of the `local_shell` tool are known elsewhere.
const LOCAL_SHELL: &str = "local_shell";

pub(super) fn request(value: &Value, lost: &mut Lost) -> Chat {
    if let Some(object) = value.as_object() {
        lost.rest(object, &KNOWN);
    }
    if let Some(object) = value["text"].as_object() {
        lost.rest(object, &["format"]);
    }
    let mut chat = Chat {
        stream: value["stream"] == true,
        include_usage: true,
        system: text(&value["instructions"]),
        choice: choice(&value["tool_choice"]),
        serial: value["parallel_tool_calls"] == false,
        max_tokens: value["max_output_tokens"].as_u64(),
        temperature: number(&value["temperature"]),
        top_p: number(&value["top_p"]),
        effort: value["reasoning"]["effort"].as_str().and_then(Effort::parse),
        format: format(&value["text"]["format"]),
        ..Chat::default()
    };
    for item in list(&value["tools"]) {
        tool(item, None, &mut chat.tools, lost);
    }
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

fn format(value: &Value) -> Option<Format> {
    match value["type"].as_str()? {
        "json_object" => Some(Format::Json),
        "json_schema" => Some(Format::Schema {
            name: value["name"].as_str().map(str::to_owned),
            schema: value["schema"].clone(),
        }),
        _ => None,
    }
}

fn add(chat: &mut Chat, item: &Value, lost: &mut Lost) {
    match item["type"].as_str() {
        None | Some("message") => match item["role"].as_str() {
            Some("system" | "developer") => chat.add_system(&content_text(&item["content"])),
            Some("assistant") => chat.add(Role::Assistant, parts(&item["content"], lost)),
            _ => chat.add(Role::User, parts(&item["content"], lost)),
        },
        Some("reasoning") => {
            if item["encrypted_content"].is_string() {
                lost.note("reasoning.encrypted_content");
            }
            let summaries: Vec<&str> = list(&item["summary"])
                .filter_map(|part| part["text"].as_str())
                .collect();
            if !summaries.is_empty() {
                let thinking = Part::Thinking {
                    text: summaries.join("\n\n"),
                    signature: None,
                };
                chat.add(Role::Assistant, vec![thinking]);
            }
        }
        Some("function_call" | "custom_tool_call" | "local_shell_call") => {
            chat.add(Role::Assistant, vec![Part::Call(call(item))]);
        }
        Some("function_call_output" | "custom_tool_call_output" | "local_shell_call_output") => {
            let output = &item["output"];
            let id = item["call_id"].as_str().or_else(|| item["id"].as_str());
            let result = Part::Result {
                id: id.unwrap_or_default().to_owned(),
                text: content_text(output),
                images: if output.is_array() {
                    let parts = parts(output, lost).into_iter();
                    parts.filter(|part| !matches!(part, Part::Text(_))).collect()
                } else {
                    Vec::new()
                },
                is_error: false,
            };
            chat.add(Role::User, vec![result]);
        }
        Some(kind) => lost.note(kind),
    }
}

fn call(item: &Value) -> Call {
    let id = item["call_id"].as_str().or_else(|| item["id"].as_str());
    let call = Call {
        id: id.unwrap_or_default().to_owned(),
        name: text(&item["name"]),
        namespace: item["namespace"].as_str().map(str::to_owned),
        kind: ToolKind::Function,
        arguments: text(&item["arguments"]),
    };
    match item["type"].as_str() {
        Some("custom_tool_call") => Call {
            kind: ToolKind::Custom,
            arguments: as_input(item["input"].as_str().unwrap_or_default()),
            ..call
        },
        Some("local_shell_call") => {
            let mut action = item["action"].clone();
            if let Some(fields) = action.as_object_mut() {
                fields.remove("type");
                fields.retain(|_, value| !value.is_null());
            }
            Call {
                kind: ToolKind::LocalShell,
                name: LOCAL_SHELL.to_owned(),
                arguments: action.to_string(),
                ..call
            }
        }
        _ => call,
    }
}

fn parts(content: &Value, lost: &mut Lost) -> Vec<Part> {
    if let Value::String(text) = content {
        return vec![Part::Text(text.clone())];
    }
    let part = |part: &Value| match part["type"].as_str() {
        Some("input_text" | "output_text" | "text") => Some(Part::Text(text(&part["text"]))),
        Some("refusal") => Some(Part::Text(text(&part["refusal"]))),
        Some("input_image") if part["image_url"].is_string() => {
            Some(image(part["image_url"].as_str().unwrap_or_default()))
        }
        kind => {
            lost.note(kind.unwrap_or("content"));
            None
        }
    };
    list(content).filter_map(part).collect()
}

fn tool(item: &Value, namespace: Option<&str>, tools: &mut Vec<Tool>, lost: &mut Lost) {
    match item["type"].as_str() {
        Some("function") => tools.push(Tool {
            name: text(&item["name"]),
            namespace: namespace.map(str::to_owned),
            kind: ToolKind::Function,
            description: item["description"].as_str().map(str::to_owned),
            schema: item["parameters"].clone(),
        }),
        Some("custom") => tools.push(Tool {
            namespace: namespace.map(str::to_owned),
            ..custom(item, &item["format"])
        }),
        Some("local_shell") => tools.push(local_shell()),
        Some("namespace") if namespace.is_none() => {
            for one in list(&item["tools"]) {
                tool(one, item["name"].as_str(), tools, lost);
            }
        }
        kind => lost.note(&format!("tools.{}", kind.unwrap_or("untyped"))),
    }
}

/// The tool that the dialect has built in, said in full.
fn local_shell() -> Tool {
    Tool {
        name: LOCAL_SHELL.to_owned(),
        namespace: None,
        kind: ToolKind::LocalShell,
        description: Some("Runs a command and returns its output.".to_owned()),
        schema: json!({
            "type": "object",
            "properties": {
                "command": {
                    "type": "array", "items": { "type": "string" },
                    "description": "The program and its arguments, for example [\"bash\", \"-lc\", \"ls\"].",
                },
                "working_directory": { "type": "string" },
                "timeout_ms": { "type": "integer" },
            },
            "required": ["command"],
        }),
    }
}

fn choice(value: &Value) -> Choice {
    match value.as_str() {
        Some("none") => Choice::None,
        Some("required") => Choice::Any,
        Some(_) => Choice::Auto,
        None => match (value["type"].as_str(), value["name"].as_str()) {
            (_, Some(name)) => Choice::Tool(name.to_owned()),
            (Some("local_shell"), None) => Choice::Tool(LOCAL_SHELL.to_owned()),
            (Some("allowed_tools"), None) if value["mode"] == "required" => Choice::Any,
            _ => Choice::Auto,
        },
    }
}
