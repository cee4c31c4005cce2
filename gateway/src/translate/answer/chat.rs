//! `OpenAI` Chat Completions.

use serde_json::{Map, Value, json};

use super::super::model::{Call, Event, Reason, Usage, list, text};
use super::{Read, push_text, start, tokens};

#[derive(Debug, Default)]
pub(super) struct Reader {
    started: bool,
    /// Indices of calls whose start was seen.
    calls: Vec<u64>,
    /// Fields of the message that the server wants back with its calls.
    back: Map<String, Value>,
}

impl Read for Reader {
    fn event(&mut self, value: &Value, events: &mut Vec<Event>) {
        start(&mut self.started, [&value["id"], &value["model"]], events);
        let choice = &value["choices"][0];
        let delta = &choice["delta"];
        self.thinking_and_text(delta, events);
        for call in list(&delta["tool_calls"]) {
            let index = self.call_index(call);
            if !self.calls.contains(&index) {
                self.call(index, call, events);
            }
            let arguments = &call["function"]["arguments"];
            push_text(arguments, |json| Event::CallArguments { index, json }, events);
        }
        if let Some(reason) = choice["finish_reason"].as_str() {
            events.push(Event::Stop(self::reason(reason)));
        }
        if value["usage"].is_object() {
            events.push(Event::Usage(usage(&value["usage"])));
        }
    }

    fn whole(&mut self, value: &Value, events: &mut Vec<Event>) {
        start(&mut self.started, [&value["id"], &value["model"]], events);
        let choice = &value["choices"][0];
        self.thinking_and_text(&choice["message"], events);
        for (index, call) in (0..).zip(list(&choice["message"]["tool_calls"])) {
            self.call(index, call, events);
            events.push(Event::CallArguments {
                index,
                json: text(&call["function"]["arguments"]),
            });
        }
        events.push(Event::Usage(usage(&value["usage"])));
        let reason = choice["finish_reason"].as_str().unwrap_or("stop");
        events.push(Event::Stop(self::reason(reason)));
    }
}

impl Reader {
    fn call(&mut self, index: u64, call: &Value, events: &mut Vec<Event>) {
        self.calls.push(index);
        if !self.back.is_empty() {
            events.push(Event::Opaque(Value::Object(std::mem::take(&mut self.back))));
        }
        events.push(Event::CallStart {
            index,
            call: Call {
                id: text(&call["id"]),
                name: text(&call["function"]["name"]),
                ..Call::default()
            },
        });
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

    fn thinking_and_text(&mut self, from: &Value, events: &mut Vec<Event>) {
        for name in ["reasoning_content", "reasoning"] {
            if let Some(said) = from[name].as_str().filter(|said| !said.is_empty())
                && let Value::String(kept) = self.back.entry(name).or_insert_with(|| json!(""))
            {
                kept.push_str(said);
            }
        }
        if let Some(details) = from["reasoning_details"]
            .as_array()
            .filter(|list| !list.is_empty())
        {
            let kept = self.back.entry("reasoning_details").or_insert_with(|| json!([]));
            if let Some(kept) = kept.as_array_mut() {
                kept.extend(details.iter().cloned());
            }
        }
        let thinking = from.get("reasoning_content").or_else(|| from.get("reasoning"));
        push_text(thinking.unwrap_or(&Value::Null), Event::Thinking, events);
        push_text(&from["content"], Event::Text, events);
        push_text(&from["refusal"], Event::Text, events);
    }
}

fn reason(reason: &str) -> Reason {
    match reason {
        "length" => Reason::Length,
        "tool_calls" | "function_call" => Reason::Tools,
        "content_filter" => Reason::Refusal,
        _ => Reason::Stop,
    }
}

fn usage(value: &Value) -> Usage {
    Usage {
        input: tokens(&value["prompt_tokens"]),
        cache_read: tokens(&value["prompt_tokens_details"]["cached_tokens"]),
        cache_write: 0,
        output: tokens(&value["completion_tokens"]),
        reasoning: tokens(&value["completion_tokens_details"]["reasoning_tokens"]),
    }
}
