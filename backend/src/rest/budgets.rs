//! Budgets: everybody sees their own, administrators see and set all. And what is left of the providers' quotas.

use super::body::Body;
use super::error::{ApiError, ErrorAnswer};
use super::gateway::{error_of, on_behalf};
use super::keys::stored_keys;
use super::nanos;
use super::reach::Reach;
use crate::auth::extract::User;
use crate::server::Shared;
use axum::extract::{Path, State};
use axum::routing::{get, put};
use axum::{Json, Router};
use http::StatusCode;
use lodge_proto::control::{self, ListBudgetsRequest, QuotaRequest, SetBudgetRequest};
use lodge_proto::{ErrorBody, ErrorCode};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A limit in money, and how much of it is used in the window of now.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Budget {
    /// `user:NAME`, `key:ID`, `session:UID/ID`, `team:NAME`, `org:NAME` or `account:PROVIDER`.
    scope: String,
    /// `day`, `week`, `month` (calendar windows in UTC) or `total`.
    window: String,
    /// Nano-dollars, as a text of digits.
    #[serde(with = "nanos")]
    #[schema(value_type = String)]
    limit: u64,
    /// Nano-dollars, as a text of digits.
    #[serde(with = "nanos")]
    #[schema(value_type = String)]
    spent: u64,
    /// By requests under way, at their worst case. Nano-dollars, as a text of digits.
    #[serde(with = "nanos")]
    #[schema(value_type = String)]
    reserved: u64,
    /// Nano-dollars, as a text of digits.
    #[serde(with = "nanos")]
    #[schema(value_type = String)]
    left: u64,
    /// Seconds since 1970; absent where it never begins again.
    #[serde(skip_serializing_if = "Option::is_none")]
    resets_at: Option<u64>,
}

impl From<control::Budget> for Budget {
    fn from(budget: control::Budget) -> Self {
        let used = budget.spent.saturating_add(budget.reserved);
        Self {
            left: budget.limit.saturating_sub(used),
            scope: budget.scope,
            window: budget.window,
            limit: budget.limit,
            spent: budget.spent,
            reserved: budget.reserved,
            resets_at: (budget.resets_at > 0).then_some(budget.resets_at),
        }
    }
}

/// The budgets.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Budgets {
    budgets: Vec<Budget>,
}

/// How much may be spent in a window.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Limit {
    /// Nano-dollars, as a text of digits: `"5000000000"` is $5.
    #[serde(with = "nanos")]
    #[schema(value_type = String)]
    limit: u64,
}

async fn stored_budgets(app: &Shared) -> Result<Vec<control::Budget>, ErrorBody> {
    let request = ListBudgetsRequest { scope: String::new() };
    let answer = app.gateway.client().list_budgets(request).await;
    Ok(answer.map_err(|s| error_of(&s))?.into_inner().budgets)
}

fn shown(budgets: impl Iterator<Item = control::Budget>) -> Json<Budgets> {
    Json(Budgets {
        budgets: budgets.map(Budget::from).collect(),
    })
}

/// Lists the budgets of the account that asks, of its sessions and of its keys.
#[utoipa::path(get, path = "/api/v1/budgets", tag = "usage", responses(
    (status = 200, body = Budgets),
    (status = 503, body = ErrorAnswer, description = "The gateway is away"),
))]
pub(crate) async fn own(State(app): State<Shared>, user: User) -> Result<Json<Budgets>, ApiError> {
    let reach = Reach::of(&app, &user).known(&app).await?;
    let keys = stored_keys(&app).await?;
    let own_keys = keys.into_iter().filter(|key| reach.owns(key)).map(|key| key.id);
    let own_keys = own_keys.collect();
    let budgets = stored_budgets(&app).await?.into_iter();
    Ok(shown(
        budgets.filter(|budget| reach.owns_budget(budget, &own_keys)),
    ))
}

/// Lists all budgets; for administrators.
#[utoipa::path(get, path = "/api/v1/admin/budgets", tag = "usage", responses(
    (status = 200, body = Budgets),
    (status = 403, body = ErrorAnswer),
    (status = 503, body = ErrorAnswer, description = "The gateway is away"),
))]
pub(crate) async fn all(State(app): State<Shared>, user: User) -> Result<Json<Budgets>, ApiError> {
    Reach::of(&app, &user).must_administer()?;
    Ok(shown(stored_budgets(&app).await?.into_iter()))
}

