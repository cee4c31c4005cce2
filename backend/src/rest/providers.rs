//! Models and providers, as the gateway has them. A key goes in and is never shown again.

use super::body::Body;
use super::error::{ApiError, ErrorAnswer};
use super::gateway::error_of;
use super::usage::Price;
use crate::auth::extract::User;
use crate::server::Shared;
use axum::extract::{Path, State};
use axum::routing::{delete, get, post, put};
use axum::{Json, Router};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use http::StatusCode;
use lodge_proto::control::{
    self, BeginKeyExchangeRequest, Dialect, ListModelsRequest, ListProvidersRequest,
    RemoveProviderKeyRequest, SetProviderKeyRequest,
};
use lodge_proto::relay::Rights;
use lodge_proto::{ErrorBody, ErrorCode};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A model that sessions may use.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Model {
    /// `provider/model`.
    id: String,
    name: String,
    provider: String,
    /// Tokens; absent where unknown.
    #[serde(skip_serializing_if = "Option::is_none")]
    context_window: Option<u64>,
    /// Tokens; absent where unknown.
    #[serde(skip_serializing_if = "Option::is_none")]
    max_output: Option<u64>,
    reasoning: bool,
    images: bool,
    /// Takes definitions of tools.
    tools: bool,
    /// Efforts of reasoning, as the model names them, least first; absent where unknown.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    efforts: Vec<String>,
    /// What it is spoken to in: `openai_chat`, `openai_responses`, `anthropic_messages`, `gemini`; best first.
    dialects: Vec<&'static str>,
    /// What it is spoken to in besides, by translation.
    translated: Vec<&'static str>,
    /// Of an alias: what it stands for, as `provider/model`, in the order in which they are tried.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    targets: Vec<String>,
    /// Of an alias, that of its first target; absent where nobody knows it.
    #[serde(skip_serializing_if = "Option::is_none")]
    price: Option<Price>,
    /// When the provider listed it, milliseconds of Unix time; absent where it is configured or built in.
    #[serde(skip_serializing_if = "Option::is_none")]
    listed_at: Option<u64>,
}

/// The names of the dialects that have one here.
fn dialects(codes: &[i32]) -> Vec<&'static str> {
    let name = |code: &i32| match Dialect::try_from(*code).ok()? {
        Dialect::OpenaiChat => Some("openai_chat"),
        Dialect::OpenaiResponses => Some("openai_responses"),
        Dialect::AnthropicMessages => Some("anthropic_messages"),
        Dialect::Gemini => Some("gemini"),
        Dialect::Unspecified => None,
    };
    codes.iter().filter_map(name).collect()
}

impl From<control::Model> for Model {
    fn from(model: control::Model) -> Self {
        let known = |tokens: u64| (tokens > 0).then_some(tokens);
        Self {
            id: format!("{}/{}", model.provider, model.id),
            name: model.name,
            provider: model.provider,
            context_window: known(model.context_window),
            max_output: known(model.max_output),
            reasoning: model.reasoning,
            images: model.images,
            tools: model.tools,
            efforts: model.efforts,
            dialects: dialects(&model.dialects),
            translated: dialects(&model.translated),
            targets: model.targets,
            price: model.price.map(Price::from),
            listed_at: known(model.listed_at),
        }
    }
}

/// The models.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Models {
    models: Vec<Model>,
}

/// Somebody who offers models.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Provider {
    name: String,
    /// `anthropic`, `openai`, `openai_compatible`, `gemini` or `demo`.
    kind: String,
    base_url: String,
    has_key: bool,
    /// `environment`, `file`, `sealed` or `none`.
    key_source: String,
    models: Vec<Model>,
}

impl From<control::Provider> for Provider {
    fn from(provider: control::Provider) -> Self {
        Self {
            name: provider.name,
            kind: provider.kind,
            base_url: provider.base_url,
            has_key: provider.has_key,
            key_source: provider.key_source,
            models: provider.models.into_iter().map(Model::from).collect(),
        }
    }
}

/// The providers.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Providers {
    providers: Vec<Provider>,
}

/// A key to be stored, sealed. It is never shown again.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ProviderKey {
    /// In clear, for scripts: it passes through the memory of this server. Browsers send `sealed`. Both absent: a server of
    /// one's own that asks for no key.
    #[serde(default)]
    key: String,
    sealed: Option<SealedKey>,
    /// Needed where no provider of that name is configured.
    #[serde(default)]
    kind: String,
    /// Needed for `openai_compatible`.
    #[serde(default)]
    base_url: String,
}

/// A key that only the gateway can open.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SealedKey {
    /// As the key exchange began.
    exchange: String,
    /// Base64 of the browser's uncompressed P-256 point.
    public_key: String,
    /// Base64.
    sealed: String,
}

/// One exchange, good for one key and five minutes.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct KeyExchange {
    exchange: String,
    /// Base64 of the gateway's uncompressed P-256 point.
    public_key: String,
}

