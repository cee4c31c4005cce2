//! `OpenAI` Responses.

use serde_json::{Value, json};

use super::super::effort;
use super::super::model::{Call, Chat, Choice, Format, Lost, Part, Role, Tool, Turn};
use super::{To, schema};

/// The least that may be asked for.
const LEAST: u64 = 16;

pub(super) fn request(chat: &Chat, to: &To<'_>, lost: &mut Lost) -> Value {
    let mut input = Vec::new();
    for turn in &chat.turns {
        match turn.role {
            Role::User => user(turn, &mut input),
            Role::Assistant => assistant(turn, to, &mut input, lost),
        }
    }
    // Stored ones would be in the account that everybody uses.
    let mut request = json!({ "model": to.model, "input": input, "stream": chat.stream, "store": false });
    if !chat.system.is_empty() {
        request["instructions"] = json!(chat.system);
    }
    if let Some(max) = chat.max_tokens {
        request["max_output_tokens"] = json!(max.max(LEAST));
    }
    let thinks = effort::openai_thinks(to.model) || to.known.is_some_and(|model| model.reasoning);
    sampling(chat, thinks, &mut request, lost);
    if thinks {
        // It comes back with the calls: see `kept`.
        request["include"] = json!(["reasoning.encrypted_content"]);
    }
    match chat.effort.map(|effort| to.effort(effort).filter(|_| thinks)) {
        Some(Some(word)) => request["reasoning"] = json!({ "effort": word, "summary": "auto" }),
        Some(None) => lost.note("reasoning_effort"),
        None => {}
    }
    match &chat.format {
        Some(Format::Json) => request["text"] = json!({ "format": { "type": "json_object" } }),
        Some(Format::Schema { name, schema }) => {
            let name = name.as_deref().unwrap_or("answer");
            request["text"] = json!({ "format": {
                "type": "json_schema", "name": name, "schema": schema, "strict": false,
            } });
        }
        None => {}
    }
    if !chat.tools.is_empty() {
        tools(chat, &mut request);
    }
    request
}

/// Models that think have a sampling of their own, and refuse every other.
fn sampling(chat: &Chat, thinks: bool, request: &mut Value, lost: &mut Lost) {
    for (name, value) in [("temperature", &chat.temperature), ("top_p", &chat.top_p)] {
        match value {
            Some(_) if thinks => lost.note(name),
            Some(value) => request[name] = value.clone(),
            None => {}
        }
    }
    if chat.top_k.is_some() {
        lost.note("top_k");
    }
    if !chat.stop.is_empty() {
        lost.note("stop");
    }
}

fn tools(chat: &Chat, request: &mut Value) {
    let tool = |tool: &Tool| {
        // Without the word it would be taken as strict, and most schemas are not.
        let mut function = json!({
            "type": "function", "name": tool.name, "parameters": schema(&tool.schema), "strict": false,
        });
        if let Some(description) = &tool.description {
            function["description"] = json!(description);
        }
        function
    };
    request["tools"] = chat.tools.iter().map(tool).collect();
    match &chat.choice {
        Choice::Auto => {}
        Choice::None => request["tool_choice"] = json!("none"),
        Choice::Any => request["tool_choice"] = json!("required"),
        Choice::Tool(name) => request["tool_choice"] = json!({ "type": "function", "name": name }),
    }
    if chat.serial {
        request["parallel_tool_calls"] = json!(false);
    }
}

fn content(part: &Part) -> Option<Value> {
    Some(match part {
        Part::Text(text) => json!({ "type": "input_text", "text": text }),
        Part::Image { media_type, data } => {
            json!({ "type": "input_image", "image_url": format!("data:{media_type};base64,{data}") })
        }
        Part::ImageUrl(url) => json!({ "type": "input_image", "image_url": url }),
        Part::Thinking { .. } | Part::Call(_) | Part::Result { .. } => return None,
    })
}

fn user(turn: &Turn, input: &mut Vec<Value>) {
    for part in &turn.parts {
        let Part::Result {
            id,
            text,
            images,
            is_error,
        } = part
        else {
            continue;
        };
        let text = if *is_error {
            format!("Error: {text}")
        } else {
            text.clone()
        };
        let output = if images.is_empty() {
            json!(text)
        } else {
            let text = json!({ "type": "input_text", "text": text });
            let parts = std::iter::once(text).chain(images.iter().filter_map(content));
            parts.collect()
        };
        input.push(json!({ "type": "function_call_output", "call_id": id, "output": output }));
    }
    let said: Vec<Value> = turn.parts.iter().filter_map(content).collect();
    if !said.is_empty() {
        input.push(json!({ "type": "message", "role": "user", "content": said }));
    }
}

fn assistant(turn: &Turn, to: &To<'_>, input: &mut Vec<Value>, lost: &mut Lost) {
    for part in &turn.parts {
        match part {
            Part::Text(text) if text.is_empty() => {}
            Part::Text(text) => input.push(json!({
                "type": "message", "role": "assistant", "content": [{ "type": "output_text", "text": text }],
            })),
            Part::Call(call) => {
                input.extend(to.keeper.of(&call.id));
                input.push(function_call(call));
            }
            Part::Thinking { .. } => lost.note("thinking"),
            Part::Image { .. } | Part::ImageUrl(_) | Part::Result { .. } => lost.note("assistant.content"),
        }
    }
}

fn function_call(call: &Call) -> Value {
    json!({ "type": "function_call", "call_id": call.id, "name": call.name, "arguments": call.arguments })
}
