//! Administration over gRPC, and what of a key can be found on disk.

use std::path::{Path, PathBuf};

use hyper_util::rt::TokioIo;
use lodge_proto::control::gateway_admin_client::GatewayAdminClient;
use lodge_proto::control::{
    HealthRequest, ListModelsRequest, ListProvidersRequest, Provider, RemoveProviderKeyRequest,
    SetProviderKeyRequest,
};
use tonic::Code;
use tonic::transport::Channel;

use crate::common::guest::{self, Guest, post};
use crate::common::runner::Runner;
use crate::common::upstream::Upstream;
use crate::common::{Running, soon};

const ENTERED: &str = "sk-entered-in-the-browser-987654321";

pub(crate) async fn admin(data: &Path) -> GatewayAdminClient<Channel> {
    let socket = data.join("run/gateway-admin.sock");
    let connect = tower::service_fn(move |_| {
        let socket = socket.clone();
        async move { tokio::net::UnixStream::connect(socket).await.map(TokioIo::new) }
    });
    let endpoint = tonic::transport::Endpoint::from_static("http://gateway");
    GatewayAdminClient::new(endpoint.connect_with_connector(connect).await.unwrap())
}

fn set(name: &str, kind: &str, key: &str, base_url: &str) -> SetProviderKeyRequest {
    SetProviderKeyRequest {
        name: name.into(),
        kind: kind.into(),
        key: key.into(),
        base_url: base_url.into(),
        sealed: None,
    }
}

async fn providers(admin: &mut GatewayAdminClient<Channel>) -> Vec<Provider> {
    admin
        .list_providers(ListProvidersRequest {})
        .await
        .unwrap()
        .into_inner()
        .providers
}

pub(crate) fn files(directory: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    entries
        .flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] })
        .collect()
}

#[tokio::test]
async fn a_key_is_entered_used_kept_sealed_and_forgotten() {
    let data = tempfile::tempdir().unwrap();
    let mut upstream = Upstream::start().await;
    let base = format!("http://127.0.0.1:{}", upstream.port);
    let gateway = Running::start(data.path(), "").await;
    let mut client = admin(data.path()).await;
    let before = providers(&mut client).await;
    assert_eq!((before.len(), before[0].kind.as_str()), (1, "demo"));

    let answer = client
        .set_provider_key(set("mine", "anthropic", ENTERED, &base))
        .await
        .unwrap()
        .into_inner();
    let provider = answer.provider.clone().unwrap();
    assert_eq!((provider.has_key, provider.key_source.as_str()), (true, "sealed"));
    assert!(!format!("{answer:?} {:?}", providers(&mut client).await).contains(ENTERED));
    let models = client
        .list_models(ListModelsRequest::default())
        .await
        .unwrap()
        .into_inner()
        .models;
    assert!(!models.is_empty() && models.iter().all(|model| model.provider == "mine"));
    drop(client);
    gateway.kill().await;

    // After a restart it is still there, and it is the one that reaches the provider.
    let _gateway = Running::start(data.path(), "").await;
    let session = Runner::connect(data.path()).session(data.path(), "s", 0).await;
    let mut guest = Guest::connect(&session.socket).await;
    let request = post("/mine/v1/messages", &session.lease.virtual_key, "{}");
    let respond = async {
        let mut exchange = upstream.next().await;
        exchange.answer("200 OK", "", "{}").await;
        exchange.request
    };
    let (response, received) = tokio::join!(guest.send(request), respond);
    assert_eq!(
        (guest::text(response).await.as_str(), received.header("x-api-key")),
        ("{}", Some(ENTERED))
    );

    let found = files(data.path());
    assert!(found.iter().any(|path| path.ends_with("gateway/gateway.db")));
    for path in found.iter().filter(|path| path.metadata().unwrap().is_file()) {
        let bytes = std::fs::read(path).unwrap();
        let holds = |secret: &str| {
            bytes
                .windows(secret.len())
                .any(|window| window == secret.as_bytes())
        };
        assert!(
            !holds(ENTERED) && !holds(&session.lease.virtual_key),
            "{}",
            path.display()
        );
    }

    let mut client = admin(data.path()).await;
    client
        .remove_provider_key(RemoveProviderKeyRequest { name: "mine".into() })
        .await
        .unwrap();
    let after = providers(&mut client).await;
    assert_eq!((after.len(), after[0].kind.as_str()), (1, "demo"));
    let again = client
        .remove_provider_key(RemoveProviderKeyRequest { name: "mine".into() })
        .await;
    assert_eq!(again.unwrap_err().code(), Code::NotFound);
    assert_eq!(
        client
            .health(HealthRequest {})
            .await
            .unwrap()
            .into_inner()
            .open_leases,
        1
    );
}

