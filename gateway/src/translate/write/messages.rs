//! Anthropic Messages.

use serde_json::{Value, json};

use super::super::effort::Claude;
use super::super::model::{Chat, Choice, Format, Lost, Part, Role, Tool, Turn, object};
use super::{To, schema, under_way};

/// The dialect wants a bound; where the caller sets none, this one.
const MAX_TOKENS: u64 = 16_384;
/// The least room to think in, and to answer in beside it.
const LEAST: u64 = 1024;

pub(super) fn request(chat: &Chat, to: &To<'_>, lost: &mut Lost) -> Value {
    let turns: Vec<Value> = chat
        .turns
        .iter()
        .map(|turn| self::turn(turn, to, lost))
        .filter(|turn| {
            turn["content"]
                .as_array()
                .is_some_and(|blocks| !blocks.is_empty())
        })
        .collect();
    let known = to.known.map_or(0, |model| model.max_output);
    let most = if known > 0 {
        MAX_TOKENS.min(known)
    } else {
        MAX_TOKENS
    };
    let mut request = json!({
        "model": to.model, "max_tokens": chat.max_tokens.unwrap_or(most), "messages": turns, "stream": chat.stream,
    });
    if !chat.system.is_empty() {
        request["system"] = json!(chat.system);
    }
    if !chat.stop.is_empty() {
        request["stop_sequences"] = Value::Array(chat.stop.clone());
    }
    let thinks = think(chat, to, &mut request, lost);
    sampling(chat, to, thinks, &mut request, lost);
    match &chat.format {
        Some(Format::Schema { schema, .. }) if Claude::of(to.model) != Claude::Not => {
            request["output_config"]["format"] = json!({ "type": "json_schema", "schema": schema });
        }
        Some(_) => lost.note("response_format"),
        None => {}
    }
    if !chat.tools.is_empty() {
        tools(chat, &mut request);
    }
    request
}

/// Has the model think, where it is asked to and can. Whether it does.
fn think(chat: &Chat, to: &To<'_>, request: &mut Value, lost: &mut Lost) -> bool {
    let Some(effort) = chat.effort else { return false };
    let Some(word) = to.effort(effort) else {
        return false;
    };
    // A model that has to call a tool must not think first.
    let is_free = chat.tools.is_empty() || matches!(chat.choice, Choice::Auto | Choice::None);
    match Claude::of(to.model) {
        Claude::Adaptive { .. } => {
            request["output_config"]["effort"] = json!(word);
            if is_free {
                request["thinking"] = json!({ "type": "adaptive" });
            }
            return is_free;
        }
        Claude::Budget if is_free && begins_signed(chat, to) => {
            let max = request["max_tokens"].as_u64().unwrap_or_default();
            let budget = effort.budget().min(max.saturating_sub(LEAST));
            if budget >= LEAST {
                request["thinking"] = json!({ "type": "enabled", "budget_tokens": budget });
                return true;
            }
        }
        Claude::Budget | Claude::Not => {}
    }
    lost.note("reasoning_effort");
    false
}

/// Whether what is under way began with thinking that is still there: without, a budget for more is refused.
fn begins_signed(chat: &Chat, to: &To<'_>) -> bool {
    let turns = chat.turns.get(under_way(&chat.turns)..).unwrap_or_default();
    let first = turns.iter().find(|turn| turn.role == Role::Assistant);
    let Some(first) = first else { return true };
    first.parts.iter().any(|part| match part {
        Part::Call(call) => !to.keeper.of(&call.id).is_empty(),
        Part::Thinking { signature, .. } => signature.as_ref().is_some_and(|signature| !signature.is_empty()),
        _ => false,
    })
}

fn sampling(chat: &Chat, to: &To<'_>, thinks: bool, request: &mut Value, lost: &mut Lost) {
    let is_fixed = thinks || Claude::of(to.model) == Claude::Adaptive { samples: false };
    let both = chat.temperature.is_some() && chat.top_p.is_some();
    for (name, value) in [
        ("temperature", &chat.temperature),
        ("top_p", &chat.top_p),
        ("top_k", &chat.top_k),
    ] {
        let Some(value) = value else { continue };
        // Models since the fourth generation refuse both at a time.
        if is_fixed || both && name == "top_p" && Claude::of(to.model) != Claude::Not {
            lost.note(name);
        } else if name == "temperature" && value.as_f64().is_some_and(|value| value > 1.0) {
            // The other vendors' goes up to 2.
            lost.note(name);
            request[name] = json!(1);
        } else {
            request[name] = value.clone();
        }
    }
}

fn tools(chat: &Chat, request: &mut Value) {
    let tool = |tool: &Tool| {
        let mut written = json!({ "name": tool.name, "input_schema": schema(&tool.schema) });
        if let Some(description) = &tool.description {
            written["description"] = json!(description);
        }
        written
    };
    request["tools"] = chat.tools.iter().map(tool).collect();
    request["tool_choice"] = match &chat.choice {
        Choice::Auto => json!({ "type": "auto" }),
        Choice::None => json!({ "type": "none" }),
        Choice::Any => json!({ "type": "any" }),
        Choice::Tool(name) => json!({ "type": "tool", "name": name }),
    };
    if chat.serial && chat.choice != Choice::None {
        request["tool_choice"]["disable_parallel_tool_use"] = json!(true);
    }
}

fn turn(turn: &Turn, to: &To<'_>, lost: &mut Lost) -> Value {
    let role = match turn.role {
        Role::User => "user",
        Role::Assistant => "assistant",
    };
    // Results have to be first.
    let (first, rest): (Vec<&Part>, _) = turn
        .parts
        .iter()
        .partition(|part| matches!(part, Part::Result { .. }));
    let mut blocks: Vec<Value> = Vec::new();
    let mut called = false;
    for part in first.into_iter().chain(rest) {
        if let Part::Call(call) = part {
            // What was thought before it, at the place where it was thought: before the first, the turn began with it.
            let place = if std::mem::replace(&mut called, true) {
                blocks.len()
            } else {
                0
            };
            blocks.splice(place..place, to.keeper.of(&call.id));
        }
        blocks.extend(block(part, lost));
    }
    json!({ "role": role, "content": blocks })
}

/// An id as this dialect takes it.
fn id(own: &str) -> String {
    let clean = |char: char| {
        if char.is_ascii_alphanumeric() || char == '_' || char == '-' {
            char
        } else {
            '_'
        }
    };
    own.chars().map(clean).collect()
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
        } if !signature.is_empty() => {
            json!({ "type": "thinking", "thinking": text, "signature": signature })
        }
        Part::Thinking { .. } => {
            lost.note("thinking");
            return None;
        }
        Part::Call(call) => {
            json!({ "type": "tool_use", "id": id(&call.id), "name": call.name, "input": object(&call.arguments) })
        }
        Part::Result {
            id: call,
            text,
            images,
            is_error,
        } => {
            let content = if images.is_empty() {
                json!(text)
            } else {
                let said = (!text.is_empty()).then(|| json!({ "type": "text", "text": text }));
                let images = images.iter().filter_map(|image| block(image, lost));
                said.into_iter().chain(images).collect()
            };
            json!({ "type": "tool_result", "tool_use_id": id(call), "content": content, "is_error": is_error })
        }
    })
}
