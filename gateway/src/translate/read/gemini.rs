//! Gemini `generateContent`.

use std::collections::VecDeque;

use serde_json::Value;

use super::super::model::{Call, Chat, Choice, Lost, Part, Role, Tool, list, text};
use super::content_text;

/// Safety settings are the provider's own.
const KNOWN: [&str; 8] = [
    "contents",
    "systemInstruction",
    "system_instruction",
    "tools",
    "toolConfig",
    "generationConfig",
    "safetySettings",
    "model",
];
const KNOWN_GENERATION: [&str; 6] = [
    "maxOutputTokens",
    "temperature",
    "topP",
    "stopSequences",
    "thinkingConfig",
    "candidateCount",
];

pub(super) fn request(value: &Value, lost: &mut Lost) -> Chat {
    if let Some(object) = value.as_object() {
        lost.rest(object, &KNOWN);
    }
    let generation = &value["generationConfig"];
    if let Some(object) = generation.as_object() {
        lost.rest(object, &KNOWN_GENERATION);
    }
    if generation.get("thinkingConfig").is_some() {
        lost.note("thinkingConfig");
    }
    let system = value
        .get("systemInstruction")
        .or_else(|| value.get("system_instruction"));
    let declared = |tool: &Value| {
        tool.get("functionDeclarations")
            .or_else(|| tool.get("function_declarations"))
            .cloned()
    };
    let declarations: Vec<Value> = list(&value["tools"]).filter_map(declared).collect();
    let mut chat = Chat {
        include_usage: true,
        system: system
            .map(|system| content_text(&system["parts"]))
            .unwrap_or_default(),
        tools: declarations.iter().flat_map(list).map(tool).collect(),
        choice: choice(&value["toolConfig"]["functionCallingConfig"]),
        max_tokens: generation["maxOutputTokens"].as_u64(),
        temperature: generation
            .get("temperature")
            .filter(|value| value.is_number())
            .cloned(),
        top_p: generation.get("topP").filter(|value| value.is_number()).cloned(),
        stop: list(&generation["stopSequences"]).cloned().collect(),
        ..Chat::default()
    };
    let mut calls = Calls::default();
    for content in list(&value["contents"]) {
        let role = match content["role"].as_str() {
            Some("model") => Role::Assistant,
            _ => Role::User,
        };
        let parts = list(&content["parts"])
            .filter_map(|item| part(item, &mut calls, lost))
            .collect();
        chat.add(role, parts);
    }
    chat
}

/// Calls without an id get one, and their results, which name the function only, the same.
#[derive(Default)]
struct Calls {
    count: usize,
    open: VecDeque<(String, String)>,
}

impl Calls {
    fn called(&mut self, item: &Value) -> String {
        self.count += 1;
        let own = item["id"].as_str().map(str::to_owned);
        let id = own.unwrap_or_else(|| format!("call_{}", self.count));
        self.open.push_back((text(&item["name"]), id.clone()));
        id
    }

    fn answered(&mut self, item: &Value) -> String {
        let own = item["id"].as_str();
        let fits = |(name, id): &(String, String)| own.map_or(item["name"] == *name, |own| own == id);
        match self
            .open
            .iter()
            .position(fits)
            .and_then(|at| self.open.remove(at))
        {
            Some((_, id)) => id,
            None => own.unwrap_or("call_0").to_owned(),
        }
    }
}

fn part(item: &Value, calls: &mut Calls, lost: &mut Lost) -> Option<Part> {
    if item.get("thoughtSignature").is_some() {
        lost.note("thoughtSignature");
    }
    if let Some(said) = item["text"].as_str() {
        let said = said.to_owned();
        return Some(if item["thought"] == true {
            Part::Thinking {
                text: said,
                signature: None,
            }
        } else {
            Part::Text(said)
        });
    }
    let inline = &item["inlineData"];
    if inline.is_object() {
        return Some(Part::Image {
            media_type: text(&inline["mimeType"]),
            data: text(&inline["data"]),
        });
    }
    let call = &item["functionCall"];
    if call.is_object() {
        return Some(Part::Call(Call {
            id: calls.called(call),
            name: text(&call["name"]),
            arguments: call["args"].to_string(),
        }));
    }
    let answer = &item["functionResponse"];
    if answer.is_object() {
        let response = &answer["response"];
        // What the clients of this dialect wrap a result in.
        let output = response
            .get("output")
            .or_else(|| response.get("error"))
            .unwrap_or(response);
        return Some(Part::Result {
            id: calls.answered(answer),
            text: content_text(output),
            is_error: response.get("error").is_some(),
        });
    }
    lost.note(
        item.as_object()
            .and_then(|part| part.keys().next())
            .map_or("parts", |key| key),
    );
    None
}

fn tool(item: &Value) -> Tool {
    let schema = item
        .get("parametersJsonSchema")
        .or_else(|| item.get("parameters"));
    let mut schema = schema.cloned().unwrap_or(Value::Null);
    lower_types(&mut schema);
    Tool {
        name: text(&item["name"]),
        description: item["description"].as_str().map(str::to_owned),
        schema,
    }
}

/// `STRING` is `string` everywhere else.
fn lower_types(schema: &mut Value) {
    match schema {
        Value::Object(fields) => {
            for (name, value) in fields {
                match value {
                    Value::String(kind) if name == "type" => *kind = kind.to_lowercase(),
                    other => lower_types(other),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(lower_types),
        _ => {}
    }
}

fn choice(config: &Value) -> Choice {
    let names: Vec<&Value> = list(&config["allowedFunctionNames"]).collect();
    match (config["mode"].as_str(), names.as_slice()) {
        (Some("NONE"), _) => Choice::None,
        (Some("ANY"), [name]) => Choice::Tool(text(name)),
        (Some("ANY"), _) => Choice::Any,
        _ => Choice::Auto,
    }
}
