//! Objects stored at providers: who may make, name and list them, and what of it costs money.

mod list;

use std::time::Duration;

use hyper::header::{CONTENT_TYPE, HOST, HeaderValue};
use hyper::http::request::Parts;
use hyper::{HeaderMap, Response};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::Asking;
use crate::accounts::{self, quota};
use crate::asked::{self, Asked, Keeping, Kind, Object};
use crate::body::GuestBody;
use crate::caller::Caller;
use crate::dialect::{Action, Dialect, Route, Stored, WireError};
use crate::guest::Gateway;
use crate::provider::ProviderSpec;
use crate::stored::Issuer;
pub(super) use list::list;

/// Files, containers or caches of one owner at a provider, at a time: the room is everybody's.
const MOST_KEPT: usize = 200;
/// How long a cache lives where the request does not say, and at most, in seconds.
const LIFE: (u64, u64) = (3600, 7 * 86_400);

/// What policy calls the price of a container, and of what is cached.
const CONTAINER: &str = "container";
const CACHED: &str = "cached_content";

/// Reads a request about stored objects: what it refers to, and what it wants kept.
pub(super) fn asked(
    provider: &ProviderSpec,
    route: &Route,
    stored: &Stored,
    parts: &Parts,
    body: &[u8],
) -> Result<Asked, WireError> {
    let mut asked = match &stored.action {
        Action::List | Action::Read(_) | Action::Delete(_) => Asked::default(),
        Action::Continue(_) => {
            check_piece(&parts.headers)?;
            Asked::default()
        }
        Action::Upload => {
            upload(route.dialect, &parts.headers, body)?;
            Asked::default()
        }
        Action::Create | Action::Change(_) if body.is_empty() => Asked::default(),
        Action::Create | Action::Change(_) => asked::read(route.dialect, body)?,
    };
    asked.keeping = keeping(provider, stored, &asked, body)?;
    asked.objects.extend(stored.action.id().map(|id| Object {
        kind: stored.kind,
        id: id.to_owned(),
    }));
    Ok(asked)
}

/// The model that is to read what is cached.
pub(super) fn model(stored: &Stored, asked: &Asked) -> Option<String> {
    let is_cache = (stored.kind, &stored.action) == (Kind::Cache, &Action::Create);
    let named = asked.model.as_deref().unwrap_or_default();
    is_cache.then(|| named.strip_prefix("models/").unwrap_or(named).to_owned())
}

fn content_type(headers: &HeaderMap) -> String {
    let text = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let essence = text.unwrap_or_default().split(';').next().unwrap_or_default();
    essence.trim().to_ascii_lowercase()
}

/// A piece of an upload that was begun: not the beginning of another one, whose name nobody has looked at.
fn check_piece(headers: &HeaderMap) -> Result<(), WireError> {
    let mut commands = headers.get_all("x-goog-upload-command").iter();
    let mut protocols = headers.get_all("x-goog-upload-protocol").iter();
    let is_start = |command: &HeaderValue| {
        let command = command.as_bytes().to_ascii_lowercase();
        memchr::memmem::find(&command, b"start").is_some()
    };
    if commands.any(is_start) || protocols.any(|protocol| protocol != "resumable") {
        return Err(WireError::invalid(
            "an upload that was begun goes on with the command `upload`, `finalize`, `query` or `cancel`"
                .to_owned(),
        ));
    }
    Ok(())
}

/// What begins an upload to Gemini.
#[derive(Deserialize)]
struct Begin<'a> {
    #[serde(borrow)]
    file: Option<Metadata<'a>>,
}

#[derive(Deserialize)]
struct Metadata<'a> {
    #[serde(borrow)]
    name: Option<&'a RawValue>,
}

/// An upload is nothing but the bytes of a file and what they are called.
fn upload(dialect: Dialect, headers: &HeaderMap, body: &[u8]) -> Result<(), WireError> {
    if dialect != Dialect::Gemini {
        return if content_type(headers) == "multipart/form-data" {
            Ok(())
        } else {
            Err(WireError::invalid(
                "a file is uploaded as `multipart/form-data`".to_owned(),
            ))
        };
    }
    let protocol = headers.get("x-goog-upload-protocol").map(HeaderValue::as_bytes);
    if protocol != Some(b"resumable") {
        return Err(WireError::invalid(
            "a file is uploaded with `x-goog-upload-protocol: resumable`".to_owned(),
        ));
    }
    if body.is_empty() {
        return Ok(());
    }
    let begin: Begin<'_> = serde_json::from_slice(body)
        .map_err(|error| WireError::invalid(format!("the request body cannot be read: {error}")))?;
    if begin.file.is_some_and(|file| file.name.is_some()) {
        // Who knew a name that is used again would have the next one's file.
        return Err(WireError::forbidden(
            "the provider names a file that is stored in a shared account; leave `file.name` away".to_owned(),
        ));
    }
    Ok(())
}

/// What is to be kept for a price, if policy has one for it.
fn keeping(
    provider: &ProviderSpec,
    stored: &Stored,
    asked: &Asked,
    body: &[u8],
) -> Result<Option<Keeping>, WireError> {
    let (name, unit) = match (stored.kind, &stored.action) {
        (Kind::Container, Action::Create) => (CONTAINER, "a container with 1 GiB"),
        (Kind::Cache, Action::Create | Action::Change(_)) => (CACHED, "a million tokens and an hour"),
        _ => return Ok(None),
    };
    let price = provider.provider_tools.price(name).ok_or_else(|| {
        WireError::forbidden(format!(
            "the provider bills for keeping this; an administrator can allow it by naming `{name}` under \
             `provider_tools`, with the price of {unit} in dollars"
        ))
    })?;
    let seconds = match stored.kind {
        Kind::Cache if !asked.tools.is_empty() => {
            // Requests that name the cache would have them without saying so.
            return Err(WireError::forbidden(
                "tools that run at the provider cannot be part of cached content".to_owned(),
            ));
        }
        Kind::Cache => life(body)?,
        _ => 0,
    };
    Ok(Some(Keeping { price, seconds }))
}

