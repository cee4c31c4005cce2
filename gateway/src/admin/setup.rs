//! The administrative service for what is set up beside the configuration file.

use std::sync::Arc;

use lodge_proto::control::gateway_setup_server::{GatewaySetup, GatewaySetupServer};
use lodge_proto::control::{
    CheckConfigRequest, CheckConfigResponse, EnableAccountRequest, PutAccountRequest, PutAliasRequest,
    PutPolicyRequest, PutPriceRequest, PutProviderRequest, RemoveAccountRequest, RemoveAliasRequest,
    RemovePolicyRequest, RemovePriceRequest, SealedKey, SetupChanged, ShowSetupRequest, ShowSetupResponse,
};
use serde_json::json;
use tonic::{Code, Request, Response, Status};
use zeroize::Zeroizing;

use super::audited;
use crate::audit::{Actor, Change};
use crate::exchange;
use crate::guest::Gateway;
use crate::money::Nanos;
use crate::price;
use crate::provider::View;
use crate::setup::{self, SetupError};
use crate::store::Edit;

pub(super) fn service(gateway: Arc<Gateway>) -> GatewaySetupServer<Setup> {
    GatewaySetupServer::new(Setup { gateway })
}

/// The service.
pub(super) struct Setup {
    gateway: Arc<Gateway>,
}

pub(super) fn status(error: &SetupError) -> Status {
    let code = match error {
        SetupError::Value { .. } => Code::InvalidArgument,
        SetupError::InFile { .. } => Code::FailedPrecondition,
        SetupError::Unknown(_) => Code::NotFound,
        SetupError::TooMany { .. } => Code::ResourceExhausted,
        SetupError::Provider(error) => return super::status(error),
    };
    Status::new(code, error.to_string())
}

type Answer = Result<Response<SetupChanged>, Status>;

impl Setup {
    /// Notes a change and makes it. Whoever asked may go away meanwhile: what has begun is done to its end.
    async fn change(
        &self,
        change: Change,
        plan: impl FnOnce(&View<'_>) -> Result<Vec<Edit>, SetupError> + Send + 'static,
    ) -> Answer {
        let gateway = Arc::clone(&self.gateway);
        let made = tokio::spawn(async move {
            let (action, target) = (change.action, change.target.clone());
            let making = async {
                let made = gateway.providers.set_up(plan).await;
                made.map_err(|error| status(&error))
            };
            audited::around(&gateway, change, making, |()| String::new()).await?;
            tracing::info!(action, target, "what is set up was changed");
            gateway.providers_changed.notify_one();
            price::warm_for(&gateway.providers.current());
            Ok(SetupChanged {})
        });
        let made = made
            .await
            .map_err(|_| Status::internal("the change was interrupted"))?;
        made.map(Response::new)
    }

    /// The key of a request, in clear or sealed for this gateway.
    fn key(
        &self,
        key: String,
        sealed: Option<SealedKey>,
        context: &str,
    ) -> Result<Zeroizing<String>, Status> {
        let key = Zeroizing::new(key);
        let Some(sealed) = sealed else {
            return Ok(key);
        };
        let exchanges = &self.gateway.exchanges;
        let opened = exchanges.open(&sealed.exchange, &sealed.public_key, sealed.sealed, context);
        opened.map_err(|error| Status::invalid_argument(error.to_string()))
    }
}

fn missing(field: &str) -> Status {
    Status::invalid_argument(format!("{field}: is missing"))
}

#[tonic::async_trait]
impl GatewaySetup for Setup {
    async fn show_setup(
        &self,
        _request: Request<ShowSetupRequest>,
    ) -> Result<Response<ShowSetupResponse>, Status> {
        let providers = &self.gateway.providers;
        Ok(Response::new(setup::show(
            &providers.configured(),
            &providers.current(),
        )))
    }

    async fn put_provider(&self, request: Request<PutProviderRequest>) -> Answer {
        let actor = Actor::of(&request);
        let request = request.into_inner();
        let provider = request.provider.ok_or_else(|| missing("provider"))?;
        let context = exchange::context(&provider.name, &provider.kind, &provider.base_url);
        let key = self.key(request.key, request.sealed, &context)?;
        let detail = json!({
            "kind": audited::name(&provider.kind.replace('_', "-")), "host": audited::host(&provider.base_url),
            "models": provider.models.len(), "responses": provider.responses, "free": provider.free,
            "insecure_http": provider.insecure_http, "provider_tools": provider.provider_tools, "key": !key.is_empty(),
        });
        let change = audited::change(actor, "provider.set", audited::name(&provider.name), detail);
        self.change(change, move |view| setup::put_provider(view, provider, &key))
            .await
    }

    async fn put_account(&self, request: Request<PutAccountRequest>) -> Answer {
        let actor = Actor::of(&request);
        let request = request.into_inner();
        let account = request.account.ok_or_else(|| missing("account"))?;
        let named = format!("{}/{}", account.provider, account.name);
        let key = self.key(request.key, request.sealed, &exchange::context(&named, "", ""))?;
        let login = account
            .oauth
            .as_ref()
            .map(|oauth| audited::host(&oauth.token_url));
        let detail = json!({ "key": !key.is_empty(), "login": login, "disabled": account.disabled });
        let target = audited::account(&account.provider, &account.name);
        let change = audited::change(actor, "account.set", target, detail);
        self.change(change, move |view| setup::put_account(view, account, &key))
            .await
    }

