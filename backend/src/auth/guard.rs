//! Holds every request to the rules, and every answer to the strict headers.

use crate::rest::error::ApiError;
use crate::server::Shared;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, HeaderName, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
    X_FRAME_OPTIONS,
};
use http::{HeaderMap, HeaderValue};
use lodge_proto::{ErrorBody, ErrorCode};
use std::time::Duration;

/// What a page may load and where it may talk to: its own origin.
pub(crate) const CSP: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; \
    connect-src 'self'; font-src 'self'; base-uri 'none'; frame-ancestors 'none'; form-action 'none'";

/// Longest time a request may take.
const DEADLINE: Duration = Duration::from_mins(2);

const HEADERS: [(HeaderName, &str); 6] = [
    (CONTENT_SECURITY_POLICY, CSP),
    (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (REFERRER_POLICY, "no-referrer"),
    (X_FRAME_OPTIONS, "DENY"),
    (
        HeaderName::from_static("cross-origin-opener-policy"),
        "same-origin",
    ),
    (
        HeaderName::from_static("cross-origin-resource-policy"),
        "same-origin",
    ),
];

fn secure(headers: &mut HeaderMap) {
    // An image brings a stricter policy than a page's.
    let own = headers.remove(CONTENT_SECURITY_POLICY);
    for (name, value) in HEADERS {
        headers.insert(name, HeaderValue::from_static(value));
    }
    if let Some(own) = own {
        headers.insert(CONTENT_SECURITY_POLICY, own);
    }
    // What does not say otherwise is of this moment and of this user.
    headers
        .entry(CACHE_CONTROL)
        .or_insert(HeaderValue::from_static("no-store"));
}

/// The outermost layer of the public listener.
pub(crate) async fn guard(State(app): State<Shared>, request: Request, next: Next) -> Response {
    let (parts, body) = request.into_parts();
    let mut response = if let Err(error) = app.hosts.check(&parts) {
        ApiError::from(error).into_response()
    } else {
        let answer = next.run(Request::from_parts(parts, body));
        tokio::time::timeout(DEADLINE, answer)
            .await
            .unwrap_or_else(|_| late().into_response())
    };
    secure(response.headers_mut());
    response
}

fn late() -> ApiError {
    let message = format!("the request took longer than {} s", DEADLINE.as_secs());
    ErrorBody::new(ErrorCode::DeadlineExceeded, message).into()
}
