//! Anthropic Messages.

use serde_json::{Value, json};

use super::super::model::{Call, Event, Reason, Usage, list, text};
use super::{Read, push_text, start};

#[derive(Debug, Default)]
pub(super) struct Reader {
    started: bool,
    usage: Usage,
    /// A block of thinking as far as it has come; it is wanted back whole.
    thinking: Option<(String, String)>,
}

impl Read for Reader {
    fn event(&mut self, value: &Value, events: &mut Vec<Event>) {
        let index = value["index"].as_u64().unwrap_or(0);
        match value["type"].as_str() {
            Some("message_start") => {
                let message = &value["message"];
                start(&mut self.started, [&message["id"], &message["model"]], events);
                self.usage(&message["usage"], events);
            }
            Some("content_block_start") => self.block(index, &value["content_block"], events),
            Some("content_block_delta") => self.delta(index, &value["delta"], events),
            Some("content_block_stop") => self.thought(events),
            Some("message_delta") => {
                self.usage(&value["usage"], events);
                if let Some(reason) = value["delta"]["stop_reason"].as_str() {
                    events.push(Event::Stop(self::reason(reason)));
                }
            }
            Some("message_stop") => events.push(Event::Done),
            _ => {}
        }
    }

    fn whole(&mut self, value: &Value, events: &mut Vec<Event>) {
        start(&mut self.started, [&value["id"], &value["model"]], events);
        for (index, block) in (0..).zip(list(&value["content"])) {
            self.block(index, block, events);
            if block["type"] == "tool_use" {
                events.push(Event::CallArguments {
                    index,
                    json: block["input"].to_string(),
                });
            }
            self.thought(events);
        }
        self.usage(&value["usage"], events);
        let reason = value["stop_reason"].as_str().unwrap_or("end_turn");
        events.push(Event::Stop(self::reason(reason)));
    }
}

impl Reader {
    fn block(&mut self, index: u64, block: &Value, events: &mut Vec<Event>) {
        match block["type"].as_str() {
            Some("text") => push_text(&block["text"], Event::Text, events),
            Some("thinking") => {
                push_text(&block["thinking"], Event::Thinking, events);
                self.thinking = Some((text(&block["thinking"]), text(&block["signature"])));
            }
            Some("redacted_thinking") => events.push(Event::Opaque(block.clone())),
            Some("tool_use") => {
                self.thought(events);
                events.push(Event::CallStart {
                    index,
                    call: Call {
                        id: text(&block["id"]),
                        name: text(&block["name"]),
                        ..Call::default()
                    },
                });
            }
            _ => {}
        }
    }

    fn delta(&mut self, index: u64, delta: &Value, events: &mut Vec<Event>) {
        match delta["type"].as_str() {
            Some("text_delta") => events.push(Event::Text(text(&delta["text"]))),
            Some("thinking_delta") => {
                let said = text(&delta["thinking"]);
                if let Some((thinking, _)) = &mut self.thinking {
                    thinking.push_str(&said);
                }
                events.push(Event::Thinking(said));
            }
            Some("signature_delta") => {
                if let Some((_, signature)) = &mut self.thinking {
                    signature.push_str(delta["signature"].as_str().unwrap_or_default());
                }
            }
            Some("input_json_delta") => events.push(Event::CallArguments {
                index,
                json: text(&delta["partial_json"]),
            }),
            _ => {}
        }
    }

    /// The end of a block of thinking; without a signature nobody wants it back.
    fn thought(&mut self, events: &mut Vec<Event>) {
        if let Some((thinking, signature)) = self.thinking.take()
            && !signature.is_empty()
        {
            events.push(Event::Opaque(json!({
                "type": "thinking", "thinking": thinking, "signature": signature,
            })));
        }
    }

    /// What is told twice counts as told last; input does not hold what came from the cache.
    fn usage(&mut self, value: &Value, events: &mut Vec<Event>) {
        if !value.is_object() {
            return;
        }
        let usage = &mut self.usage;
        let uncached = usage.input - usage.cache_read - usage.cache_write;
        let last = |name: &str, before: u64| value[name].as_u64().unwrap_or(before).min(u64::MAX / 4);
        usage.cache_read = last("cache_read_input_tokens", usage.cache_read);
        usage.cache_write = last("cache_creation_input_tokens", usage.cache_write);
        usage.input = last("input_tokens", uncached) + usage.cache_read + usage.cache_write;
        usage.output = last("output_tokens", usage.output);
        let thought = value["output_tokens_details"]["thinking_tokens"].as_u64();
        usage.reasoning = thought.unwrap_or(usage.reasoning).min(usage.output);
        events.push(Event::Usage(*usage));
    }
}

fn reason(reason: &str) -> Reason {
    match reason {
        "max_tokens" | "model_context_window_exceeded" => Reason::Length,
        "tool_use" => Reason::Tools,
        "refusal" => Reason::Refusal,
        _ => Reason::Stop,
    }
}
