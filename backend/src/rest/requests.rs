//! Requests under way: everybody sees and ends their own, administrators all.

use super::error::{ApiError, ErrorAnswer};
use super::gateway::{error_of, on_behalf};
use super::keys::Administrator;
use super::nanos;
use super::reach::Reach;
use crate::auth::extract::User;
use crate::server::Shared;
use axum::extract::{Path, State};
use axum::routing::{delete, get};
use axum::{Json, Router};
use http::StatusCode;
use lodge_proto::control::{self, CancelRequestRequest, ListLiveRequest};
use lodge_proto::{ErrorBody, ErrorCode};
use serde::Serialize;
use utoipa::ToSchema;

/// A request that is reserved for and has not settled.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct LiveRequest {
    /// As a text of digits.
    id: String,
    /// Seconds since 1970.
    at: u64,
    /// The key's id; empty: a session's own.
    key: String,
    /// Empty: outside of sessions.
    session: String,
    user: String,
    provider: String,
    model: String,
    /// Nano-dollars, as a text of digits: the most it can cost.
    #[serde(with = "nanos")]
    #[schema(value_type = String)]
    reserved: u64,
    /// Nano-dollars, as a text of digits: what it has certainly cost by now.
    #[serde(with = "nanos")]
    #[schema(value_type = String)]
    cost: u64,
}

impl From<control::LiveRequest> for LiveRequest {
    fn from(live: control::LiveRequest) -> Self {
        Self {
            id: live.id.to_string(),
            at: live.at,
            key: live.key,
            session: live.session,
            user: live.user,
            provider: live.provider,
            model: live.model,
            reserved: live.reserved,
            cost: live.cost,
        }
    }
}

/// Requests under way, the oldest first. At most 1000.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct LiveRequests {
    requests: Vec<LiveRequest>,
}

async fn listed(app: &Shared) -> Result<Vec<control::LiveRequest>, ErrorBody> {
    let answer = app.gateway.ops().list_live(ListLiveRequest {}).await;
    Ok(answer.map_err(|s| error_of(&s))?.into_inner().requests)
}

fn shown(requests: impl Iterator<Item = control::LiveRequest>) -> Json<LiveRequests> {
    Json(LiveRequests {
        requests: requests.map(LiveRequest::from).collect(),
    })
}

/// Lists the requests under way of the account that asks, from its sessions and with its keys.
#[utoipa::path(get, path = "/api/v1/requests", tag = "usage", responses(
    (status = 200, body = LiveRequests),
    (status = 503, body = ErrorAnswer, description = "The gateway is away"),
))]
pub(crate) async fn own(State(app): State<Shared>, user: User) -> Result<Json<LiveRequests>, ApiError> {
    let reach = Reach::of(&app, &user).known(&app).await?;
    let requests = listed(&app).await?.into_iter();
    Ok(shown(requests.filter(|live| reach.users.contains(&live.user))))
}

/// Lists everybody's requests under way; for administrators.
#[utoipa::path(get, path = "/api/v1/admin/requests", tag = "usage", responses(
    (status = 200, body = LiveRequests),
    (status = 403, body = ErrorAnswer),
    (status = 503, body = ErrorAnswer, description = "The gateway is away"),
))]
pub(crate) async fn all(State(app): State<Shared>, user: User) -> Result<Json<LiveRequests>, ApiError> {
    Reach::of(&app, &user).must_administer()?;
    Ok(shown(listed(&app).await?.into_iter()))
}

fn gone() -> ErrorBody {
    ErrorBody::new(
        ErrorCode::NotFound,
        "no such request is under way: it may have ended",
    )
}

async fn end(app: &Shared, account: String, id: u64) -> Result<StatusCode, ApiError> {
    let request = on_behalf(CancelRequestRequest { id }, &account);
    let cancelled = app.gateway.ops().cancel_request(request).await;
    cancelled.map_err(|status| error_of(&status))?;
    app.login.audit(format!("request.cancel {id}"), account).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Ends a request of the account that asks: its client is told so and stops, and what came through is paid for.
#[utoipa::path(delete, path = "/api/v1/requests/{id}", tag = "usage",
    params(("id" = String, Path, description = "The request's number")), responses(
    (status = 204, description = "It is ended"),
    (status = 404, body = ErrorAnswer, description = "It has ended, or is not the account's"),
    (status = 503, body = ErrorAnswer, description = "The gateway is away"),
))]
pub(crate) async fn end_own(
    State(app): State<Shared>,
    user: User,
    Path(id): Path<String>,
) -> Result<StatusCode, ApiError> {
    let reach = Reach::of(&app, &user).known(&app).await?;
    let requests = listed(&app).await?;
    // Another's request and none look the same. A number is never given again.
    let is_own = |live: &&control::LiveRequest| live.id.to_string() == id && reach.users.contains(&live.user);
    let found = requests.iter().find(is_own).ok_or_else(gone)?;
    end(&app, user.actor.account, found.id).await
}

/// Ends anybody's request. For administrators.
#[utoipa::path(delete, path = "/api/v1/admin/requests/{id}", tag = "usage",
    params(("id" = String, Path, description = "The request's number")), responses(
    (status = 204, description = "It is ended"),
    (status = 403, body = ErrorAnswer),
    (status = 404, body = ErrorAnswer, description = "It has ended"),
    (status = 503, body = ErrorAnswer, description = "The gateway is away"),
))]
pub(crate) async fn end_any(
    administrator: Administrator,
    Path(id): Path<String>,
) -> Result<StatusCode, ApiError> {
    let (app, account) = administrator.into_parts();
    let id = id.parse().map_err(|_| gone())?;
    end(&app, account, id).await
}

/// The routes of this module.
pub(crate) fn routes() -> Router<Shared> {
    Router::new()
        .route("/api/v1/requests", get(own))
        .route("/api/v1/requests/{id}", delete(end_own))
        .route("/api/v1/admin/requests", get(all))
        .route("/api/v1/admin/requests/{id}", delete(end_any))
}
