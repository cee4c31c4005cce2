//! Listeners, what requests share, and the graceful stop.

use crate::auth::hosts::Hosts;
use crate::auth::login::Logins;
use crate::auth::{self, Account, Accounts, SqliteAccounts, control, guard};
use crate::config::Config;
use crate::error::Error;
use crate::relay::hub::Relay;
use crate::relay::upgrade;
use crate::rest::body::MAX_BODY;
use crate::rest::error::{no_such_path, wrong_method};
use crate::rest::gateway::GatewayAdmin;
use crate::rest::once::Once;
use crate::upstream::SingleMachine;
use crate::{LOCAL_ACCOUNT, rest, ui};
use axum::Router;
use axum::extract::{DefaultBodyLimit, Request};
use axum::middleware;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use lodge_proto::relay::Rights;
use lodge_proto::sock;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt;
use tracing::{debug, info, warn};

/// Connections at a time, WebSockets included.
const MAX_CONNECTIONS: usize = 16_384;
/// Longest time for the head of a request, and for the silence between two requests.
const HEAD_LIMIT: Duration = Duration::from_secs(30);
/// Longest wait for connections at the stop.
const STOP_LIMIT: Duration = Duration::from_secs(3);

/// What requests share.
#[derive(Debug)]
pub(crate) struct App {
    pub(crate) config: Config,
    /// Address of the UI, without a slash at the end.
    pub(crate) url: String,
    /// Whether browsers come over TLS.
    pub(crate) secure: bool,
    pub(crate) hosts: Hosts,
    pub(crate) login: Logins,
    pub(crate) relay: Relay,
    pub(crate) gateway: GatewayAdmin,
    /// Changes of keys that were asked for under an idempotency key.
    pub(crate) once: Once,
    /// Room for images that are being transferred.
    pub(crate) transfers: Arc<Semaphore>,
    pub(crate) stop: CancellationToken,
    /// The tasks that outlive their request.
    pub(crate) tasks: TaskTracker,
}

pub(crate) type Shared = Arc<App>;

/// Where a request comes from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Peer(pub(crate) SocketAddr);

/// Room for one connection. A WebSocket keeps it beyond its request.
#[derive(Debug, Clone)]
pub(crate) struct Room {
    _permit: Arc<OwnedSemaphorePermit>,
}

/// The public listener's router.
fn router(app: Shared) -> Router {
    Router::new()
        .merge(auth::routes::routes())
        .merge(rest::routes())
        .route("/api/v1/ws", get(upgrade::upgrade))
        .route("/api/{*rest}", axum::routing::any(no_such_api))
        .fallback(ui::serve)
        .method_not_allowed_fallback(wrong_method)
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .layer(middleware::from_fn_with_state(Arc::clone(&app), guard::guard))
        .with_state(app)
}

async fn no_such_api(request: Request) -> Response {
    no_such_path(request.uri().path()).into_response()
}

/// Opens the accounts and makes sure that the local one exists.
async fn open_accounts(config: &Config) -> Result<SqliteAccounts, Error> {
    let path = config.accounts_file();
    let opening = tokio::task::spawn_blocking(move || {
        if let Some(directory) = path.parent() {
            make_private(directory)?;
        }
        let store = SqliteAccounts::open(&path)?;
        let local = Account {
            id: LOCAL_ACCOUNT.into(),
            name: LOCAL_ACCOUNT.into(),
            rights: Rights::Own,
        };
        store.ensure_account(&local)?;
        Ok(store)
    });
    opening.await?
}

fn make_private(directory: &std::path::Path) -> Result<(), Error> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)
        .map_err(|source| Error::Directory {
            path: directory.to_owned(),
            source,
        })
}

/// Runs the backend until `shutdown`. `ready` is called with the listener's address once requests are taken.
///
/// At the stop WebSockets are closed with code 1012, requests under way are finished, for at most 3 s. The future
/// wants a current-thread runtime with time and I/O enabled; blocking work goes to the runtime's blocking threads.
pub async fn serve(
    config: Config,
    ready: impl FnOnce(SocketAddr),
    shutdown: impl Future<Output = ()>,
) -> Result<(), Error> {
    config.check()?;
    let store = open_accounts(&config).await?;
    serve_with(config, Arc::new(store), ready, shutdown).await
}

