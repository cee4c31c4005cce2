//! The runner's process: its socket, and the tasks behind each relay's connection.

use crate::blobs::transfer::Transfers;
use crate::blobs::{self, Blobs};
use crate::config::Config;
use crate::conns::{ConnId, OutboxReader, outbox, push_relay_control};
use crate::history::History;
use crate::hub::{FromRelay, Hub, HubMessage, HubSender, router};
use crate::lease::Leases;
use crate::shared::Shared;
use crate::store::{Store, StoreError};
use crate::terminal::Terminals;
use crate::watched::watch;
use lodge_proto::frame::Decoder;
use lodge_proto::relay::{self, ToRelay, ToRunner};
use lodge_proto::sock::{self, SockError};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::net::UnixStream as StdStream;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::net::{UnixListener, UnixStream};

/// Bytes read at once from a relay.
const READ_BYTES: usize = 64 * 1024;

/// Why the runner cannot serve.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("making {path}")]
    Directory { path: PathBuf, source: std::io::Error },
    #[error("reading the machine's boot id")]
    BootId(#[source] std::io::Error),
    #[error("the runner's database")]
    Store(#[from] StoreError),
    #[error("the runner's socket")]
    Socket(#[from] SockError),
    #[error("listening on the runner's socket")]
    Listen(#[source] std::io::Error),
    #[error("resolving {path}")]
    Resolve { path: PathBuf, source: std::io::Error },
}

/// Serves until `shutdown`. `ready` is called when relays can connect.
pub async fn serve(
    mut config: Config,
    ready: impl FnOnce(),
    shutdown: impl Future<Output = ()>,
) -> Result<(), Error> {
    // Guests see paths as they really are: links are resolved once, here.
    config.data_dir = config.data_dir.canonicalize().map_err(|source| Error::Resolve {
        path: config.data_dir.clone(),
        source,
    })?;
    for directory in [
        config.sessions_dir(),
        config.default_root(),
        config.data_dir.join("run"),
    ] {
        std::fs::DirBuilder::new()
            .mode(0o700)
            .recursive(true)
            .create(&directory)
            .map_err(|source| Error::Directory {
                path: directory,
                source,
            })?;
    }
    let boot_id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").map_err(Error::BootId)?;
    let (store, started) = Store::open(&config.database(), boot_id.trim())?;
    store.forget_old_answers(lodge_shim::journal::now_ms());
    let rows = store.sessions().await?;
    let uid = sock::own_uid();
    let shared = Arc::new(Shared {
        history: History::new(config.history_socket(), uid),
        leases: Leases::start(config.lease_socket(), uid),
        generation: started.generation,
        unclean_boot: started.unclean_boot,
        blobs: Blobs::new(config.blobs_dir(), store.clone(), blobs::QUOTA),
        store,
        config,
        terminals: Terminals::default(),
    });
    // What sandboxes left that ended while no runner was there.
    let state = shared.config.sandbox_state();
    tokio::task::spawn_blocking(move || crate::launcher::sweep(&state));
    let listener = sock::bind(&shared.config.socket())?;
    listener.set_nonblocking(true).map_err(Error::Listen)?;
    let listener = UnixListener::from_std(listener).map_err(Error::Listen)?;
    let (sender, inbox) = Hub::channel();
    let blobs = shared.blobs.clone();
    let looking_after = tokio::spawn(blobs.clone().look_after());
    let accepting = tokio::spawn(accept(listener, sender.clone(), uid, started.generation, blobs));
    ready();
    Hub::run(Arc::clone(&shared), rows, (sender, inbox), shutdown).await;
    accepting.abort();
    looking_after.abort();
    shared.store.close().await?;
    Ok(())
}

async fn accept(listener: UnixListener, hub: HubSender, uid: u32, generation: u64, blobs: Blobs) {
    let mut next = 1;
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "accepting a relay");
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                continue;
            }
        };
        if let Err(error) = sock::require_peer(&stream, uid) {
            tracing::warn!(%error, "a stranger was turned away");
            continue;
        }
        tokio::spawn(converse(
            stream,
            ConnId(next),
            hub.clone(),
            generation,
            blobs.clone(),
        ));
        next += 1;
    }
}