#[tokio::test]
async fn what_cannot_be_meant_is_refused() {
    let data = tempfile::tempdir().unwrap();
    let settings = "[[provider]]\nname = 'fixed'\nkind = 'openai'\nkey_env = 'PROVIDER_KEY'\n\
                    [[provider]]\nname = 'open'\nkind = 'gemini'";
    let _gateway = Running::start(data.path(), settings).await;
    let mut client = admin(data.path()).await;
    for (request, code, word) in [
        (
            set("fixed", "", ENTERED, ""),
            Code::FailedPrecondition,
            "environment",
        ),
        (
            set("open", "openai", ENTERED, ""),
            Code::FailedPrecondition,
            "kind",
        ),
        (
            set("open", "", ENTERED, "https://evil.example"),
            Code::FailedPrecondition,
            "base_url",
        ),
        (set("open", "", " ", ""), Code::InvalidArgument, "empty"),
        (set("open", "", "a\nb", ""), Code::InvalidArgument, "character"),
        (set("new", "", ENTERED, ""), Code::InvalidArgument, "kind"),
        (
            set("new", "openai_compatible", ENTERED, ""),
            Code::InvalidArgument,
            "base_url",
        ),
        (
            set("new", "openai", ENTERED, "http://example.com"),
            Code::InvalidArgument,
            "https",
        ),
        (set("demo", "openai", ENTERED, ""), Code::InvalidArgument, "demo"),
        (
            set("New!", "openai", ENTERED, ""),
            Code::InvalidArgument,
            "lower-case",
        ),
    ] {
        let error = client.set_provider_key(request).await.unwrap_err();
        assert_eq!(error.code(), code, "{error}");
        assert!(
            error.message().contains(word) && !error.message().contains(ENTERED),
            "{error}"
        );
    }
    client
        .set_provider_key(set("open", "", ENTERED, ""))
        .await
        .unwrap();
    let listed = providers(&mut client).await;
    let sources: Vec<_> = listed
        .iter()
        .map(|provider| provider.key_source.as_str())
        .collect();
    assert_eq!(sources, ["environment", "sealed"]);
}

#[tokio::test]
async fn a_key_is_not_sent_to_an_address_it_was_not_entered_for() {
    let data = tempfile::tempdir().unwrap();
    let at = |port: u16| {
        format!(
            "[gateway]\ndemo = false\n[[provider]]\nname = 'p'\nkind = 'anthropic'\nbase_url = 'http://127.0.0.1:{port}'"
        )
    };
    let gateway = Running::start(data.path(), &at(1)).await;
    admin(data.path())
        .await
        .set_provider_key(set("p", "", ENTERED, ""))
        .await
        .unwrap();
    gateway.stop().await;
    let _gateway = Running::start(data.path(), &at(2)).await;
    let listed = providers(&mut admin(data.path()).await).await;
    assert_eq!((listed[0].name.as_str(), listed[0].has_key), ("p", false));
    let session = Runner::connect(data.path()).session(data.path(), "s", 0).await;
    let mut guest = Guest::connect(&session.socket).await;
    let response = guest
        .send(post("/p/v1/messages", &session.lease.virtual_key, "{}"))
        .await;
    let (status, body) = guest::json(response).await;
    assert!(
        status == 401
            && body["error"]["message"]
                .as_str()
                .unwrap()
                .contains("no key is set"),
        "{body}"
    );
}

#[tokio::test]
async fn a_server_of_ones_own_is_asked_for_its_models() {
    let data = tempfile::tempdir().unwrap();
    let mut upstream = Upstream::start().await;
    let _gateway = Running::start(data.path(), "").await;
    let mut client = admin(data.path()).await;
    let base = format!("http://127.0.0.1:{}/v1", upstream.port);
    client
        .set_provider_key(set("mine", "openai_compatible", ENTERED, &base))
        .await
        .unwrap();
    let mut exchange = upstream.next().await;
    assert_eq!(exchange.request.line, "GET /v1/models HTTP/1.1");
    assert_eq!(
        exchange.request.header("authorization"),
        Some(format!("Bearer {ENTERED}").as_str())
    );
    exchange
        .answer("200 OK", "", "{\"data\":[{\"id\":\"llama\"}]}")
        .await;
    let listed = async {
        loop {
            let models = client
                .list_models(ListModelsRequest::default())
                .await
                .unwrap()
                .into_inner()
                .models;
            if let Some(model) = models.first() {
                return (models.len(), model.id.clone());
            }
            tokio::task::yield_now().await;
        }
    };
    assert_eq!(
        soon("the models are listed", listed).await,
        (1, "llama".to_owned())
    );
}
