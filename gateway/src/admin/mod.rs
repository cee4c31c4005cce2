//! The administrative service, on a socket of its own: providers and their keys, keys of people, budgets and usage.

mod accounts;
pub(crate) mod audited;
mod ops;
mod setup;
mod upstream;
mod users;

use std::sync::Arc;

use futures_util::stream;
use lodge_proto::control::gateway_admin_server::{GatewayAdmin, GatewayAdminServer};
use lodge_proto::control::{
    BeginKeyExchangeRequest, BeginKeyExchangeResponse, CreateKeyRequest, CreateKeyResponse, HealthRequest,
    HealthResponse, ListBudgetsRequest, ListBudgetsResponse, ListKeysRequest, ListKeysResponse,
    ListModelsRequest, ListModelsResponse, ListProvidersRequest, ListProvidersResponse, ListUsageRequest,
    ListUsageResponse, RemoveProviderKeyRequest, RemoveProviderKeyResponse, RevokeKeyRequest,
    RevokeKeyResponse, RotateKeyRequest, SetBudgetRequest, SetBudgetResponse, SetProviderKeyRequest,
    SetProviderKeyResponse,
};
use serde_json::json;
use tokio::net::UnixListener;
use tonic::{Code, Request, Response, Status};
use zeroize::Zeroizing;

use crate::accept::accept;
use crate::audit::Actor;
use crate::exchange;
use crate::guest::{Gateway, permitted_peer};
use crate::models;
use crate::provider::{ProviderError, ProviderSpec};

/// Largest message of the service, in bytes.
const MAX_MESSAGE: usize = 64 << 10;
/// The same where a provider comes with all its models, or a configuration file is to be checked.
const MAX_SETUP: usize = 2 << 20;

/// Serves administration until dropped. Peers of another uid are refused.
pub async fn serve(gateway: Arc<Gateway>, listener: UnixListener) -> Result<(), tonic::transport::Error> {
    let permitted = gateway.peer_uid;
    let connections = stream::unfold(listener, move |listener| async move {
        loop {
            let stream = accept(&listener).await;
            if permitted_peer(&stream, permitted).is_some() {
                return Some((Ok::<_, std::io::Error>(stream), listener));
            }
        }
    });
    let accounts = upstream::service(Arc::clone(&gateway)).max_decoding_message_size(MAX_MESSAGE);
    let ops = ops::service(Arc::clone(&gateway)).max_decoding_message_size(MAX_MESSAGE);
    let setup = setup::service(Arc::clone(&gateway)).max_decoding_message_size(MAX_SETUP);
    let users = users::service(Arc::clone(&gateway)).max_decoding_message_size(MAX_MESSAGE);
    let service = GatewayAdminServer::new(Admin { gateway }).max_decoding_message_size(MAX_MESSAGE);
    tonic::transport::Server::builder()
        .add_service(service)
        .add_service(accounts)
        .add_service(ops)
        .add_service(setup)
        .add_service(users)
        .serve_with_incoming(connections)
        .await
}

struct Admin {
    gateway: Arc<Gateway>,
}

fn status(error: &ProviderError) -> Status {
    let code = match error {
        ProviderError::Unknown(_) => Code::NotFound,
        ProviderError::Differs { .. } | ProviderError::Configured { .. } => Code::FailedPrecondition,
        ProviderError::Seal(_) | ProviderError::Store(_) | ProviderError::Interrupted => {
            tracing::error!(error = crate::causes(error), "changing a provider");
            Code::Internal
        }
        _ => Code::InvalidArgument,
    };
    Status::new(code, error.to_string())
}

impl Admin {
    async fn set_key(&self, request: SetProviderKeyRequest) -> Result<Arc<ProviderSpec>, Status> {
        let SetProviderKeyRequest {
            name,
            kind,
            key,
            base_url,
            sealed,
        } = request;
        let mut key = Zeroizing::new(key);
        if let Some(sealed) = sealed {
            let context = exchange::context(&name, &kind, &base_url);
            let exchanges = &self.gateway.exchanges;
            let opened = exchanges.open(&sealed.exchange, &sealed.public_key, sealed.sealed, &context);
            key = opened.map_err(|error| Status::invalid_argument(error.to_string()))?;
        }
        let provider = self
            .gateway
            .providers
            .set_key(name, &kind, &base_url, &key)
            .await
            .map_err(|error| setup::status(&error))?;
        tracing::info!(provider = provider.name, "a provider key was set");
        self.gateway.providers_changed.notify_one();
        crate::price::warm_for(&self.gateway.providers.current());
        Ok(provider)
    }

