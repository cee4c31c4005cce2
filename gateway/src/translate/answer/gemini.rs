//! Gemini `generateContent`.

use serde_json::Value;

use super::super::model::{Call, Event, Reason, Usage, list, text};
use super::{Read, push_text, start, tokens};

#[derive(Debug)]
pub(super) struct Reader {
    started: bool,
    /// Of the ids of calls that came without one: they have to differ from those of every other answer.
    nonce: [u8; 16],
    calls: u64,
}

impl Reader {
    pub(super) fn new() -> Self {
        let mut nonce = [0; 16];
        // It cannot fail any more: the gateway's own keys came from there.
        let _filled = getrandom::fill(&mut nonce);
        Self {
            started: false,
            nonce,
            calls: 0,
        }
    }

    fn part(&mut self, part: &Value, events: &mut Vec<Event>) {
        let call = &part["functionCall"];
        if !call.is_object() {
            let said = if part["thought"] == true {
                Event::Thinking
            } else {
                Event::Text
            };
            return push_text(&part["text"], said, events);
        }
        let index = self.calls;
        self.calls += 1;
        // Those of text are not asked for again.
        if part["thoughtSignature"].is_string() {
            events.push(Event::Opaque(part["thoughtSignature"].clone()));
        }
        let own = call["id"].as_str().filter(|id| !id.is_empty());
        let nonce = u128::from_le_bytes(self.nonce);
        let id = own.map_or_else(|| format!("call_{nonce:032x}_{index}"), str::to_owned);
        events.push(Event::CallStart {
            index,
            call: Call {
                id,
                name: text(&call["name"]),
                ..Call::default()
            },
        });
        let json = if call["args"].is_object() {
            call["args"].to_string()
        } else {
            "{}".to_owned()
        };
        events.push(Event::CallArguments { index, json });
    }
}

impl Read for Reader {
    fn event(&mut self, value: &Value, events: &mut Vec<Event>) {
        start(
            &mut self.started,
            [&value["responseId"], &value["modelVersion"]],
            events,
        );
        let candidate = &value["candidates"][0];
        for part in list(&candidate["content"]["parts"]) {
            self.part(part, events);
        }
        if value["usageMetadata"].is_object() {
            events.push(Event::Usage(usage(&value["usageMetadata"])));
        }
        if value["promptFeedback"]["blockReason"].is_string() {
            events.push(Event::Stop(Reason::Refusal));
        }
        match candidate["finishReason"].as_str() {
            None | Some("FINISH_REASON_UNSPECIFIED") => {}
            Some("STOP") if self.calls > 0 => events.push(Event::Stop(Reason::Tools)),
            Some("STOP") => events.push(Event::Stop(Reason::Stop)),
            Some("MAX_TOKENS") => events.push(Event::Stop(Reason::Length)),
            Some(
                "SAFETY" | "RECITATION" | "LANGUAGE" | "BLOCKLIST" | "PROHIBITED_CONTENT" | "SPII"
                | "IMAGE_SAFETY",
            ) => events.push(Event::Stop(Reason::Refusal)),
            // Calls that cannot be read, for example: another try may do better.
            Some(other) => {
                let other: String = other.chars().take(100).collect();
                events.push(Event::Error(format!("the model ended its answer with {other}")));
            }
        }
    }

    fn whole(&mut self, value: &Value, events: &mut Vec<Event>) {
        self.event(value, events);
        if !events.iter().any(|event| matches!(event, Event::Stop(_))) {
            events.push(Event::Stop(Reason::Stop));
        }
    }
}

fn usage(value: &Value) -> Usage {
    let reasoning = tokens(&value["thoughtsTokenCount"]);
    Usage {
        input: tokens(&value["promptTokenCount"]).saturating_add(tokens(&value["toolUsePromptTokenCount"])),
        cache_read: tokens(&value["cachedContentTokenCount"]),
        cache_write: 0,
        output: tokens(&value["candidatesTokenCount"]).saturating_add(reasoning),
        reasoning,
    }
}
