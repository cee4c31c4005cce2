//! Gemini `generateContent`.

use std::collections::HashMap;

use serde_json::{Value, json};

use super::super::effort::{Effort, Gemini, NOT_SIGNED};
use super::super::model::{Call, Chat, Choice, Format, Lost, Part, Role, Tool, Turn, object};
use super::{To, schema};

/// Stop sequences that are taken.
const MAX_STOPS: usize = 5;

pub(super) fn request(chat: &Chat, to: &To<'_>, lost: &mut Lost) -> Value {
    let names: HashMap<&str, &str> = chat
        .turns
        .iter()
        .flat_map(|turn| &turn.parts)
        .filter_map(|part| match part {
            Part::Call(call) => Some((call.id.as_str(), call.name.as_str())),
            _ => None,
        })
        .collect();
    let mut contents = Vec::new();
    if chat
        .turns
        .first()
        .is_some_and(|turn| turn.role == Role::Assistant)
    {
        // A conversation begins with its user; this one was cut.
        contents.push(json!({ "role": "user", "parts": [{ "text": "(The beginning was left out.)" }] }));
    }
    for turn in &chat.turns {
        let (role, parts) = match turn.role {
            Role::User => ("user", user(turn, &names, lost)),
            Role::Assistant => ("model", model(turn, to, lost)),
        };
        if !parts.is_empty() {
            contents.push(json!({ "role": role, "parts": parts }));
        }
    }
    let mut request = json!({ "contents": contents });
    if !chat.system.is_empty() {
        request["systemInstruction"] = json!({ "parts": [{ "text": chat.system }] });
    }
    let generation = generation(chat, to, lost);
    if generation.as_object().is_some_and(|fields| !fields.is_empty()) {
        request["generationConfig"] = generation;
    }
    if !chat.tools.is_empty() {
        tools(chat, &mut request, lost);
    }
    request
}

fn generation(chat: &Chat, to: &To<'_>, lost: &mut Lost) -> Value {
    let mut generation = json!({});
    if let Some(max) = chat.max_tokens {
        generation["maxOutputTokens"] = json!(max);
    }
    for (name, value) in [
        ("temperature", &chat.temperature),
        ("topP", &chat.top_p),
        ("topK", &chat.top_k),
    ] {
        if let Some(value) = value {
            generation[name] = value.clone();
        }
    }
    if chat.stop.len() > MAX_STOPS {
        lost.note("stop");
    }
    if !chat.stop.is_empty() {
        generation["stopSequences"] = chat.stop.iter().take(MAX_STOPS).cloned().collect();
    }
    match &chat.format {
        Some(Format::Json) => generation["responseMimeType"] = json!("application/json"),
        Some(Format::Schema { schema, .. }) => {
            generation["responseMimeType"] = json!("application/json");
            generation["responseJsonSchema"] = schema.clone();
        }
        None => {}
    }
    if let Some(effort) = chat.effort {
        match thinking(effort, Gemini::of(to.model)) {
            Some(config) => generation["thinkingConfig"] = config,
            None => lost.note("reasoning_effort"),
        }
    }
    generation
}

fn thinking(effort: Effort, model: Gemini) -> Option<Value> {
    match model {
        Gemini::Not => None,
        Gemini::Budget(least) => {
            // As much as the smallest of them takes.
            let budget = effort.budget().clamp(least, 24_576);
            Some(json!({ "thinkingBudget": budget, "includeThoughts": budget > 0 }))
        }
        Gemini::Level { knows_medium } => {
            let level = match effort {
                Effort::None | Effort::Minimal | Effort::Low => "low",
                Effort::Medium if knows_medium => "medium",
                Effort::Medium | Effort::High | Effort::Xhigh | Effort::Max => "high",
            };
            Some(json!({ "thinkingLevel": level, "includeThoughts": effort != Effort::None }))
        }
    }
}

fn tools(chat: &Chat, request: &mut Value, lost: &mut Lost) {
    let declare = |tool: &Tool| {
        let mut parameters = schema(&tool.schema);
        if let Some(fields) = parameters.as_object_mut() {
            fields.remove("$schema");
        }
        let mut declared = json!({ "name": tool.name, "parametersJsonSchema": parameters });
        if let Some(description) = &tool.description {
            declared["description"] = json!(description);
        }
        declared
    };
    let declared: Vec<Value> = chat.tools.iter().map(declare).collect();
    request["tools"] = json!([{ "functionDeclarations": declared }]);
    let config = match &chat.choice {
        Choice::Auto => None,
        Choice::None => Some(json!({ "mode": "NONE" })),
        Choice::Any => Some(json!({ "mode": "ANY" })),
        Choice::Tool(name) => Some(json!({ "mode": "ANY", "allowedFunctionNames": [name] })),
    };
    if let Some(config) = config {
        request["toolConfig"] = json!({ "functionCallingConfig": config });
    }
    if chat.serial {
        lost.note("parallel_tool_calls");
    }
}

fn content(part: &Part) -> Option<Value> {
    Some(match part {
        Part::Text(text) if text.is_empty() => return None,
        Part::Text(text) => json!({ "text": text }),
        Part::Image { media_type, data } => {
            json!({ "inlineData": { "mimeType": media_type, "data": data } })
        }
        Part::ImageUrl(url) => json!({ "fileData": { "fileUri": url } }),
        Part::Thinking { .. } | Part::Call(_) | Part::Result { .. } => return None,
    })
}

/// Results come first, and name the function they are of.
fn user(turn: &Turn, names: &HashMap<&str, &str>, lost: &mut Lost) -> Vec<Value> {
    let (mut results, mut rest) = (Vec::new(), Vec::new());
    for part in &turn.parts {
        let Part::Result {
            id,
            text,
            images,
            is_error,
        } = part
        else {
            rest.extend(content(part));
            continue;
        };
        if let Some(name) = names.get(id.as_str()) {
            let field = if *is_error { "error" } else { "output" };
            let response = json!({ "id": id, "name": name, "response": { field: text } });
            results.push(json!({ "functionResponse": response }));
        } else {
            // A result without its call is refused; what it says is not lost.
            lost.note("tool_result.id");
            rest.push(json!({ "text": text }));
        }
        rest.extend(images.iter().filter_map(content));
    }
    results.extend(rest);
    results
}

fn model(turn: &Turn, to: &To<'_>, lost: &mut Lost) -> Vec<Value> {
    let mut parts = Vec::new();
    let mut signed = false;
    for part in &turn.parts {
        match part {
            Part::Call(call) => parts.push(function_call(call, to, &mut signed)),
            Part::Thinking { .. } => lost.note("thinking"),
            Part::Result { .. } => lost.note("assistant.content"),
            part => parts.extend(content(part)),
        }
    }
    parts
}

/// With the signature that it came with. Of several calls only the first has one.
fn function_call(call: &Call, to: &To<'_>, signed: &mut bool) -> Value {
    let mut part =
        json!({ "functionCall": { "id": call.id, "name": call.name, "args": object(&call.arguments) } });
    let kept = to.keeper.of(&call.id).into_iter().next();
    let needs_one = !*signed && matches!(Gemini::of(to.model), Gemini::Level { .. });
    if let Some(signature) = kept.or_else(|| needs_one.then(|| json!(NOT_SIGNED))) {
        part["thoughtSignature"] = signature;
    }
    *signed = true;
    part
}
