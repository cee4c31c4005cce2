//! The administrative service for accounts: quotas, tests, logins, and the configuration read again.

use std::sync::Arc;
use std::time::Instant;

use lodge_proto::control::gateway_accounts_server::{GatewayAccounts, GatewayAccountsServer};
use lodge_proto::control::{
    AccountState, AccountTest, BeginLoginRequest, BeginLoginResponse, FinishLoginRequest,
    FinishLoginResponse, QuotaRequest, QuotaResponse, QuotaWindow, ReloadRequest, ReloadResponse,
    ResealRequest, ResealResponse, TestProviderRequest, TestProviderResponse,
};
use serde_json::json;
use tonic::{Request, Response, Status};

use super::audited;
use crate::accounts::{self, quota::Quota};
use crate::audit::Actor;
use crate::dialect::WireError;
use crate::forward;
use crate::guest::Gateway;
use crate::oauth::{OauthError, Polled};
use crate::provider::{Account, Kind, ProviderSpec};
use crate::reload;
use crate::seal::{self, SealError};

pub(crate) fn service(gateway: Arc<Gateway>) -> GatewayAccountsServer<Accounts> {
    GatewayAccountsServer::new(Accounts { gateway })
}

/// The service.
pub(crate) struct Accounts {
    gateway: Arc<Gateway>,
}

impl Accounts {
    fn provider(&self, name: &str) -> Result<Arc<ProviderSpec>, Status> {
        let provider = self.gateway.providers.current().get(name).cloned();
        provider.ok_or_else(|| Status::not_found("there is no such provider"))
    }

    /// An account that is logged into.
    fn login(&self, provider: &str, account: &str) -> Result<(Arc<ProviderSpec>, Account), Status> {
        let provider = self.provider(provider)?;
        let found = provider
            .all_accounts()
            .into_iter()
            .find(|found| found.name == account);
        let found = found.ok_or_else(|| Status::not_found("the provider has no such account"))?;
        if found.oauth.is_none() {
            return Err(Status::failed_precondition("the account has a key and no login"));
        }
        Ok((provider, found))
    }

    async fn read_again(&self) -> Result<ReloadResponse, Status> {
        let needs_restart = reload::reload(&self.gateway).await?;
        Ok(ReloadResponse { needs_restart })
    }

    async fn reseal(&self) -> Result<(), Status> {
        let config = self.gateway.config.load_full();
        let preparing =
            tokio::task::spawn_blocking(move || seal::prepare(&config.seal, &config.data.join("gateway")));
        let prepared = preparing
            .await
            .map_err(|_| Status::internal("making a key was interrupted"))?;
        prepared.map_err(|error| match error {
            SealError::Outside { .. } | SealError::Prepared { .. } => {
                Status::failed_precondition(error.to_string())
            }
            error => {
                tracing::error!(error = crate::causes(&error), "making a seal key");
                Status::internal(error.to_string())
            }
        })
    }

    async fn finish(&self, request: FinishLoginRequest) -> Result<FinishLoginResponse, Status> {
        let FinishLoginRequest {
            provider,
            account,
            state,
            code,
        } = request;
        let (provider, account) = self.login(&provider, &account)?;
        let login = forward::login(&provider, &account).ok_or_else(|| Status::internal("no login"))?;
        let (oauth, upstream) = (&self.gateway.routing.oauth, &self.gateway.upstream);
        let polled = if state.is_empty() {
            oauth.poll_device(upstream, login).await
        } else {
            let finished = oauth.finish_code(upstream, login, &state, &code).await;
            finished.map(|()| Polled::LoggedIn)
        };
        let (logged_in, after) = match polled.map_err(|error| status(&error))? {
            Polled::LoggedIn => (true, 0),
            Polled::Pending { after } => (false, after),
        };
        if logged_in {
            tracing::info!(
                provider = provider.name,
                account = account.name,
                "an account was logged into"
            );
        }
        Ok(FinishLoginResponse { logged_in, after })
    }

    async fn test(&self, provider: &ProviderSpec, mut account: Account) -> AccountTest {
        let begun = Instant::now();
        let upstream = &self.gateway.upstream;
        let token = match forward::login(provider, &account) {
            None => Ok(None),
            Some(login) => self.gateway.routing.oauth.access(upstream, login).await.map(Some),
        };
        let answer = match token {
            Ok(token) => {
                account.key = token.or(account.key.take());
                upstream.listing(provider, &account).await
            }
            Err(error) => Err(WireError::unauthenticated(&error.to_string())),
        };
        let (status, message) = match answer {
            Ok((status, _)) if status.is_success() => (status.as_u16(), String::new()),
            // Not the body: some of them quote the key.
            Ok((status, _)) => (status.as_u16(), meaning(status.as_u16()).to_owned()),
            Err(error) => (0, error.message),
        };
        AccountTest {
            account: account.name,
            ok: message.is_empty(),
            status: status.into(),
            message,
            milliseconds: begun.elapsed().as_millis().try_into().unwrap_or(u64::MAX),
        }
    }
}

fn meaning(status: u16) -> &'static str {
    match status {
        401 => "the provider does not know this key",
        403 => "the key has no right to list models",
        404 => "there is no list of models at this address; is base_url right?",
        429 => "the account is limited at the moment",
        500.. => "the provider has a fault of its own",
        _ => "the provider answered with something else than a list of models",
    }
}

