//! The gateway's audit: who changed what. For administrators.

use super::body::Params;
use super::error::{ApiError, ErrorAnswer};
use super::gateway::error_of;
use super::reach::Reach;
use crate::auth::extract::User;
use crate::server::Shared;
use axum::extract::State;
use axum::routing::get;
use axum::{Json, Router};
use lodge_proto::control::{self, ListAuditRequest};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};

/// Entries of a page, where the request does not say.
const PAGE: u32 = 100;

/// Which entries.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct AuditQuery {
    /// Entries with a lower serial; absent: the latest. The next page begins before the last entry of this one.
    #[serde(default)]
    before: u64,
    /// At most so many, from 1 to 1000; absent: 100.
    #[serde(default)]
    limit: u32,
    /// Entries that have this text in who, action, target, detail, outcome or result, whatever its case; absent: all.
    #[serde(default)]
    search: String,
}

/// A change, or an attempt at one.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct AuditEntry {
    /// Rises with each one.
    serial: u64,
    /// UTC milliseconds.
    at: u64,
    /// The account for which it was made; empty: with `lodgectl`, by the user of that uid.
    actor: String,
    /// Of the process that asked.
    uid: u32,
    /// `provider.key.set`, `key.create`, `budget.set`, `request.cancel`, `gateway.reload` …
    action: String,
    /// What was changed.
    target: String,
    /// Without secrets.
    #[schema(value_type = Object)]
    detail: Value,
    /// `ok`, the code of a refusal, or `unknown` where the gateway stopped before the end.
    outcome: String,
    /// What was made, such as a key's id.
    result: String,
}

impl From<control::AuditEntry> for AuditEntry {
    fn from(entry: control::AuditEntry) -> Self {
        Self {
            serial: entry.serial,
            at: entry.at,
            actor: entry.actor,
            uid: entry.uid,
            action: entry.action,
            target: entry.target,
            detail: serde_json::from_str(&entry.detail).unwrap_or_default(),
            outcome: entry.outcome,
            result: entry.result,
        }
    }
}

/// A page of the audit, the latest entry first.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct AuditPage {
    entries: Vec<AuditEntry>,
    /// The `before` of the next page; absent: this is the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<u64>,
}

/// Lists who changed what, the latest first; for administrators.
#[utoipa::path(get, path = "/api/v1/admin/audit", tag = "usage", params(AuditQuery), responses(
    (status = 200, body = AuditPage),
    (status = 400, body = ErrorAnswer),
    (status = 403, body = ErrorAnswer),
    (status = 503, body = ErrorAnswer, description = "The gateway is away"),
))]
pub(crate) async fn list(
    State(app): State<Shared>,
    user: User,
    Params(query): Params<AuditQuery>,
) -> Result<Json<AuditPage>, ApiError> {
    Reach::of(&app, &user).must_administer()?;
    let limit = match query.limit {
        0 => PAGE,
        limit => limit.min(1000),
    };
    let request = ListAuditRequest {
        before: query.before,
        limit,
        search: query.search,
    };
    let answer = app.gateway.ops().list_audit(request).await;
    let entries = answer.map_err(|s| error_of(&s))?.into_inner().entries;
    let is_full = u32::try_from(entries.len()).is_ok_and(|count| count >= limit);
    let last = entries.last().map(|entry| entry.serial);
    Ok(Json(AuditPage {
        next: last.filter(|serial| is_full && *serial > 1),
        entries: entries.into_iter().map(AuditEntry::from).collect(),
    }))
}

/// The routes of this module.
pub(crate) fn routes() -> Router<Shared> {
    Router::new().route("/api/v1/admin/audit", get(list))
}
