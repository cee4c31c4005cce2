//! From one dialect to another, where a provider lacks the caller's: through one model of what they have in common.
//!
//! Whoever can be served in the dialect it speaks never comes here. What the other dialect has no place for is dropped, and
//! named in the answer's header [`LOST`].

mod answer;
mod model;
mod read;
mod stream;
#[cfg(test)]
mod tests;
mod wire;
mod write;

use http_body_util::BodyExt;
use hyper::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER};
use hyper::http::request::Parts;
use hyper::{Request, Response};
use serde_json::Value;

use crate::body::{self, GuestBody};
use crate::dialect::{Dialect, Operation, WireError};
use crate::provider::{Kind, ProviderSpec};
use answer::Reader;
use model::{Answer, Lost};
use wire::Wanted;

/// Header of a translated answer: between which dialects.
pub const TRANSLATED: HeaderName = HeaderName::from_static("x-lodge-translated");
/// Header of a translated answer: fields and parts of the request that were dropped, by comma.
pub const LOST: HeaderName = HeaderName::from_static("x-lodge-lost");

/// Of a whole answer, in bytes.
const MAX_ANSWER: usize = 32 << 20;

/// How one request was translated, and its answer is to be.
#[derive(Clone, Debug)]
pub(crate) struct Translation {
    caller: Dialect,
    provider: Dialect,
    stream: bool,
    wanted: Wanted,
    lost: Lost,
}

/// The dialect in which a provider can be asked on behalf of a caller that speaks another one.
pub(crate) fn target(provider: &ProviderSpec, caller: Dialect) -> Option<Dialect> {
    let spoken = provider.dialects();
    if spoken.contains(&caller) {
        return None;
    }
    let known = [Dialect::Chat, Dialect::Messages];
    known.into_iter().find(|dialect| spoken.contains(dialect))
}

/// The dialects in which a provider is served by translation only.
pub(crate) fn callers(provider: &ProviderSpec) -> Vec<Dialect> {
    let all = [
        Dialect::Chat,
        Dialect::Responses,
        Dialect::Messages,
        Dialect::Gemini,
    ];
    all.into_iter()
        .filter(|dialect| target(provider, *dialect).is_some())
        .collect()
}

/// A request in the provider's dialect.
pub(crate) fn request(
    (caller, operation): (Dialect, &Operation),
    (provider, kind): (Dialect, Kind),
    body: &[u8],
    model: &str,
) -> Result<(Vec<u8>, Translation), WireError> {
    let value: Value = serde_json::from_slice(body)
        .map_err(|error| WireError::invalid(format!("the request body cannot be read: {error}")))?;
    let mut lost = Lost::default();
    let mut chat = read::request(caller, &value, &mut lost);
    let mut array = false;
    if let (Dialect::Gemini, Operation::Generate { sse, .. }) = (caller, operation) {
        chat.stream = sse.is_some();
        array = *sse == Some(false);
    }
    if chat.turns.is_empty() {
        return Err(WireError::invalid("the request has no messages".to_owned()));
    }
    let written = write::request(provider, kind, &chat, model, &mut lost);
    let translation = Translation {
        caller,
        provider,
        stream: chat.stream,
        wanted: Wanted {
            usage: chat.include_usage,
            array,
        },
        lost,
    };
    Ok((written.to_string().into_bytes(), translation))
}

/// The native path, and the head of the request: the caller's headers belong to its own dialect.
pub(crate) fn head(provider: Dialect, caller: &Parts) -> (&'static str, Parts) {
    let mut parts = Request::new(()).into_parts().0;
    parts.method = caller.method.clone();
    let headers = &mut parts.headers;
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if let Some(agent) = caller.headers.get("user-agent") {
        headers.insert("user-agent", agent.clone());
    }
    if provider == Dialect::Messages {
        headers.insert("anthropic-version", HeaderValue::from_static("2023-06-01"));
        return ("/v1/messages", parts);
    }
    ("/v1/chat/completions", parts)
}