fn window(quota: &Quota) -> QuotaWindow {
    QuotaWindow {
        name: quota.name.clone(),
        limit: quota.limit,
        remaining: quota.remaining,
        used_percent: quota.used_percent,
        resets_at: quota.resets_at,
        status: quota.status.clone().unwrap_or_default(),
    }
}

fn status(error: &OauthError) -> Status {
    let message = error.to_string();
    match error {
        OauthError::LoggedOut | OauthError::NoFlow(_) | OauthError::Refused(_) => {
            Status::failed_precondition(message)
        }
        OauthError::Unknown => Status::not_found(message),
        OauthError::TooMany => Status::resource_exhausted(message),
        OauthError::Unreachable(_) | OauthError::Answer => Status::unavailable(message),
        OauthError::Keep => Status::internal(message),
    }
}

#[tonic::async_trait]
impl GatewayAccounts for Accounts {
    async fn quota(&self, _request: Request<QuotaRequest>) -> Result<Response<QuotaResponse>, Status> {
        let (known, now) = (self.gateway.routing.accounts.current(), accounts::now());
        let registry = self.gateway.providers.current();
        let mut states = Vec::new();
        for provider in registry.iter().filter(|provider| provider.kind != Kind::Demo) {
            let in_use = provider.all_accounts().into_iter().map(|account| (account, true));
            let disabled = provider.disabled.iter().cloned().map(|account| (account, false));
            for (account, is_in_use) in in_use.chain(disabled) {
                let known = known.get(&(provider.name.clone(), account.name.clone()));
                let known = known.cloned().unwrap_or_default();
                let pause = known.health.pause(now);
                let models: Vec<&str> = known.paused_models(now).collect();
                let state = match pause {
                    _ if !is_in_use => "disabled".to_owned(),
                    Some(pause) => pause.cause.as_str().to_owned(),
                    None if !models.is_empty() => format!("limited for {}", models.join(", ")),
                    None if known.health.is_well(now) => "well".to_owned(),
                    None => "trial".to_owned(),
                };
                states.push(AccountState {
                    provider: provider.name.clone(),
                    account: account.name,
                    state,
                    paused_until: pause.map_or(0, |pause| pause.until),
                    windows: known.quotas.iter().map(window).collect(),
                    told_at: known.quotas_at,
                });
            }
        }
        Ok(Response::new(QuotaResponse { accounts: states }))
    }

    async fn test_provider(
        &self,
        request: Request<TestProviderRequest>,
    ) -> Result<Response<TestProviderResponse>, Status> {
        let provider = self.provider(&request.into_inner().name)?;
        if provider.kind == Kind::Demo {
            return Err(Status::failed_precondition(
                "the demo model needs no test: it is in this process",
            ));
        }
        let mut accounts = Vec::new();
        for account in provider
            .all_accounts()
            .into_iter()
            .chain(provider.disabled.clone())
        {
            accounts.push(self.test(&provider, account).await);
        }
        Ok(Response::new(TestProviderResponse { accounts }))
    }

    async fn reload(&self, request: Request<ReloadRequest>) -> Result<Response<ReloadResponse>, Status> {
        let change = audited::change(Actor::of(&request), "gateway.reload", String::new(), json!({}));
        let needs = |answer: &ReloadResponse| answer.needs_restart.join(", ");
        let read = audited::around(&self.gateway, change, self.read_again(), needs).await;
        read.map(Response::new)
    }

    async fn reseal(&self, request: Request<ResealRequest>) -> Result<Response<ResealResponse>, Status> {
        let actor = Actor::of(&request);
        let change = audited::change(actor, "seal.change", String::new(), json!({}));
        audited::around(&self.gateway, change, self.reseal(), |()| String::new()).await?;
        Ok(Response::new(ResealResponse {}))
    }

    async fn begin_login(
        &self,
        request: Request<BeginLoginRequest>,
    ) -> Result<Response<BeginLoginResponse>, Status> {
        let request = request.into_inner();
        let (provider, account) = self.login(&request.provider, &request.account)?;
        let login = forward::login(&provider, &account).ok_or_else(|| Status::internal("no login"))?;
        let oauth = &self.gateway.routing.oauth;
        if !request.device {
            let url = oauth.begin_code(login).map_err(|error| status(&error))?;
            return Ok(Response::new(BeginLoginResponse {
                url,
                ..BeginLoginResponse::default()
            }));
        }
        let device = oauth.begin_device(&self.gateway.upstream, login).await;
        let device = device.map_err(|error| status(&error))?;
        Ok(Response::new(BeginLoginResponse {
            url: device
                .verification_uri_complete
                .unwrap_or(device.verification_uri),
            user_code: device.user_code,
            interval: device.interval,
        }))
    }

    async fn finish_login(
        &self,
        request: Request<FinishLoginRequest>,
    ) -> Result<Response<FinishLoginResponse>, Status> {
        let actor = Actor::of(&request);
        let request = request.into_inner();
        let target = format!(
            "{}/{}",
            audited::name(&request.provider),
            audited::name(&request.account)
        );
        if request.state.is_empty() {
            // A question, asked every few seconds; it is noted when it has become a login.
            let answer = self.finish(request).await?;
            if answer.logged_in {
                let change = audited::change(actor, "account.login", target, json!({}));
                let noted = async { Ok(()) };
                audited::around(&self.gateway, change, noted, |()| String::new()).await?;
            }
            return Ok(Response::new(answer));
        }
        let change = audited::change(actor, "account.login", target, json!({}));
        let finished = audited::around(&self.gateway, change, self.finish(request), |_| String::new()).await;
        finished.map(Response::new)
    }
}
