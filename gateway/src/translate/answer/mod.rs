//! Answers as providers write them: as a stream of events, or whole.

mod chat;
mod gemini;
mod messages;
mod responses;

use serde_json::Value;

use super::model::{Event, text};
use crate::dialect::Dialect;

/// Reads one answer of one dialect.
trait Read: std::fmt::Debug + Send {
    /// An event of a stream.
    fn event(&mut self, value: &Value, events: &mut Vec<Event>);

    /// All of it at once.
    fn whole(&mut self, value: &Value, events: &mut Vec<Event>);
}

/// Reads the events of one answer.
#[derive(Debug)]
pub(super) struct Reader(Box<dyn Read>);

impl Reader {
    pub(super) fn new(dialect: Dialect) -> Self {
        Self(match dialect {
            Dialect::Chat => Box::<chat::Reader>::default(),
            Dialect::Responses => Box::<responses::Reader>::default(),
            Dialect::Messages => Box::<messages::Reader>::default(),
            Dialect::Gemini => Box::new(gemini::Reader::new()),
        })
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
        } else {
            self.0.event(&value, &mut events);
        }
        events
    }

    /// A whole answer, as the events it could have come as.
    pub(super) fn whole(&mut self, value: &Value) -> Vec<Event> {
        let mut events = Vec::new();
        self.0.whole(value, &mut events);
        events.push(Event::Done);
        events
    }
}

/// The first event of an answer, once.
fn start(started: &mut bool, [id, model]: [&Value; 2], events: &mut Vec<Event>) {
    if !std::mem::replace(started, true) {
        events.push(Event::Start {
            id: text(id),
            model: text(model),
        });
    }
}

fn push_text(value: &Value, event: impl Fn(String) -> Event, events: &mut Vec<Event>) {
    if let Some(text) = value.as_str().filter(|text| !text.is_empty()) {
        events.push(event(text.to_owned()));
    }
}

fn tokens(value: &Value) -> u64 {
    value.as_u64().unwrap_or(0)
}

/// What a provider says went wrong, in an event or in the body of an error.
pub(super) fn error(value: &Value) -> Option<String> {
    // One of Gemini's may come as the only element of a list.
    let value = value.get(0).unwrap_or(value);
    let error = value.get("error").filter(|error| !error.is_null())?;
    let message = error["message"].as_str().or_else(|| error.as_str());
    let message = message.unwrap_or("the provider reported an error");
    Some(message.chars().take(2000).collect())
}

/// Seconds until one may ask again, where the body says so: Gemini has no header for it.
pub(super) fn retry_after(value: &Value) -> Option<String> {
    let value = value.get(0).unwrap_or(value);
    let details = value["error"]["details"].as_array()?;
    let delay = details.iter().find_map(|detail| detail["retryDelay"].as_str())?;
    let seconds: f64 = delay.strip_suffix('s')?.parse().ok()?;
    (0.0..86_400.0)
        .contains(&seconds)
        .then(|| format!("{:.0}", seconds.ceil()))
}
