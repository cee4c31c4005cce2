//! How requests fail: `{"error":{code, message, details}}` with the status of the code.

use crate::auth::login::LoginError;
use axum::Json;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use http::header::RETRY_AFTER;
use lodge_proto::{ErrorBody, ErrorCode};
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

/// A failed request.
#[derive(Debug)]
pub(crate) struct ApiError {
    status: StatusCode,
    error: ErrorBody,
}

impl ApiError {
    /// A status that no code of the protocol stands for.
    pub(crate) fn with_status(status: StatusCode, error: ErrorBody) -> Self {
        Self { status, error }
    }
}

impl From<ErrorBody> for ApiError {
    fn from(error: ErrorBody) -> Self {
        let status =
            StatusCode::from_u16(error.code.http_status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        Self { status, error }
    }
}

impl From<LoginError> for ApiError {
    fn from(error: LoginError) -> Self {
        ErrorBody::from(error).into()
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let wait = self
            .error
            .details
            .as_ref()
            .and_then(|details| details["retry_after_seconds"].as_u64());
        let mut response = (self.status, Json(serde_json::json!({ "error": self.error }))).into_response();
        if let Some(seconds) = wait {
            response.headers_mut().insert(RETRY_AFTER, seconds.into());
        }
        response
    }
}

/// Body of every failed request.
#[derive(Serialize, ToSchema)]
#[allow(dead_code, reason = "it only describes what ErrorBody serialises to")]
pub(crate) struct ErrorAnswer {
    error: ErrorDescription,
}

/// What was wrong, where, and what to do.
#[derive(Serialize, ToSchema)]
#[allow(dead_code, reason = "it only describes what ErrorBody serialises to")]
pub(crate) struct ErrorDescription {
    /// One of the protocol's error codes, such as `not_found`.
    code: String,
    /// For people.
    message: String,
    /// For programs.
    #[schema(value_type = Option<Object>)]
    details: Option<Value>,
}

/// Any path under `/api/` that does not exist.
pub(crate) fn no_such_path(path: &str) -> ApiError {
    let shown: String = path.chars().take(200).collect();
    ErrorBody::new(
        ErrorCode::NotFound,
        format!("`{shown}` does not exist; see /api/v1/openapi.json"),
    )
    .into()
}

/// A path that exists, with another method.
pub(crate) async fn wrong_method() -> ApiError {
    let error = ErrorBody::new(
        ErrorCode::InvalidArgument,
        "this path exists, but not with this method",
    );
    ApiError::with_status(StatusCode::METHOD_NOT_ALLOWED, error)
}
