//! The four dialects: requests read into the neutral form, plans written in the dialect's own words.

mod chat;
mod gemini;
mod messages;
mod responses;
#[cfg(test)]
mod tests;

use serde_json::Value;

use super::ids::IdSeed;
use super::neutral::Neutral;
use super::plan::{Item, Plan};
use crate::dialect::{Dialect, Operation, WireError};

/// Seconds since 1970 in every `created` field: a clock would make two equal requests differ.
const CREATED: u64 = 1_700_000_000;
const MIDSTREAM_ERROR: &str = "scripted mid-stream error";

/// Writes the stream of one response. Each call appends to `out`.
pub trait Wire: Send {
    /// Bytes that mean nothing to the client.
    fn comment(&self) -> &'static str {
        ": hang\n\n"
    }
    fn begin(&mut self, out: &mut String);
    fn open(&mut self, item: &Item, out: &mut String);
    fn delta(&mut self, item: &Item, text: &str, out: &mut String);
    fn close(&mut self, item: &Item, out: &mut String);
    /// An error in the middle of `item`, after its deltas; nothing follows.
    fn fail(&mut self, item: &Item, out: &mut String);
    fn finish(&mut self, plan: &Plan, out: &mut String);
}

/// The stream of a response.
pub fn wire(
    dialect: Dialect,
    request: &Neutral,
    seed: IdSeed,
    plan: &Plan,
    operation: &Operation,
) -> Box<dyn Wire> {
    let model = request.model.clone();
    match dialect {
        Dialect::Chat => Box::new(chat::Stream::new(model, seed)),
        Dialect::Responses => Box::new(responses::Stream::new(model, seed)),
        Dialect::Messages => Box::new(messages::Stream::new(model, seed, plan.usage)),
        Dialect::Gemini => {
            let sse = matches!(operation, Operation::Generate { sse: Some(true), .. });
            Box::new(gemini::Stream::new(model, seed, sse))
        }
    }
}

/// The whole of a response that does not stream.
pub fn full(dialect: Dialect, request: &Neutral, seed: IdSeed, plan: &Plan) -> Value {
    match dialect {
        Dialect::Chat => chat::full(&request.model, seed, plan),
        Dialect::Responses => responses::full(&request.model, seed, plan),
        Dialect::Messages => messages::full(&request.model, seed, plan),
        Dialect::Gemini => gemini::full(&request.model, seed, plan),
    }
}

/// Reads a request body.
pub fn neutral(dialect: Dialect, operation: &Operation, body: &[u8]) -> Result<Neutral, WireError> {
    let value: Value = serde_json::from_slice(body)
        .map_err(|error| WireError::invalid(format!("the request body is not JSON: {error}")))?;
    if !value.is_object() {
        return Err(WireError::invalid(
            "the request body is not a JSON object".to_owned(),
        ));
    }
    let mut request = match dialect {
        Dialect::Chat => chat::neutral(&value),
        Dialect::Responses => responses::neutral(&value),
        Dialect::Messages => messages::neutral(&value),
        Dialect::Gemini => gemini::neutral(&value),
    };
    if let Operation::Generate {
        model: Some(model),
        sse,
    } = operation
    {
        request.model.clone_from(model);
        request.stream = sse.is_some();
    } else if let Operation::CountTokens { model: Some(model) } = operation {
        request.model.clone_from(model);
    } else {
        value["model"]
            .as_str()
            .unwrap_or_default()
            .clone_into(&mut request.model);
        request.stream = value["stream"].as_bool().unwrap_or(false);
    }
    Ok(request)
}

/// The answer to a request to count tokens.
pub fn token_count(dialect: Dialect, body: &[u8]) -> Value {
    let tokens = body.len() / 4;
    match dialect {
        Dialect::Gemini => serde_json::json!({ "totalTokens": tokens }),
        _ => serde_json::json!({ "input_tokens": tokens }),
    }
}

/// The list of models, or the one asked for.
pub fn models(dialect: Dialect, one: bool) -> Value {
    match dialect {
        Dialect::Gemini => gemini::models(one),
        _ => chat::models(one),
    }
}