async fn change(
    app: &Shared,
    user: User,
    (scope, window): (String, String),
    limit: Option<u64>,
) -> Result<StatusCode, ApiError> {
    Reach::of(app, &user).must_administer()?;
    let request = SetBudgetRequest {
        budget: Some(control::Budget {
            scope: scope.clone(),
            window: window.clone(),
            limit: limit.unwrap_or(0),
            ..control::Budget::default()
        }),
        remove: limit.is_none(),
    };
    let set = app
        .gateway
        .client()
        .set_budget(on_behalf(request, &user.actor.account))
        .await;
    set.map_err(|s| error_of(&s))?;
    let what = limit.map_or_else(|| "none".to_owned(), |limit| limit.to_string());
    app.login
        .audit(format!("budget.set {scope} {window} {what}"), user.actor.account)
        .await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Sets a budget; it holds from the next request on. For administrators.
#[utoipa::path(put, path = "/api/v1/admin/budgets/{scope}/{window}", tag = "usage", request_body = Limit, params(
    ("scope" = String, Path, description = "Such as `user:ann`; a slash in it as `%2F`"),
    ("window" = String, Path, description = "`day`, `week`, `month` or `total`"),
), responses(
    (status = 204, description = "Set"),
    (status = 400, body = ErrorAnswer),
    (status = 403, body = ErrorAnswer),
    (status = 404, body = ErrorAnswer, description = "There is no such key or provider"),
))]
pub(crate) async fn set(
    State(app): State<Shared>,
    user: User,
    Path(place): Path<(String, String)>,
    Body(body): Body<Limit>,
) -> Result<StatusCode, ApiError> {
    change(&app, user, place, Some(body.limit)).await
}

/// Takes a budget away; there need not be one. For administrators.
#[utoipa::path(delete, path = "/api/v1/admin/budgets/{scope}/{window}", tag = "usage", params(
    ("scope" = String, Path, description = "Such as `user:ann`; a slash in it as `%2F`"),
    ("window" = String, Path, description = "`day`, `week`, `month` or `total`"),
), responses(
    (status = 204, description = "There is none now"),
    (status = 400, body = ErrorAnswer),
    (status = 403, body = ErrorAnswer),
))]
pub(crate) async fn remove(
    State(app): State<Shared>,
    user: User,
    Path(place): Path<(String, String)>,
) -> Result<StatusCode, ApiError> {
    change(&app, user, place, None).await
}

/// How an account with a provider fares, as far as the provider has told.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct AccountQuota {
    provider: String,
    account: String,
    /// `well`, `trial`, `limited`, `failing` or `refused`.
    state: String,
    /// UTC milliseconds; absent: not paused.
    #[serde(skip_serializing_if = "Option::is_none")]
    paused_until: Option<u64>,
    windows: Vec<QuotaWindow>,
    /// UTC milliseconds; absent: nothing was told.
    #[serde(skip_serializing_if = "Option::is_none")]
    told_at: Option<u64>,
}

/// One limit of a provider.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct QuotaWindow {
    /// As the provider names it: `requests`, `tokens`, `unified-5h` …
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    limit: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    remaining: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    used_percent: Option<f64>,
    /// UTC milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    resets_at: Option<u64>,
    status: String,
}

impl From<control::AccountState> for AccountQuota {
    fn from(account: control::AccountState) -> Self {
        let moment = |at: u64| (at > 0).then_some(at);
        let window = |window: control::QuotaWindow| QuotaWindow {
            name: window.name,
            limit: window.limit,
            remaining: window.remaining,
            used_percent: window.used_percent,
            resets_at: window.resets_at,
            status: window.status,
        };
        Self {
            provider: account.provider,
            account: account.account,
            state: account.state,
            paused_until: moment(account.paused_until),
            windows: account.windows.into_iter().map(window).collect(),
            told_at: moment(account.told_at),
        }
    }
}

/// The accounts with the providers.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Quota {
    accounts: Vec<AccountQuota>,
}

/// Tells how each account with a provider fares and what is left of its quotas; for administrators.
#[utoipa::path(get, path = "/api/v1/admin/quota", tag = "usage", responses(
    (status = 200, body = Quota),
    (status = 403, body = ErrorAnswer),
    (status = 503, body = ErrorAnswer, description = "The gateway is away"),
))]
pub(crate) async fn quota(State(app): State<Shared>, user: User) -> Result<Json<Quota>, ApiError> {
    Reach::of(&app, &user).must_administer()?;
    let answer = app.gateway.accounts().quota(QuotaRequest {}).await;
    let accounts = answer.map_err(|s| error_of(&s))?.into_inner().accounts;
    Ok(Json(Quota {
        accounts: accounts.into_iter().map(AccountQuota::from).collect(),
    }))
}

/// Reads budgets of a key that is to be made.
pub(crate) fn of_new_key(limits: Vec<NewBudget>) -> Result<Vec<control::Budget>, ErrorBody> {
    if limits.len() > 4 {
        return Err(ErrorBody::new(
            ErrorCode::InvalidArgument,
            "budgets: there are four windows",
        ));
    }
    let budget = |new: NewBudget| control::Budget {
        window: new.window,
        limit: new.limit,
        ..control::Budget::default()
    };
    Ok(limits.into_iter().map(budget).collect())
}

/// A budget of a new key.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewBudget {
    /// `day`, `week`, `month` or `total`.
    window: String,
    /// Nano-dollars, as a text of digits.
    #[serde(with = "nanos")]
    #[schema(value_type = String)]
    limit: u64,
}

/// The routes of this module.
pub(crate) fn routes() -> Router<Shared> {
    Router::new()
        .route("/api/v1/budgets", get(own))
        .route("/api/v1/admin/budgets", get(all))
        .route("/api/v1/admin/budgets/{scope}/{window}", put(set).delete(remove))
        .route("/api/v1/admin/quota", get(quota))
}
