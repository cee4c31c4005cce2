//! What administrators set up beside the configuration file: used at once, kept, bounded by the file, and read again.

mod refused;
mod reread;

use std::path::Path;

use hyper_util::rt::TokioIo;
use lodge_proto::control::gateway_setup_client::GatewaySetupClient;
use lodge_proto::control::{
    AccountSetup, AliasSetup, EnableAccountRequest, ListPricesRequest, ModelSetup, OauthSetup, PolicySetup,
    PriceSetup, ProviderSetup, PutAccountRequest, PutAliasRequest, PutPolicyRequest, PutPriceRequest,
    PutProviderRequest, RemoveAccountRequest, RemoveAliasRequest, RemovePolicyRequest, RemovePriceRequest,
    RemoveProviderKeyRequest, SetProviderKeyRequest, ShowSetupRequest, ShowSetupResponse,
};
use tonic::Code;
use tonic::transport::Channel;

use crate::admin::{admin, files};
use crate::common::Running;
use crate::common::guest::{self, Guest, post};
use crate::common::runner::Runner;
use crate::common::upstream::Upstream;
use crate::ops::ops;

type Client = GatewaySetupClient<Channel>;

const OWN_KEY: &str = "sk-set-up-own-key-0123456789";
const OTHER_KEY: &str = "sk-set-up-OTHER-key-0123456789";

async fn setup(data: &Path) -> Client {
    let socket = data.join("run/gateway-admin.sock");
    let connect = tower::service_fn(move |_| {
        let socket = socket.clone();
        async move { tokio::net::UnixStream::connect(socket).await.map(TokioIo::new) }
    });
    let endpoint = tonic::transport::Endpoint::from_static("http://gateway");
    GatewaySetupClient::new(endpoint.connect_with_connector(connect).await.unwrap())
}

async fn shown(client: &mut Client) -> ShowSetupResponse {
    let shown = client.show_setup(ShowSetupRequest {}).await;
    shown.unwrap().into_inner()
}

fn provider(name: &str, port: u16, key: &str) -> PutProviderRequest {
    PutProviderRequest {
        provider: Some(ProviderSetup {
            name: name.into(),
            kind: "anthropic".into(),
            base_url: format!("http://127.0.0.1:{port}"),
            models: vec![ModelSetup {
                id: "m".into(),
                context_window: 1000,
                ..ModelSetup::default()
            }],
            ..ProviderSetup::default()
        }),
        key: key.into(),
        sealed: None,
    }
}

fn account(provider: &str, name: &str, key: &str) -> PutAccountRequest {
    PutAccountRequest {
        account: Some(AccountSetup {
            provider: provider.into(),
            name: name.into(),
            ..AccountSetup::default()
        }),
        key: key.into(),
        sealed: None,
    }
}

fn alias(name: &str, targets: &[&str]) -> PutAliasRequest {
    PutAliasRequest {
        alias: Some(AliasSetup {
            name: name.into(),
            targets: targets.iter().map(|&target| target.into()).collect(),
            ..AliasSetup::default()
        }),
    }
}

fn policy(model: &str, change: impl FnOnce(&mut PolicySetup)) -> PutPolicyRequest {
    let mut policy = PolicySetup {
        model: model.into(),
        ..PolicySetup::default()
    };
    change(&mut policy);
    PutPolicyRequest { policy: Some(policy) }
}

fn price(provider: &str, model: &str, input: u64) -> PutPriceRequest {
    PutPriceRequest {
        price: Some(PriceSetup {
            provider: provider.into(),
            model: model.into(),
            input,
            output: input.saturating_mul(2),
            ..PriceSetup::default()
        }),
    }
}

fn enable(provider: &str, name: &str, enabled: bool) -> EnableAccountRequest {
    EnableAccountRequest {
        provider: provider.into(),
        name: name.into(),
        enabled,
    }
}

/// A gateway with a provider's server and a guest.
struct Scene {
    data: tempfile::TempDir,
    upstream: Upstream,
    gateway: Option<Running>,
    client: Client,
}

impl Scene {
    async fn new(settings: &str) -> Self {
        let data = tempfile::tempdir().unwrap();
        let upstream = Upstream::start().await;
        std::fs::create_dir(data.path().join("config")).unwrap();
        let settings = settings.replace("PORT", &upstream.port.to_string());
        std::fs::write(data.path().join("config/lodge.toml"), &settings).unwrap();
        let gateway = Some(Running::start(data.path(), &settings).await);
        let client = setup(data.path()).await;
        Self {
            data,
            upstream,
            gateway,
            client,
        }
    }

    async fn restart(&mut self) {
        self.gateway.take().unwrap().kill().await;
        let settings = std::fs::read_to_string(self.data.path().join("config/lodge.toml")).unwrap();
        self.gateway = Some(Running::start(self.data.path(), &settings).await);
        self.client = setup(self.data.path()).await;
    }

    /// Replaces the configuration as editors do: another file takes its name.
    fn write(&self, settings: &str) {
        let file = self.data.path().join("config/lodge.toml");
        let new = file.with_extension("new");
        std::fs::write(&new, settings.replace("PORT", &self.upstream.port.to_string())).unwrap();
        std::fs::rename(new, file).unwrap();
    }

