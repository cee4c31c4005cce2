//! Running the gateway: how it is, its configuration read again, and the accounts with the providers tested and logged
//! into. For administrators.

use super::body::Body;
use super::error::{ApiError, ErrorAnswer};
use super::gateway::{error_of, on_behalf};
use super::keys::Administrator;
use super::reach::Reach;
use crate::auth::extract::User;
use crate::server::Shared;
use axum::extract::{Path, State};
use axum::routing::{get, post};
use axum::{Json, Router};
use lodge_proto::control::{
    AccountState, AccountTest, BeginLoginRequest, FinishLoginRequest, HealthRequest, QuotaRequest,
    ReloadRequest, TestProviderRequest,
};
use serde::{Deserialize, Serialize};
use tonic::{Code, Status};
use utoipa::ToSchema;

/// How the gateway is.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct GatewayHealth {
    version: String,
    /// Sessions that may use models.
    open_leases: u64,
    /// Where keys of people are accepted, as `host:port`; empty: nowhere.
    address: String,
    /// Why the configuration file is not what is in force; absent: it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    config_error: Option<String>,
    /// Accounts that are left alone for now.
    paused: Vec<PausedAccount>,
}

/// An account that is left alone.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct PausedAccount {
    provider: String,
    account: String,
    /// `limited`, `failing` or `refused`.
    state: String,
    /// In words.
    reason: String,
    /// UTC milliseconds.
    until: u64,
}

impl PausedAccount {
    fn of(account: AccountState) -> Option<Self> {
        let reason = match account.state.as_str() {
            "limited" => "the provider limits it",
            "failing" => "the provider cannot be reached, or fails",
            "refused" => "the provider refused its key",
            _ => "it is left alone",
        };
        (account.paused_until > 0).then(|| Self {
            reason: reason.to_owned(),
            provider: account.provider,
            account: account.account,
            state: account.state,
            until: account.paused_until,
        })
    }
}

/// Tells how the gateway is, which accounts it leaves alone and why, and what is wrong with its configuration; for
/// administrators.
#[utoipa::path(get, path = "/api/v1/admin/gateway/health", tag = "gateway", responses(
    (status = 200, body = GatewayHealth),
    (status = 403, body = ErrorAnswer),
    (status = 503, body = ErrorAnswer, description = "The gateway is away"),
))]
pub(crate) async fn health(State(app): State<Shared>, user: User) -> Result<Json<GatewayHealth>, ApiError> {
    Reach::of(&app, &user).must_administer()?;
    let (mut client, mut accounts) = (app.gateway.client(), app.gateway.accounts());
    let asked = tokio::try_join!(client.health(HealthRequest {}), accounts.quota(QuotaRequest {}));
    let (health, quota) = asked.map_err(|s| error_of(&s))?;
    let health = health.into_inner();
    let accounts = quota.into_inner().accounts;
    Ok(Json(GatewayHealth {
        version: health.version,
        open_leases: health.open_leases,
        address: health.address,
        config_error: Some(health.config_error).filter(|error| !error.is_empty()),
        paused: accounts.into_iter().filter_map(PausedAccount::of).collect(),
    }))
}

/// A configuration that is in force.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Reloaded {
    /// Blocks that changed and that only a restart applies.
    needs_restart: Vec<String>,
}

/// Has the gateway read its configuration again. One that is not valid changes nothing; the error names file, line and
/// key. For administrators.
#[utoipa::path(post, path = "/api/v1/admin/gateway/reload", tag = "gateway", responses(
    (status = 200, body = Reloaded),
    (status = 400, body = ErrorAnswer, description = "It is not valid, and nothing changed"),
    (status = 403, body = ErrorAnswer),
    (status = 503, body = ErrorAnswer, description = "The gateway is away"),
))]
pub(crate) async fn reload(administrator: Administrator) -> Result<Json<Reloaded>, ApiError> {
    let (app, account) = administrator.into_parts();
    let request = on_behalf(ReloadRequest {}, &account);
    let answer = app.gateway.accounts().reload(request).await;
    let needs_restart = answer.map_err(|s| error_of(&s))?.into_inner().needs_restart;
    app.login.audit("gateway.reload".to_owned(), account).await?;
    Ok(Json(Reloaded { needs_restart }))
}

/// What an account answered.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct TestedAccount {
    account: String,
    ok: bool,
    /// HTTP; 0: no answer.
    status: u32,
    /// What is wrong, for people; empty: nothing.
    message: String,
    /// Until the answer.
    milliseconds: u64,
}

impl From<AccountTest> for TestedAccount {
    fn from(test: AccountTest) -> Self {
        Self {
            account: test.account,
            ok: test.ok,
            status: test.status,
            message: test.message,
            milliseconds: test.milliseconds,
        }
    }
}

/// What the accounts of a provider answered.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Tested {
    accounts: Vec<TestedAccount>,
}