async fn converse(stream: UnixStream, conn: ConnId, hub: HubSender, generation: u64, blobs: Blobs) {
    let halves = stream.into_std().and_then(|stream| {
        let write = stream.try_clone()?;
        Ok((watch(stream, Interest::READABLE)?, write))
    });
    let (read, write) = match halves {
        Ok(halves) => halves,
        Err(error) => return tracing::warn!(%error, "a relay's connection"),
    };
    let (outbox, queue) = outbox(conn);
    let mut hello = Vec::new();
    let greeting = ToRelay::Hello {
        version: relay::VERSION,
        runner_epoch: generation,
    };
    push_relay_control(&mut hello, 0, 0, &greeting);
    outbox.send(hello.into());
    let transfers = Transfers::new(blobs, outbox.clone());
    if hub.send(HubMessage::Connected(outbox)).await.is_err() {
        return;
    }
    let writing = tokio::spawn(write_frames(write, queue));
    match read_frames(read, conn, &hub, transfers).await {
        Ok(()) => {}
        Err(ReadError::Io(error)) => tracing::debug!(%error, "a relay left"),
        Err(error) => tracing::warn!(%error, "a relay breaks the protocol and was let go"),
    }
    let _ = hub.send(HubMessage::Gone(conn)).await;
    writing.abort();
}

async fn write_frames(write: StdStream, mut queue: OutboxReader) {
    while let Some(pieces) = queue.next().await {
        // Pieces are whole frames; what waits together leaves together.
        let written = match pieces.as_slice() {
            [piece] => write_all(&write, piece).await,
            pieces => write_all(&write, &pieces.concat()).await,
        };
        if written.is_err() {
            return;
        }
    }
}

/// Writes, and waits for room only when there is none.
async fn write_all(mut stream: &StdStream, mut bytes: &[u8]) -> std::io::Result<()> {
    while !bytes.is_empty() {
        match stream.write(bytes) {
            Ok(count) => bytes = &bytes[count..],
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                let room = watch(stream.try_clone()?, Interest::WRITABLE)?;
                let _ = room.writable().await?;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Reads what is there; waits until something is.
async fn read_some(read: &AsyncFd<StdStream>, buffer: &mut [u8]) -> std::io::Result<usize> {
    loop {
        let mut ready = read.readable().await?;
        if let Ok(result) = ready.try_io(|inner| inner.get_ref().read(buffer)) {
            return result;
        }
    }
}

/// Why a relay's connection ended.
#[derive(Debug, thiserror::Error)]
enum ReadError {
    #[error(transparent)]
    Io(std::io::Error),
    #[error(transparent)]
    Frame(#[from] lodge_proto::frame::FrameError),
    #[error(transparent)]
    Route(#[from] router::RouteError),
}

async fn read_frames(
    read: AsyncFd<StdStream>,
    conn: ConnId,
    hub: &HubSender,
    mut transfers: Transfers,
) -> Result<(), ReadError> {
    let mut decoder = Decoder::new();
    let mut buffer = vec![0; READ_BYTES];
    loop {
        let count = read_some(&read, &mut buffer).await.map_err(ReadError::Io)?;
        if count == 0 {
            return Ok(decoder.finish()?);
        }
        decoder.push(&buffer[..count]);
        while let Some((header, payload)) = decoder.next_frame()? {
            let frame = router::read(&header, payload)?;
            let channel = header.channel;
            let frame = match frame {
                // Images are nothing that the hub's one task should wait for.
                FromRelay::Control(ToRunner::BlobPut { actor }) => {
                    transfers.begin(channel, actor).await;
                    continue;
                }
                FromRelay::Control(ToRunner::BlobGet { actor, hash }) => {
                    transfers.send(channel, actor, hash);
                    continue;
                }
                FromRelay::Typed { terminal: 0, bytes } => {
                    transfers.piece(channel, &bytes);
                    continue;
                }
                frame => frame,
            };
            if hub
                .send(HubMessage::Frame { conn, channel, frame })
                .await
                .is_err()
            {
                return Ok(());
            }
        }
    }
}