async fn serve_with(
    config: Config,
    store: Arc<dyn Accounts>,
    ready: impl FnOnce(SocketAddr),
    shutdown: impl Future<Output = ()>,
) -> Result<(), Error> {
    make_private(&config.data.join("run"))?;
    let listen = config.settings.listen;
    let listener = TcpListener::bind(listen)
        .await
        .map_err(|source| Error::Listen { listen, source })?;
    let address = listener
        .local_addr()
        .map_err(|source| Error::Register { source })?;
    let control = sock::bind(&config.control_socket())?;
    control
        .set_nonblocking(true)
        .map_err(|source| Error::Register { source })?;
    let control = UnixListener::from_std(control).map_err(|source| Error::Register { source })?;

    let app = Arc::new(build(config, store, address));
    // The owner's runner is looked for at once, not when the first browser comes.
    app.relay.hub(LOCAL_ACCOUNT);
    let room = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    app.tasks.spawn(accept_tcp(listener, Arc::clone(&app), room));
    app.tasks.spawn(accept_control(control, Arc::clone(&app)));
    info!(%address, "backend listens");
    ready(address);

    shutdown.await;
    info!("backend stops");
    app.relay.close_all();
    app.stop.cancel();
    app.tasks.close();
    if tokio::time::timeout(STOP_LIMIT, app.tasks.wait()).await.is_err() {
        warn!(
            tasks = app.tasks.len(),
            "stopping although connections are still open"
        );
    }
    Ok(())
}

fn build(config: Config, store: Arc<dyn Accounts>, address: SocketAddr) -> App {
    let stop = CancellationToken::new();
    let tasks = TaskTracker::new();
    let placement = SingleMachine {
        account: LOCAL_ACCOUNT.into(),
        socket: config.runner_socket(),
        uid: config.peers.runner,
    };
    App {
        url: format!("http://{address}"),
        secure: false,
        hosts: Hosts::new(address, &config.settings.allowed_hosts),
        login: Logins::new(store),
        relay: Relay::new(Arc::new(placement), stop.clone(), tasks.clone()),
        gateway: GatewayAdmin::new(config.gateway_socket(), config.peers.gateway),
        once: Once::default(),
        transfers: Arc::new(Semaphore::new(rest::blobs::TRANSFERS)),
        stop,
        tasks,
        config,
    }
}

async fn accept_tcp(listener: TcpListener, app: Shared, room: Arc<Semaphore>) {
    let router = router(Arc::clone(&app));
    loop {
        let Ok(permit) = Arc::clone(&room).acquire_owned().await else {
            return;
        };
        let accepted = tokio::select! {
            () = app.stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                // Frames are gathered before they are written: waiting for more would only add latency.
                let _ = stream.set_nodelay(true);
                let origin = Some((
                    Peer(peer),
                    Room {
                        _permit: Arc::new(permit),
                    },
                ));
                app.tasks
                    .spawn(serve_connection(stream, origin, router.clone(), app.stop.clone()));
            }
            Err(error) => {
                warn!(%error, "accepting a connection");
                // Out of descriptors: some must be given back first.
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

async fn accept_control(listener: UnixListener, app: Shared) {
    let router = control::router(Arc::clone(&app));
    loop {
        let accepted = tokio::select! {
            () = app.stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) => match sock::require_peer(&stream, app.config.peers.control) {
                Ok(()) => {
                    let stop = app.stop.clone();
                    app.tasks
                        .spawn(serve_connection(stream, None, router.clone(), stop));
                }
                Err(error) => warn!(%error, "control socket"),
            },
            Err(error) => {
                warn!(%error, "accepting on the control socket");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

/// Serves one connection; its requests carry `origin`.
async fn serve_connection<S>(stream: S, origin: Option<(Peer, Room)>, router: Router, stop: CancellationToken)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = hyper::service::service_fn(move |request: hyper::Request<Incoming>| {
        let mut request = request.map(axum::body::Body::new);
        if let Some((peer, room)) = &origin {
            request.extensions_mut().insert(*peer);
            request.extensions_mut().insert(room.clone());
        }
        router.clone().oneshot(request)
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_LIMIT)
        .max_buf_size(64 * 1024)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    let mut connection = std::pin::pin!(connection);
    let result = tokio::select! {
        result = connection.as_mut() => result,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = result {
        debug!(%error, "connection");
    }
}
