//! Gemini `generateContent` and `streamGenerateContent`, the latter as server-sent events or as a JSON array.

use serde_json::{Value, json};

use super::super::ids::IdSeed;
use super::super::image::{Image, image};
use super::super::neutral::{Neutral, Role, Turn};
use super::super::plan::{Item, Plan, Stop, Usage};
use super::super::script::BLOCK_SEPARATOR;
use super::super::{CONTEXT_WINDOW, MAX_OUTPUT, MODEL, MODEL_NAME};
use super::{MIDSTREAM_ERROR, Wire};

pub(super) fn neutral(body: &Value) -> Neutral {
    // The service takes both spellings; SDKs differ in which they send.
    let either = |camel: &str, snake: &str| {
        body.get(camel)
            .or_else(|| body.get(snake))
            .cloned()
            .unwrap_or_default()
    };
    let system = either("systemInstruction", "system_instruction");
    let mut request = Neutral {
        system: parts_text(parts(&system)),
        ..Neutral::default()
    };
    for content in body["contents"].as_array().into_iter().flatten() {
        let role = Role::parse(content["role"].as_str().or(Some("user")));
        read_turns(role, parts(content), &mut request.turns);
    }
    for tool in body["tools"].as_array().into_iter().flatten() {
        let functions = tool
            .get("functionDeclarations")
            .or_else(|| tool.get("function_declarations"));
        for function in functions.and_then(Value::as_array).into_iter().flatten() {
            let schema = function
                .get("parameters")
                .or_else(|| function.get("parametersJsonSchema"));
            if let Some(name) = function["name"].as_str() {
                request
                    .tools
                    .insert(name.to_owned(), schema.cloned().unwrap_or_default());
            }
        }
    }
    request
}

fn parts(content: &Value) -> &[Value] {
    content["parts"].as_array().map_or(&[], Vec::as_slice)
}

fn parts_text(parts: &[Value]) -> String {
    let texts: Vec<&str> = parts
        .iter()
        .filter(|part| part["thought"] != true)
        .filter_map(|part| part["text"].as_str())
        .collect();
    texts.join(BLOCK_SEPARATOR)
}

fn read_turns(role: Role, parts: &[Value], turns: &mut Vec<Turn>) {
    let results = parts.iter().filter_map(|part| part.get("functionResponse"));
    let before = turns.len();
    turns.extend(results.map(|result| {
        let response = &result["response"];
        let text = response["output"]
            .as_str()
            .map_or_else(|| response.to_string(), str::to_owned);
        Turn {
            role: Role::Tool,
            text,
            images: Vec::new(),
        }
    }));
    let text = parts_text(parts);
    let images: Vec<Image> = parts.iter().filter_map(image).collect();
    // An image beside results of tools belongs to them; text beside them is the user speaking.
    if !text.is_empty() || turns.len() == before {
        turns.push(Turn { role, text, images });
    } else if let Some(result) = turns.last_mut() {
        result.images.extend(images);
    }
}

fn finish_reason(plan: &Plan) -> &'static str {
    match plan.stop {
        _ if plan.items.iter().any(|item| args_of(item).is_none()) => "MALFORMED_FUNCTION_CALL",
        Stop::End | Stop::Tool => "STOP",
        Stop::Length => "MAX_TOKENS",
        Stop::Refusal => "SAFETY",
    }
}

/// The arguments as JSON; none for broken ones, which this dialect reports by its finish reason.
fn args_of(item: &Item) -> Option<Value> {
    match item {
        Item::Tool { args, .. } => serde_json::from_str(args).ok(),
        _ => Some(Value::Null),
    }
}

fn part(item: &Item, text: &str) -> Option<Value> {
    Some(match item {
        Item::Text(_) => json!({ "text": text }),
        Item::Think(_) => json!({ "text": text, "thought": true }),
        Item::Tool { name, id, .. } => {
            json!({ "functionCall": { "id": id, "name": name, "args": args_of(item)? } })
        }
    })
}

