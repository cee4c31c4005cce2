//! Bodies of answers to guests.

use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Empty, Full};
use hyper::Response;
use hyper::header::{ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use serde_json::Value;

use crate::dialect::{Dialect, WireError};

/// Why a body ended before its end. The connection is cut, so that a client cannot take it for complete.
#[derive(Debug, thiserror::Error)]
pub enum Cut {
    #[error("the script cut the connection")]
    Scripted,
    #[error("the provider's stream broke")]
    Upstream(#[source] hyper::Error),
    #[error("the key's right to use models ended")]
    Revoked,
    #[error("the request was ended by hand")]
    Cancelled,
    #[error("the provider's stream ended before the answer did")]
    Short,
    #[error("the provider was silent for {0} s")]
    Silent(u64),
}

/// The body of every answer.
pub type GuestBody = UnsyncBoxBody<Bytes, Box<dyn std::error::Error + Send + Sync>>;

/// A body of known bytes.
pub(crate) fn full(bytes: impl Into<Bytes>) -> GuestBody {
    Full::new(bytes.into())
        .map_err(|never| match never {})
        .boxed_unsync()
}

/// 200 without a body.
pub(crate) fn empty() -> Response<GuestBody> {
    Response::new(Empty::new().map_err(|never| match never {}).boxed_unsync())
}

/// A JSON answer.
pub(crate) fn json(status: u16, value: &Value) -> Response<GuestBody> {
    let mut response = Response::new(full(value.to_string()));
    *response.status_mut() =
        hyper::StatusCode::from_u16(status).unwrap_or(hyper::StatusCode::INTERNAL_SERVER_ERROR);
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// An error in the caller's dialect.
pub(crate) fn error(dialect: Dialect, error: &WireError) -> Response<GuestBody> {
    let mut response = json(error.status, &error.body(dialect));
    if let Some(seconds) = error
        .retry_after
        .as_ref()
        .and_then(|seconds| HeaderValue::from_str(seconds).ok())
    {
        response.headers_mut().insert(RETRY_AFTER, seconds);
    }
    if let Some(codings) = error.accepts() {
        response
            .headers_mut()
            .insert(ACCEPT_ENCODING, HeaderValue::from_static(codings));
    }
    response
}

/// The same as bytes of HTTP, the last ones of a connection.
pub(crate) fn raw(dialect: Dialect, error: &WireError) -> Vec<u8> {
    let body = error.body(dialect).to_string();
    let reason = hyper::StatusCode::from_u16(error.status).ok();
    let reason = reason
        .and_then(|status| status.canonical_reason())
        .unwrap_or("Error");
    let (status, length) = (error.status, body.len());
    format!(
        "HTTP/1.1 {status} {reason}\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\
         connection: close\r\n\r\n{body}"
    )
    .into_bytes()
}

/// A stream that must not be buffered on its way.
pub(crate) fn stream(content_type: &'static str, body: GuestBody) -> Response<GuestBody> {
    let mut response = Response::new(body);
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
        .headers_mut()
        .insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    response
}