/// The provider's answer in the caller's dialect.
pub(crate) async fn answer(
    translation: Translation,
    response: Response<GuestBody>,
) -> Result<Response<GuestBody>, WireError> {
    let (parts, incoming) = response.into_parts();
    let encoding = parts.headers.get(CONTENT_ENCODING);
    if encoding.is_some_and(|encoding| encoding != "identity") {
        return Err(WireError::upstream(
            "the provider compressed its answer, though it was asked not to".to_owned(),
        ));
    }
    let is_stream = parts
        .headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .is_some_and(|kind| kind.starts_with("text/event-stream"));
    let mut answered = if !parts.status.is_success() {
        let error = error(parts.status.as_u16(), parts.headers.get(RETRY_AFTER), incoming).await?;
        body::error(translation.caller, &error)
    } else if is_stream && translation.stream {
        body::stream(content_type(&translation), stream::body(&translation, incoming))
    } else {
        whole(&translation, &collected(incoming).await?)?
    };
    let headers = answered.headers_mut();
    let names = format!("{}->{}", name(translation.provider), name(translation.caller));
    let lost: Vec<String> = translation.lost.0.into_iter().collect();
    for (header, text) in [(TRANSLATED, names), (LOST, lost.join(", "))] {
        if let Ok(value) = HeaderValue::from_str(&text)
            && !text.is_empty()
        {
            headers.insert(header, value);
        }
    }
    Ok(answered)
}

fn name(dialect: Dialect) -> &'static str {
    match dialect {
        Dialect::Chat => "openai_chat",
        Dialect::Responses => "openai_responses",
        Dialect::Messages => "anthropic_messages",
        Dialect::Gemini => "gemini",
    }
}

fn content_type(translation: &Translation) -> &'static str {
    if translation.wanted.array {
        "application/json"
    } else {
        "text/event-stream"
    }
}

async fn collected(mut incoming: GuestBody) -> Result<Value, WireError> {
    let failed = || WireError::upstream("the provider's answer broke off, or is too large".to_owned());
    let mut bytes = Vec::new();
    while let Some(frame) = incoming.frame().await {
        if let Ok(data) = frame.map_err(|_| failed())?.into_data() {
            if bytes.len() + data.len() > MAX_ANSWER {
                return Err(failed());
            }
            bytes.extend_from_slice(&data);
        }
    }
    serde_json::from_slice(&bytes)
        .map_err(|_| WireError::upstream("the provider's answer is not JSON".to_owned()))
}

/// A whole answer; as a stream where the caller wants one and the provider sent none.
fn whole(translation: &Translation, value: &Value) -> Result<Response<GuestBody>, WireError> {
    if let Some(message) = answer::error(value) {
        return Err(WireError::upstream(message));
    }
    let mut answer = Answer::default();
    let mut out = String::new();
    let mut wire = wire::stream(translation.caller, translation.wanted);
    for event in Reader::new(translation.provider).whole(value) {
        answer.take(event.clone());
        wire.event(&event, &answer, &mut out);
    }
    if !translation.stream {
        return Ok(body::json(200, &wire::whole(translation.caller, &answer)));
    }
    wire.finish(&answer, &mut out);
    Ok(body::stream(content_type(translation), body::full(out)))
}

/// The provider's error in the gateway's form, with the provider's words.
async fn error(
    status: u16,
    retry_after: Option<&HeaderValue>,
    incoming: GuestBody,
) -> Result<WireError, WireError> {
    let value = collected(incoming).await.unwrap_or(Value::Null);
    let message =
        answer::error(&value).unwrap_or_else(|| format!("the provider answered with HTTP {status}"));
    let mut error = match status {
        404 => WireError::not_found(message),
        413 => WireError {
            message,
            ..WireError::too_large(0)
        },
        429 => WireError::limited(message),
        400..=499 => WireError::invalid(message),
        503 | 529 => WireError::overloaded(message),
        _ => WireError::upstream(message),
    };
    error.status = status;
    error.retry_after = retry_after
        .and_then(|value| value.to_str().ok())
        .map(str::to_owned);
    Ok(error)
}
