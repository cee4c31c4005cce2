//! A gateway that is killed in the middle of administrative changes, again and again: what was acknowledged is there after
//! the next start, and every change is whole or absent.
#![allow(clippy::unwrap_used)]

#[allow(dead_code, reason = "shared with other tests")]
mod own;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use lodge_gateway::{Config, Options};
use lodge_proto::control::gateway_admin_client::GatewayAdminClient;
use lodge_proto::control::gateway_setup_client::GatewaySetupClient;
use lodge_proto::control::{
    AliasSetup, ListProvidersRequest, ModelSetup, ProviderSetup, PutAliasRequest, PutProviderRequest,
    RemoveProviderKeyRequest, ShowSetupRequest,
};
use own::{Gateway, channel};

/// The one test, as a runner lists it.
const NAME: &str = "a_change_that_is_killed_is_whole_or_absent";
const KILLS: usize = 5;
/// Administrators at a time.
const WRITERS: usize = 4;
/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_mins(2);

fn main() {
    own::main(NAME, gateway, kills());
}

/// The process that is killed.
async fn gateway(data: PathBuf) {
    let config = Config::parse(&Options::embedded(&data), "", &BTreeMap::new()).unwrap();
    own::serve(config, std::future::pending()).await;
}

fn provider(name: &str) -> PutProviderRequest {
    let model = |at: usize| ModelSetup {
        id: format!("m{at}"),
        ..ModelSetup::default()
    };
    PutProviderRequest {
        provider: Some(ProviderSetup {
            name: name.into(),
            kind: "anthropic".into(),
            base_url: "http://127.0.0.1:9".into(),
            models: (0..50).map(model).collect(),
            ..ProviderSetup::default()
        }),
        key: format!("sk-of-{name}"),
        sealed: None,
    }
}

/// What one administrator was told of: providers that are there, and providers that are gone.
#[derive(Debug, Default)]
struct Told {
    there: Vec<String>,
    gone: Vec<String>,
}

/// Adds providers with keys and aliases, and removes every other one, until the gateway is gone.
async fn administer(data: PathBuf, prefix: String, changes: Arc<AtomicUsize>) -> Told {
    let mut told = Told::default();
    let Some(channel) = channel(&data).await else {
        return told;
    };
    let mut setup = GatewaySetupClient::new(channel.clone());
    let mut admin = GatewayAdminClient::new(channel);
    for at in 0..400 {
        let name = format!("{prefix}-{at}");
        if setup.put_provider(provider(&name)).await.is_err() {
            break;
        }
        changes.fetch_add(1, Ordering::Relaxed);
        if at % 2 == 0 {
            told.there.push(name.clone());
            let alias = AliasSetup {
                name: format!("alias-{at}"),
                targets: vec![format!("{name}/m1")],
                ..AliasSetup::default()
            };
            let _killed = setup.put_alias(PutAliasRequest { alias: Some(alias) }).await;
            continue;
        }
        let request = RemoveProviderKeyRequest { name: name.clone() };
        if admin.remove_provider_key(request).await.is_err() {
            break;
        }
        told.gone.push(name);
    }
    told
}

async fn kills() {
    let data = tempfile::tempdir().unwrap();
    for round in 0..KILLS {
        let process = Gateway::start(data.path(), &[], None).await;
        let changes = Arc::new(AtomicUsize::new(0));
        let writers: Vec<_> = (0..WRITERS)
            .map(|writer| {
                let prefix = format!("r{round}-w{writer}");
                tokio::spawn(administer(data.path().to_owned(), prefix, Arc::clone(&changes)))
            })
            .collect();
        // In the middle of some change, a different one each time.
        let enough = async {
            while changes.load(Ordering::Relaxed) < 5 + 7 * round {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(PATIENCE, enough).await.unwrap();
        drop(process);
        let mut told = Vec::new();
        for writer in writers {
            told.push(tokio::time::timeout(PATIENCE, writer).await.unwrap().unwrap());
        }
        check(data.path(), &told).await;
    }
}

/// After the next start: all that was told, and nothing by halves.
async fn check(data: &Path, told: &[Told]) {
    let _process = Gateway::start(data, &[], None).await;
    let channel = channel(data).await.unwrap();
    let shown = GatewaySetupClient::new(channel.clone())
        .show_setup(ShowSetupRequest {})
        .await;
    let shown = shown.unwrap().into_inner();
    let listed = GatewayAdminClient::new(channel)
        .list_providers(ListProvidersRequest {})
        .await;
    let listed = listed.unwrap().into_inner().providers;
    for provider in listed.iter().filter(|provider| provider.kind != "demo") {
        assert!(
            provider.has_key && provider.models.len() == 50,
            "{}",
            provider.name
        );
    }
    let is_there = |name: &str| listed.iter().any(|provider| provider.name == name);
    for told in told {
        for name in &told.there {
            assert!(is_there(name), "{name} was acknowledged and is gone");
        }
        for name in &told.gone {
            assert!(!is_there(name), "{name} was removed and is there");
        }
    }
    for alias in &shown.aliases {
        assert!(is_there(&alias.provider), "{alias:?} leads nowhere");
    }
}