    async fn remove_key(&self, name: &str) -> Result<(), Status> {
        let removed = self.gateway.providers.remove_key(name).await;
        removed.map_err(|error| setup::status(&error))?;
        tracing::info!(provider = name, "a provider key was removed");
        Ok(())
    }

    async fn revoke(&self, id: &str) -> Result<(), Status> {
        let revoked = self.gateway.keys.revoke(id).await;
        revoked.map_err(|error| accounts::key_status(&error))?;
        tracing::info!(key = id, "a key was revoked");
        Ok(())
    }

    async fn rotate(
        &self,
        RotateKeyRequest { id, overlap }: RotateKeyRequest,
    ) -> Result<CreateKeyResponse, Status> {
        let gateway = &self.gateway;
        let time = (overlap, gateway.ledger.now());
        let rotated = gateway.keys.rotate(&gateway.hasher, &id, time).await;
        let secret = rotated.map_err(|error| accounts::key_status(&error))?;
        let spec = gateway
            .keys
            .get(&id)
            .map_err(|error| accounts::key_status(&error))?;
        tracing::info!(key = id, overlap, "a key was rotated");
        Ok(CreateKeyResponse {
            key: Some(spec.into()),
            secret: secret.to_string(),
        })
    }
}

#[tonic::async_trait]
impl GatewayAdmin for Admin {
    async fn list_providers(
        &self,
        _request: Request<ListProvidersRequest>,
    ) -> Result<Response<ListProvidersResponse>, Status> {
        let providers = self
            .gateway
            .providers
            .current()
            .iter()
            .map(models::provider)
            .collect();
        Ok(Response::new(ListProvidersResponse { providers }))
    }

    async fn set_provider_key(
        &self,
        request: Request<SetProviderKeyRequest>,
    ) -> Result<Response<SetProviderKeyResponse>, Status> {
        let actor = Actor::of(&request);
        let request = request.into_inner();
        let (name, detail) = (audited::name(&request.name), audited::provider(&request));
        let change = audited::change(actor, "provider.key.set", name, detail);
        let provider =
            audited::around(&self.gateway, change, self.set_key(request), |_| String::new()).await?;
        Ok(Response::new(SetProviderKeyResponse {
            provider: Some(models::provider(&provider)),
        }))
    }

    async fn begin_key_exchange(
        &self,
        _request: Request<BeginKeyExchangeRequest>,
    ) -> Result<Response<BeginKeyExchangeResponse>, Status> {
        let begun = self.gateway.exchanges.begin();
        let (exchange, public_key) = begun.map_err(|error| Status::internal(error.to_string()))?;
        Ok(Response::new(BeginKeyExchangeResponse { exchange, public_key }))
    }

    async fn remove_provider_key(
        &self,
        request: Request<RemoveProviderKeyRequest>,
    ) -> Result<Response<RemoveProviderKeyResponse>, Status> {
        let actor = Actor::of(&request);
        let name = request.into_inner().name;
        let change = audited::change(actor, "provider.key.remove", audited::name(&name), json!({}));
        audited::around(&self.gateway, change, self.remove_key(&name), |()| String::new()).await?;
        Ok(Response::new(RemoveProviderKeyResponse {}))
    }

