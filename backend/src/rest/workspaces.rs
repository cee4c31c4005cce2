//! Workspaces.

use super::body::Body;
use super::command::Caller;
use super::error::{ApiError, ErrorAnswer};
use super::schema::WorkspaceInfoSchema;
use crate::server::Shared;
use axum::routing::get;
use axum::{Json, Router};
use lodge_proto::CommandBody;
use serde::Deserialize;
use serde_json::Value;
use utoipa::ToSchema;

/// A folder to be, below the default root.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewWorkspace {
    name: String,
}

/// Lists the folders that sessions may work in.
#[utoipa::path(get, path = "/api/v1/workspaces", tag = "workspaces", responses(
    (status = 200, body = Object, description = "`workspaces`"),
    (status = 503, body = ErrorAnswer, description = "The runner is away"),
))]
pub(crate) async fn list(caller: Caller) -> Result<Json<Value>, ApiError> {
    caller.send(None, CommandBody::WorkspaceList {}).await
}

/// Makes a folder below the default root.
#[utoipa::path(post, path = "/api/v1/workspaces", tag = "workspaces", request_body = NewWorkspace, responses(
    (status = 200, body = WorkspaceInfoSchema),
    (status = 400, body = ErrorAnswer),
))]
pub(crate) async fn create(caller: Caller, Body(new): Body<NewWorkspace>) -> Result<Json<Value>, ApiError> {
    caller
        .send(None, CommandBody::WorkspaceCreate { name: new.name })
        .await
}

/// The routes of this module.
pub(crate) fn routes() -> Router<Shared> {
    Router::new().route("/api/v1/workspaces", get(list).post(create))
}
