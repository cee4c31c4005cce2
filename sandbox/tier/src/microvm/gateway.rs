//! Connections of the guest to the gateway: opened by guest init over the framed stream, made here.

use std::collections::HashMap;
use std::io;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use lodge_guest::mux::{CONNECTION_WINDOW, CONNECTIONS, Frame, Kind, MAX_OUTPUT_CHUNK, MuxError};
use rustix::fs::{Mode, OFlags};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::error::ProtocolError;

/// Connections at the same time; guest init keeps to fewer.
const MAX_CONNECTIONS: usize = 512;
/// A gateway that restarts is back sooner.
const CONNECT: Duration = Duration::from_secs(10);
const RETRY: Duration = Duration::from_millis(50);
const WINDOW: usize = CONNECTION_WINDOW as usize;

/// All connections of one machine.
#[derive(Debug)]
pub(super) struct Gateway {
    socket: PathBuf,
    to_vm: mpsc::Sender<Frame>,
    open: Arc<Mutex<HashMap<u32, Arc<Connection>>>>,
    tasks: JoinSet<()>,
}

/// What the reader of the stream and the connection's own task share.
#[derive(Debug)]
struct Connection {
    /// From the guest; bounded by what was granted. An empty one is the end.
    up: mpsc::UnboundedSender<Vec<u8>>,
    /// Bytes that wait in `up`.
    waiting: AtomicUsize,
    /// Bytes the guest still takes.
    granted: Semaphore,
    /// The guest gave it up.
    given_up: Semaphore,
    ended: AtomicBool,
}

impl Gateway {
    pub(super) fn new(socket: PathBuf, to_vm: mpsc::Sender<Frame>) -> Self {
        Self {
            socket,
            to_vm,
            open: Arc::default(),
            tasks: JoinSet::new(),
        }
    }

    /// Whether a frame of this kind and stream is about a connection.
    pub(super) fn concerns(frame: &Frame) -> bool {
        frame.stream >= CONNECTIONS
            && matches!(frame.kind, Kind::Open | Kind::Data | Kind::Close | Kind::Credit)
    }

    /// Takes a frame of the guest. Frames of connections that are gone were still under way.
    pub(super) async fn take(&mut self, frame: Frame) -> Result<(), ProtocolError> {
        while self.tasks.try_join_next().is_some() {}
        let stream = frame.stream;
        if frame.kind == Kind::Open {
            return self.open(stream).await;
        }
        let known = self
            .open
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&stream)
            .cloned();
        let Some(connection) = known else { return Ok(()) };
        match frame.kind {
            Kind::Data => connection.data(stream, frame.payload)?,
            Kind::Credit => connection.credit(stream, &frame)?,
            _ => {
                self.open
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .remove(&stream);
                connection.given_up.close();
            }
        }
        Ok(())
    }

    async fn open(&mut self, stream: u32) -> Result<(), ProtocolError> {
        let (up, from_guest) = mpsc::unbounded_channel();
        let connection = Arc::new(Connection {
            up,
            waiting: AtomicUsize::new(0),
            granted: Semaphore::new(WINDOW),
            given_up: Semaphore::new(0),
            ended: AtomicBool::new(false),
        });
        let full = {
            let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
            let full = open.len() >= MAX_CONNECTIONS;
            if !full && open.insert(stream, connection.clone()).is_some() {
                return Err(ProtocolError::Reopened { stream });
            }
            full
        };
        if full {
            // A closed channel means that the machine has ended, which is noticed elsewhere.
            let _ = self.to_vm.send(Frame::new(Kind::Close, stream, [])).await;
            return Ok(());
        }
        let task = Task {
            stream,
            connection,
            to_vm: self.to_vm.clone(),
        };
        let (socket, open) = (self.socket.clone(), self.open.clone());
        self.tasks.spawn(async move {
            let entry = task.connection.clone();
            let given_up = entry.clone();
            tokio::select! {
                () = task.serve(socket, from_guest) => {}
                _ = given_up.given_up.acquire() => {}
            }
            let mut open = open.lock().unwrap_or_else(PoisonError::into_inner);
            if open.get(&stream).is_some_and(|known| Arc::ptr_eq(known, &entry)) {
                open.remove(&stream);
            }
        });
        Ok(())
    }
}

