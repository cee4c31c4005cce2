//! A gateway's administration played by a test.

use lodge_proto::control::gateway_accounts_server::{GatewayAccounts, GatewayAccountsServer};
use lodge_proto::control::gateway_admin_server::{GatewayAdmin, GatewayAdminServer};
use lodge_proto::control::gateway_ops_server::{GatewayOps, GatewayOpsServer};
use lodge_proto::control::gateway_setup_server::GatewaySetupServer;
use lodge_proto::control::gateway_users_server::{GatewayUsers, GatewayUsersServer};
use lodge_proto::control::{
    AccountState, AccountTest, AuditEntry, BeginKeyExchangeRequest, BeginKeyExchangeResponse,
    BeginLoginRequest, BeginLoginResponse, Budget, CancelRequestRequest, CancelRequestResponse,
    CreateKeyRequest, CreateKeyResponse, EnableKeyRequest, EnableKeyResponse, FinishLoginRequest,
    FinishLoginResponse, HealthRequest, HealthResponse, ListAuditRequest, ListAuditResponse,
    ListBudgetsRequest, ListBudgetsResponse, ListKeysRequest, ListKeysResponse, ListLiveRequest,
    ListLiveResponse, ListModelsRequest, ListModelsResponse, ListPricesRequest, ListPricesResponse,
    ListProvidersRequest, ListProvidersResponse, ListUsageRequest, ListUsageResponse, ListUsersRequest,
    ListUsersResponse, LiveRequest, MetricsRequest, MetricsResponse, Model, ModelPrice, Provider,
    QuotaRequest, QuotaResponse, QuotaWindow, ReloadRequest, ReloadResponse, RemoveProviderKeyRequest,
    RemoveProviderKeyResponse, RemoveUserRequest, RemoveUserResponse, ResealRequest, ResealResponse,
    RevokeKeyRequest, RevokeKeyResponse, RotateKeyRequest, SetBudgetRequest, SetBudgetResponse,
    SetProviderKeyRequest, SetProviderKeyResponse, SetUserRequest, SetUserResponse, TestProviderRequest,
    TestProviderResponse, UsageRow, User, VirtualKey,
};
use lodge_proto::sock;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};
use tokio::net::UnixListener;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::transport::Server;
use tonic::{Request, Response, Status};

/// What it has.
#[derive(Debug, Default)]
pub(crate) struct State {
    pub(crate) keys: Vec<VirtualKey>,
    pub(crate) budgets: Vec<Budget>,
    pub(crate) live: Vec<LiveRequest>,
    /// Serials of its entries.
    pub(crate) audit: Vec<u64>,
    /// For whom keys were made and requests ended.
    pub(crate) actors: Vec<String>,
    /// The people it knows by name.
    pub(crate) users: Vec<User>,
    /// What was set up.
    pub(crate) setup: lodge_proto::control::ShowSetupResponse,
    /// It knows no usage of some users only.
    pub(crate) is_old: bool,
}

impl State {
    fn working(&mut self, id: &str) -> Result<&mut VirtualKey, Status> {
        let mut keys = self.keys.iter_mut();
        let key = keys.find(|key| key.id == id);
        let key = key.ok_or_else(|| Status::not_found(format!("there is no key `{id}`")))?;
        if key.revoked {
            return Err(Status::failed_precondition(format!("the key `{id}` was revoked")));
        }
        Ok(key)
    }
}

#[derive(Clone, Default)]
pub(crate) struct Fake(Arc<Mutex<State>>);

impl Fake {
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }
}

