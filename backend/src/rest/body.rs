//! Bodies and queries, read with errors that say what was wrong and where.

use super::error::ApiError;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{FromRequest, FromRequestParts, Query, Request};
use http::HeaderMap;
use http::StatusCode;
use http::header::CONTENT_TYPE;
use http::request::Parts;
use lodge_proto::{ErrorBody, ErrorCode};
use serde::de::DeserializeOwned;
use serde_json::json;

/// Longest body, in bytes.
pub(crate) const MAX_BODY: usize = 1024 * 1024;

/// A JSON body. An empty one reads as `{}`.
#[derive(Debug)]
pub(crate) struct Body<T>(pub(crate) T);

fn is_json(headers: &HeaderMap) -> bool {
    let Some(value) = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()) else {
        return false;
    };
    value
        .split(';')
        .next()
        .is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/json"))
}

fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ErrorBody> {
    serde_json::from_slice(bytes).map_err(|error| {
        ErrorBody::new(
            ErrorCode::InvalidArgument,
            format!("the body could not be read: {error}"),
        )
        .with_details(json!({"line": error.line(), "column": error.column()}))
    })
}

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Body<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        let json = is_json(request.headers());
        let bytes = Bytes::from_request(request, state).await.map_err(unreadable)?;
        if bytes.is_empty() {
            return Ok(Self(parse(b"{}")?));
        }
        if !json {
            let error = ErrorBody::new(ErrorCode::InvalidArgument, "the body must be `application/json`");
            return Err(ApiError::with_status(StatusCode::UNSUPPORTED_MEDIA_TYPE, error));
        }
        Ok(Self(parse(&bytes)?))
    }
}

fn unreadable(rejection: BytesRejection) -> ApiError {
    let status = axum::response::IntoResponse::into_response(rejection).status();
    let message = if status == StatusCode::PAYLOAD_TOO_LARGE {
        format!("the body is over the limit of {MAX_BODY} bytes")
    } else {
        "the body broke off".to_owned()
    };
    ApiError::with_status(status, ErrorBody::new(ErrorCode::InvalidArgument, message))
}

/// The query of a request.
#[derive(Debug)]
pub(crate) struct Params<T>(pub(crate) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Params<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, ApiError> {
        let Query(params) = Query::try_from_uri(&parts.uri).map_err(|error| {
            ErrorBody::new(
                ErrorCode::InvalidArgument,
                format!("the query could not be read: {error}"),
            )
        })?;
        Ok(Self(params))
    }
}
