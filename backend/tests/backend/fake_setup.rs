//! A gateway's administration played by a test: what is set up beside the file.

use crate::fake_gateway::{Fake, actor};
use lodge_proto::control::gateway_setup_server::GatewaySetup;
use lodge_proto::control::{
    AccountSetup, CheckConfigRequest, CheckConfigResponse, EnableAccountRequest, PutAccountRequest,
    PutAliasRequest, PutPolicyRequest, PutPriceRequest, PutProviderRequest, RemoveAccountRequest,
    RemoveAliasRequest, RemovePolicyRequest, RemovePriceRequest, SetupChanged, ShowSetupRequest,
    ShowSetupResponse,
};
use tonic::{Request, Response, Status};

type Answer = Result<Response<SetupChanged>, Status>;

fn done() -> Response<SetupChanged> {
    Response::new(SetupChanged {})
}

impl Fake {
    fn note<T>(&self, request: Request<T>) -> T {
        self.state().actors.push(actor(&request));
        request.into_inner()
    }
}

#[tonic::async_trait]
impl GatewaySetup for Fake {
    async fn show_setup(&self, _: Request<ShowSetupRequest>) -> Result<Response<ShowSetupResponse>, Status> {
        Ok(Response::new(self.state().setup.clone()))
    }

    async fn put_provider(&self, request: Request<PutProviderRequest>) -> Answer {
        let provider = self.note(request).provider.unwrap();
        if provider.name == "filed" {
            let text = "the provider `filed` is set in lodge.toml ([[provider]] number 1)";
            return Err(Status::failed_precondition(text));
        }
        self.state().setup.providers.push(provider);
        Ok(done())
    }

    async fn put_account(&self, request: Request<PutAccountRequest>) -> Answer {
        let request = self.note(request);
        let account = request.account.unwrap();
        if request.key.is_empty() && account.oauth.is_none() {
            return Err(Status::invalid_argument("key: is missing"));
        }
        self.state().setup.accounts.push(account);
        Ok(done())
    }

    async fn remove_account(&self, request: Request<RemoveAccountRequest>) -> Answer {
        let RemoveAccountRequest { provider, name } = self.note(request);
        let is_meant = |account: &AccountSetup| account.provider == provider && account.name == name;
        self.state().setup.accounts.retain(|account| !is_meant(account));
        Ok(done())
    }

    async fn enable_account(&self, request: Request<EnableAccountRequest>) -> Answer {
        let request = self.note(request);
        for account in &mut self.state().setup.accounts {
            if account.name == request.name {
                account.disabled = !request.enabled;
            }
        }
        Ok(done())
    }

    async fn put_alias(&self, request: Request<PutAliasRequest>) -> Answer {
        let alias = self.note(request).alias.unwrap();
        self.state().setup.aliases.push(alias);
        Ok(done())
    }

    async fn remove_alias(&self, request: Request<RemoveAliasRequest>) -> Answer {
        let name = self.note(request).name;
        self.state().setup.aliases.retain(|alias| alias.name != name);
        Ok(done())
    }

    async fn put_policy(&self, request: Request<PutPolicyRequest>) -> Answer {
        let policy = self.note(request).policy.unwrap();
        self.state().setup.policies.push(policy);
        Ok(done())
    }

    async fn remove_policy(&self, request: Request<RemovePolicyRequest>) -> Answer {
        let model = self.note(request).model;
        self.state().setup.policies.retain(|policy| policy.model != model);
        Ok(done())
    }

    async fn put_price(&self, request: Request<PutPriceRequest>) -> Answer {
        let price = self.note(request).price.unwrap();
        self.state().setup.prices.push(price);
        Ok(done())
    }

    async fn remove_price(&self, request: Request<RemovePriceRequest>) -> Answer {
        let model = self.note(request).model;
        self.state().setup.prices.retain(|price| price.model != model);
        Ok(done())
    }

    async fn check_config(
        &self,
        request: Request<CheckConfigRequest>,
    ) -> Result<Response<CheckConfigResponse>, Status> {
        let error = match request.into_inner().text {
            Some(_) => "lodge.toml, line 4: unknown field `kye`",
            None => "",
        };
        Ok(Response::new(CheckConfigResponse {
            error: error.to_owned(),
            needs_restart: vec!["egress".to_owned()],
        }))
    }
}
