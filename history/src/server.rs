//! Listening, knowing who calls, and stopping in order.

use crate::owners::{Owner, OwnerMap, OwnerMapError, Owners, SingleUser};
use crate::service::{History, MAX_REQUEST_BYTES, MAX_RESPONSE_BYTES};
use crate::sqlite::{OpenError, Options, SqliteStore};
use crate::store::Fatal;
use futures_util::{Stream, StreamExt as _, stream};
use lodge_proto::history::read_server::ReadServer;
use lodge_proto::history::search_server::SearchServer;
use lodge_proto::history::write_server::WriteServer;
use lodge_proto::sock::{self, SockError};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Server;
use tonic::transport::server::Connected;
use tonic::{Request, Status};

const MAX_CONNECTIONS: usize = 256;
const MAX_CALLS_PER_CONNECTION: usize = 64;
/// How long calls may take to finish once a stop was asked for.
const DRAIN: Duration = Duration::from_secs(10);

/// Who may connect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Access {
    /// Only this service's own uid, as the account `local`. The socket has mode 0600.
    SingleUser,
    /// The uids of this map (see [`OwnerMap`]). The socket has mode 0666: the map decides.
    Map(PathBuf),
}

/// Where the service keeps its data and listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    pub socket: PathBuf,
    pub database: PathBuf,
    pub access: Access,
    /// See [`Options::max_database_bytes`].
    pub max_database_bytes: Option<u64>,
}

impl Config {
    /// The usual places below Lodge's data directory, for one person.
    pub fn in_data_dir(data: &Path) -> Self {
        Self {
            socket: data.join("run/history.sock"),
            database: data.join("history/history.db"),
            access: Access::SingleUser,
            max_database_bytes: None,
        }
    }
}

