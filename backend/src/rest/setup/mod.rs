//! What is set up beside the gateway's configuration file: providers, accounts, aliases, policies, prices. For
//! administrators. What the file says is shown and not changed here.

pub(crate) mod providers;
pub(crate) mod routing;
mod shown;

use super::body::Body;
use super::error::{ApiError, ErrorAnswer};
use super::gateway::error_of;
use super::keys::Administrator;
use crate::server::Shared;
use axum::routing::{get, post, put};
use axum::{Json, Router};
use http::StatusCode;
use lodge_proto::control::{CheckConfigRequest, SetupChanged, ShowSetupRequest};
use serde::{Deserialize, Serialize};
use shown::Setup;
use tonic::{Response, Status};
use utoipa::ToSchema;

/// A configuration to be checked.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Checking {
    /// The text of the file; absent: the file as it is.
    text: Option<String>,
}

/// What became of a check.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Checked {
    /// Names file, line and key; absent: it is valid.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    /// Blocks that differ from what is in force and that only a restart applies.
    needs_restart: Vec<String>,
}

/// Notes a change that the gateway made.
async fn made(
    app: Shared,
    account: String,
    answer: Result<Response<SetupChanged>, Status>,
    what: String,
) -> Result<StatusCode, ApiError> {
    answer.map_err(|s| error_of(&s))?;
    app.login.audit(what, account).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Shows everything that is set up, in the configuration file and beside it; never a key.
#[utoipa::path(get, path = "/api/v1/admin/setup", tag = "gateway", responses(
    (status = 200, body = Setup),
    (status = 403, body = ErrorAnswer),
    (status = 503, body = ErrorAnswer, description = "The gateway is away"),
))]
pub(crate) async fn show(administrator: Administrator) -> Result<Json<Setup>, ApiError> {
    let (app, _) = administrator.into_parts();
    let shown = app.gateway.setup().show_setup(ShowSetupRequest {}).await;
    Ok(Json(shown.map_err(|s| error_of(&s))?.into_inner().into()))
}

/// Checks the gateway's part of a configuration; nothing changes.
#[utoipa::path(post, path = "/api/v1/admin/gateway/check", tag = "gateway", request_body = Checking, responses(
    (status = 200, body = Checked),
    (status = 403, body = ErrorAnswer),
    (status = 503, body = ErrorAnswer, description = "The gateway is away"),
))]
pub(crate) async fn check(
    administrator: Administrator,
    Body(Checking { text }): Body<Checking>,
) -> Result<Json<Checked>, ApiError> {
    let (app, _) = administrator.into_parts();
    let checked = app
        .gateway
        .setup()
        .check_config(CheckConfigRequest { text })
        .await;
    let checked = checked.map_err(|s| error_of(&s))?.into_inner();
    Ok(Json(Checked {
        error: Some(checked.error).filter(|error| !error.is_empty()),
        needs_restart: checked.needs_restart,
    }))
}

/// The routes of this module.
pub(crate) fn routes() -> Router<Shared> {
    let account = "/api/v1/admin/providers/{name}/accounts/{account}";
    Router::new()
        .route("/api/v1/admin/setup", get(show))
        .route("/api/v1/admin/gateway/check", post(check))
        .route("/api/v1/admin/providers/{name}", put(providers::put_provider))
        .route(
            account,
            put(providers::put_account).delete(providers::remove_account),
        )
        .route(&format!("{account}/enabled"), put(providers::enable_account))
        .route(
            "/api/v1/admin/aliases/{provider}/{name}",
            put(routing::put_alias).delete(routing::remove_alias),
        )
        .route(
            "/api/v1/admin/policies/{provider}/{model}",
            put(routing::put_policy).delete(routing::remove_policy),
        )
        .route(
            "/api/v1/admin/prices/{provider}/{model}",
            put(routing::put_price).delete(routing::remove_price),
        )
}
