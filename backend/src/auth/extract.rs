//! The logged-in user of a request.

use super::cookie;
use super::secret::TokenHash;
use crate::rest::error::ApiError;
use crate::server::Shared;
use axum::extract::FromRequestParts;
use http::request::Parts;
use lodge_proto::relay::Actor;
use lodge_proto::{ErrorBody, ErrorCode};
use std::time::SystemTime;

/// Who asks, by the cookie.
#[derive(Debug, Clone)]
pub(crate) struct User {
    pub(crate) actor: Actor,
    pub(crate) login: TokenHash,
    pub(crate) login_ends: SystemTime,
}

impl FromRequestParts<Shared> for User {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &Shared) -> Result<Self, ApiError> {
        let nobody = || {
            ErrorBody::new(
                ErrorCode::Unauthenticated,
                "not logged in; open a login link (`lodge login`)",
            )
        };
        let cookie = cookie::find(&parts.headers).ok_or_else(nobody)?.hash();
        let login = app.login.find(cookie).await?.ok_or_else(nobody)?;
        let account = login.account;
        Ok(Self {
            actor: Actor {
                account: account.id,
                name: account.name,
                rights: account.rights,
            },
            login: cookie,
            login_ends: login.expires_at,
        })
    }
}
