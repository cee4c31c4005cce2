//! The description of the REST API.

use super::{
    audit, blobs, budgets, harnesses, health, keys, operations, providers, requests, sessions, setup, usage,
    users, workspaces,
};
use crate::auth;
use crate::server::Shared;
use axum::routing::get;
use axum::{Json, Router};
use utoipa::OpenApi;

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Lodge",
        description = "The same commands as over the WebSocket `/api/v1/ws`, one request each. A browser's session is \
            the cookie `lodge_session`. Requests that change something carry the exact `Origin` of the page."
    ),
    paths(
        auth::routes::login,
        auth::routes::logout,
        auth::routes::me,
        auth::routes::page_token,
        sessions::list,
        sessions::create,
        sessions::state,
        sessions::delete,
        sessions::prompt,
        sessions::abort,
        sessions::close,
        sessions::resume,
        sessions::title,
        sessions::messages,
        harnesses::list,
        workspaces::list,
        workspaces::create,
        blobs::upload,
        blobs::download,
        providers::models,
        providers::providers,
        providers::key_exchange,
        providers::set_key,
        providers::remove_key,
        usage::own,
        usage::all,
        keys::own,
        keys::show,
        keys::all,
        keys::create,
        keys::rotate,
        keys::revoke,
        keys::enable,
        budgets::own,
        budgets::all,
        budgets::set,
        budgets::remove,
        budgets::quota,
        usage::prices,
        users::list,
        users::add,
        users::change,
        users::remove,
        requests::own,
        requests::all,
        requests::end_own,
        requests::end_any,
        audit::list,
        operations::health,
        operations::reload,
        operations::test,
        operations::begin_login,
        operations::finish_login,
        setup::show,
        setup::check,
        setup::providers::put_provider,
        setup::providers::put_account,
        setup::providers::remove_account,
        setup::providers::enable_account,
        setup::routing::put_alias,
        setup::routing::remove_alias,
        setup::routing::put_policy,
        setup::routing::remove_policy,
        setup::routing::put_price,
        setup::routing::remove_price,
        health::healthz,
        health::readyz,
    )
)]
struct Document;

/// The OpenAPI document.
pub fn document() -> utoipa::openapi::OpenApi {
    Document::openapi()
}

async fn serve() -> Json<utoipa::openapi::OpenApi> {
    Json(document())
}

/// The routes of this module.
pub(crate) fn routes() -> Router<Shared> {
    Router::new().route("/api/v1/openapi.json", get(serve))
}
