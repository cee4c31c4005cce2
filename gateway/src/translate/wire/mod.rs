//! Answers as callers read them: as a stream of events, or whole.

mod chat;
mod gemini;
mod messages;
mod responses;

use serde_json::Value;

use super::model::{Answer, Event};
use crate::dialect::Dialect;

/// Writes the stream of one dialect.
pub(super) trait Wire: Send {
    /// One step; `so_far` holds everything up to and with it.
    fn event(&mut self, event: &Event, so_far: &Answer, out: &mut String);

    /// The end, after a reason to stop was told.
    fn finish(&mut self, answer: &Answer, out: &mut String);

    /// The end, after the provider told an error.
    fn fail(&mut self, answer: &Answer, message: &str, out: &mut String);
}

/// How a caller wants its stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) usage: bool,
    /// For Gemini: a JSON array instead of events.
    pub(super) array: bool,
}

pub(super) fn stream(dialect: Dialect, wanted: Wanted) -> Box<dyn Wire> {
    match dialect {
        Dialect::Chat => Box::new(chat::Stream::new(wanted.usage)),
        Dialect::Responses => Box::<responses::Stream>::default(),
        Dialect::Messages => Box::<messages::Stream>::default(),
        Dialect::Gemini => Box::new(gemini::Stream::new(wanted.array)),
    }
}

pub(super) fn whole(dialect: Dialect, answer: &Answer) -> Value {
    match dialect {
        Dialect::Chat => chat::whole(answer),
        Dialect::Responses => responses::whole(answer),
        Dialect::Messages => messages::whole(answer),
        Dialect::Gemini => gemini::whole(answer),
    }
}

/// One event; without a name only its data.
fn sse(name: Option<&str>, data: &Value, out: &mut String) {
    if let Some(name) = name {
        out.push_str("event: ");
        out.push_str(name);
        out.push('\n');
    }
    out.push_str("data: ");
    out.push_str(&data.to_string());
    out.push_str("\n\n");
}

/// Seconds of Unix time, for the dialects that say when.
fn created() -> u64 {
    crate::accounts::now() / 1000
}

/// An id in this dialect's form, from the provider's own.
fn id(prefix: &str, own: &str) -> String {
    if own.starts_with(prefix) {
        return own.to_owned();
    }
    let clean: String = own.chars().filter(char::is_ascii_alphanumeric).take(64).collect();
    format!("{prefix}{clean}")
}