impl Connection {
    fn data(&self, stream: u32, bytes: Vec<u8>) -> Result<(), ProtocolError> {
        let length = bytes.len();
        let before = self.waiting.fetch_add(length, Ordering::Relaxed);
        if before + length > WINDOW || self.ended.load(Ordering::Relaxed) {
            return Err(ProtocolError::Overrun { stream });
        }
        self.ended.store(length == 0, Ordering::Relaxed);
        // Without a receiver the gateway takes no more: what comes is swallowed, its answer may be under way.
        if self.up.send(bytes).is_err() {
            self.waiting.fetch_sub(length, Ordering::Relaxed);
        }
        Ok(())
    }

    fn credit(&self, stream: u32, frame: &Frame) -> Result<(), ProtocolError> {
        let bytes = frame.payload.as_slice().try_into();
        let bytes: [u8; 4] = bytes.map_err(|_| MuxError::Payload {
            kind: Kind::Credit,
            reason: format!("{} bytes where 4 are due", frame.payload.len()),
        })?;
        let granted = u32::from_le_bytes(bytes) as usize;
        if self.granted.available_permits().saturating_add(granted) > WINDOW {
            return Err(ProtocolError::Overrun { stream });
        }
        self.granted.add_permits(granted);
        Ok(())
    }
}

struct Task {
    stream: u32,
    connection: Arc<Connection>,
    to_vm: mpsc::Sender<Frame>,
}

impl Task {
    async fn serve(self, socket: PathBuf, from_guest: mpsc::UnboundedReceiver<Vec<u8>>) {
        let Ok(Ok(gateway)) = timeout(CONNECT, connect(&socket)).await else {
            return self.send(Kind::Close, &[]).await;
        };
        let (down, up) = gateway.into_split();
        let (down, ()) = tokio::join!(self.down(down), self.up(up, from_guest));
        if down.is_err() {
            self.send(Kind::Close, &[]).await;
        }
    }

    async fn send(&self, kind: Kind, payload: &[u8]) {
        let _ = self.to_vm.send(Frame::new(kind, self.stream, payload)).await;
    }

    /// To the gateway, until the guest's end. What the gateway takes no more is swallowed and granted all the same.
    async fn up(&self, mut to: OwnedWriteHalf, mut from_guest: mpsc::UnboundedReceiver<Vec<u8>>) {
        let mut broken = false;
        while let Some(bytes) = from_guest.recv().await {
            if bytes.is_empty() {
                break;
            }
            broken = broken || to.write_all(&bytes).await.is_err();
            self.connection.waiting.fetch_sub(bytes.len(), Ordering::Relaxed);
            let granted = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
            self.send(Kind::Credit, &granted.to_le_bytes()).await;
        }
        let _ = to.shutdown().await;
    }

    /// From the gateway, until its end.
    async fn down(&self, mut from: OwnedReadHalf) -> io::Result<()> {
        let mut chunk = vec![0; MAX_OUTPUT_CHUNK];
        loop {
            let Ok(one) = self.connection.granted.acquire().await else {
                return Ok(());
            };
            let room = (1 + self.connection.granted.available_permits()).min(chunk.len());
            let got = from.read(&mut chunk[..room]).await?;
            self.send(Kind::Data, &chunk[..got]).await;
            if got == 0 {
                return Ok(());
            }
            one.forget();
            self.connection.granted.forget_permits(got - 1);
        }
    }
}

/// Connects; a gateway that is just not there, or too busy, is tried again.
async fn connect(socket: &Path) -> io::Result<UnixStream> {
    let (Some(folder), Some(name)) = (socket.parent(), socket.file_name()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    // Through its directory: the path may be longer than a socket's address.
    let flags = OFlags::DIRECTORY | OFlags::PATH | OFlags::CLOEXEC;
    let folder = rustix::fs::open(folder, flags, Mode::empty())?;
    let near = PathBuf::from(format!("/proc/self/fd/{}", folder.as_raw_fd())).join(name);
    loop {
        match UnixStream::connect(&near).await {
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::WouldBlock | io::ErrorKind::ConnectionRefused
                ) =>
            {
                tokio::time::sleep(RETRY).await;
            }
            done => return done,
        }
    }
}
