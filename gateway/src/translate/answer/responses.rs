//! `OpenAI` Responses.

use serde_json::{Value, json};

use super::super::model::{Call, Event, Reason, Usage, list, text};
use super::{Read, push_text, start, tokens};

#[derive(Debug, Default)]
pub(super) struct Reader {
    started: bool,
    /// Items whose arguments came in pieces, by where they are in the output.
    pieces: Vec<u64>,
    calls: usize,
    /// A part of a summary has ended.
    paragraph: bool,
}

impl Read for Reader {
    fn event(&mut self, value: &Value, events: &mut Vec<Event>) {
        let index = value["output_index"].as_u64().unwrap_or(0);
        let response = &value["response"];
        match value["type"].as_str() {
            Some("response.created" | "response.in_progress") => {
                start(&mut self.started, [&response["id"], &response["model"]], events);
            }
            Some("response.output_text.delta" | "response.refusal.delta") => {
                push_text(&value["delta"], Event::Text, events);
            }
            Some("response.reasoning_summary_text.delta" | "response.reasoning_text.delta") => {
                if std::mem::take(&mut self.paragraph) {
                    events.push(Event::Thinking("\n\n".to_owned()));
                }
                push_text(&value["delta"], Event::Thinking, events);
            }
            Some("response.reasoning_summary_text.done" | "response.reasoning_text.done") => {
                self.paragraph = true;
            }
            Some("response.output_item.added") if value["item"]["type"] == "function_call" => {
                self.call(index, &value["item"], events);
            }
            Some("response.function_call_arguments.delta") => {
                self.pieces.push(index);
                self.pieces.dedup();
                push_text(
                    &value["delta"],
                    |json| Event::CallArguments { index, json },
                    events,
                );
            }
            Some("response.output_item.done") => self.item_done(index, &value["item"], events),
            Some("response.completed" | "response.incomplete") => {
                start(&mut self.started, [&response["id"], &response["model"]], events);
                self.end(response, events);
                events.push(Event::Done);
            }
            Some("response.failed") => events.push(Event::Error(failed(response))),
            Some("error") => {
                let message = value["message"]
                    .as_str()
                    .unwrap_or("the provider reported an error");
                events.push(Event::Error(message.chars().take(2000).collect()));
            }
            _ => {}
        }
    }

    fn whole(&mut self, value: &Value, events: &mut Vec<Event>) {
        start(&mut self.started, [&value["id"], &value["model"]], events);
        if value["status"] == "failed" {
            events.push(Event::Error(failed(value)));
            return;
        }
        for (index, item) in (0..).zip(list(&value["output"])) {
            match item["type"].as_str() {
                Some("message") => {
                    for part in list(&item["content"]) {
                        push_text(&part["text"], Event::Text, events);
                        push_text(&part["refusal"], Event::Text, events);
                    }
                }
                Some("reasoning") => {
                    for part in list(&item["summary"]).chain(list(&item["content"])) {
                        if std::mem::replace(&mut self.paragraph, true) {
                            events.push(Event::Thinking("\n\n".to_owned()));
                        }
                        push_text(&part["text"], Event::Thinking, events);
                    }
                    self.item_done(index, item, events);
                }
                Some("function_call") => {
                    self.call(index, item, events);
                    self.item_done(index, item, events);
                }
                _ => {}
            }
        }
        self.end(value, events);
    }
}

impl Reader {
    fn call(&mut self, index: u64, item: &Value, events: &mut Vec<Event>) {
        self.calls += 1;
        events.push(Event::CallStart {
            index,
            call: Call {
                id: text(&item["call_id"]),
                name: text(&item["name"]),
                ..Call::default()
            },
        });
    }

    fn item_done(&mut self, index: u64, item: &Value, events: &mut Vec<Event>) {
        match item["type"].as_str() {
            // Some servers send them whole only.
            Some("function_call") if !self.pieces.contains(&index) => {
                push_text(
                    &item["arguments"],
                    |json| Event::CallArguments { index, json },
                    events,
                );
            }
            Some("reasoning") if item["encrypted_content"].is_string() => {
                let back = json!({
                    "type": "reasoning", "id": item["id"], "summary": item["summary"],
                    "encrypted_content": item["encrypted_content"],
                });
                events.push(Event::Opaque(back));
            }
            _ => {}
        }
    }

    fn end(&self, response: &Value, events: &mut Vec<Event>) {
        if response["usage"].is_object() {
            events.push(Event::Usage(usage(&response["usage"])));
        }
        events.push(Event::Stop(
            match (
                response["status"].as_str(),
                response["incomplete_details"]["reason"].as_str(),
            ) {
                (Some("incomplete"), Some("content_filter")) => Reason::Refusal,
                (Some("incomplete"), _) => Reason::Length,
                _ if self.calls > 0 => Reason::Tools,
                _ => Reason::Stop,
            },
        ));
    }
}

fn failed(response: &Value) -> String {
    let message = response["error"]["message"].as_str();
    let message = message.unwrap_or("the provider reported that the response failed");
    message.chars().take(2000).collect()
}

fn usage(value: &Value) -> Usage {
    Usage {
        input: tokens(&value["input_tokens"]),
        cache_read: tokens(&value["input_tokens_details"]["cached_tokens"]),
        cache_write: 0,
        output: tokens(&value["output_tokens"]),
        reasoning: tokens(&value["output_tokens_details"]["reasoning_tokens"]),
    }
}