    async fn remove_account(&self, request: Request<RemoveAccountRequest>) -> Answer {
        let actor = Actor::of(&request);
        let RemoveAccountRequest { provider, name } = request.into_inner();
        let target = audited::account(&provider, &name);
        let change = audited::change(actor, "account.remove", target, json!({}));
        self.change(change, move |view| setup::remove_account(view, &provider, &name))
            .await
    }

    async fn enable_account(&self, request: Request<EnableAccountRequest>) -> Answer {
        let actor = Actor::of(&request);
        let EnableAccountRequest {
            provider,
            name,
            enabled,
        } = request.into_inner();
        let action = if enabled {
            "account.enable"
        } else {
            "account.disable"
        };
        let change = audited::change(actor, action, audited::account(&provider, &name), json!({}));
        let plan = move |view: &View<'_>| setup::enable_account(view, &provider, &name, enabled);
        self.change(change, plan).await
    }

    async fn put_alias(&self, request: Request<PutAliasRequest>) -> Answer {
        let actor = Actor::of(&request);
        let alias = request.into_inner().alias.ok_or_else(|| missing("alias"))?;
        let detail = json!({ "provider": alias.provider, "targets": alias.targets });
        let change = audited::change(actor, "alias.set", alias.name.clone(), detail);
        self.change(change, move |view| setup::put_alias(view, alias))
            .await
    }

    async fn remove_alias(&self, request: Request<RemoveAliasRequest>) -> Answer {
        let actor = Actor::of(&request);
        let RemoveAliasRequest { provider, name } = request.into_inner();
        let detail = json!({ "provider": provider });
        let change = audited::change(actor, "alias.remove", name.clone(), detail);
        self.change(change, move |view| setup::remove_alias(view, &provider, &name))
            .await
    }

    async fn put_policy(&self, request: Request<PutPolicyRequest>) -> Answer {
        let actor = Actor::of(&request);
        let policy = request.into_inner().policy.ok_or_else(|| missing("policy"))?;
        // The names of the fields, not their values: nobody knows what is in them.
        let fields: Vec<&String> = policy.set.keys().collect();
        let detail = json!({
            "provider": policy.provider, "deny": policy.deny, "rewrite": policy.rewrite, "set": fields,
        });
        let change = audited::change(actor, "policy.set", policy.model.clone(), detail);
        self.change(change, move |view| setup::put_policy(view, policy))
            .await
    }

    async fn remove_policy(&self, request: Request<RemovePolicyRequest>) -> Answer {
        let actor = Actor::of(&request);
        let RemovePolicyRequest { provider, model } = request.into_inner();
        let detail = json!({ "provider": provider });
        let change = audited::change(actor, "policy.remove", model.clone(), detail);
        self.change(change, move |view| setup::remove_policy(view, &provider, &model))
            .await
    }

    async fn put_price(&self, request: Request<PutPriceRequest>) -> Answer {
        let actor = Actor::of(&request);
        let price = request.into_inner().price.ok_or_else(|| missing("price"))?;
        let shown = |rate: u64| Nanos(rate).to_string();
        let detail = json!({
            "input": shown(price.input), "output": shown(price.output),
            "cache_read": price.cache_read.map(shown), "cache_write": price.cache_write.map(shown),
            "cache_write_1h": price.cache_write_1h.map(shown), "reasoning": price.reasoning.map(shown),
        });
        let target = format!("{}/{}", audited::name(&price.provider), price.model);
        let change = audited::change(actor, "price.set", target, detail);
        self.change(change, move |view| setup::put_price(view, price))
            .await
    }

    async fn remove_price(&self, request: Request<RemovePriceRequest>) -> Answer {
        let actor = Actor::of(&request);
        let RemovePriceRequest { provider, model } = request.into_inner();
        let target = format!("{}/{model}", audited::name(&provider));
        let change = audited::change(actor, "price.remove", target, json!({}));
        self.change(change, move |view| setup::remove_price(view, &provider, &model))
            .await
    }

    async fn check_config(
        &self,
        request: Request<CheckConfigRequest>,
    ) -> Result<Response<CheckConfigResponse>, Status> {
        let text = request.into_inner().text;
        let config = self.gateway.config.load_full();
        let read = tokio::task::spawn_blocking(move || match text {
            Some(text) => config.instead(&text),
            None => config.again(),
        });
        let read = read
            .await
            .map_err(|_| Status::internal("reading the configuration was interrupted"))?;
        Ok(Response::new(match read {
            Ok(config) => CheckConfigResponse {
                error: String::new(),
                needs_restart: self.gateway.reloading.needs_restart(&config),
            },
            Err(error) => CheckConfigResponse {
                error: crate::causes(&error),
                needs_restart: Vec::new(),
            },
        }))
    }
}
