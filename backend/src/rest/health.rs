//! Is the backend there, and are the others.

use crate::server::Shared;
use crate::{LOCAL_ACCOUNT, unix};
use axum::extract::State;
use axum::routing::get;
use axum::{Json, Router};
use http::StatusCode;
use lodge_proto::control::HealthRequest;
use lodge_proto::relay::{Actor, Rights};
use lodge_proto::{Command, CommandBody, ErrorCode};
use serde::Serialize;
use std::future::Future;
use std::time::Duration;
use utoipa::ToSchema;
use uuid::Uuid;

/// Longest time a part may take to answer.
const LIMIT: Duration = Duration::from_secs(1);

/// Whether a part answers.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct PartHealth {
    /// `runner`, `gateway` or `history`.
    name: &'static str,
    ok: bool,
}

/// Whether all parts answer.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Readiness {
    ready: bool,
    parts: Vec<PartHealth>,
}

/// Answers as long as the backend does.
#[utoipa::path(get, path = "/healthz", tag = "health", responses((status = 200, description = "The backend answers")))]
pub(crate) async fn healthz() -> &'static str {
    "ok\n"
}

async fn answers(name: &'static str, check: impl Future<Output = bool>) -> PartHealth {
    PartHealth {
        name,
        ok: tokio::time::timeout(LIMIT, check).await.unwrap_or(false),
    }
}

/// Whether the runner answers a question, not only holds its socket open.
async fn runner(app: &Shared) -> bool {
    let actor = Actor {
        account: LOCAL_ACCOUNT.into(),
        name: "readiness".into(),
        rights: Rights::View,
    };
    let body = CommandBody::SessionList {
        cursor: None,
        limit: Some(1),
    };
    let command = Command {
        id: Uuid::now_v7().to_string(),
        session_id: None,
        client_id: None,
        body,
    };
    match app
        .relay
        .hub(LOCAL_ACCOUNT)
        .request(&actor, &command, LIMIT)
        .await
    {
        Ok(_) => true,
        Err(error) => !matches!(error.code, ErrorCode::Unavailable | ErrorCode::DeadlineExceeded),
    }
}

/// Asks the runner, the gateway and the history service, at most a second each.
#[utoipa::path(get, path = "/readyz", tag = "health", responses(
    (status = 200, body = Readiness, description = "All parts answer"),
    (status = 503, body = Readiness, description = "Some part does not"),
))]
pub(crate) async fn readyz(State(app): State<Shared>) -> (StatusCode, Json<Readiness>) {
    let mut gateway = app.gateway.client();
    let history = app.config.history_socket();
    let (runner, gateway, history) = tokio::join!(
        answers("runner", runner(&app)),
        answers("gateway", async {
            gateway.health(HealthRequest {}).await.is_ok()
        }),
        answers("history", async {
            unix::connect(&history, app.config.peers.history).await.is_ok()
        }),
    );
    let parts = vec![runner, gateway, history];
    let ready = parts.iter().all(|part| part.ok);
    let status = if ready {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    (status, Json(Readiness { ready, parts }))
}

/// The routes of this module.
pub(crate) fn routes() -> Router<Shared> {
    Router::new()
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
}