pub(crate) fn actor<T>(request: &Request<T>) -> String {
    let actor = request.metadata().get("lodge-actor");
    actor.map_or("", |actor| actor.to_str().unwrap()).to_owned()
}

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
            problems: Vec::new(),
        }))
    }

    async fn create_key(
        &self,
        request: Request<CreateKeyRequest>,
    ) -> Result<Response<CreateKeyResponse>, Status> {
        let actor = actor(&request);
        let CreateKeyRequest { key, budgets } = request.into_inner();
        let mut key = key.unwrap();
        if key.user.is_empty() {
            return Err(Status::invalid_argument("user must be 1 to 250 bytes"));
        }
        let mut state = self.state();
        key.id = format!("k{}", state.keys.len() + 1);
        let scope = format!("key:{}", key.id);
        let of_key = budgets.into_iter().map(|budget| Budget {
            scope: scope.clone(),
            ..budget
        });
        state.budgets.extend(of_key);
        state.keys.push(key.clone());
        state.actors.push(actor);
        Ok(Response::new(CreateKeyResponse {
            secret: format!("text of {}", key.id),
            key: Some(key),
        }))
    }

    async fn list_keys(&self, _: Request<ListKeysRequest>) -> Result<Response<ListKeysResponse>, Status> {
        let keys = self.state().keys.clone();
        Ok(Response::new(ListKeysResponse { keys }))
    }

    async fn revoke_key(
        &self,
        request: Request<RevokeKeyRequest>,
    ) -> Result<Response<RevokeKeyResponse>, Status> {
        self.state().working(&request.into_inner().id)?.revoked = true;
        Ok(Response::new(RevokeKeyResponse {}))
    }

    async fn rotate_key(
        &self,
        request: Request<RotateKeyRequest>,
    ) -> Result<Response<CreateKeyResponse>, Status> {
        let RotateKeyRequest { id, overlap } = request.into_inner();
        let mut state = self.state();
        let key = state.working(&id)?;
        key.overlap_until = overlap;
        let key = key.clone();
        Ok(Response::new(CreateKeyResponse {
            secret: format!("new text of {}", key.id),
            key: Some(key),
        }))
    }

    async fn set_budget(
        &self,
        request: Request<SetBudgetRequest>,
    ) -> Result<Response<SetBudgetResponse>, Status> {
        let SetBudgetRequest { budget, remove } = request.into_inner();
        let budget = budget.unwrap();
        if !["day", "week", "month", "total"].contains(&budget.window.as_str()) {
            return Err(Status::invalid_argument(format!(
                "window: `{}` is none",
                budget.window
            )));
        }
        let mut state = self.state();
        let place = |other: &Budget| (other.scope.clone(), other.window.clone());
        state.budgets.retain(|other| place(other) != place(&budget));
        state.budgets.extend((!remove).then_some(budget));
        Ok(Response::new(SetBudgetResponse {}))
    }

    async fn list_budgets(
        &self,
        _: Request<ListBudgetsRequest>,
    ) -> Result<Response<ListBudgetsResponse>, Status> {
        let budgets = self.state().budgets.clone();
        Ok(Response::new(ListBudgetsResponse { budgets }))
    }

    async fn list_usage(
        &self,
        request: Request<ListUsageRequest>,
    ) -> Result<Response<ListUsageResponse>, Status> {
        let ListUsageRequest { by, since, users } = request.into_inner();
        let row = UsageRow {
            name: format!("{by} since {since} of {}", users.join("+")),
            requests: 1,
            // More than a number of JavaScript holds.
            cost: u64::MAX >> 1,
            ..UsageRow::default()
        };
        let users = if self.state().is_old { Vec::new() } else { users };
        Ok(Response::new(ListUsageResponse {
            rows: vec![row],
            users,
        }))
    }

    async fn health(&self, _: Request<HealthRequest>) -> Result<Response<HealthResponse>, Status> {
        Ok(Response::new(HealthResponse {
            version: "1".into(),
            config_error: "lodge.toml:3: `knid`".into(),
            ..HealthResponse::default()
        }))
    }
}

#[tonic::async_trait]
impl GatewayAccounts for Fake {
    async fn quota(&self, _: Request<QuotaRequest>) -> Result<Response<QuotaResponse>, Status> {
        let window = QuotaWindow {
            name: "tokens".into(),
            remaining: Some(5),
            ..QuotaWindow::default()
        };
        let account = AccountState {
            provider: "demo".into(),
            state: "well".into(),
            windows: vec![window],
            ..AccountState::default()
        };
        let paused = AccountState {
            provider: "main".into(),
            account: "default".into(),
            state: "limited".into(),
            paused_until: 1_900_000_000_000,
            ..AccountState::default()
        };
        Ok(Response::new(QuotaResponse {
            accounts: vec![account, paused],
        }))
    }

    async fn test_provider(
        &self,
        request: Request<TestProviderRequest>,
    ) -> Result<Response<TestProviderResponse>, Status> {
        if request.into_inner().name == "demo" {
            return Err(Status::failed_precondition("the demo model needs no test"));
        }
        let test = AccountTest {
            account: "default".into(),
            status: 401,
            message: "the provider does not know this key".into(),
            ..AccountTest::default()
        };
        Ok(Response::new(TestProviderResponse { accounts: vec![test] }))
    }

    async fn reload(&self, _: Request<ReloadRequest>) -> Result<Response<ReloadResponse>, Status> {
        Err(Status::invalid_argument("lodge.toml:3: `knid` is no key"))
    }

    async fn reseal(&self, _: Request<ResealRequest>) -> Result<Response<ResealResponse>, Status> {
        Err(Status::unimplemented("not played"))
    }

    async fn begin_login(
        &self,
        request: Request<BeginLoginRequest>,
    ) -> Result<Response<BeginLoginResponse>, Status> {
        let request = request.into_inner();
        if request.account == "default" {
            return Err(Status::failed_precondition("the account has a key and no login"));
        }
        Ok(Response::new(BeginLoginResponse {
            url: format!("https://{}.example/{}", request.provider, request.device),
            ..BeginLoginResponse::default()
        }))
    }

    async fn finish_login(
        &self,
        request: Request<FinishLoginRequest>,
    ) -> Result<Response<FinishLoginResponse>, Status> {
        let logged_in = request.into_inner().code == "c";
        let after = if logged_in { 0 } else { 5 };
        Ok(Response::new(FinishLoginResponse { logged_in, after }))
    }
}

