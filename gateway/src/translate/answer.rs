//! Answers as providers write them: as a stream of events, or whole.

use serde_json::Value;

use super::model::{Event, Reason, Usage, list, text};
use crate::dialect::Dialect;

/// Reads the events of one answer.
#[derive(Debug)]
pub(super) struct Reader {
    dialect: Dialect,
    started: bool,
    /// Indices of calls whose start was seen, in chats.
    calls: Vec<u64>,
    usage: Usage,
}

impl Reader {
    pub(super) fn new(dialect: Dialect) -> Self {
        Self {
            dialect,
            started: false,
            calls: Vec::new(),
            usage: Usage::default(),
        }
    }

    /// The data of one event of a stream.
    pub(super) fn data(&mut self, data: &[u8]) -> Vec<Event> {
        if data == b"[DONE]" {
            return vec![Event::Done];
        }
        let Ok(value) = serde_json::from_slice::<Value>(data) else {
            return vec![Event::Error(
                "the provider sent an event that is not JSON".to_owned(),
            )];
        };
        let mut events = Vec::new();
        if let Some(message) = error(&value) {
            events.push(Event::Error(message));
        } else if self.dialect == Dialect::Messages {
            self.message_event(&value, &mut events);
        } else {
            self.chunk(&value, &mut events);
        }
        events
    }

    /// A whole answer, as the events it could have come as.
    pub(super) fn whole(&mut self, value: &Value) -> Vec<Event> {
        let mut events = Vec::new();
        if self.dialect == Dialect::Messages {
            self.message(value, &mut events);
        } else {
            self.chat(value, &mut events);
        }
        events.push(Event::Done);
        events
    }

    fn start(&mut self, value: &Value, events: &mut Vec<Event>) {
        if !std::mem::replace(&mut self.started, true) {
            events.push(Event::Start {
                id: text(&value["id"]),
                model: text(&value["model"]),
            });
        }
    }

    fn chunk(&mut self, value: &Value, events: &mut Vec<Event>) {
        self.start(value, events);
        let choice = &value["choices"][0];
        let delta = &choice["delta"];
        thinking_and_text(delta, events);
        for call in list(&delta["tool_calls"]) {
            let index = self.call_index(call);
            if !self.calls.contains(&index) {
                self.calls.push(index);
                events.push(Event::CallStart {
                    index,
                    id: text(&call["id"]),
                    name: text(&call["function"]["name"]),
                });
            }
            if let Some(json) = call["function"]["arguments"]
                .as_str()
                .filter(|json| !json.is_empty())
            {
                events.push(Event::CallArguments {
                    index,
                    json: json.to_owned(),
                });
            }
        }
        if let Some(reason) = choice["finish_reason"].as_str() {
            events.push(Event::Stop(chat_reason(reason)));
        }
        if value["usage"].is_object() {
            events.push(Event::Usage(chat_usage(&value["usage"])));
        }
    }

    /// Some providers leave the index away, or give every whole call the same.
    fn call_index(&self, call: &Value) -> u64 {
        let next = self.calls.iter().max().map_or(0, |last| last + 1);
        let is_new = call["id"].as_str().is_some_and(|id| !id.is_empty());
        match call["index"].as_u64() {
            Some(index) if is_new && self.calls.contains(&index) && call["function"]["name"].is_string() => {
                next
            }
            Some(index) => index,
            None if is_new => next,
            None => next.saturating_sub(1),
        }
    }

    fn chat(&mut self, value: &Value, events: &mut Vec<Event>) {
        self.start(value, events);
        let choice = &value["choices"][0];
        thinking_and_text(&choice["message"], events);
        for (index, call) in (0..).zip(list(&choice["message"]["tool_calls"])) {
            events.push(Event::CallStart {
                index,
                id: text(&call["id"]),
                name: text(&call["function"]["name"]),
            });
            events.push(Event::CallArguments {
                index,
                json: text(&call["function"]["arguments"]),
            });
        }
        events.push(Event::Usage(chat_usage(&value["usage"])));
        let reason = choice["finish_reason"].as_str().unwrap_or("stop");
        events.push(Event::Stop(chat_reason(reason)));
    }

