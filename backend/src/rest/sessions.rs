//! Sessions.

use super::body::{Body, Params};
use super::command::{Caller, OfSession};
use super::error::{ApiError, ErrorAnswer};
use super::schema::{SessionInfoSchema, SessionStateSchema};
use crate::server::Shared;
use axum::routing::{get, post};
use axum::{Json, Router};
use lodge_proto::limits::SessionLimits;
use lodge_proto::session::Tier;
use lodge_proto::{CommandBody, Part};
use serde::Deserialize;
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};

type Answer = Result<Json<Value>, ApiError>;

/// A page of a listing.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct Page {
    /// From the page before; absent for the first.
    cursor: Option<String>,
    /// Entries at most.
    limit: Option<u32>,
}

/// A session to be.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewSession {
    harness: String,
    /// Absolute path, or a name below the default root.
    workspace: String,
    /// `provider/model`.
    model: Option<String>,
    thinking_level: Option<String>,
    title: Option<String>,
    /// `process`, `container` or `microvm`.
    #[schema(value_type = Option<String>)]
    tier: Option<Tier>,
    profile: Option<String>,
    /// What it may use of what the account may; fields as in the protocol reference.
    #[schema(value_type = Option<Object>)]
    limits: Option<SessionLimits>,
}

/// What is said to the agent.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Prompt {
    /// Message parts, such as `{"type":"text","text":"…"}`.
    #[schema(value_type = Vec<Object>)]
    parts: Vec<Part>,
}

/// A session's new title.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Title {
    title: String,
}

/// A request without content.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Nothing {}

/// Lists the account's sessions.
#[utoipa::path(get, path = "/api/v1/sessions", tag = "sessions", params(Page), responses(
    (status = 200, body = Object, description = "`sessions`, and `next_cursor` where there are more"),
    (status = 503, body = ErrorAnswer, description = "The runner is away"),
))]
pub(crate) async fn list(caller: Caller, Params(page): Params<Page>) -> Answer {
    caller
        .send(
            None,
            CommandBody::SessionList {
                cursor: page.cursor,
                limit: page.limit,
            },
        )
        .await
}

/// Creates a session.
#[utoipa::path(post, path = "/api/v1/sessions", tag = "sessions", request_body = NewSession,
    params(("Idempotency-Key" = Option<String>, Header, description = "Twice the same has one effect and equal answers")),
    responses(
        (status = 200, body = SessionInfoSchema),
        (status = 400, body = ErrorAnswer),
        (status = 409, body = ErrorAnswer, description = "The key was used with another request"),
        (status = 424, body = ErrorAnswer, description = "The harness is not installed"),
    ))]
pub(crate) async fn create(caller: Caller, Body(new): Body<NewSession>) -> Answer {
    let body = CommandBody::SessionCreate {
        harness: new.harness,
        workspace: new.workspace,
        model: new.model,
        thinking_level: new.thinking_level,
        title: new.title,
        tier: new.tier,
        profile: new.profile,
        limits: new.limits,
    };
    caller.send(None, body).await
}

/// Everything needed to show a session.
#[utoipa::path(get, path = "/api/v1/sessions/{id}", tag = "sessions",
    params(("id" = String, Path, description = "The session")), responses(
    (status = 200, body = SessionStateSchema),
    (status = 404, body = ErrorAnswer),
))]
pub(crate) async fn state(caller: Caller, OfSession(id): OfSession) -> Answer {
    caller.send(Some(id), CommandBody::GetState {}).await
}

/// Deletes a session and its messages.
#[utoipa::path(delete, path = "/api/v1/sessions/{id}", tag = "sessions",
    params(("id" = String, Path, description = "The session")), responses(
    (status = 200, body = Object),
    (status = 404, body = ErrorAnswer),
))]
pub(crate) async fn delete(caller: Caller, OfSession(id): OfSession) -> Answer {
    caller.send(Some(id), CommandBody::SessionDelete {}).await
}

