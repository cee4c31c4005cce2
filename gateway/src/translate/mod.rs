//! From one dialect to another, where a provider lacks the caller's: through one model of what they have in common.
//!
//! Whoever can be served in the dialect it speaks never comes here. What the other dialect has no place for is dropped, and
//! named in the answer's header [`LOST`].

mod answer;
mod effort;
mod kept;
mod model;
mod names;
mod read;
mod stream;
#[cfg(test)]
mod tests;
mod wire;
mod write;

use http_body_util::BodyExt;
use hyper::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER};
use hyper::http::request::Parts;
use hyper::{Request, Response, Uri};
use serde_json::Value;

use crate::asked::Asked;
use crate::body::{self, GuestBody};
use crate::dialect::{Dialect, Operation, WireError};
use crate::provider::ProviderSpec;
use answer::Reader;
pub(crate) use kept::{Keeper, Kept};
use model::{Answer, Event, Lost};
use names::Names;
use wire::Wanted;
use write::To;

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
    back: Back,
}

/// What of the request the answer has to be read with.
#[derive(Clone, Debug)]
struct Back {
    names: Names,
    keeper: Keeper,
}

impl Back {
    /// Has a call named as the caller knows it.
    fn own(&self, event: &mut Event) {
        if let Event::CallStart { call, .. } = event {
            self.names.own(call);
        }
    }

    /// Keeps what the provider wants back.
    fn keep(&self, answer: &mut Answer) {
        for (call, items) in answer.kept.drain(..) {
            self.keeper.keep(&call, items);
        }
    }
}

/// The dialect in which a provider can be asked on behalf of a caller that speaks another one.
pub(crate) fn target(provider: &ProviderSpec, caller: Dialect) -> Option<Dialect> {
    let spoken = provider.dialects();
    if spoken.contains(&caller) {
        return None;
    }
    spoken.first().copied()
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

/// Why a request cannot be asked of a provider that does not speak its dialect: what it refers to is at one that does.
pub(crate) fn refusal(asked: &Asked) -> Option<WireError> {
    let what = if let Some(object) = asked.objects.first() {
        format!("refers to a stored {}", object.kind.as_str())
    } else if let Some(tool) = asked.tools.first() {
        format!("names the tool `{tool}`, which runs at a provider")
    } else {
        return None;
    };
    Some(WireError::invalid(format!(
        "this model's provider does not speak the dialect of the request, which {what}: that cannot be translated; send the \
         whole conversation with tools of your own, or choose a model whose provider speaks the dialect"
    )))
}

/// A request in the provider's dialect.
pub(crate) fn request(
    (caller, operation): (Dialect, &Operation),
    (provider, spec): (Dialect, &ProviderSpec),
    body: &[u8],
    model: &str,
    keeper: Keeper,
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
    let names = Names::plain(&mut chat);
    let to = To {
        dialect: provider,
        kind: spec.kind,
        model,
        known: spec.models.iter().find(|known| known.id == model),
        keeper: &keeper,
    };
    let written = write::request(&to, &mut chat, &mut lost);
    let translation = Translation {
        caller,
        provider,
        stream: chat.stream,
        wanted: Wanted {
            usage: chat.include_usage,
            array,
        },
        lost,
        back: Back { names, keeper },
    };
    Ok((written.to_string().into_bytes(), translation))
}

/// The native path, and the head of the request: the caller's headers belong to its own dialect.
pub(crate) fn head(
    translation: &Translation,
    model: &str,
    caller: &Parts,
) -> Result<(String, Parts), WireError> {
    let mut parts = Request::new(()).into_parts().0;
    parts.method = caller.method.clone();
    let headers = &mut parts.headers;
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if let Some(agent) = caller.headers.get("user-agent") {
        headers.insert("user-agent", agent.clone());
    }
    let path = match translation.provider {
        Dialect::Chat => "/v1/chat/completions".to_owned(),
        Dialect::Responses => "/v1/responses".to_owned(),
        Dialect::Messages => {
            headers.insert("anthropic-version", HeaderValue::from_static("2023-06-01"));
            "/v1/messages".to_owned()
        }
        Dialect::Gemini => {
            let action = if translation.stream {
                parts.uri = Uri::from_static("/?alt=sse");
                "streamGenerateContent"
            } else {
                "generateContent"
            };
            format!("/v1beta/models/{}:{action}", plain(model)?)
        }
    };
    Ok((path, parts))
}

/// A model's name as it may stand in a path: it comes from the body of a request, and must not lead to another one.
fn plain(model: &str) -> Result<&str, WireError> {
    let name = model.strip_prefix("models/").unwrap_or(model);
    let is_plain = |char: char| char.is_ascii_alphanumeric() || "-._".contains(char);
    if name.is_empty() || name.starts_with('.') || !name.chars().all(is_plain) {
        let shown: String = name.chars().filter(|char| !char.is_control()).take(100).collect();
        return Err(WireError::no_model(format!(
            "`{shown}` cannot be the name of a model"
        )));
    }
    Ok(name)
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
    for mut event in Reader::new(translation.provider).whole(value) {
        translation.back.own(&mut event);
        answer.take(event.clone());
        wire.event(&event, &answer, &mut out);
    }
    if let Some(message) = answer.error {
        return Err(WireError::upstream(message));
    }
    translation.back.keep(&mut answer);
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
        .map(str::to_owned)
        .or_else(|| answer::retry_after(&value));
    Ok(error)
}
