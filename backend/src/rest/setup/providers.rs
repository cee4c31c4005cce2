//! Providers and their accounts.

use super::made;
use crate::rest::body::Body;
use crate::rest::error::{ApiError, ErrorAnswer};
use crate::rest::gateway::on_behalf;
use crate::rest::keys::Administrator;
use crate::rest::providers::{SealedKey, sealed};
use axum::extract::Path;
use http::StatusCode;
use lodge_proto::control::{
    AccountSetup, EnableAccountRequest, ModelSetup, OauthSetup, ProviderSetup, PutAccountRequest,
    PutProviderRequest, RemoveAccountRequest,
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use utoipa::ToSchema;

/// A model of a provider.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SetupModel {
    /// As the provider names it.
    pub(super) id: String,
    /// For people; empty: the id.
    #[serde(default)]
    pub(super) name: String,
    /// Tokens; 0: unknown.
    #[serde(default)]
    pub(super) context_window: u64,
    /// Tokens; 0: unknown.
    #[serde(default)]
    pub(super) max_output: u64,
    #[serde(default)]
    pub(super) reasoning: bool,
    #[serde(default)]
    pub(super) images: bool,
    /// It takes definitions of tools; absent: it does.
    pub(super) tools: Option<bool>,
    /// Levels of reasoning, as the model names them, least first; empty: unknown.
    #[serde(default)]
    pub(super) efforts: Vec<String>,
}

impl From<SetupModel> for ModelSetup {
    fn from(model: SetupModel) -> Self {
        Self {
            id: model.id,
            name: model.name,
            context_window: model.context_window,
            max_output: model.max_output,
            reasoning: model.reasoning,
            images: model.images,
            tools: model.tools,
            efforts: model.efforts,
        }
    }
}

/// A provider, whole: what is left out has its default.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewProvider {
    /// `anthropic`, `openai`, `openai_compatible` or `gemini`.
    kind: String,
    /// Empty: the usual one of the kind; needed for `openai_compatible`.
    #[serde(default)]
    base_url: String,
    /// It may be plain HTTP on another machine.
    #[serde(default)]
    insecure_http: bool,
    /// `openai_compatible`: it serves Responses too.
    #[serde(default)]
    responses: bool,
    /// Its requests cost nothing.
    #[serde(default)]
    free: bool,
    /// Streams of Chat Completions are asked for their usage.
    #[serde(default)]
    add_usage: bool,
    /// Empty: those of the kind, or those that the server lists.
    #[serde(default)]
    models: Vec<SetupModel>,
    /// Tools that run at the provider and that sessions may use, each with its price in dollars a call.
    #[serde(default)]
    provider_tools: BTreeMap<String, f64>,
    /// In clear, for scripts; browsers send `sealed`. Both absent: the one that is stored, or none.
    #[serde(default)]
    key: String,
    sealed: Option<SealedKey>,
}

/// An account of a provider: with a key, or with a login.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewAccount {
    /// In clear, for scripts; browsers send `sealed`, with `provider/account` and two empty lines as what is authenticated.
    #[serde(default)]
    key: String,
    sealed: Option<SealedKey>,
    login: Option<SetupLogin>,
}

/// How an account is logged into.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SetupLogin {
    pub(super) client_id: String,
    pub(super) token_url: String,
    /// For the authorisation code with PKCE; may be empty where `device_url` is not.
    #[serde(default)]
    pub(super) authorize_url: String,
    /// Empty: the usual one.
    #[serde(default)]
    pub(super) redirect_uri: String,
    /// For the device flow.
    #[serde(default)]
    pub(super) device_url: String,
    #[serde(default)]
    pub(super) scopes: Vec<String>,
    /// A word for `anthropic-beta` that goes with these tokens.
    #[serde(default)]
    pub(super) beta: String,
}

/// Whether an account takes requests.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Enabled {
    enabled: bool,
}

