//! `OpenAI` Chat Completions.

use serde_json::{Value, json};

use super::super::model::{Chat, Choice, Lost, Part, Role, Turn};
use crate::provider::Kind;

pub(super) fn request(chat: &Chat, kind: Kind, model: &str, lost: &mut Lost) -> Value {
    let mut messages = Vec::new();
    if !chat.system.is_empty() {
        messages.push(json!({ "role": "system", "content": chat.system }));
    }
    for turn in &chat.turns {
        match turn.role {
            Role::User => user(turn, &mut messages),
            Role::Assistant => messages.push(assistant(turn, lost)),
        }
    }
    let mut request = json!({ "model": model, "messages": messages, "stream": chat.stream });
    if chat.stream {
        request["stream_options"] = json!({ "include_usage": true });
    }
    let official = kind == Kind::Openai;
    if let Some(max) = chat.max_tokens {
        let name = if official {
            "max_completion_tokens"
        } else {
            "max_tokens"
        };
        request[name] = json!(max);
    }
    for (name, value) in [("temperature", &chat.temperature), ("top_p", &chat.top_p)] {
        if let Some(value) = value {
            request[name] = value.clone();
        }
    }
    if !chat.stop.is_empty() {
        request["stop"] = Value::Array(chat.stop.clone());
    }
    match &chat.effort {
        Some(effort) if official => request["reasoning_effort"] = json!(effort),
        // Other servers of this dialect refuse what they do not know.
        Some(_) => lost.note("thinking"),
        None => {}
    }
    if !chat.tools.is_empty() {
        let tools: Vec<Value> = chat
            .tools
            .iter()
            .map(|tool| {
                let mut function = json!({ "name": tool.name, "parameters": tool.schema });
                if let Some(description) = &tool.description {
                    function["description"] = json!(description);
                }
                json!({ "type": "function", "function": function })
            })
            .collect();
        request["tools"] = Value::Array(tools);
        match &chat.choice {
            Choice::Auto => {}
            Choice::None => request["tool_choice"] = json!("none"),
            Choice::Any => request["tool_choice"] = json!("required"),
            Choice::Tool(name) => {
                request["tool_choice"] = json!({ "type": "function", "function": { "name": name } });
            }
        }
    }
    request
}

fn user(turn: &Turn, messages: &mut Vec<Value>) {
    // Results come right after the calls.
    for part in &turn.parts {
        if let Part::Result { id, text, is_error } = part {
            let content = if *is_error {
                format!("Error: {text}")
            } else {
                text.clone()
            };
            messages.push(json!({ "role": "tool", "tool_call_id": id, "content": content }));
        }
    }
    let content: Vec<Value> = turn.parts.iter().filter_map(content).collect();
    match content.as_slice() {
        [] => {}
        [one] if one["type"] == "text" => messages.push(json!({ "role": "user", "content": one["text"] })),
        _ => messages.push(json!({ "role": "user", "content": content })),
    }
}

fn content(part: &Part) -> Option<Value> {
    Some(match part {
        Part::Text(text) => json!({ "type": "text", "text": text }),
        Part::Image { media_type, data } => {
            json!({ "type": "image_url", "image_url": { "url": format!("data:{media_type};base64,{data}") } })
        }
        Part::ImageUrl(url) => json!({ "type": "image_url", "image_url": { "url": url } }),
        Part::Thinking { .. } | Part::Call(_) | Part::Result { .. } => return None,
    })
}

fn assistant(turn: &Turn, lost: &mut Lost) -> Value {
    let mut text = String::new();
    let mut calls = Vec::new();
    for part in &turn.parts {
        match part {
            Part::Text(said) => text.push_str(said),
            Part::Call(call) => calls.push(json!({
                "id": call.id, "type": "function",
                "function": { "name": call.name, "arguments": call.arguments },
            })),
            // Made by another provider; this dialect has no place for it.
            Part::Thinking { .. } => lost.note("thinking"),
            Part::Image { .. } | Part::ImageUrl(_) | Part::Result { .. } => lost.note("assistant.content"),
        }
    }
    let mut message = json!({ "role": "assistant", "content": text });
    if !calls.is_empty() {
        message["tool_calls"] = Value::Array(calls);
        if text.is_empty() {
            message["content"] = Value::Null;
        }
    }
    message
}
