//! `OpenAI` Chat Completions.

use serde_json::{Value, json};

use super::super::model::{Chat, Choice, Format, Lost, Part, Role, Tool, Turn};
use super::{To, schema};
use crate::provider::Kind;

/// Stop sequences that are taken.
const MAX_STOPS: usize = 4;

pub(super) fn request(chat: &Chat, to: &To<'_>, lost: &mut Lost) -> Value {
    let mut messages = Vec::new();
    if !chat.system.is_empty() {
        messages.push(json!({ "role": "system", "content": chat.system }));
    }
    for turn in &chat.turns {
        match turn.role {
            Role::User => user(turn, &mut messages),
            Role::Assistant => messages.push(assistant(turn, to, lost)),
        }
    }
    let mut request = json!({ "model": to.model, "messages": messages, "stream": chat.stream });
    if chat.stream {
        request["stream_options"] = json!({ "include_usage": true });
    }
    let official = to.kind == Kind::Openai;
    if let Some(max) = chat.max_tokens {
        let name = if official {
            "max_completion_tokens"
        } else {
            "max_tokens"
        };
        request[name] = json!(max);
    }
    sampling(chat, &mut request, lost);
    if let Some(effort) = chat.effort {
        // Servers refuse it for models that do not think.
        let thinks = official || to.known.is_some_and(|model| model.reasoning);
        match to.effort(effort).filter(|_| thinks) {
            Some(word) => request["reasoning_effort"] = json!(word),
            None => lost.note("reasoning_effort"),
        }
    }
    match &chat.format {
        Some(Format::Json) => request["response_format"] = json!({ "type": "json_object" }),
        Some(Format::Schema { name, schema }) => {
            let name = name.as_deref().unwrap_or("answer");
            request["response_format"] =
                json!({ "type": "json_schema", "json_schema": { "name": name, "schema": schema } });
        }
        None => {}
    }
    if !chat.tools.is_empty() {
        tools(chat, &mut request);
    }
    request
}

fn sampling(chat: &Chat, request: &mut Value, lost: &mut Lost) {
    for (name, value) in [("temperature", &chat.temperature), ("top_p", &chat.top_p)] {
        if let Some(value) = value {
            request[name] = value.clone();
        }
    }
    if chat.top_k.is_some() {
        lost.note("top_k");
    }
    if chat.stop.len() > MAX_STOPS {
        lost.note("stop");
    }
    if !chat.stop.is_empty() {
        request["stop"] = chat.stop.iter().take(MAX_STOPS).cloned().collect();
    }
}

fn tools(chat: &Chat, request: &mut Value) {
    let tool = |tool: &Tool| {
        let mut function = json!({ "name": tool.name, "parameters": schema(&tool.schema) });
        if let Some(description) = &tool.description {
            function["description"] = json!(description);
        }
        json!({ "type": "function", "function": function })
    };
    request["tools"] = chat.tools.iter().map(tool).collect();
    match &chat.choice {
        Choice::Auto => {}
        Choice::None => request["tool_choice"] = json!("none"),
        Choice::Any => request["tool_choice"] = json!("required"),
        Choice::Tool(name) => {
            request["tool_choice"] = json!({ "type": "function", "function": { "name": name } });
        }
    }
    if chat.serial {
        request["parallel_tool_calls"] = json!(false);
    }
}

fn user(turn: &Turn, messages: &mut Vec<Value>) {
    // Results come right after the calls; they are text alone, and their images follow.
    let mut shown = Vec::new();
    for part in &turn.parts {
        if let Part::Result {
            id,
            text,
            images,
            is_error,
        } = part
        {
            let content = if *is_error {
                format!("Error: {text}")
            } else {
                text.clone()
            };
            messages.push(json!({ "role": "tool", "tool_call_id": id, "content": content }));
            shown.extend(images.iter().filter_map(content_part));
        }
    }
    if !shown.is_empty() {
        let said = json!({ "type": "text", "text": "Images that the tools returned:" });
        shown.insert(0, said);
    }
    shown.extend(turn.parts.iter().filter_map(content_part));
    match shown.as_slice() {
        [] => {}
        [one] if one["type"] == "text" => messages.push(json!({ "role": "user", "content": one["text"] })),
        _ => messages.push(json!({ "role": "user", "content": shown })),
    }
}

fn content_part(part: &Part) -> Option<Value> {
    Some(match part {
        Part::Text(text) => json!({ "type": "text", "text": text }),
        Part::Image { media_type, data } => {
            json!({ "type": "image_url", "image_url": { "url": format!("data:{media_type};base64,{data}") } })
        }
        Part::ImageUrl(url) => json!({ "type": "image_url", "image_url": { "url": url } }),
        Part::Thinking { .. } | Part::Call(_) | Part::Result { .. } => return None,
    })
}

fn assistant(turn: &Turn, to: &To<'_>, lost: &mut Lost) -> Value {
    let mut text = String::new();
    let mut calls = Vec::new();
    let mut message = json!({ "role": "assistant" });
    for part in &turn.parts {
        match part {
            Part::Text(said) => text.push_str(said),
            Part::Call(call) => {
                calls.push(json!({
                    "id": call.id, "type": "function",
                    "function": { "name": call.name, "arguments": call.arguments },
                }));
                // Only what the server itself has sent: others refuse fields that they do not know.
                for fields in to.keeper.of(&call.id) {
                    for (name, value) in fields.as_object().into_iter().flatten() {
                        message[name] = value.clone();
                    }
                }
            }
            // Made by another provider; this dialect has no place for it.
            Part::Thinking { .. } => lost.note("thinking"),
            Part::Image { .. } | Part::ImageUrl(_) | Part::Result { .. } => lost.note("assistant.content"),
        }
    }
    message["content"] = json!(text);
    if !calls.is_empty() {
        if text.is_empty() {
            message["content"] = Value::Null;
        }
        message["tool_calls"] = Value::Array(calls);
    }
    message
}