/// Waiting would not mend it: what was asked for does not go together with how the account is set up.
fn setup(status: &Status) -> ApiError {
    match status.code() {
        Code::FailedPrecondition => error_of(&Status::already_exists(status.message())).into(),
        _ => error_of(status).into(),
    }
}

/// Asks a provider for its list of models with each of its accounts, which is free of charge. For administrators.
#[utoipa::path(post, path = "/api/v1/admin/providers/{name}/test", tag = "gateway",
    params(("name" = String, Path, description = "The provider's name")), responses(
    (status = 200, body = Tested),
    (status = 403, body = ErrorAnswer),
    (status = 404, body = ErrorAnswer),
    (status = 409, body = ErrorAnswer, description = "The demo model is no provider that could be asked"),
    (status = 504, body = ErrorAnswer, description = "It took longer than 10 s"),
))]
pub(crate) async fn test(
    administrator: Administrator,
    Path(name): Path<String>,
) -> Result<Json<Tested>, ApiError> {
    let (app, _) = administrator.into_parts();
    let answer = app
        .gateway
        .accounts()
        .test_provider(TestProviderRequest { name })
        .await;
    let accounts = answer.map_err(|s| setup(&s))?.into_inner().accounts;
    Ok(Json(Tested {
        accounts: accounts.into_iter().map(TestedAccount::from).collect(),
    }))
}

/// How an account is to be logged into.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct NewLogin {
    /// With a code that is typed on another device, instead of one that comes back.
    device: bool,
}

/// A login that has begun.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct LoginBegun {
    /// To open in a browser.
    url: String,
    /// To type there; only with `device`.
    #[serde(skip_serializing_if = "String::is_empty")]
    user_code: String,
    /// Seconds between two questions whether it is done; 0: the code comes back.
    interval: u64,
}

/// Begins to log into an account that has no key. For administrators.
#[utoipa::path(post, path = "/api/v1/admin/providers/{name}/accounts/{account}/login", tag = "gateway",
    request_body = NewLogin,
    params(("name" = String, Path, description = "The provider's name"), ("account" = String, Path)), responses(
    (status = 200, body = LoginBegun),
    (status = 403, body = ErrorAnswer),
    (status = 404, body = ErrorAnswer),
    (status = 409, body = ErrorAnswer, description = "The account has a key, or no such way to log in"),
))]
pub(crate) async fn begin_login(
    administrator: Administrator,
    Path((provider, account)): Path<(String, String)>,
    Body(NewLogin { device }): Body<NewLogin>,
) -> Result<Json<LoginBegun>, ApiError> {
    let (app, _) = administrator.into_parts();
    let request = BeginLoginRequest {
        provider,
        account,
        device,
    };
    let begun = app.gateway.accounts().begin_login(request).await;
    let begun = begun.map_err(|s| setup(&s))?.into_inner();
    Ok(Json(LoginBegun {
        url: begun.url,
        user_code: begun.user_code,
        interval: begun.interval,
    }))
}

/// What came back from a login; nothing, where it is on another device.
#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct LoginCode {
    state: String,
    code: String,
}

/// Whether an account is logged into.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct LoginState {
    logged_in: bool,
    /// Seconds after which to ask again.
    after: u64,
}

/// Ends a login with the code that came back, or asks whether the person has answered on the other device. For
/// administrators.
#[utoipa::path(post, path = "/api/v1/admin/providers/{name}/accounts/{account}/login/finish", tag = "gateway",
    request_body = LoginCode,
    params(("name" = String, Path, description = "The provider's name"), ("account" = String, Path)), responses(
    (status = 200, body = LoginState),
    (status = 403, body = ErrorAnswer),
    (status = 404, body = ErrorAnswer, description = "No such login has begun, or it took too long"),
    (status = 409, body = ErrorAnswer, description = "The provider refused"),
))]
pub(crate) async fn finish_login(
    administrator: Administrator,
    Path((provider, account)): Path<(String, String)>,
    Body(LoginCode { state, code }): Body<LoginCode>,
) -> Result<Json<LoginState>, ApiError> {
    let (app, actor) = administrator.into_parts();
    let line = format!("account.login {provider}/{account}");
    let request = FinishLoginRequest {
        provider,
        account,
        state,
        code,
    };
    let finished = app
        .gateway
        .accounts()
        .finish_login(on_behalf(request, &actor))
        .await;
    let finished = finished.map_err(|s| setup(&s))?.into_inner();
    if finished.logged_in {
        app.login.audit(line, actor).await?;
    }
    Ok(Json(LoginState {
        logged_in: finished.logged_in,
        after: finished.after,
    }))
}

/// The routes of this module.
pub(crate) fn routes() -> Router<Shared> {
    let login = "/api/v1/admin/providers/{name}/accounts/{account}/login";
    Router::new()
        .route("/api/v1/admin/gateway/health", get(health))
        .route("/api/v1/admin/gateway/reload", post(reload))
        .route("/api/v1/admin/providers/{name}/test", post(test))
        .route(login, post(begin_login))
        .route(&format!("{login}/finish"), post(finish_login))
}
