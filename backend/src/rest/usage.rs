//! What was used and what it cost: one's own, and everybody's for administrators.

use super::body::Params;
use super::error::{ApiError, ErrorAnswer};
use super::gateway::error_of;
use super::nanos;
use super::reach::Reach;
use crate::auth::extract::User;
use crate::server::Shared;
use axum::extract::State;
use axum::routing::get;
use axum::{Json, Router};
use lodge_proto::control::{self, ListPricesRequest, ListUsageRequest};
use lodge_proto::{ErrorBody, ErrorCode};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

/// What usage is listed by.
#[derive(Debug, Clone, Copy, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum By {
    /// UTC, as `2026-11-20`; in their order.
    Day,
    /// `provider/model`.
    Model,
    Session,
    Key,
    User,
    /// That the user belonged to at the time; empty: none.
    Team,
    /// The same of organisations.
    Org,
}

impl By {
    fn name(self) -> &'static str {
        match self {
            Self::Day => "day",
            Self::Model => "model",
            Self::Session => "session",
            Self::Key => "key",
            Self::User => "user",
            Self::Team => "team",
            Self::Org => "org",
        }
    }
}

/// Which usage.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct UsageQuery {
    by: By,
    /// Seconds since 1970; absent: from the beginning.
    #[serde(default)]
    since: u64,
}

/// Usage of one day, model, session, key or user.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct UsageRow {
    name: String,
    requests: u64,
    /// Requests without final figures of the provider; they are counted at their bound.
    inexact: u64,
    /// Requests whose price nobody knew; they count as nothing.
    unpriced: u64,
    /// Tokens, without what was cached.
    input_tokens: u64,
    cache_read_tokens: u64,
    cache_write_tokens: u64,
    /// With reasoning.
    output_tokens: u64,
    reasoning_tokens: u64,
    /// Nano-dollars, as a text of digits.
    #[serde(with = "nanos")]
    #[schema(value_type = String)]
    cost: u64,
}

impl From<control::UsageRow> for UsageRow {
    fn from(row: control::UsageRow) -> Self {
        Self {
            name: row.name,
            requests: row.requests,
            inexact: row.inexact,
            unpriced: row.unpriced,
            input_tokens: row.input,
            cache_read_tokens: row.cache_read,
            cache_write_tokens: row.cache_write,
            output_tokens: row.output,
            reasoning_tokens: row.reasoning,
            cost: row.cost,
        }
    }
}

/// Usage, largest cost first; days in their order. At most 10 000 rows.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct UsageList {
    rows: Vec<UsageRow>,
}

async fn ask(app: &Shared, query: &UsageQuery, users: Vec<String>) -> Result<Json<UsageList>, ApiError> {
    let request = ListUsageRequest {
        by: query.by.name().to_owned(),
        since: query.since,
        users: users.clone(),
    };
    let answer = app.gateway.client().list_usage(request).await;
    let answer = answer.map_err(|s| error_of(&s))?.into_inner();
    // A gateway that does not know this field tells of everybody.
    if answer.users != users {
        return Err(ErrorBody::new(ErrorCode::Unavailable, "the gateway is older than this server").into());
    }
    let rows = answer.rows.into_iter().map(UsageRow::from).collect();
    Ok(Json(UsageList { rows }))
}

/// Lists what the account that asks has used, through its sessions and its keys.
#[utoipa::path(get, path = "/api/v1/usage", tag = "usage", params(UsageQuery), responses(
    (status = 200, body = UsageList),
    (status = 400, body = ErrorAnswer),
    (status = 503, body = ErrorAnswer, description = "The gateway is away"),
))]
pub(crate) async fn own(
    State(app): State<Shared>,
    user: User,
    Params(query): Params<UsageQuery>,
) -> Result<Json<UsageList>, ApiError> {
    let users = Reach::of(&app, &user).known(&app).await?.users;
    // To the gateway nobody means everybody.
    if users.is_empty() {
        return Ok(Json(UsageList { rows: Vec::new() }));
    }
    ask(&app, &query, users).await
}

/// Lists what everybody has used; for administrators.
#[utoipa::path(get, path = "/api/v1/admin/usage", tag = "usage", params(UsageQuery), responses(
    (status = 200, body = UsageList),
    (status = 400, body = ErrorAnswer),
    (status = 403, body = ErrorAnswer),
    (status = 503, body = ErrorAnswer, description = "The gateway is away"),
))]
pub(crate) async fn all(
    State(app): State<Shared>,
    user: User,
    Params(query): Params<UsageQuery>,
) -> Result<Json<UsageList>, ApiError> {
    Reach::of(&app, &user).must_administer()?;
    ask(&app, &query, Vec::new()).await
}

/// What a model costs, in nano-dollars per million tokens as texts of digits.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Price {
    provider: String,
    model: String,
    /// `free`, `configuration`, or the price table with its version; empty: nobody knows the price.
    source: String,
    #[serde(with = "nanos")]
    #[schema(value_type = String)]
    input: u64,
    #[serde(with = "nanos")]
    #[schema(value_type = String)]
    cache_read: u64,
    #[serde(with = "nanos")]
    #[schema(value_type = String)]
    cache_write: u64,
    /// What is kept for an hour.
    #[serde(with = "nanos")]
    #[schema(value_type = String)]
    cache_write_1h: u64,
    #[serde(with = "nanos")]
    #[schema(value_type = String)]
    output: u64,
}

impl From<control::ModelPrice> for Price {
    fn from(price: control::ModelPrice) -> Self {
        Self {
            provider: price.provider,
            model: price.model,
            source: price.source,
            input: price.input,
            cache_read: price.cache_read,
            cache_write: price.cache_write,
            cache_write_1h: price.cache_write_1h,
            output: price.output,
        }
    }
}

/// The prices.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Prices {
    prices: Vec<Price>,
}

/// Which prices.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct PriceQuery {
    /// `provider/model`, or a model's id; absent: every model that is listed.
    #[serde(default)]
    model: String,
}

/// Lists what models cost, and where the price comes from.
#[utoipa::path(get, path = "/api/v1/prices", tag = "models", params(PriceQuery), responses(
    (status = 200, body = Prices),
    (status = 503, body = ErrorAnswer, description = "The gateway is away"),
))]
pub(crate) async fn prices(
    State(app): State<Shared>,
    _user: User,
    Params(PriceQuery { model }): Params<PriceQuery>,
) -> Result<Json<Prices>, ApiError> {
    let listed = app.gateway.ops().list_prices(ListPricesRequest { model }).await;
    let prices = listed.map_err(|s| error_of(&s))?.into_inner().prices;
    Ok(Json(Prices {
        prices: prices.into_iter().map(Price::from).collect(),
    }))
}

/// The routes of this module.
pub(crate) fn routes() -> Router<Shared> {
    Router::new()
        .route("/api/v1/usage", get(own))
        .route("/api/v1/admin/usage", get(all))
        .route("/api/v1/prices", get(prices))
}