    fn message_event(&mut self, value: &Value, events: &mut Vec<Event>) {
        let index = value["index"].as_u64().unwrap_or(0);
        match value["type"].as_str() {
            Some("message_start") => {
                self.start(&value["message"], events);
                self.message_usage(&value["message"]["usage"], events);
            }
            Some("content_block_start") => block_start(index, &value["content_block"], events),
            Some("content_block_delta") => {
                let delta = &value["delta"];
                match delta["type"].as_str() {
                    Some("text_delta") => events.push(Event::Text(text(&delta["text"]))),
                    Some("thinking_delta") => events.push(Event::Thinking(text(&delta["thinking"]))),
                    Some("signature_delta") => events.push(Event::Signature(text(&delta["signature"]))),
                    Some("input_json_delta") => events.push(Event::CallArguments {
                        index,
                        json: text(&delta["partial_json"]),
                    }),
                    _ => {}
                }
            }
            Some("message_delta") => {
                self.message_usage(&value["usage"], events);
                if let Some(reason) = value["delta"]["stop_reason"].as_str() {
                    events.push(Event::Stop(message_reason(reason)));
                }
            }
            Some("message_stop") => events.push(Event::Done),
            _ => {}
        }
    }

    fn message(&mut self, value: &Value, events: &mut Vec<Event>) {
        self.start(value, events);
        for (index, block) in (0..).zip(list(&value["content"])) {
            block_start(index, block, events);
            if block["type"] == "tool_use" {
                events.push(Event::CallArguments {
                    index,
                    json: block["input"].to_string(),
                });
            }
        }
        self.message_usage(&value["usage"], events);
        let reason = value["stop_reason"].as_str().unwrap_or("end_turn");
        events.push(Event::Stop(message_reason(reason)));
    }

    /// What is told twice counts as told last; input does not hold what came from the cache.
    fn message_usage(&mut self, value: &Value, events: &mut Vec<Event>) {
        if !value.is_object() {
            return;
        }
        let usage = &mut self.usage;
        let uncached = usage.input - usage.cache_read - usage.cache_write;
        usage.cache_read = value["cache_read_input_tokens"]
            .as_u64()
            .unwrap_or(usage.cache_read);
        usage.cache_write = value["cache_creation_input_tokens"]
            .as_u64()
            .unwrap_or(usage.cache_write);
        let uncached = value["input_tokens"].as_u64().unwrap_or(uncached);
        usage.input = uncached
            .saturating_add(usage.cache_read)
            .saturating_add(usage.cache_write);
        usage.output = value["output_tokens"].as_u64().unwrap_or(usage.output);
        events.push(Event::Usage(*usage));
    }
}

fn block_start(index: u64, block: &Value, events: &mut Vec<Event>) {
    match block["type"].as_str() {
        Some("text") => push_text(&block["text"], Event::Text, events),
        Some("thinking") => {
            push_text(&block["thinking"], Event::Thinking, events);
            push_text(&block["signature"], Event::Signature, events);
        }
        Some("tool_use") => events.push(Event::CallStart {
            index,
            id: text(&block["id"]),
            name: text(&block["name"]),
        }),
        _ => {}
    }
}

fn thinking_and_text(from: &Value, events: &mut Vec<Event>) {
    let thinking = from.get("reasoning_content").or_else(|| from.get("reasoning"));
    push_text(thinking.unwrap_or(&Value::Null), Event::Thinking, events);
    push_text(&from["content"], Event::Text, events);
    push_text(&from["refusal"], Event::Text, events);
}

fn push_text(value: &Value, event: impl Fn(String) -> Event, events: &mut Vec<Event>) {
    if let Some(text) = value.as_str().filter(|text| !text.is_empty()) {
        events.push(event(text.to_owned()));
    }
}

/// What a provider says went wrong, in an event or in the body of an error.
pub(super) fn error(value: &Value) -> Option<String> {
    let error = value.get("error").filter(|error| !error.is_null())?;
    let message = error["message"].as_str().or_else(|| error.as_str());
    let message = message.unwrap_or("the provider reported an error");
    Some(message.chars().take(2000).collect())
}

fn chat_reason(reason: &str) -> Reason {
    match reason {
        "length" => Reason::Length,
        "tool_calls" | "function_call" => Reason::Tools,
        "content_filter" => Reason::Refusal,
        _ => Reason::Stop,
    }
}

fn message_reason(reason: &str) -> Reason {
    match reason {
        "max_tokens" | "model_context_window_exceeded" => Reason::Length,
        "tool_use" => Reason::Tools,
        "refusal" => Reason::Refusal,
        _ => Reason::Stop,
    }
}

fn chat_usage(value: &Value) -> Usage {
    let number = |value: &Value| value.as_u64().unwrap_or(0);
    Usage {
        input: number(&value["prompt_tokens"]),
        cache_read: number(&value["prompt_tokens_details"]["cached_tokens"]),
        cache_write: 0,
        output: number(&value["completion_tokens"]),
        reasoning: number(&value["completion_tokens_details"]["reasoning_tokens"]),
    }
}