/// Why the service ended, or did not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("creating the directory {path}")]
    Directory { path: PathBuf, source: io::Error },
    #[error("opening the history database")]
    Open(#[from] OpenError),
    #[error("opening the history database: its thread ended")]
    OpenThread,
    #[error(transparent)]
    OwnerMap(#[from] OwnerMapError),
    #[error("listening for history calls")]
    Socket(#[from] SockError),
    #[error("listening on {path}")]
    Listen { path: PathBuf, source: io::Error },
    #[error("serving history calls")]
    Serve(#[from] tonic::transport::Error),
    /// An I/O error at the database: what was not acknowledged is not stored. Start again.
    #[error(transparent)]
    Failed(Fatal),
}

/// Serves until `shutdown` resolves, then finishes the calls under way and closes the database.
///
/// `ready` is called once the socket listens. Ends with [`Error::Failed`] after an I/O error at a commit.
pub async fn serve(
    config: Config,
    ready: impl FnOnce(),
    shutdown: impl Future<Output = ()>,
) -> Result<(), Error> {
    let owners: Arc<dyn Owners> = match &config.access {
        Access::SingleUser => Arc::new(SingleUser::of_this_process()),
        Access::Map(path) => Arc::new(OwnerMap::open(path)?),
    };
    create_directories(&config)?;
    let (path, options) = (
        config.database.clone(),
        Options {
            max_database_bytes: config.max_database_bytes,
        },
    );
    let open = tokio::task::spawn_blocking(move || SqliteStore::open(&path, &options));
    let store = Arc::new(open.await.map_err(|_| Error::OpenThread)??);
    // After the database's lock is held: only its holder may take the place of the socket.
    let listener = listen(&config)?;
    ready();
    let outcome = serve_listener(listener, owners, Arc::clone(&store), shutdown).await;
    store.close().await;
    let _ = std::fs::remove_file(&config.socket);
    outcome
}

async fn serve_listener(
    listener: UnixListener,
    owners: Arc<dyn Owners>,
    store: Arc<SqliteStore>,
    shutdown: impl Future<Output = ()>,
) -> Result<(), Error> {
    let history = History::new(Arc::clone(&store));
    let write = WriteServer::new(history.clone())
        .max_decoding_message_size(MAX_REQUEST_BYTES)
        .max_encoding_message_size(MAX_RESPONSE_BYTES);
    let read = ReadServer::new(history.clone()).max_encoding_message_size(MAX_RESPONSE_BYTES);
    let search = SearchServer::new(history).max_encoding_message_size(MAX_RESPONSE_BYTES);
    let (stop, stopped) = oneshot::channel::<()>();
    let server = Server::builder()
        .concurrency_limit_per_connection(MAX_CALLS_PER_CONNECTION)
        .initial_stream_window_size(1 << 20)
        .initial_connection_window_size(8 << 20)
        .add_service(InterceptedService::new(write, authenticate))
        .add_service(InterceptedService::new(read, authenticate))
        .add_service(InterceptedService::new(search, authenticate))
        .serve_with_incoming_shutdown(connections(listener, owners), async {
            let _ = stopped.await;
        });
    tokio::pin!(server);
    tokio::select! {
        outcome = &mut server => return outcome.map_err(Error::Serve),
        fatal = store.failed() => return Err(Error::Failed(fatal)),
        () = shutdown => {}
    }
    let _ = stop.send(());
    tokio::select! {
        outcome = &mut server => outcome.map_err(Error::Serve),
        () = tokio::time::sleep(DRAIN) => {
            tracing::warn!("calls were still under way when the time to stop was over");
            Ok(())
        }
        fatal = store.failed() => Err(Error::Failed(fatal)),
    }
}

fn create_directories(config: &Config) -> Result<(), Error> {
    for path in [&config.socket, &config.database] {
        if let Some(directory) = path.parent() {
            std::os::unix::fs::DirBuilderExt::mode(std::fs::DirBuilder::new().recursive(true), 0o700)
                .create(directory)
                .map_err(|source| Error::Directory {
                    path: directory.to_owned(),
                    source,
                })?;
        }
    }
    Ok(())
}

fn listen(config: &Config) -> Result<UnixListener, Error> {
    let failed = |source| Error::Listen {
        path: config.socket.clone(),
        source,
    };
    let listener = sock::bind(&config.socket)?;
    listener.set_nonblocking(true).map_err(failed)?;
    if let Access::Map(_) = config.access {
        let everyone = std::fs::Permissions::from_mode(0o666);
        std::fs::set_permissions(&config.socket, everyone).map_err(failed)?;
    }
    UnixListener::from_std(listener).map_err(failed)
}

/// Lets a call pass when its connection has an account, and notes that account on the call.
// The signature is tonic's.
#[allow(clippy::result_large_err)]
fn authenticate(mut request: Request<()>) -> Result<Request<()>, Status> {
    let peer = request.extensions().get::<Peer>().cloned();
    match peer {
        Some(Peer {
            uid: _,
            owner: Some(owner),
        }) => {
            request.extensions_mut().insert(owner);
            Ok(request)
        }
        Some(Peer { uid, owner: None }) => Err(Status::unauthenticated(format!(
            "no account belongs to uid {uid}"
        ))),
        None => Err(Status::unauthenticated("the caller's uid is not known")),
    }
}

/// Who is at the other end, as the kernel and the owner map say.
#[derive(Debug, Clone)]
struct Peer {
    uid: u32,
    owner: Option<Owner>,
}

/// A connection whose peer was looked up when it was accepted.
#[derive(Debug)]
struct Connection {
    stream: UnixStream,
    peer: Peer,
    _place: OwnedSemaphorePermit,
}

fn connections(
    listener: UnixListener,
    owners: Arc<dyn Owners>,
) -> impl Stream<Item = io::Result<Connection>> {
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    stream::unfold(
        (listener, owners, places),
        |(listener, owners, places)| async move {
            let accepted = accept(&listener, &*owners, &places).await;
            Some((accepted, (listener, owners, places)))
        },
    )
    .boxed()
}

async fn accept(
    listener: &UnixListener,
    owners: &dyn Owners,
    places: &Arc<Semaphore>,
) -> io::Result<Connection> {
    let place = Arc::clone(places)
        .acquire_owned()
        .await
        .map_err(io::Error::other)?;
    loop {
        let (stream, _) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of descriptors, mostly: it passes, and must not become a busy loop.
                tracing::warn!(%error, "accepting a connection");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        match sock::peer_uid(&stream) {
            Ok(uid) => {
                let owner = owners.owner(uid);
                if owner.is_none() {
                    tracing::warn!(uid, "a peer without an account");
                }
                return Ok(Connection {
                    stream,
                    peer: Peer { uid, owner },
                    _place: place,
                });
            }
            Err(error) => tracing::warn!(%error, "a connection was dropped"),
        }
    }
}

impl Connected for Connection {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.peer.clone()
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
