//! What the four dialects have in common.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::effort::Effort;

/// What a translation could not carry over, by field or kind of part.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Lost(pub(crate) BTreeSet<String>);

impl Lost {
    /// Notes a loss; names of the caller's own are cut and cleaned, since they stand in a header.
    pub(super) fn note(&mut self, what: &str) {
        let clean = |char: &char| char.is_ascii_alphanumeric() || "._-[]".contains(*char);
        let what: String = what.chars().filter(clean).take(40).collect();
        if self.0.len() < 32 {
            self.0.insert(what);
        }
    }

    /// Notes every field that is not among these.
    pub(super) fn rest(&mut self, object: &Map<String, Value>, known: &[&str]) {
        for (name, value) in object {
            if !known.contains(&name.as_str()) && !value.is_null() {
                self.note(name);
            }
        }
    }
}

/// Who a turn is from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    User,
    Assistant,
}

/// A piece of a turn.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Part {
    Text(String),
    /// `data` is base64.
    Image {
        media_type: String,
        data: String,
    },
    ImageUrl(String),
    Thinking {
        text: String,
        signature: Option<String>,
    },
    Call(Call),
    Result {
        id: String,
        text: String,
        /// Images, as the other two kinds of part.
        images: Vec<Part>,
        is_error: bool,
    },
}

/// What a tool takes, where it is not an object by a schema.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum ToolKind {
    #[default]
    Function,
    /// Text, which a function of one argument, `input`, stands for.
    Custom,
    /// Responses' own tool for commands.
    LocalShell,
}

/// A call of a tool.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Call {
    pub(super) id: String,
    pub(super) name: String,
    /// The group the tool is in, where the dialect has such.
    pub(super) namespace: Option<String>,
    pub(super) kind: ToolKind,
    /// JSON.
    pub(super) arguments: String,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Turn {
    pub(super) role: Role,
    pub(super) parts: Vec<Part>,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Tool {
    pub(super) name: String,
    pub(super) namespace: Option<String>,
    pub(super) kind: ToolKind,
    pub(super) description: Option<String>,
    /// A JSON Schema.
    pub(super) schema: Value,
}

/// Which tool the model has to use.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) enum Choice {
    #[default]
    Auto,
    None,
    Any,
    Tool(String),
}

/// What an answer has to be, beside text.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Format {
    /// Any JSON.
    Json,
    Schema {
        name: Option<String>,
        schema: Value,
    },
}

/// A request.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Chat {
    pub(super) stream: bool,
    /// The caller wants the usage in its stream.
    pub(super) include_usage: bool,
    pub(super) system: String,
    pub(super) turns: Vec<Turn>,
    pub(super) tools: Vec<Tool>,
    pub(super) choice: Choice,
    /// One call at a time.
    pub(super) serial: bool,
    pub(super) max_tokens: Option<u64>,
    pub(super) temperature: Option<Value>,
    pub(super) top_p: Option<Value>,
    pub(super) top_k: Option<Value>,
    pub(super) stop: Vec<Value>,
    pub(super) effort: Option<Effort>,
    pub(super) format: Option<Format>,
}

impl Chat {
    /// Adds to the last turn where it is from the same side: some dialects want the sides to alternate.
    pub(super) fn add(&mut self, role: Role, parts: Vec<Part>) {
        if parts.is_empty() {
            return;
        }
        match self.turns.last_mut() {
            Some(last) if last.role == role => last.parts.extend(parts),
            _ => self.turns.push(Turn { role, parts }),
        }
    }

    /// What the system says in the middle of a conversation stays where it was said: not every dialect lets it speak there.
    pub(super) fn add_system(&mut self, text: &str) {
        if text.is_empty() {
            return;
        }
        if !self.turns.is_empty() {
            return self.add(Role::User, vec![Part::Text(text.to_owned())]);
        }
        if !self.system.is_empty() {
            self.system.push_str("\n\n");
        }
        self.system.push_str(text);
    }
}