    async fn list_models(
        &self,
        request: Request<ListModelsRequest>,
    ) -> Result<Response<ListModelsResponse>, Status> {
        let ListModelsRequest { key, refresh } = request.into_inner();
        let gateway = &self.gateway;
        let line = match key.as_str() {
            "" => Vec::new(),
            id => accounts::line(gateway, id)?,
        };
        let permits =
            |provider: &str, model: &str| line.iter().all(|key| key.spec.access.permits(provider, model));
        let failures = if refresh {
            crate::provider::refresh(gateway).await
        } else {
            Vec::new()
        };
        let offers = gateway.catalog.offers(gateway).await;
        let own = offers.iter().filter(|offer| offer.is_for(permits));
        Ok(Response::new(ListModelsResponse {
            models: own.map(|offer| offer.model.clone()).collect(),
            problems: failures.into_iter().map(|(_, why)| why).collect(),
        }))
    }

    async fn create_key(
        &self,
        request: Request<CreateKeyRequest>,
    ) -> Result<Response<CreateKeyResponse>, Status> {
        let actor = Actor::of(&request);
        let request = request.into_inner();
        let (user, detail) = audited::created(&request);
        let change = audited::change(actor, "key.create", user, detail);
        let creating = accounts::create_key(&self.gateway, request);
        let id = |made: &CreateKeyResponse| made.key.as_ref().map_or_else(String::new, |key| key.id.clone());
        let made = audited::around(&self.gateway, change, creating, id).await;
        made.map(Response::new)
    }

    async fn list_keys(
        &self,
        _request: Request<ListKeysRequest>,
    ) -> Result<Response<ListKeysResponse>, Status> {
        let keys = self.gateway.keys.list().into_iter();
        let keys = keys.map(|spec| accounts::shown(&self.gateway, spec)).collect();
        Ok(Response::new(ListKeysResponse { keys }))
    }

    async fn revoke_key(
        &self,
        request: Request<RevokeKeyRequest>,
    ) -> Result<Response<RevokeKeyResponse>, Status> {
        let actor = Actor::of(&request);
        let id = request.into_inner().id;
        let target = audited::key(&self.gateway, &id);
        let change = audited::change(actor, "key.revoke", target, json!({}));
        audited::around(&self.gateway, change, self.revoke(&id), |()| String::new()).await?;
        Ok(Response::new(RevokeKeyResponse {}))
    }

    async fn rotate_key(
        &self,
        request: Request<RotateKeyRequest>,
    ) -> Result<Response<CreateKeyResponse>, Status> {
        let actor = Actor::of(&request);
        let request = request.into_inner();
        let target = audited::key(&self.gateway, &request.id);
        let change = audited::change(actor, "key.rotate", target, json!({ "overlap": request.overlap }));
        let rotated = audited::around(&self.gateway, change, self.rotate(request), |_| String::new()).await;
        rotated.map(Response::new)
    }

    async fn set_budget(
        &self,
        request: Request<SetBudgetRequest>,
    ) -> Result<Response<SetBudgetResponse>, Status> {
        let actor = Actor::of(&request);
        let request = request.into_inner();
        let (scope, detail) = audited::budget(&request);
        let change = audited::change(actor, "budget.set", scope, detail);
        let setting = accounts::set_budget(&self.gateway, request);
        audited::around(&self.gateway, change, setting, |()| String::new()).await?;
        Ok(Response::new(SetBudgetResponse {}))
    }

    async fn list_budgets(
        &self,
        request: Request<ListBudgetsRequest>,
    ) -> Result<Response<ListBudgetsResponse>, Status> {
        let budgets = accounts::budgets(&self.gateway, request.into_inner().scope).await?;
        Ok(Response::new(ListBudgetsResponse { budgets }))
    }

    async fn list_usage(
        &self,
        request: Request<ListUsageRequest>,
    ) -> Result<Response<ListUsageResponse>, Status> {
        let request = request.into_inner();
        let users = request.users.clone();
        let rows = accounts::usage(&self.gateway, request).await?;
        Ok(Response::new(ListUsageResponse { rows, users }))
    }

    async fn health(&self, _request: Request<HealthRequest>) -> Result<Response<HealthResponse>, Status> {
        let open_leases = self.gateway.leases.count() as u64;
        Ok(Response::new(HealthResponse {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            open_leases,
            config_error: self.gateway.reloading.problem(),
            address: self
                .gateway
                .address
                .map_or_else(String::new, |address| address.to_string()),
        }))
    }
}
