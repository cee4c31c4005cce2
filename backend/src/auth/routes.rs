//! Login, logout, who am I, page token.

use super::cookie;
use super::extract::User;
use super::login::PAGE_LIFE;
use crate::rest::body::Body;
use crate::rest::error::{ApiError, ErrorAnswer};
use crate::rest::reach::administers;
use crate::server::{Peer, Shared};
use axum::extract::{Extension, State};
use axum::response::{IntoResponse, Response};
use axum::{Json, Router};
use http::StatusCode;
use http::header::SET_COOKIE;
use lodge_proto::relay::Rights;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The token of a login link.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct LoginRequest {
    /// What follows `#token=` in the link.
    token: String,
}

/// Who is logged in.
#[derive(Serialize, ToSchema)]
pub(crate) struct Me {
    account: String,
    /// Name for people.
    name: String,
    /// `own`: everything an owner may do. `view`: read only.
    #[schema(value_type = String)]
    rights: Rights,
    /// May see everybody's usage, and make keys and budgets.
    administrator: bool,
}

impl Me {
    fn of(account: String, name: String, rights: Rights) -> Self {
        Self {
            account,
            name,
            rights,
            administrator: administers(rights),
        }
    }
}

/// A token for one WebSocket.
#[derive(Serialize, ToSchema)]
pub(crate) struct PageToken {
    /// Goes into `Sec-WebSocket-Protocol` as `token.<token>`, beside `lodge.v1`.
    token: String,
    expires_in_seconds: u64,
}

/// Trades the token of a login link for a session cookie.
///
/// A link works once, within five minutes. Ten failed attempts at once, then one every six seconds, are answered;
/// more get `rate_limited`.
#[utoipa::path(post, path = "/api/v1/login", tag = "login", request_body = LoginRequest, responses(
    (status = 200, body = Me, description = "Logged in for 30 days; the cookie is set"),
    (status = 401, body = ErrorAnswer, description = "The link is used, expired or unknown"),
    (status = 429, body = ErrorAnswer, description = "Too many failed attempts"),
))]
pub(crate) async fn login(
    State(app): State<Shared>,
    Extension(Peer(peer)): Extension<Peer>,
    Body(request): Body<LoginRequest>,
) -> Result<Response, ApiError> {
    let (cookie, account) = app.login.exchange(&request.token, peer.ip()).await?;
    let me = Me::of(account.id, account.name, account.rights);
    Ok(([(SET_COOKIE, cookie::set(&cookie, app.secure))], Json(me)).into_response())
}

/// Ends the session of this browser and closes its WebSockets.
#[utoipa::path(post, path = "/api/v1/logout", tag = "login", responses((status = 204, description = "Logged out")))]
pub(crate) async fn logout(State(app): State<Shared>, user: User) -> Result<Response, ApiError> {
    app.login.end(user.login, user.actor.account).await?;
    app.relay.close_login(&user.login);
    Ok((StatusCode::NO_CONTENT, [(SET_COOKIE, cookie::clear(app.secure))]).into_response())
}

/// Says who is logged in.
#[utoipa::path(get, path = "/api/v1/me", tag = "login", responses(
    (status = 200, body = Me),
    (status = 401, body = ErrorAnswer, description = "Nobody"),
))]
pub(crate) async fn me(user: User) -> Json<Me> {
    Json(Me::of(user.actor.account, user.actor.name, user.actor.rights))
}

/// Gives out a token with which this page may open one WebSocket within 60 s.
#[utoipa::path(get, path = "/api/v1/page-token", tag = "login", responses(
    (status = 200, body = PageToken),
    (status = 401, body = ErrorAnswer, description = "Nobody is logged in"),
))]
pub(crate) async fn page_token(State(app): State<Shared>, user: User) -> Result<Json<PageToken>, ApiError> {
    let token = app.login.issue_page_token(user.login, user.actor.account).await?;
    Ok(Json(PageToken {
        token: token.reveal().to_owned(),
        expires_in_seconds: PAGE_LIFE.as_secs(),
    }))
}

/// The routes of this module.
pub(crate) fn routes() -> Router<Shared> {
    use axum::routing::{get, post};
    Router::new()
        .route("/api/v1/login", post(login))
        .route("/api/v1/logout", post(logout))
        .route("/api/v1/me", get(me))
        .route("/api/v1/page-token", get(page_token))
}
