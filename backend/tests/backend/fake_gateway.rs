//! A gateway's administration played by a test.

use lodge_proto::control::gateway_admin_server::{GatewayAdmin, GatewayAdminServer};
use lodge_proto::control::{
    BeginKeyExchangeRequest, BeginKeyExchangeResponse, CreateKeyRequest, CreateKeyResponse, HealthRequest,
    HealthResponse, ListBudgetsRequest, ListBudgetsResponse, ListKeysRequest, ListKeysResponse,
    ListModelsRequest, ListModelsResponse, ListProvidersRequest, ListProvidersResponse, ListUsageRequest,
    ListUsageResponse, Model, Provider, RemoveProviderKeyRequest, RemoveProviderKeyResponse,
    RevokeKeyRequest, RevokeKeyResponse, RotateKeyRequest, SetBudgetRequest, SetBudgetResponse,
    SetProviderKeyRequest, SetProviderKeyResponse,
};
use lodge_proto::sock;
use std::path::Path;
use tokio::net::UnixListener;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::transport::Server;
use tonic::{Request, Response, Status};

struct Fake;

fn model() -> Model {
    Model {
        id: "m/1".into(),
        name: "M".into(),
        provider: "demo".into(),
        context_window: 8,
        ..Model::default()
    }
}

#[tonic::async_trait]
impl GatewayAdmin for Fake {
    async fn list_providers(
        &self,
        _: Request<ListProvidersRequest>,
    ) -> Result<Response<ListProvidersResponse>, Status> {
        let provider = Provider {
            name: "demo".into(),
            models: vec![model()],
            ..Provider::default()
        };
        Ok(Response::new(ListProvidersResponse {
            providers: vec![provider],
        }))
    }

    async fn set_provider_key(
        &self,
        request: Request<SetProviderKeyRequest>,
    ) -> Result<Response<SetProviderKeyResponse>, Status> {
        let request = request.into_inner();
        if request.key.is_empty() && request.sealed.is_none() {
            return Err(Status::invalid_argument("the key is empty"));
        }
        let provider = Provider {
            name: request.name,
            kind: request.kind,
            has_key: true,
            ..Provider::default()
        };
        Ok(Response::new(SetProviderKeyResponse {
            provider: Some(provider),
        }))
    }

    async fn begin_key_exchange(
        &self,
        _request: Request<BeginKeyExchangeRequest>,
    ) -> Result<Response<BeginKeyExchangeResponse>, Status> {
        Ok(Response::new(BeginKeyExchangeResponse {
            exchange: "e1".into(),
            public_key: vec![4; 65],
        }))
    }

    async fn remove_provider_key(
        &self,
        request: Request<RemoveProviderKeyRequest>,
    ) -> Result<Response<RemoveProviderKeyResponse>, Status> {
        match request.into_inner().name.as_str() {
            "demo" => Ok(Response::new(RemoveProviderKeyResponse {})),
            name => Err(Status::not_found(format!("provider `{name}` does not exist"))),
        }
    }

    async fn list_models(
        &self,
        _: Request<ListModelsRequest>,
    ) -> Result<Response<ListModelsResponse>, Status> {
        Ok(Response::new(ListModelsResponse {
            models: vec![model()],
        }))
    }

    async fn create_key(&self, _: Request<CreateKeyRequest>) -> Result<Response<CreateKeyResponse>, Status> {
        Err(Status::unimplemented("not played"))
    }

    async fn list_keys(&self, _: Request<ListKeysRequest>) -> Result<Response<ListKeysResponse>, Status> {
        Ok(Response::new(ListKeysResponse::default()))
    }

    async fn revoke_key(&self, _: Request<RevokeKeyRequest>) -> Result<Response<RevokeKeyResponse>, Status> {
        Err(Status::unimplemented("not played"))
    }

    async fn rotate_key(&self, _: Request<RotateKeyRequest>) -> Result<Response<CreateKeyResponse>, Status> {
        Err(Status::unimplemented("not played"))
    }

    async fn set_budget(&self, _: Request<SetBudgetRequest>) -> Result<Response<SetBudgetResponse>, Status> {
        Err(Status::unimplemented("not played"))
    }

    async fn list_budgets(
        &self,
        _: Request<ListBudgetsRequest>,
    ) -> Result<Response<ListBudgetsResponse>, Status> {
        Ok(Response::new(ListBudgetsResponse::default()))
    }

    async fn list_usage(&self, _: Request<ListUsageRequest>) -> Result<Response<ListUsageResponse>, Status> {
        Ok(Response::new(ListUsageResponse::default()))
    }

    async fn health(&self, _: Request<HealthRequest>) -> Result<Response<HealthResponse>, Status> {
        Ok(Response::new(HealthResponse::default()))
    }
}

/// Serves until the test ends.
pub(crate) fn start(data: &Path) {
    let run = data.join("run");
    std::fs::create_dir_all(&run).unwrap();
    let listener = sock::bind(&run.join("gateway-admin.sock")).unwrap();
    listener.set_nonblocking(true).unwrap();
    let incoming = UnixListenerStream::new(UnixListener::from_std(listener).unwrap());
    tokio::spawn(
        Server::builder()
            .add_service(GatewayAdminServer::new(Fake))
            .serve_with_incoming(incoming),
    );
}