/// Why an answer ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Reason {
    #[default]
    Stop,
    Length,
    Tools,
    Refusal,
}

/// Tokens of one answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Usage {
    /// Cached ones included.
    pub(super) input: u64,
    pub(super) cache_read: u64,
    pub(super) cache_write: u64,
    /// Reasoning included.
    pub(super) output: u64,
    pub(super) reasoning: u64,
}

/// A step of an answer.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Event {
    Start {
        id: String,
        model: String,
    },
    Text(String),
    Thinking(String),
    /// Something that only its provider reads, and wants back with the call that follows: see [`super::kept`].
    Opaque(Value),
    /// `index` is the provider's own; the arguments follow.
    CallStart {
        index: u64,
        call: Call,
    },
    CallArguments {
        index: u64,
        json: String,
    },
    Stop(Reason),
    Usage(Usage),
    Error(String),
    /// The end as the dialect marks it; what comes after is not read.
    Done,
}

/// An answer as far as it has come.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Answer {
    pub(super) id: String,
    pub(super) model: String,
    pub(super) thinking: String,
    pub(super) text: String,
    pub(super) calls: Vec<(u64, Call)>,
    pub(super) reason: Option<Reason>,
    pub(super) usage: Usage,
    pub(super) error: Option<String>,
    /// What is to be kept with each call, by its id.
    pub(super) kept: Vec<(String, Vec<Value>)>,
    /// The same for the next call.
    pending: Vec<Value>,
}

impl Answer {
    pub(super) fn take(&mut self, event: Event) {
        match event {
            Event::Start { id, model } => (self.id, self.model) = (id, model),
            Event::Text(text) => self.text.push_str(&text),
            Event::Thinking(text) => self.thinking.push_str(&text),
            Event::Opaque(value) => self.pending.push(value),
            Event::CallStart { index, call } => {
                if !self.pending.is_empty() {
                    self.kept
                        .push((call.id.clone(), std::mem::take(&mut self.pending)));
                }
                self.calls.push((index, call));
            }
            Event::CallArguments { index, json } => {
                // The last of that index: some providers number every call 0.
                let call = self.calls.iter_mut().rev().find(|(at, _)| *at == index);
                if let Some((_, call)) = call {
                    call.arguments.push_str(&json);
                }
            }
            Event::Stop(reason) => self.reason = Some(reason),
            Event::Usage(usage) => self.usage = usage,
            Event::Error(message) => self.error = Some(message),
            Event::Done => {}
        }
    }
}

/// Text of a field, or nothing.
pub(super) fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// The items of a list, or none.
pub(super) fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

/// Arguments that a dialect wants as an object.
pub(super) fn object(arguments: &str) -> Value {
    match serde_json::from_str(arguments) {
        Ok(value @ Value::Object(_)) => value,
        _ => Value::Object(Map::new()),
    }
}

/// An image from where it is: its bytes, or its address.
pub(super) fn image(url: &str) -> Part {
    let data = url
        .strip_prefix("data:")
        .and_then(|rest| rest.split_once(";base64,"));
    match data {
        Some((media_type, data)) => Part::Image {
            media_type: media_type.to_owned(),
            data: data.to_owned(),
        },
        None => Part::ImageUrl(url.to_owned()),
    }
}

/// A number of a field.
pub(super) fn number(value: &Value) -> Option<Value> {
    value.is_number().then(|| value.clone())
}

/// The arguments of a function that stands for a tool which takes text.
pub(super) fn as_input(text: &str) -> String {
    serde_json::json!({ "input": text }).to_string()
}

/// And back; what a model wrote in another form is passed on as it is.
pub(super) fn input_of(arguments: &str) -> String {
    let value: Option<Value> = serde_json::from_str(arguments).ok();
    let input = value.as_ref().and_then(|value| value["input"].as_str());
    input.unwrap_or(arguments).to_owned()
}
