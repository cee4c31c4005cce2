//! The key of what is sealed: changed, and kept outside of the data directory.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use hyper_util::rt::TokioIo;
use lodge_proto::control::gateway_accounts_client::GatewayAccountsClient;
use lodge_proto::control::{CreateKeyRequest, ListModelsRequest, ResealRequest, SetProviderKeyRequest};
use tonic::Code;

use crate::admin::admin;
use crate::budget::{address, of_user, send};
use crate::common::Running;
use crate::common::guest::{json, post};
use crate::common::upstream::Upstream;

const ENTERED: &str = "sk-entered-and-sealed-0123456789";

async fn reseal(data: &Path) -> Result<(), tonic::Status> {
    let socket = data.join("run/gateway-admin.sock");
    let connect = tower::service_fn(move |_| {
        let socket = socket.clone();
        async move { tokio::net::UnixStream::connect(socket).await.map(TokioIo::new) }
    });
    let endpoint = tonic::transport::Endpoint::from_static("http://gateway");
    let channel = endpoint.connect_with_connector(connect).await.unwrap();
    GatewayAccountsClient::new(channel)
        .reseal(ResealRequest {})
        .await
        .map(drop)
}

/// Asks with a person's key: the provider must see the key that was entered.
async fn works(data: &Path, upstream: &mut Upstream, secret: &str) {
    let address = address(&mut admin(data).await).await;
    let asking = send(
        address,
        post(
            "/mine/v1/messages",
            secret,
            "{\"model\":\"claude-sonnet-5-5\",\"max_tokens\":1,\"messages\":[]}",
        ),
    );
    let ((status, _), seen) = tokio::join!(async { json(asking.await).await }, async {
        let mut exchange = upstream.next().await;
        let seen = exchange.request.header("x-api-key").map(str::to_owned);
        exchange
            .answer(
                "200 OK",
                "content-type: application/json\r\nconnection: close\r\n",
                "{}",
            )
            .await;
        seen
    });
    assert_eq!((status, seen.as_deref()), (200, Some(ENTERED)));
}

fn put(path: &Path, bytes: &[u8]) {
    std::fs::write(path, bytes).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
}

#[tokio::test]
async fn everything_sealed_goes_over_to_another_key_and_peoples_keys_work_on() {
    let data = tempfile::tempdir().unwrap();
    let own = data.path().join("gateway");
    let mut upstream = Upstream::start().await;
    let gateway = Running::start(data.path(), "").await;
    let mut client = admin(data.path()).await;
    let entered = SetProviderKeyRequest {
        name: "mine".into(),
        kind: "anthropic".into(),
        key: ENTERED.into(),
        base_url: format!("http://127.0.0.1:{}", upstream.port),
        sealed: None,
    };
    client.set_provider_key(entered).await.unwrap();
    let make = CreateKeyRequest {
        key: Some(of_user("ann")),
        budgets: Vec::new(),
    };
    let secret = client.create_key(make).await.unwrap().into_inner().secret;
    drop(client);
    works(data.path(), &mut upstream, &secret).await;

    let first = std::fs::read(own.join("seal.key")).unwrap();
    reseal(data.path()).await.unwrap();
    assert_eq!(
        reseal(data.path()).await.unwrap_err().code(),
        Code::FailedPrecondition
    );
    works(data.path(), &mut upstream, &secret).await;
    gateway.stop().await;
    // Twice: what has gone over once goes over again.
    for time in 0..2 {
        let gateway = Running::start(data.path(), "").await;
        works(data.path(), &mut upstream, &secret).await;
        assert_ne!(std::fs::read(own.join("seal.key")).unwrap(), first);
        assert!(!own.join("seal.old").exists() && !own.join("seal.next").exists());
        if time == 0 {
            reseal(data.path()).await.unwrap();
        }
        gateway.stop().await;
    }

    // Then it moves out of the data directory, under a new key.
    let outside = data.path().join("credentials");
    std::fs::create_dir(&outside).unwrap();
    let credential = outside.join("lodge-seal-key");
    put(&credential, &[7; 32]);
    std::fs::rename(own.join("seal.key"), own.join("seal.old")).unwrap();
    for _ in 0..2 {
        let path = credential.clone();
        let gateway =
            Running::start_with(data.path(), "", |config| config.seal.credential = Some(path)).await;
        works(data.path(), &mut upstream, &secret).await;
        assert!(!own.join("seal.old").exists() && !own.join("seal.key").exists());
        let refused = reseal(data.path()).await.unwrap_err();
        assert!(refused.message().contains("lodge-seal-key"), "{refused}");
        gateway.stop().await;
    }
    // Without it, nothing opens, and the provider says that it has no key.
    let _gateway = Running::start(data.path(), "").await;
    let listed = admin(data.path())
        .await
        .list_models(ListModelsRequest::default())
        .await
        .unwrap();
    assert!(
        listed
            .into_inner()
            .models
            .iter()
            .all(|model| model.provider != "mine")
    );
}

#[tokio::test]
async fn two_different_keys_stop_the_start() {
    let data = tempfile::tempdir().unwrap();
    Running::start(data.path(), "").await.stop().await;
    let outside = data.path().join("outside");
    put(&outside, &[7; 32]);
    let settings = format!("[gateway]\nseal_key_file = '{}'\n", outside.display());
    let options = lodge_gateway::Options::embedded(data.path());
    let config =
        lodge_gateway::Config::parse(&options, &settings, &std::collections::BTreeMap::new()).unwrap();
    let error = lodge_gateway::serve(config, || panic!("it started"), std::future::pending())
        .await
        .unwrap_err();
    let cause = std::error::Error::source(&error).unwrap().to_string();
    for part in ["outside", "seal.key", "seal.old", "different"] {
        assert!(cause.contains(part), "{cause}");
    }
}
