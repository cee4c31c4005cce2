//! The control socket: HTTP over a Unix socket that only the machine's owner may open. Its peers are known by uid, so
//! there is no cookie, no Host and no Origin here.

use super::login::LINK_LIFE;
use crate::rest::body::Body;
use crate::rest::error::ApiError;
use crate::server::Shared;
use axum::extract::State;
use axum::routing::post;
use axum::{Json, Router};
use serde::{Deserialize, Serialize};

/// Body of `POST /login-link`; `{}` asks for the local account.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct LinkRequest {
    account: Option<String>,
}

/// A login link. It works once, for `expires_in` seconds.
#[derive(Serialize)]
pub(crate) struct Link {
    url: String,
    expires_in: u64,
}

async fn login_link(
    State(app): State<Shared>,
    Body(request): Body<LinkRequest>,
) -> Result<Json<Link>, ApiError> {
    let account = request.account.unwrap_or_else(|| crate::LOCAL_ACCOUNT.to_owned());
    let token = app.login.issue_link(account).await?;
    // A fragment never leaves the browser: no log and no referrer sees it.
    Ok(Json(Link {
        url: format!("{}/login#token={}", app.url, token.reveal()),
        expires_in: LINK_LIFE.as_secs(),
    }))
}

/// What the control socket serves.
pub(crate) fn router(app: Shared) -> Router {
    Router::new()
        .route("/login-link", post(login_link))
        .with_state(app)
}