/// Says something to the agent. Answered when it is durable; the turn follows as events.
#[utoipa::path(post, path = "/api/v1/sessions/{id}/prompt", tag = "sessions", request_body = Prompt,
    params(
        ("id" = String, Path, description = "The session"),
        ("Idempotency-Key" = Option<String>, Header, description = "Twice the same has one effect and equal answers"),
    ), responses(
    (status = 200, body = Object),
    (status = 404, body = ErrorAnswer),
))]
pub(crate) async fn prompt(caller: Caller, OfSession(id): OfSession, Body(prompt): Body<Prompt>) -> Answer {
    caller
        .send(Some(id), CommandBody::Prompt { parts: prompt.parts })
        .await
}

/// Ends the running turn.
#[utoipa::path(post, path = "/api/v1/sessions/{id}/abort", tag = "sessions",
    params(("id" = String, Path, description = "The session")), responses(
    (status = 200, body = Object),
    (status = 404, body = ErrorAnswer),
))]
pub(crate) async fn abort(
    caller: Caller,
    OfSession(id): OfSession,
    Body(Nothing {}): Body<Nothing>,
) -> Answer {
    caller.send(Some(id), CommandBody::Abort {}).await
}

/// Stops the harness; the session stays and can be resumed.
#[utoipa::path(post, path = "/api/v1/sessions/{id}/close", tag = "sessions",
    params(("id" = String, Path, description = "The session")), responses(
    (status = 200, body = Object),
    (status = 404, body = ErrorAnswer),
))]
pub(crate) async fn close(
    caller: Caller,
    OfSession(id): OfSession,
    Body(Nothing {}): Body<Nothing>,
) -> Answer {
    caller.send(Some(id), CommandBody::SessionClose {}).await
}

/// Starts the harness of a stopped session again.
#[utoipa::path(post, path = "/api/v1/sessions/{id}/resume", tag = "sessions",
    params(("id" = String, Path, description = "The session")), responses(
    (status = 200, body = Object),
    (status = 404, body = ErrorAnswer),
))]
pub(crate) async fn resume(
    caller: Caller,
    OfSession(id): OfSession,
    Body(Nothing {}): Body<Nothing>,
) -> Answer {
    caller.send(Some(id), CommandBody::SessionResume {}).await
}

/// Names a session.
#[utoipa::path(post, path = "/api/v1/sessions/{id}/title", tag = "sessions", request_body = Title,
    params(("id" = String, Path, description = "The session")), responses(
    (status = 200, body = Object),
    (status = 404, body = ErrorAnswer),
))]
pub(crate) async fn title(caller: Caller, OfSession(id): OfSession, Body(title): Body<Title>) -> Answer {
    caller
        .send(Some(id), CommandBody::SetTitle { title: title.title })
        .await
}

/// Finished messages, paging backwards from the end.
#[utoipa::path(get, path = "/api/v1/sessions/{id}/messages", tag = "sessions",
    params(("id" = String, Path, description = "The session"), Page), responses(
    (status = 200, body = Object, description = "`messages`, and `next_cursor` where there are older ones"),
    (status = 404, body = ErrorAnswer),
))]
pub(crate) async fn messages(caller: Caller, OfSession(id): OfSession, Params(page): Params<Page>) -> Answer {
    caller
        .send(
            Some(id),
            CommandBody::GetMessages {
                cursor: page.cursor,
                limit: page.limit,
            },
        )
        .await
}

/// The routes of this module.
pub(crate) fn routes() -> Router<Shared> {
    Router::new()
        .route("/api/v1/sessions", get(list).post(create))
        .route("/api/v1/sessions/{id}", get(state).delete(delete))
        .route("/api/v1/sessions/{id}/prompt", post(prompt))
        .route("/api/v1/sessions/{id}/abort", post(abort))
        .route("/api/v1/sessions/{id}/close", post(close))
        .route("/api/v1/sessions/{id}/resume", post(resume))
        .route("/api/v1/sessions/{id}/title", post(title))
        .route("/api/v1/sessions/{id}/messages", get(messages))
}