    /// The key and the body with which a request arrives at the provider.
    async fn arrives(&mut self, path: &str, body: &str) -> (String, String) {
        let session = Runner::connect(self.data.path())
            .session(self.data.path(), "s", 0)
            .await;
        let mut guest = Guest::connect(&session.socket).await;
        let request = post(path, &session.lease.virtual_key, body.to_owned());
        let respond = async {
            let mut exchange = self.upstream.next().await;
            exchange.answer("200 OK", "connection: close\r\n", "{}").await;
            exchange.request
        };
        let (response, received) = tokio::join!(guest.send(request), respond);
        assert_eq!(response.status(), 200);
        let key = received.header("x-api-key").unwrap_or_default().to_owned();
        (key, String::from_utf8(received.body).unwrap())
    }

    /// Status and text of an answer that no provider had a part in.
    async fn refused(&mut self, path: &str, body: &str) -> (u16, String) {
        let session = Runner::connect(self.data.path())
            .session(self.data.path(), "s", 0)
            .await;
        let mut guest = Guest::connect(&session.socket).await;
        let request = post(path, &session.lease.virtual_key, body.to_owned());
        let (status, body) = guest::json(guest.send(request).await).await;
        assert!(self.upstream.is_untouched());
        (status, body.to_string())
    }
}

const MESSAGES: &str = "/mine/v1/messages";

