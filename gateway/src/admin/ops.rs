//! The administrative service for those who watch: the audit, what is under way, prices, counters.

use std::sync::Arc;

use lodge_proto::control::gateway_ops_server::{GatewayOps, GatewayOpsServer};
use lodge_proto::control::{
    AuditEntry, CancelRequestRequest, CancelRequestResponse, EnableKeyRequest, EnableKeyResponse,
    ListAuditRequest, ListAuditResponse, ListLiveRequest, ListLiveResponse, ListPricesRequest,
    ListPricesResponse, LiveRequest, MetricsRequest, MetricsResponse, ModelPrice,
};
use serde_json::json;
use tonic::{Request, Response, Status};

use super::{accounts, audited};
use crate::audit::{Actor, Entry};
use crate::guest::Gateway;
use crate::keys::KeySpec;
use crate::ledger::{LedgerError, Live};
use crate::metrics;
use crate::models::price;
use crate::provider::ProviderSpec;

/// Requests that are listed at a time.
const MAX_LIVE: usize = 1000;

pub(super) fn service(gateway: Arc<Gateway>) -> GatewayOpsServer<Ops> {
    GatewayOpsServer::new(Ops { gateway })
}

/// The service.
pub(super) struct Ops {
    gateway: Arc<Gateway>,
}

impl Ops {
    async fn enable(&self, id: &str, enabled: bool) -> Result<KeySpec, Status> {
        let changed = self.gateway.keys.enable(id, enabled).await;
        let spec = changed.map_err(|error| accounts::key_status(&error))?;
        tracing::info!(key = id, enabled, "a key was enabled or disabled");
        Ok(spec)
    }
}

#[tonic::async_trait]
impl GatewayOps for Ops {
    async fn list_audit(
        &self,
        request: Request<ListAuditRequest>,
    ) -> Result<Response<ListAuditResponse>, Status> {
        let ListAuditRequest {
            before,
            limit,
            search,
        } = request.into_inner();
        let listed = self.gateway.audit.list(before, limit, &search).await;
        let listed = listed.map_err(|error| {
            tracing::error!(error = crate::causes(&error), "reading the audit");
            Status::internal("the gateway cannot read its audit")
        })?;
        let entries = listed.into_iter().map(entry).collect();
        Ok(Response::new(ListAuditResponse { entries }))
    }

    async fn list_live(
        &self,
        _request: Request<ListLiveRequest>,
    ) -> Result<Response<ListLiveResponse>, Status> {
        let live = self
            .gateway
            .ledger
            .live(MAX_LIVE)
            .await
            .map_err(|error| failed(&error))?;
        let requests = live.iter().map(self::live).collect();
        Ok(Response::new(ListLiveResponse { requests }))
    }

    async fn cancel_request(
        &self,
        request: Request<CancelRequestRequest>,
    ) -> Result<Response<CancelRequestResponse>, Status> {
        let actor = Actor::of(&request);
        let id = request.into_inner().id;
        let found = self.gateway.ledger.find(id).await;
        let found = found.map_err(|error| failed(&error))?;
        let detail = found.map_or_else(|| json!({}), |found| whose(&found));
        let change = audited::change(actor, "request.cancel", format!("request:{id}"), detail);
        let cancelling = async {
            let cancelled = self.gateway.live.cancel(id);
            tracing::info!(request = id, cancelled, "a request is ended by hand");
            cancelled
                .then_some(())
                .ok_or_else(|| Status::not_found(format!("no request {id} is under way: it may have ended")))
        };
        audited::around(&self.gateway, change, cancelling, |()| String::new()).await?;
        Ok(Response::new(CancelRequestResponse {}))
    }

    async fn list_prices(
        &self,
        request: Request<ListPricesRequest>,
    ) -> Result<Response<ListPricesResponse>, Status> {
        let wanted = request.into_inner().model;
        let providers = self.gateway.providers.current();
        let providers: Vec<Arc<ProviderSpec>> = providers
            .iter()
            .filter_map(|provider| self.gateway.providers.current().get(&provider.name).cloned())
            .collect();
        // The price table takes a moment to read, the first time.
        let listed = tokio::task::spawn_blocking(move || prices(&providers, &wanted)).await;
        let prices = listed.map_err(|_| Status::internal("listing prices was interrupted"))?;
        if prices.is_empty() {
            return Err(Status::not_found(
                "no provider lists such a model; write `PROVIDER/MODEL`",
            ));
        }
        Ok(Response::new(ListPricesResponse { prices }))
    }

    async fn enable_key(
        &self,
        request: Request<EnableKeyRequest>,
    ) -> Result<Response<EnableKeyResponse>, Status> {
        let actor = Actor::of(&request);
        let EnableKeyRequest { id, enabled } = request.into_inner();
        let action = if enabled { "key.enable" } else { "key.disable" };
        let change = audited::change(actor, action, audited::key(&self.gateway, &id), json!({}));
        let spec = audited::around(&self.gateway, change, self.enable(&id, enabled), |_| {
            String::new()
        })
        .await?;
        Ok(Response::new(EnableKeyResponse {
            key: Some(spec.into()),
        }))
    }

    async fn metrics(&self, _request: Request<MetricsRequest>) -> Result<Response<MetricsResponse>, Status> {
        let text = metrics::show(&self.gateway)
            .await
            .map_err(|error| failed(&error))?;
        Ok(Response::new(MetricsResponse { text }))
    }
}

fn failed(error: &LedgerError) -> Status {
    tracing::error!(error = crate::causes(error), "the ledger");
    Status::internal(error.to_string())
}

fn entry(entry: Entry) -> AuditEntry {
    AuditEntry {
        serial: entry.serial,
        at: entry.at,
        uid: entry.uid,
        pid: entry.pid,
        actor: entry.actor,
        action: entry.action,
        target: entry.target,
        detail: entry.detail,
        outcome: entry.outcome.unwrap_or_else(|| "unknown".to_owned()),
        result: entry.result,
    }
}

fn live(live: &Live) -> LiveRequest {
    let reserve = &live.reserve;
    LiveRequest {
        id: live.id,
        at: reserve.at,
        key: reserve.key.clone(),
        session: reserve.session.clone(),
        user: reserve.user.clone(),
        provider: reserve.provider.clone(),
        model: reserve.model.clone(),
        reserved: reserve.amount.0,
        cost: live.cost.0,
    }
}

/// What of a request that was ended is noted.
fn whose(live: &Live) -> serde_json::Value {
    let reserve = &live.reserve;
    json!({
        "key": reserve.key, "session": reserve.session, "user": reserve.user, "provider": reserve.provider,
        "model": reserve.model,
    })
}

/// Of all listed models, or of those that are meant; one that is not listed has a price too, where its provider is named.
fn prices(providers: &[Arc<ProviderSpec>], wanted: &str) -> Vec<ModelPrice> {
    let mut prices = Vec::new();
    for provider in providers {
        let listed = provider.models.iter().filter(|model| {
            wanted.is_empty() || model.id == wanted || named(wanted, &provider.name) == Some(&model.id)
        });
        let before = prices.len();
        prices.extend(listed.map(|model| price(provider, &model.id)));
        if let Some(model) = named(wanted, &provider.name).filter(|_| prices.len() == before) {
            prices.push(price(provider, model));
        }
    }
    prices
}

/// The model of `provider/model`.
fn named<'a>(wanted: &'a str, provider: &str) -> Option<&'a str> {
    let model = wanted.strip_prefix(provider)?.strip_prefix('/')?;
    (!model.is_empty() && model.len() <= 200).then_some(model)
}
