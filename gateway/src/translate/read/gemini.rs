//! Gemini `generateContent`.

use std::collections::{HashMap, HashSet, VecDeque};

use serde_json::Value;

use super::super::effort::{Effort, NOT_SIGNED};
use super::super::model::{Call, Chat, Choice, Format, Lost, Part, Role, Tool, list, number, text};
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
const KNOWN_GENERATION: [&str; 10] = [
    "maxOutputTokens",
    "temperature",
    "topP",
    "stopSequences",
    "thinkingConfig",
    "candidateCount",
    "topK",
    "responseMimeType",
    "responseSchema",
    "responseJsonSchema",
];

pub(super) fn request(value: &Value, lost: &mut Lost) -> Chat {
    if let Some(object) = value.as_object() {
        lost.rest(object, &KNOWN);
    }
    let generation = &value["generationConfig"];
    if let Some(object) = generation.as_object() {
        lost.rest(object, &KNOWN_GENERATION);
    }
    if generation["candidateCount"]
        .as_u64()
        .is_some_and(|count| count != 1)
    {
        lost.note("candidateCount");
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
        temperature: number(&generation["temperature"]),
        top_p: number(&generation["topP"]),
        top_k: number(&generation["topK"]),
        effort: effort(&generation["thinkingConfig"]),
        format: format(generation),
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
    open: HashSet<String>,
    /// Ids by the name of the function, oldest first; some may have been answered by id.
    by_name: HashMap<String, VecDeque<String>>,
}

impl Calls {
    fn called(&mut self, item: &Value) -> String {
        self.count += 1;
        let own = item["id"].as_str().map(str::to_owned);
        let id = own.unwrap_or_else(|| format!("call_{}", self.count));
        self.open.insert(id.clone());
        let same = self.by_name.entry(text(&item["name"])).or_default();
        same.push_back(id.clone());
        id
    }

    fn answered(&mut self, item: &Value) -> String {
        if let Some(own) = item["id"].as_str() {
            self.open.remove(own);
            return own.to_owned();
        }
        let same = self.by_name.get_mut(item["name"].as_str().unwrap_or_default());
        let mut same = same
            .into_iter()
            .flat_map(|same| std::iter::from_fn(|| same.pop_front()));
        let open = &mut self.open;
        same.find(|id| open.remove(id))
            .unwrap_or_else(|| "call_0".to_owned())
    }
}

fn part(item: &Value, calls: &mut Calls, lost: &mut Lost) -> Option<Part> {
    // Its vendor's own client says of calls that came without one that there is none.
    if item["thoughtSignature"]
        .as_str()
        .is_some_and(|signature| signature != NOT_SIGNED)
    {
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
    if let Some(address) = item["fileData"]["fileUri"].as_str() {
        return Some(Part::ImageUrl(address.to_owned()));
    }
    let call = &item["functionCall"];
    if call.is_object() {
        return Some(Part::Call(Call {
            id: calls.called(call),
            name: text(&call["name"]),
            arguments: if call["args"].is_object() {
                call["args"].to_string()
            } else {
                "{}".to_owned()
            },
            ..Call::default()
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
            images: list(&answer["parts"])
                .filter_map(|item| part(item, calls, lost))
                .filter(|part| matches!(part, Part::Image { .. } | Part::ImageUrl(_)))
                .collect(),
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

/// `-1` lets the model decide.
fn effort(thinking: &Value) -> Option<Effort> {
    let level = thinking["thinkingLevel"].as_str();
    let level = level.and_then(|level| Effort::parse(&level.to_lowercase()));
    let budget = || match thinking["thinkingBudget"].as_i64()? {
        tokens @ 0.. => Some(Effort::of_budget(tokens.unsigned_abs())),
        _ => Some(Effort::Medium),
    };
    level.or_else(budget)
}

fn format(generation: &Value) -> Option<Format> {
    if generation["responseMimeType"] != "application/json" {
        return None;
    }
    let given = generation.get("responseJsonSchema");
    let Some(schema) = given.or_else(|| generation.get("responseSchema")) else {
        return Some(Format::Json);
    };
    let mut schema = schema.clone();
    lower_types(&mut schema);
    Some(Format::Schema { name: None, schema })
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
        ..Tool::default()
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