#[tokio::test]
async fn all_of_it_is_used_at_once_kept_over_a_kill_and_taken_back() {
    let mut scene = Scene::new("").await;
    let port = scene.upstream.port;
    scene
        .client
        .put_provider(provider("mine", port, OWN_KEY))
        .await
        .unwrap();
    scene.client.put_alias(alias("fast", &["mine/m"])).await.unwrap();
    let set = policy("m", |policy| {
        policy.set.insert("metadata.by".into(), "7".into());
    });
    scene.client.put_policy(set).await.unwrap();
    let deny = policy("secret-*", |policy| policy.deny = Some("it is not for us".into()));
    scene.client.put_policy(deny).await.unwrap();
    scene
        .client
        .put_price(price("mine", "m", 2_000_000_000))
        .await
        .unwrap();
    for turn in 0..2 {
        let (key, body) = scene.arrives(MESSAGES, r#"{"model":"fast"}"#).await;
        assert_eq!(
            (key.as_str(), body.as_str()),
            (OWN_KEY, r#"{"model":"m","metadata":{"by":7}}"#)
        );
        let (status, body) = scene.refused(MESSAGES, r#"{"model":"secret-1"}"#).await;
        assert!(status == 403 && body.contains("it is not for us"), "{body}");
        let wanted = ListPricesRequest {
            model: "mine/m".into(),
        };
        let prices = ops(scene.data.path()).await.list_prices(wanted).await.unwrap();
        let prices = prices.into_inner().prices;
        assert_eq!(
            (prices[0].source.as_str(), prices[0].input, prices[0].output),
            ("administrator", 2_000_000_000, 4_000_000_000)
        );
        if turn == 0 {
            scene.restart().await;
        }
    }
    let mut admin = admin(scene.data.path()).await;
    // A provider that an alias leads to stays.
    let remove = RemoveProviderKeyRequest { name: "mine".into() };
    let error = admin.remove_provider_key(remove.clone()).await.unwrap_err();
    assert!(
        error.message().contains("lodgectl alias remove fast"),
        "{}",
        error.message()
    );
    let unalias = RemoveAliasRequest {
        provider: String::new(),
        name: "fast".into(),
    };
    scene.client.remove_alias(unalias.clone()).await.unwrap();
    assert_eq!(
        scene.client.remove_alias(unalias).await.unwrap_err().code(),
        Code::NotFound
    );
    let unprice = RemovePriceRequest {
        provider: "mine".into(),
        model: "m".into(),
    };
    scene.client.remove_price(unprice).await.unwrap();
    for model in ["m", "secret-*"] {
        let unset = RemovePolicyRequest {
            provider: String::new(),
            model: model.into(),
        };
        scene.client.remove_policy(unset).await.unwrap();
    }
    let (_, body) = scene.arrives(MESSAGES, r#"{"model":"secret-1"}"#).await;
    assert_eq!(body, r#"{"model":"secret-1"}"#);
    admin.remove_provider_key(remove).await.unwrap();
    let left = shown(&mut scene.client).await;
    assert_eq!(
        (left.providers.len(), left.accounts.len(), left.policies.len()),
        (0, 0, 0)
    );
}

#[tokio::test]
async fn a_key_changes_by_itself_and_an_address_only_with_its_key() {
    let mut scene = Scene::new("").await;
    let port = scene.upstream.port;
    scene
        .client
        .put_provider(provider("mine", port, OWN_KEY))
        .await
        .unwrap();
    // Another address does not get the key that was entered for this one.
    let error = scene
        .client
        .put_provider(provider("mine", 9, ""))
        .await
        .unwrap_err();
    assert!(error.message().contains("needed again"), "{}", error.message());
    // A key alone changes nothing else of it, and an address comes with its key.
    let mut admin = admin(scene.data.path()).await;
    let mut key = SetProviderKeyRequest {
        name: "mine".into(),
        key: OTHER_KEY.into(),
        ..SetProviderKeyRequest::default()
    };
    admin.set_provider_key(key.clone()).await.unwrap();
    assert_eq!(scene.arrives(MESSAGES, "{}").await.0, OTHER_KEY);
    key.base_url = format!("http://127.0.0.1:{port}/elsewhere");
    let moved = admin.set_provider_key(key).await.unwrap().into_inner();
    let moved = moved.provider.unwrap();
    assert!(
        moved.has_key && moved.base_url.ends_with("/elsewhere"),
        "{moved:?}"
    );
    assert_eq!(moved.models[0].context_window, 1000);
}

/// No file below a directory holds one of the keys in clear.
fn none_holds_a_key(data: &Path) {
    for path in files(data).iter().filter(|path| path.is_file()) {
        let bytes = std::fs::read(path).unwrap();
        let holds = |secret: &str| {
            bytes
                .windows(secret.len())
                .any(|window| window == secret.as_bytes())
        };
        assert!(!holds(OWN_KEY) && !holds(OTHER_KEY), "{}", path.display());
    }
}

#[tokio::test]
async fn accounts_are_added_taken_out_of_use_and_removed_and_their_keys_are_sealed() {
    let mut scene = Scene::new("").await;
    let port = scene.upstream.port;
    // A provider without a key of its own: its accounts are what it is used through.
    scene
        .client
        .put_provider(provider("mine", port, ""))
        .await
        .unwrap();
    let (status, body) = scene.refused(MESSAGES, "{}").await;
    assert!(status == 401 && body.contains("no key is set"), "{body}");
    scene
        .client
        .put_account(account("mine", "team", OTHER_KEY))
        .await
        .unwrap();
    assert_eq!(scene.arrives(MESSAGES, "{}").await.0, OTHER_KEY);
    scene
        .client
        .enable_account(enable("mine", "team", false))
        .await
        .unwrap();
    for _ in 0..2 {
        let (status, body) = scene.refused(MESSAGES, "{}").await;
        assert!(status == 401 && body.contains("disabled"), "{body}");
        scene.restart().await;
    }
    scene
        .client
        .put_provider(provider("mine", port, OWN_KEY))
        .await
        .unwrap();
    assert_eq!(scene.arrives(MESSAGES, "{}").await.0, OWN_KEY);
    scene
        .client
        .enable_account(enable("mine", "default", false))
        .await
        .unwrap();
    scene
        .client
        .enable_account(enable("mine", "team", true))
        .await
        .unwrap();
    assert_eq!(scene.arrives(MESSAGES, "{}").await.0, OTHER_KEY);
    let listed = shown(&mut scene.client).await;
    let accounts: Vec<_> = listed
        .accounts
        .iter()
        .map(|account| (account.name.as_str(), account.disabled, account.origin.as_str()))
        .collect();
    assert_eq!(accounts, [("team", false, "api"), ("default", true, "api")]);
    assert!(!format!("{listed:?}").contains("sk-set-up"));
    // An account of another address would be sent there.
    let error = scene
        .client
        .put_provider(provider("mine", 9, OWN_KEY))
        .await
        .unwrap_err();
    assert!(error.message().contains("`team`"), "{}", error.message());
    none_holds_a_key(scene.data.path());
    let remove = RemoveAccountRequest {
        provider: "mine".into(),
        name: "team".into(),
    };
    scene.client.remove_account(remove.clone()).await.unwrap();
    assert_eq!(
        scene.client.remove_account(remove).await.unwrap_err().code(),
        Code::NotFound
    );
}

const FILE: &str = "[[provider]]\nname = 'filed'\nkind = 'anthropic'\nbase_url = 'http://127.0.0.1:PORT'\n\
     key_env = 'PROVIDER_KEY'\nmodels = [{ id = 'm', price = { input = 1, output = 2 } }]\n\
     [[provider.account]]\nname = 'second'\nkey_env = 'SECOND_KEY'\n\
     [[alias]]\nprovider = 'filed'\nname = 'best'\ntargets = ['filed/m']\n\
     [[model_policy]]\nmodel = 'm'\nset = { tier = 1 }\n";

#[tokio::test]
async fn an_account_may_have_a_login_instead_of_a_key() {
    let mut scene = Scene::new("").await;
    let port = scene.upstream.port;
    scene
        .client
        .put_provider(provider("mine", port, ""))
        .await
        .unwrap();
    let mut login = account("mine", "login", "");
    login.account.as_mut().unwrap().oauth = Some(OauthSetup {
        client_id: "c".into(),
        device_url: "https://login.example/device".into(),
        token_url: "https://login.example/token".into(),
        ..OauthSetup::default()
    });
    scene.client.put_account(login).await.unwrap();
    let listed = shown(&mut scene.client).await.accounts;
    let has_login = |account: &AccountSetup| account.name == "login" && account.oauth.is_some();
    assert!(listed.iter().any(has_login), "{listed:?}");
}