/// When a cache ends.
#[derive(Deserialize)]
struct Life {
    ttl: Option<String>,
    #[serde(rename = "expireTime", alias = "expire_time")]
    until: Option<String>,
}

/// How long a cache is to live from now on, in seconds.
fn life(body: &[u8]) -> Result<u64, WireError> {
    let (default, most) = LIFE;
    let life: Life = serde_json::from_slice(body)
        .map_err(|error| WireError::invalid(format!("the request body cannot be read: {error}")))?;
    let seconds = match (life.ttl, life.until) {
        (None, None) => Some(default),
        (Some(ttl), None) => ttl
            .strip_suffix('s')
            .and_then(|number| Duration::try_from_secs_f64(number.parse().ok()?).ok())
            .map(|ttl| ttl.as_secs().saturating_add(u64::from(ttl.subsec_nanos() > 0))),
        (None, Some(until)) => quota::rfc3339(&until).map(|until| {
            until
                .saturating_sub(accounts::now())
                .div_ceil(1000)
                .saturating_add(1)
        }),
        (Some(_), Some(_)) => None,
    };
    seconds.filter(|seconds| *seconds <= most).ok_or_else(|| {
        WireError::invalid(format!(
            "how long to keep a cache must be one of `ttl`, as in `3600s`, and `expireTime`, as in \
             `2030-01-01T00:00:00Z`, and no more than {most} s"
        ))
    })
}

/// Refuses another object where its owner has many.
pub(super) fn check_room(
    gateway: &Gateway,
    provider: &str,
    caller: &Caller,
    stored: &Stored,
) -> Result<(), WireError> {
    let makes = matches!(stored.action, Action::Create | Action::Upload);
    if !makes || !matches!(stored.kind, Kind::File | Kind::Container | Kind::Cache) {
        return Ok(());
    }
    let owned = gateway
        .routing
        .objects
        .owned(provider, caller.owner(), stored.kind);
    if owned.len() < MOST_KEPT {
        return Ok(());
    }
    Err(WireError::forbidden(format!(
        "you have {} objects of the kind `{}` stored at this provider, and may have {MOST_KEPT}; delete some",
        owned.len(),
        stored.kind.as_str()
    )))
}

/// After the provider has answered: what is deleted is nobody's, and an upload goes on through the gateway.
pub(super) fn after(
    gateway: &Gateway,
    asking: &Asking<'_>,
    account: &str,
    stored: &Stored,
    mut answer: Response<GuestBody>,
) -> Result<Response<GuestBody>, WireError> {
    let (objects, provider) = (&gateway.routing.objects, &asking.provider.name);
    let is_gone = answer.status().is_success();
    match &stored.action {
        Action::Delete(id) if is_gone => objects.forget(provider, id),
        Action::Upload | Action::Continue(_) if asking.route.dialect == Dialect::Gemini => {
            // These lead past the gateway.
            let url = answer.headers_mut().remove("x-goog-upload-url");
            answer.headers_mut().remove("x-goog-upload-control-url");
            answer.headers_mut().remove("location");
            if let Action::Continue(id) = &stored.action
                && answer
                    .headers()
                    .get("x-goog-upload-status")
                    .is_some_and(|status| status == "final")
            {
                objects.forget(provider, id);
            }
            let Some(url) = url else { return Ok(answer) };
            let unusable = || WireError::upstream("the provider's upload cannot be continued".to_owned());
            let text = url.to_str().map_err(|_| unusable())?;
            let (_, query) = text.split_once('?').ok_or_else(unusable)?;
            let mut pairs = query.split('&');
            let id = pairs.find_map(|pair| pair.strip_prefix("upload_id="));
            let id = id.ok_or_else(unusable)?;
            let host = asking.parts.headers.get(HOST).and_then(|host| host.to_str().ok());
            let host = host.ok_or_else(|| WireError::invalid("the request has no `host`".to_owned()))?;
            let here = format!(
                "http://{host}/{provider}/upload/v1beta/files?upload_id={id}&upload_protocol=resumable"
            );
            let here = HeaderValue::from_str(&here).map_err(|_| unusable())?;
            let issuer = Issuer {
                provider: provider.clone(),
                account: account.to_owned(),
                owner: asking.owner.clone(),
            };
            objects.issue(&issuer, Kind::Upload, id);
            answer.headers_mut().insert("x-goog-upload-url", here);
        }
        _ => {}
    }
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_long_a_cache_lives() {
        assert_eq!(life(b"{}").unwrap(), 3600);
        assert_eq!(life(br#"{"ttl":"300.5s"}"#).unwrap(), 301);
        assert_eq!(life(br#"{"expireTime":"1999-01-01T00:00:00Z"}"#).unwrap(), 1);
        for body in [
            r#"{"ttl":"1h"}"#,
            r#"{"ttl":"-1s"}"#,
            r#"{"ttl":"1e99s"}"#,
            r#"{"ttl":"NaNs"}"#,
            r#"{"ttl":"1s","expireTime":"2030-01-01T00:00:00Z"}"#,
            r#"{"expireTime":"9999-01-01T00:00:00Z"}"#,
            r#"{"expireTime":"tomorrow"}"#,
            r#"{"ttl":"1s","ttl":"99999s"}"#,
        ] {
            assert_eq!(life(body.as_bytes()).unwrap_err().status, 400, "{body}");
        }
    }
}
