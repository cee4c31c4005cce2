//! Anthropic Messages.

use serde_json::{Value, json};

use super::super::model::{Chat, Choice, Lost, Part, Role, object};

/// The dialect wants a bound; where the caller sets none, this one.
const MAX_TOKENS: u64 = 16_384;

pub(super) fn request(chat: &Chat, model: &str, lost: &mut Lost) -> Value {
    let turns: Vec<Value> = chat
        .turns
        .iter()
        .map(|turn| {
            let role = match turn.role {
                Role::User => "user",
                Role::Assistant => "assistant",
            };
            // Results have to be first.
            let (first, rest): (Vec<&Part>, _) = turn
                .parts
                .iter()
                .partition(|part| matches!(part, Part::Result { .. }));
            let blocks: Vec<Value> = first
                .into_iter()
                .chain(rest)
                .filter_map(|part| block(part, lost))
                .collect();
            json!({ "role": role, "content": blocks })
        })
        .filter(|turn| {
            turn["content"]
                .as_array()
                .is_some_and(|blocks| !blocks.is_empty())
        })
        .collect();
    let mut request = json!({
        "model": model, "max_tokens": chat.max_tokens.unwrap_or(MAX_TOKENS), "messages": turns, "stream": chat.stream,
    });
    if !chat.system.is_empty() {
        request["system"] = json!(chat.system);
    }
    for (name, value) in [("temperature", &chat.temperature), ("top_p", &chat.top_p)] {
        if let Some(value) = value {
            request[name] = value.clone();
        }
    }
    if !chat.stop.is_empty() {
        request["stop_sequences"] = Value::Array(chat.stop.clone());
    }
    // Thinking has to begin every earlier turn that used tools, signed, which the caller's dialect cannot carry.
    if chat.effort.is_some() {
        lost.note("reasoning_effort");
    }
    if !chat.tools.is_empty() {
        let tools: Vec<Value> = chat
            .tools
            .iter()
            .map(|tool| {
                let schema = if tool.schema.is_object() {
                    tool.schema.clone()
                } else {
                    json!({ "type": "object" })
                };
                let mut written = json!({ "name": tool.name, "input_schema": schema });
                if let Some(description) = &tool.description {
                    written["description"] = json!(description);
                }
                written
            })
            .collect();
        request["tools"] = Value::Array(tools);
        request["tool_choice"] = match &chat.choice {
            Choice::Auto => json!({ "type": "auto" }),
            Choice::None => json!({ "type": "none" }),
            Choice::Any => json!({ "type": "any" }),
            Choice::Tool(name) => json!({ "type": "tool", "name": name }),
        };
    }
    request
}

fn block(part: &Part, lost: &mut Lost) -> Option<Value> {
    Some(match part {
        // An empty text block is an error.
        Part::Text(text) if text.is_empty() => return None,
        Part::Text(text) => json!({ "type": "text", "text": text }),
        Part::Image { media_type, data } => {
            json!({ "type": "image", "source": { "type": "base64", "media_type": media_type, "data": data } })
        }
        Part::ImageUrl(url) => json!({ "type": "image", "source": { "type": "url", "url": url } }),
        Part::Thinking {
            text,
            signature: Some(signature),
        } => {
            json!({ "type": "thinking", "thinking": text, "signature": signature })
        }
        Part::Thinking { .. } => {
            lost.note("thinking");
            return None;
        }
        Part::Call(call) => {
            json!({ "type": "tool_use", "id": call.id, "name": call.name, "input": object(&call.arguments) })
        }
        Part::Result { id, text, is_error } => {
            json!({ "type": "tool_result", "tool_use_id": id, "content": text, "is_error": is_error })
        }
    })
}
