//! A request as a command on the relay's internal channel.

use super::error::ApiError;
use crate::auth::extract::User;
use crate::relay::inbound;
use crate::server::Shared;
use axum::Json;
use axum::extract::{FromRequestParts, Path};
use http::request::Parts;
use lodge_proto::command::MAX_ID_BYTES;
use lodge_proto::{Command, CommandBody, ErrorBody, ErrorCode, SessionId};
use serde_json::Value;
use std::time::Duration;
use uuid::Uuid;

/// Longest wait for the runner's reply. Starting a harness may take its time.
const LIMIT: Duration = Duration::from_mins(1);

/// Who sends commands, and the idempotency key of the request: the command's `client_id`.
#[derive(Debug)]
pub(crate) struct Caller {
    app: Shared,
    user: User,
    key: String,
}

/// The `Idempotency-Key` of a request that has one.
pub(crate) fn idempotency_key(parts: &Parts) -> Result<Option<String>, ErrorBody> {
    let mut values = parts.headers.get_all("idempotency-key").iter();
    let Some(value) = values.next() else {
        return Ok(None);
    };
    let key = value
        .to_str()
        .ok()
        .filter(|key| !key.is_empty() && key.len() <= MAX_ID_BYTES);
    match (key, values.next()) {
        (Some(key), None) => Ok(Some(key.to_owned())),
        _ => Err(ErrorBody::new(
            ErrorCode::InvalidArgument,
            format!("Idempotency-Key is one text of 1 to {MAX_ID_BYTES} ASCII characters"),
        )),
    }
}

impl FromRequestParts<Shared> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &Shared) -> Result<Self, ApiError> {
        let user = User::from_request_parts(parts, app).await?;
        Ok(Self {
            app: app.clone(),
            user,
            key: idempotency_key(parts)?.unwrap_or_else(|| Uuid::now_v7().to_string()),
        })
    }
}

impl Caller {
    /// Sends a command and answers with its result.
    pub(crate) async fn send(
        self,
        session_id: Option<SessionId>,
        body: CommandBody,
    ) -> Result<Json<Value>, ApiError> {
        let client_id = body.is_mutating().then_some(self.key);
        let command = Command {
            id: Uuid::now_v7().to_string(),
            session_id,
            client_id,
            body,
        };
        inbound::check(&command, self.user.actor.rights)?;
        let hub = self.app.relay.hub(&self.user.actor.account);
        Ok(Json(hub.request(&self.user.actor, &command, LIMIT).await?))
    }
}

/// The session of a path.
#[derive(Debug)]
pub(crate) struct OfSession(pub(crate) SessionId);

impl<S: Send + Sync> FromRequestParts<S> for OfSession {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let wrong = || ErrorBody::new(ErrorCode::InvalidArgument, "a session's id is a UUID");
        let Path(text) = Path::<String>::from_request_parts(parts, state)
            .await
            .map_err(|_| wrong())?;
        Ok(Self(text.parse().map_err(|_| wrong())?))
    }
}
