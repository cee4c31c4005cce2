//! The gateway's process: what it opens, in which order, and how it ends.

use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{Notify, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::audit::{Audit, AuditError};
use crate::config::Config;
use crate::demo::Demo;
use crate::forward::Routing;
use crate::guest::Gateway;
use crate::intake::Room;
use crate::key::KeyHasher;
use crate::keys::{self, KeyError, Keys};
use crate::lease::{self, LeaseError, Leases};
use crate::ledger::{Ledger, LedgerError};
use crate::metrics::{self, Metrics};
use crate::people::{People, PeopleError};
use crate::price;
use crate::provider::{self, ProviderError, Providers};
use crate::proxy::{TlsError, Upstream};
use crate::reload::{self, Reloading};
use crate::seal::{self, ChangeError, SealError};
use crate::state::StateError;
use crate::store::{Store, StoreError};
use crate::telemetry::Telemetry;
use crate::{accept, admin};

/// Why the gateway could not start, or stopped by itself.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("making the directory {}", path.display())]
    Directory { path: PathBuf, source: std::io::Error },
    #[error("loading the seal key")]
    Seal(#[from] SealError),
    #[error("sealing everything under another key; the key before is kept as seal.old")]
    Change(#[from] ChangeError),
    #[error("opening the gateway's database")]
    Store(#[from] StoreError),
    #[error("opening the gateway's state")]
    State(#[from] StateError),
    #[error("opening the audit")]
    Audit(#[from] AuditError),
    #[error("loading providers")]
    Providers(#[from] ProviderError),
    #[error("loading leases")]
    Leases(#[from] LeaseError),
    #[error("loading keys")]
    Keys(#[from] KeyError),
    #[error("loading users")]
    People(#[from] PeopleError),
    #[error("opening the ledger")]
    Ledger(#[from] LedgerError),
    #[error("listening on {address}")]
    Address {
        address: std::net::SocketAddr,
        source: std::io::Error,
    },
    #[error("setting up the client for providers")]
    Tls(#[from] TlsError),
    #[error("opening a socket")]
    Socket(#[from] lodge_proto::sock::SockError),
    #[error("preparing the socket {}", path.display())]
    Listen { path: PathBuf, source: std::io::Error },
    #[error("serving administration")]
    Admin(#[source] tonic::transport::Error),
}

/// Runs the gateway until `shutdown` resolves. `ready` is called when both sockets are listening.
///
/// The caller holds the lock of the data directory: stale sockets are replaced.
pub async fn serve(
    config: Config,
    ready: impl FnOnce(),
    shutdown: impl Future<Output = ()>,
) -> Result<(), Error> {
    accept::raise_limit();
    let people = listen_on(config.listen)?;
    let scraped = listen_on(config.metrics)?;
    let gateway = build(&config, people.as_ref())?;
    let lease_socket = listen(&config.data.join("run/gateway-lease.sock"))?;
    let admin_socket = listen(&config.data.join("run/gateway-admin.sock"))?;
    price::warm_for(&gateway.providers.current());
    ready();
    let exporting = tokio::spawn({
        let gateway = Arc::clone(&gateway);
        async move { gateway.telemetry.run(&gateway.upstream).await }
    });
    let serving = async {
        tokio::select! {
            () = lease::serve(Arc::clone(&gateway), lease_socket) => Ok(()),
            () = gateway.leases.sweep() => Ok(()),
            () = serve_people(&gateway, people) => Ok(()),
            () = metrics::serve(&gateway, scraped) => Ok(()),
            () = provider::discover(&gateway) => Ok(()),
            () = reload::watch(&gateway) => Ok(()),
            result = admin::serve(Arc::clone(&gateway), admin_socket) => result.map_err(Error::Admin),
        }
    };
    let mut serving = std::pin::pin!(serving);
    let (result, goes_on) = tokio::select! {
        () = shutdown => (Ok(()), true),
        result = &mut serving => (result, false),
    };
    gateway.stopping.cancel();
    gateway.connections.close();
    // New requests are answered meanwhile, with the reason why they are not taken.
    let drained = tokio::select! {
        drained = tokio::time::timeout(config.limits.drain, gateway.connections.wait()) => drained.is_ok(),
        _ended = &mut serving, if goes_on => false,
    };
    tracing::info!(drained, "the gateway stops");
    gateway.leases.cut_all();
    gateway.cut.cancel();
    gateway.connections.wait().await;
    if let Err(error) = gateway.ledger.flush().await {
        tracing::error!(
            error = crate::causes(&error),
            "what settled last is read at the next start"
        );
    }
    gateway.routing.flush().await;
    // Last: what was cut has settled by now.
    gateway.telemetry.finish(exporting).await;
    result
}

/// A listener, where one is wanted.
fn listen_on(address: Option<std::net::SocketAddr>) -> Result<Option<TcpListener>, Error> {
    let Some(address) = address else {
        return Ok(None);
    };
    let error = |source| Error::Address { address, source };
    let listener = std::net::TcpListener::bind(address).map_err(error)?;
    listener.set_nonblocking(true).map_err(error)?;
    TcpListener::from_std(listener).map(Some).map_err(error)
}

async fn serve_people(gateway: &Arc<Gateway>, listener: Option<TcpListener>) {
    match listener {
        Some(listener) => keys::serve(Arc::clone(gateway), listener).await,
        None => std::future::pending().await,
    }
}

fn build(config: &Config, people: Option<&TcpListener>) -> Result<Arc<Gateway>, Error> {
    let own = config.data.join("gateway");
    for directory in [own.clone(), config.data.join("run")] {
        private_directory(&directory)?;
    }
    let found = seal::find(&config.seal, &own)?;
    let store = Arc::new(Store::open(&own.join("gateway.db"))?);
    if let Some(before) = &found.before {
        seal::change(config, (&found.seal, before), &store, &own)?;
    }
    let seal = Arc::new(found.seal);
    let hasher = KeyHasher::new(seal::pepper(&seal, &store)?);
    Ok(Arc::new(Gateway {
        providers: Arc::new(Providers::load(config, Arc::clone(&store), Arc::clone(&seal))?),
        providers_changed: Notify::new(),
        leases: Leases::load(Arc::clone(&store), Arc::clone(&config.clock))?,
        people: People::load(&config.users, Arc::clone(&store))?,
        keys: Keys::load(store)?,
        room: Room::new(config.limits.max_body),
        ledger: Ledger::open_with(&own.join("ledger"), Arc::clone(&config.clock))?,
        address: people.and_then(|listener| listener.local_addr().ok()),
        hasher,
        upstream: Upstream::new(config.limits)?,
        audit: Audit::open(&own.join("audit.db"))?,
        metrics: Metrics::default(),
        live: Arc::default(),
        exchanges: crate::exchange::Exchanges::default(),
        config: ArcSwap::from_pointee(config.clone()),
        reloading: Reloading::new(config.clone()),
        routing: Routing::open(&own.join("state.db"), &seal)?,
        catalog: crate::models::Catalog::default(),
        telemetry: Telemetry::new(config.telemetry.clone()),
        demo: Demo::default(),
        limits: config.limits,
        egress: Arc::new(config.egress.clone()),
        peer_uid: config.peer_uid,
        stopping: CancellationToken::new(),
        cut: CancellationToken::new(),
        connections: TaskTracker::new(),
        guest_connections: Arc::new(Semaphore::new(accept::connections())),
    }))
}

fn private_directory(path: &Path) -> Result<(), Error> {
    let made = std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path);
    made.map_err(|source| Error::Directory {
        path: path.to_owned(),
        source,
    })
}

fn listen(path: &Path) -> Result<UnixListener, Error> {
    let listener = lodge_proto::sock::bind(path)?;
    let error = |source| Error::Listen {
        path: path.to_owned(),
        source,
    };
    listener.set_nonblocking(true).map_err(error)?;
    UnixListener::from_std(listener).map_err(error)
}