fn usage(usage: Usage) -> Value {
    json!({
        "promptTokenCount": usage.input,
        "candidatesTokenCount": usage.output,
        "totalTokenCount": usage.input.saturating_add(usage.output),
        "cachedContentTokenCount": usage.cached,
    })
}

fn response(id: &str, model: &str, parts: &[Value], finish: Option<&Plan>) -> Value {
    let mut candidate = json!({ "content": { "parts": parts, "role": "model" }, "index": 0 });
    let mut response = json!({ "modelVersion": model, "responseId": id });
    if let Some(plan) = finish {
        candidate["finishReason"] = json!(finish_reason(plan));
        response["usageMetadata"] = usage(plan.usage);
    }
    response["candidates"] = json!([candidate]);
    response
}

pub(super) fn full(model: &str, seed: IdSeed, plan: &Plan) -> Value {
    let parts: Vec<Value> = plan
        .items
        .iter()
        .filter_map(|item| part(item, &item.full()))
        .collect();
    response(&seed.id("resp-", 0), model, &parts, Some(plan))
}

pub(super) fn models(one: bool) -> Value {
    let model = json!({
        "name": format!("models/{MODEL}"), "version": "1", "displayName": MODEL_NAME,
        "inputTokenLimit": CONTEXT_WINDOW, "outputTokenLimit": MAX_OUTPUT, "thinking": true,
        "supportedGenerationMethods": ["generateContent", "streamGenerateContent", "countTokens"],
    });
    if one { model } else { json!({ "models": [model] }) }
}

/// As the service writes it: its own client takes these two for the end of a line.
fn escaped(value: &Value) -> String {
    value
        .to_string()
        .replace('\u{2028}', "\\u2028")
        .replace('\u{2029}', "\\u2029")
}

pub(super) struct Stream {
    id: String,
    model: String,
    sse: bool,
    first: bool,
}

impl Stream {
    pub(super) fn new(model: String, seed: IdSeed, sse: bool) -> Self {
        Self {
            id: seed.id("resp-", 0),
            model,
            sse,
            first: true,
        }
    }

    fn write(&mut self, value: &Value, out: &mut String) {
        if self.sse {
            for text in ["data: ", &escaped(value), "\r\n\r\n"] {
                out.push_str(text);
            }
        } else {
            out.push_str(if self.first { "[" } else { ",\r\n" });
            out.push_str(&escaped(value));
        }
        self.first = false;
    }
}

impl Wire for Stream {
    fn comment(&self) -> &'static str {
        if self.sse { ": hang\r\n\r\n" } else { " " }
    }

    fn begin(&mut self, _out: &mut String) {}

    fn open(&mut self, _item: &Item, _out: &mut String) {}

    fn delta(&mut self, item: &Item, text: &str, out: &mut String) {
        // Calls are never streamed in pieces here: `close` sends them whole.
        if !matches!(item, Item::Tool { .. })
            && let Some(part) = part(item, text)
        {
            let value = response(&self.id, &self.model, &[part], None);
            self.write(&value, out);
        }
    }

    fn close(&mut self, item: &Item, out: &mut String) {
        if matches!(item, Item::Tool { .. })
            && let Some(part) = part(item, "")
        {
            let value = response(&self.id, &self.model, &[part], None);
            self.write(&value, out);
        }
    }

    fn fail(&mut self, _item: &Item, out: &mut String) {
        let error = json!({ "code": 500, "message": MIDSTREAM_ERROR, "status": "INTERNAL" });
        self.write(&json!({ "error": error }), out);
        if !self.sse {
            out.push(']');
        }
    }

    fn finish(&mut self, plan: &Plan, out: &mut String) {
        let value = response(&self.id, &self.model, &[], Some(plan));
        self.write(&value, out);
        if !self.sse {
            out.push(']');
        }
    }
}