/// Adds a provider, or replaces its settings. It is used from the next request on.
#[utoipa::path(put, path = "/api/v1/admin/providers/{name}", tag = "gateway", request_body = NewProvider,
    params(("name" = String, Path, description = "The provider")), responses(
    (status = 204, description = "It is there"),
    (status = 400, body = ErrorAnswer, description = "Names the field"),
    (status = 403, body = ErrorAnswer),
    (status = 409, body = ErrorAnswer, description = "The configuration file has it; names the table"),
))]
pub(crate) async fn put_provider(
    administrator: Administrator,
    Path(name): Path<String>,
    Body(new): Body<NewProvider>,
) -> Result<StatusCode, ApiError> {
    let (app, account) = administrator.into_parts();
    let request = PutProviderRequest {
        provider: Some(ProviderSetup {
            name: name.clone(),
            kind: new.kind,
            base_url: new.base_url,
            insecure_http: new.insecure_http,
            responses: new.responses,
            free: new.free,
            add_usage: new.add_usage,
            models: new.models.into_iter().map(ModelSetup::from).collect(),
            provider_tools: new.provider_tools.into_iter().collect(),
            ..ProviderSetup::default()
        }),
        key: new.key,
        sealed: new.sealed.as_ref().map(sealed).transpose()?,
    };
    let answer = app
        .gateway
        .setup()
        .put_provider(on_behalf(request, &account))
        .await;
    made(app, account, answer, format!("provider.set {name}")).await
}

/// Adds an account of a provider, or gives it another key.
#[utoipa::path(put, path = "/api/v1/admin/providers/{name}/accounts/{account}", tag = "gateway",
    request_body = NewAccount, params(
    ("name" = String, Path, description = "The provider"),
    ("account" = String, Path, description = "The account"),
), responses(
    (status = 204, description = "It is there"),
    (status = 400, body = ErrorAnswer, description = "Names the field"),
    (status = 403, body = ErrorAnswer),
    (status = 404, body = ErrorAnswer, description = "There is no such provider"),
    (status = 409, body = ErrorAnswer, description = "The configuration file has it; names the table"),
))]
pub(crate) async fn put_account(
    administrator: Administrator,
    Path((provider, name)): Path<(String, String)>,
    Body(new): Body<NewAccount>,
) -> Result<StatusCode, ApiError> {
    let (app, account) = administrator.into_parts();
    let oauth = new.login.map(|login| OauthSetup {
        client_id: login.client_id,
        authorize_url: login.authorize_url,
        redirect_uri: login.redirect_uri,
        device_url: login.device_url,
        token_url: login.token_url,
        scopes: login.scopes,
        beta: login.beta,
    });
    let what = format!("account.set {provider}/{name}");
    let request = PutAccountRequest {
        account: Some(AccountSetup {
            provider,
            name,
            oauth,
            ..AccountSetup::default()
        }),
        key: new.key,
        sealed: new.sealed.as_ref().map(sealed).transpose()?,
    };
    let answer = app
        .gateway
        .setup()
        .put_account(on_behalf(request, &account))
        .await;
    made(app, account, answer, what).await
}

/// Forgets an account with its key.
#[utoipa::path(delete, path = "/api/v1/admin/providers/{name}/accounts/{account}", tag = "gateway", params(
    ("name" = String, Path, description = "The provider"),
    ("account" = String, Path, description = "The account"),
), responses(
    (status = 204, description = "Forgotten"),
    (status = 403, body = ErrorAnswer),
    (status = 404, body = ErrorAnswer),
    (status = 409, body = ErrorAnswer, description = "The configuration file has it; names the table"),
))]
pub(crate) async fn remove_account(
    administrator: Administrator,
    Path((provider, name)): Path<(String, String)>,
) -> Result<StatusCode, ApiError> {
    let (app, account) = administrator.into_parts();
    let what = format!("account.remove {provider}/{name}");
    let request = on_behalf(RemoveAccountRequest { provider, name }, &account);
    let answer = app.gateway.setup().remove_account(request).await;
    made(app, account, answer, what).await
}

/// Has an account take requests again, or not; requests under way end as they began.
#[utoipa::path(put, path = "/api/v1/admin/providers/{name}/accounts/{account}/enabled", tag = "gateway",
    request_body = Enabled, params(
    ("name" = String, Path, description = "The provider"),
    ("account" = String, Path, description = "The account; `default` is the provider's own key"),
), responses(
    (status = 204, description = "So it is"),
    (status = 403, body = ErrorAnswer),
    (status = 404, body = ErrorAnswer),
    (status = 409, body = ErrorAnswer, description = "The configuration file has it; names the table"),
))]
pub(crate) async fn enable_account(
    administrator: Administrator,
    Path((provider, name)): Path<(String, String)>,
    Body(Enabled { enabled }): Body<Enabled>,
) -> Result<StatusCode, ApiError> {
    let (app, account) = administrator.into_parts();
    let verb = if enabled { "enable" } else { "disable" };
    let what = format!("account.{verb} {provider}/{name}");
    let request = EnableAccountRequest {
        provider,
        name,
        enabled,
    };
    let answer = app
        .gateway
        .setup()
        .enable_account(on_behalf(request, &account))
        .await;
    made(app, account, answer, what).await
}