pub(super) fn sealed(key: &SealedKey) -> Result<control::SealedKey, ErrorBody> {
    let bytes = |text: &str| {
        BASE64
            .decode(text)
            .map_err(|_| ErrorBody::new(ErrorCode::InvalidArgument, "sealed: is not base64"))
    };
    Ok(control::SealedKey {
        exchange: key.exchange.clone(),
        public_key: bytes(&key.public_key)?,
        sealed: bytes(&key.sealed)?,
    })
}

fn must_own(user: &User) -> Result<(), ErrorBody> {
    if user.actor.rights == Rights::Own {
        return Ok(());
    }
    Err(ErrorBody::new(ErrorCode::Forbidden, "this account may only look"))
}

/// Lists the models of all providers.
#[utoipa::path(get, path = "/api/v1/models", tag = "models", responses(
    (status = 200, body = Models),
    (status = 503, body = ErrorAnswer, description = "The gateway is away"),
))]
pub(crate) async fn models(State(app): State<Shared>, _user: User) -> Result<Json<Models>, ApiError> {
    let answer = app
        .gateway
        .client()
        .list_models(ListModelsRequest::default())
        .await
        .map_err(|s| error_of(&s))?;
    Ok(Json(Models {
        models: answer.into_inner().models.into_iter().map(Model::from).collect(),
    }))
}

/// Lists the providers, without their keys.
#[utoipa::path(get, path = "/api/v1/providers", tag = "models", responses(
    (status = 200, body = Providers),
    (status = 503, body = ErrorAnswer, description = "The gateway is away"),
))]
pub(crate) async fn providers(State(app): State<Shared>, _user: User) -> Result<Json<Providers>, ApiError> {
    let answer = app
        .gateway
        .client()
        .list_providers(ListProvidersRequest {})
        .await
        .map_err(|s| error_of(&s))?;
    Ok(Json(Providers {
        providers: answer
            .into_inner()
            .providers
            .into_iter()
            .map(Provider::from)
            .collect(),
    }))
}

/// Begins to hand over a key, which the browser seals for the gateway.
#[utoipa::path(post, path = "/api/v1/key-exchange", tag = "models", responses(
    (status = 200, body = KeyExchange),
    (status = 403, body = ErrorAnswer),
    (status = 503, body = ErrorAnswer, description = "The gateway is away"),
))]
pub(crate) async fn key_exchange(
    State(app): State<Shared>,
    user: User,
) -> Result<Json<KeyExchange>, ApiError> {
    must_own(&user)?;
    let begun = app
        .gateway
        .client()
        .begin_key_exchange(BeginKeyExchangeRequest {})
        .await
        .map_err(|s| error_of(&s))?
        .into_inner();
    Ok(Json(KeyExchange {
        exchange: begun.exchange,
        public_key: BASE64.encode(begun.public_key),
    }))
}

/// Stores a provider's key.
#[utoipa::path(put, path = "/api/v1/providers/{name}/key", tag = "models", request_body = ProviderKey,
    params(("name" = String, Path, description = "The provider")), responses(
    (status = 200, body = Provider),
    (status = 400, body = ErrorAnswer),
    (status = 403, body = ErrorAnswer),
))]
pub(crate) async fn set_key(
    State(app): State<Shared>,
    user: User,
    Path(name): Path<String>,
    Body(key): Body<ProviderKey>,
) -> Result<Json<Provider>, ApiError> {
    must_own(&user)?;
    let request = SetProviderKeyRequest {
        name,
        kind: key.kind,
        key: key.key,
        base_url: key.base_url,
        sealed: key.sealed.as_ref().map(sealed).transpose()?,
    };
    let answer = app
        .gateway
        .client()
        .set_provider_key(request)
        .await
        .map_err(|s| error_of(&s))?;
    let provider = answer.into_inner().provider;
    let provider = provider.ok_or_else(|| {
        ErrorBody::new(
            ErrorCode::Internal,
            "the gateway stored the key, but named no provider",
        )
    })?;
    app.login
        .audit(format!("provider_key.set {}", provider.name), user.actor.account)
        .await?;
    Ok(Json(provider.into()))
}

/// Forgets a provider's stored key.
#[utoipa::path(delete, path = "/api/v1/providers/{name}", tag = "models",
    params(("name" = String, Path, description = "The provider")), responses(
    (status = 204, description = "Forgotten"),
    (status = 403, body = ErrorAnswer),
    (status = 404, body = ErrorAnswer),
))]
pub(crate) async fn remove_key(
    State(app): State<Shared>,
    user: User,
    Path(name): Path<String>,
) -> Result<StatusCode, ApiError> {
    must_own(&user)?;
    let request = RemoveProviderKeyRequest { name: name.clone() };
    app.gateway
        .client()
        .remove_provider_key(request)
        .await
        .map_err(|s| error_of(&s))?;
    app.login
        .audit(format!("provider_key.remove {name}"), user.actor.account)
        .await?;
    Ok(StatusCode::NO_CONTENT)
}

/// The routes of this module.
pub(crate) fn routes() -> Router<Shared> {
    Router::new()
        .route("/api/v1/models", get(models))
        .route("/api/v1/providers", get(providers))
        .route("/api/v1/key-exchange", post(key_exchange))
        .route("/api/v1/providers/{name}", delete(remove_key))
        .route("/api/v1/providers/{name}/key", put(set_key))
}