#[tonic::async_trait]
impl GatewayUsers for Fake {
    async fn list_users(&self, _: Request<ListUsersRequest>) -> Result<Response<ListUsersResponse>, Status> {
        let users = self.state().users.clone();
        Ok(Response::new(ListUsersResponse { users }))
    }

    async fn set_user(&self, request: Request<SetUserRequest>) -> Result<Response<SetUserResponse>, Status> {
        let actor = actor(&request);
        let request = request.into_inner();
        let mut state = self.state();
        state.actors.push(actor);
        let user = User {
            name: request.name,
            uid: request.uid.and_then(|uid| uid.try_into().ok()),
            team: request.team.unwrap_or_default(),
            ..User::default()
        };
        if user.team == "filed" {
            return Err(Status::failed_precondition("the user is in lodge.toml"));
        }
        state.users.push(user.clone());
        Ok(Response::new(SetUserResponse { user: Some(user) }))
    }

    async fn remove_user(
        &self,
        request: Request<RemoveUserRequest>,
    ) -> Result<Response<RemoveUserResponse>, Status> {
        let name = request.into_inner().name;
        let mut state = self.state();
        let before = state.users.len();
        state.users.retain(|user| user.name != name);
        if state.users.len() == before {
            return Err(Status::not_found("there is no such user"));
        }
        Ok(Response::new(RemoveUserResponse {}))
    }
}

#[tonic::async_trait]
impl GatewayOps for Fake {
    async fn list_prices(
        &self,
        request: Request<ListPricesRequest>,
    ) -> Result<Response<ListPricesResponse>, Status> {
        let price = ModelPrice {
            provider: "demo".into(),
            model: request.into_inner().model,
            source: "free".into(),
            output: u64::MAX >> 1,
            ..ModelPrice::default()
        };
        Ok(Response::new(ListPricesResponse { prices: vec![price] }))
    }

    async fn enable_key(
        &self,
        request: Request<EnableKeyRequest>,
    ) -> Result<Response<EnableKeyResponse>, Status> {
        let EnableKeyRequest { id, enabled } = request.into_inner();
        let mut state = self.state();
        let key = state.working(&id)?;
        key.disabled = !enabled;
        Ok(Response::new(EnableKeyResponse {
            key: Some(key.clone()),
        }))
    }

    async fn list_audit(
        &self,
        request: Request<ListAuditRequest>,
    ) -> Result<Response<ListAuditResponse>, Status> {
        let ListAuditRequest {
            before,
            limit,
            search,
        } = request.into_inner();
        let audit = self.state().audit.clone();
        let page = audit
            .into_iter()
            .rev()
            .filter(|serial| before == 0 || *serial < before);
        let entry = |serial| AuditEntry {
            serial,
            actor: search.clone(),
            detail: r#"{"window":"day"}"#.into(),
            ..AuditEntry::default()
        };
        let entries = page.take(limit.try_into().unwrap()).map(entry).collect();
        Ok(Response::new(ListAuditResponse { entries }))
    }

    async fn list_live(&self, _: Request<ListLiveRequest>) -> Result<Response<ListLiveResponse>, Status> {
        let requests = self.state().live.clone();
        Ok(Response::new(ListLiveResponse { requests }))
    }

    async fn cancel_request(
        &self,
        request: Request<CancelRequestRequest>,
    ) -> Result<Response<CancelRequestResponse>, Status> {
        let actor = actor(&request);
        let id = request.into_inner().id;
        let mut state = self.state();
        let before = state.live.len();
        state.live.retain(|live| live.id != id);
        if state.live.len() == before {
            return Err(Status::not_found("no such request is under way"));
        }
        state.actors.push(actor);
        Ok(Response::new(CancelRequestResponse {}))
    }

    async fn metrics(&self, _: Request<MetricsRequest>) -> Result<Response<MetricsResponse>, Status> {
        Err(Status::unimplemented("not played"))
    }
}

/// Serves until the test ends.
pub(crate) fn start(data: &Path) -> Fake {
    let run = data.join("run");
    std::fs::create_dir_all(&run).unwrap();
    let listener = sock::bind(&run.join("gateway-admin.sock")).unwrap();
    listener.set_nonblocking(true).unwrap();
    let incoming = UnixListenerStream::new(UnixListener::from_std(listener).unwrap());
    let fake = Fake::default();
    tokio::spawn(
        Server::builder()
            .add_service(GatewayAdminServer::new(fake.clone()))
            .add_service(GatewayAccountsServer::new(fake.clone()))
            .add_service(GatewayOpsServer::new(fake.clone()))
            .add_service(GatewaySetupServer::new(fake.clone()))
            .add_service(GatewayUsersServer::new(fake.clone()))
            .serve_with_incoming(incoming),
    );
    fake
}
