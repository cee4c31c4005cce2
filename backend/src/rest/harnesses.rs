//! Harnesses.

use super::command::Caller;
use super::error::{ApiError, ErrorAnswer};
use crate::server::Shared;
use axum::routing::get;
use axum::{Json, Router};
use lodge_proto::CommandBody;
use serde_json::Value;

/// Lists the harnesses: what is installed, and what is wrong with the others.
#[utoipa::path(get, path = "/api/v1/harnesses", tag = "harnesses", responses(
    (status = 200, body = Object, description = "`harnesses`"),
    (status = 503, body = ErrorAnswer, description = "The runner is away"),
))]
pub(crate) async fn list(caller: Caller) -> Result<Json<Value>, ApiError> {
    caller.send(None, CommandBody::HarnessList {}).await
}

/// The routes of this module.
pub(crate) fn routes() -> Router<Shared> {
    Router::new().route("/api/v1/harnesses", get(list))
}
