//! The connection to a session's shim.

use super::journal::{self, Own};
use crate::fold::Record;
use crate::guest::{Stream, Streams};
use lodge_shim::stream::Terminal;
use lodge_shim::wire::{self, Decoder, Hello, HelloReply, Stop, ToRunner, ToShim};
use std::path::Path;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::mpsc;

/// Time a shim has to answer `hello`: a dead one must not hold up a start.
const HELLO_TIMEOUT: Duration = Duration::from_secs(5);
/// Bytes read at once.
const READ_BYTES: usize = 256 * 1024;
/// Batches of records that may wait for the session: the shim is not read further, and in turn its harness.
const BATCHES: usize = 16;

/// Why a shim cannot be talked to.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    #[error("reaching the shim")]
    Connect(#[source] lodge_shim::client::ClientError),
    #[error("talking to the shim")]
    Io(#[source] std::io::Error),
    #[error("the shim did not answer in time")]
    Silent,
    #[error("the shim speaks another protocol")]
    Wire(#[source] wire::WireError),
    #[error("the shim refused: {code}: {message}")]
    Refused { code: String, message: String },
}

/// What comes from a shim.
#[derive(Debug)]
pub enum Incoming {
    Records(Vec<Record>),
    /// The disk is full (`true`) or has room again.
    DiskFull(bool),
    /// Another runner took over.
    Fenced,
    /// The connection ended.
    Closed,
}

/// A connection to a shim. Dropping it leaves the shim and its harness as they are.
#[derive(Debug)]
pub struct Link {
    write: mpsc::UnboundedSender<Vec<u8>>,
    incoming: mpsc::Receiver<Received>,
    pub hello: HelloReply,
    /// Records of the runner's own that were given to the shim and did not come back yet. A shim that ends takes no
    /// more.
    unconfirmed: Vec<Own>,
    /// Commands and terminals beside the harness.
    pub streams: Streams,
    /// Terminals that were there before this connection, until somebody takes them.
    pub terminals: Vec<(Terminal, Stream)>,
}

/// What the reading task passes on: the ids are those of the runner's own records in the batch.
#[derive(Debug)]
struct Received {
    incoming: Incoming,
    own: Vec<[u8; 16]>,
}

impl From<Incoming> for Received {
    fn from(incoming: Incoming) -> Self {
        Self {
            incoming,
            own: Vec::new(),
        }
    }
}

impl Link {
    /// Attaches to the shim of a session directory, from record `from_seq` on. A shim of the previous release is
    /// spoken to as it can.
    pub async fn attach(dir: &Path, fence: u64, from_seq: u64) -> Result<Self, LinkError> {
        let hello = |version| Hello {
            version,
            fence,
            from_seq,
        };
        match Self::greet(dir, hello(wire::WIRE_VERSION)).await {
            Err(LinkError::Refused { code, .. }) if code == wire::CODE_VERSION => {
                Self::greet(dir, hello(wire::MIN_WIRE_VERSION)).await
            }
            greeted => greeted,
        }
    }

    async fn greet(dir: &Path, hello: Hello) -> Result<Self, LinkError> {
        let stream = lodge_shim::client::connect(dir).map_err(LinkError::Connect)?;
        stream.set_nonblocking(true).map_err(LinkError::Io)?;
        let stream = UnixStream::from_std(stream).map_err(LinkError::Io)?;
        let (mut read, mut write) = stream.into_split();
        write
            .write_all(&encode(&ToShim::Hello(hello))?)
            .await
            .map_err(LinkError::Io)?;
        let mut decoder = Decoder::new();
        let hello = tokio::time::timeout(HELLO_TIMEOUT, greeting(&mut read, &mut decoder))
            .await
            .map_err(|_| LinkError::Silent)??;
        let (records, incoming) = mpsc::channel(BATCHES);
        let (commands, queue) = mpsc::unbounded_channel();
        let streams = Streams::new(&commands, hello.version < wire::STREAMS_SINCE);
        let terminals = hello
            .terminals
            .iter()
            .map(|live| (live.terminal, streams.adopt(live.stream)))
            .collect();
        tokio::spawn(receive(read, decoder, records, streams.clone()));
        tokio::spawn(send(write, queue));
        Ok(Self {
            write: commands,
            incoming,
            hello,
            unconfirmed: Vec::new(),
            streams,
            terminals,
        })
    }

    /// The next word of the shim. Cancelling loses nothing.
    pub async fn next(&mut self) -> Incoming {
        let Some(Received { incoming, own }) = self.incoming.recv().await else {
            return Incoming::Closed;
        };
        self.unconfirmed.retain(|waiting| !own.contains(&waiting.id));
        incoming
    }

    fn push(&self, message: &ToShim<'_>) {
        match encode(message) {
            // A broken connection shows at the reading side.
            Ok(bytes) => drop(self.write.send(bytes)),
            Err(error) => tracing::error!(%error, "a message to the shim cannot be encoded"),
        }
    }

    /// Gives the harness an input; a repetition of its id is dropped by the shim.
    pub fn input(&self, id: [u8; 16], bytes: &[u8]) {
        self.push(&ToShim::Input { id, bytes });
    }

    /// Appends a record of the runner's own; it comes back in the stream.
    pub fn append(&mut self, own: Own) {
        self.push(&ToShim::Append {
            kind: own.kind,
            sync: own.sync,
            id: own.id,
            bytes: &own.body,
        });
        self.unconfirmed.push(own);
    }

    /// Takes what was appended and did not come back: the journal may not have it.
    pub fn take_unconfirmed(&mut self) -> Vec<Own> {
        std::mem::take(&mut self.unconfirmed)
    }

    /// Records up to `durable` need not be kept back; those before `prune_before` may be deleted.
    pub fn ack(&self, durable: u64, prune_before: u64) {
        self.push(&ToShim::Ack {
            durable,
            prune_before,
        });
    }

    /// Ends the guest: the harness is asked first, and killed after `grace`.
    pub fn stop(&self, grace: Duration) {
        let grace_ms = u64::try_from(grace.as_millis()).unwrap_or(u64::MAX);
        self.push(&ToShim::Stop(Stop { grace_ms }));
    }
}

fn encode(message: &ToShim<'_>) -> Result<Vec<u8>, LinkError> {
    let mut bytes = Vec::new();
    message.encode_into(&mut bytes).map_err(LinkError::Wire)?;
    Ok(bytes)
}

async fn greeting(read: &mut OwnedReadHalf, decoder: &mut Decoder) -> Result<HelloReply, LinkError> {
    let mut buffer = vec![0; 4096];
    loop {
        if let Some(frame) = decoder.next().map_err(LinkError::Wire)? {
            return match ToRunner::parse(frame).map_err(LinkError::Wire)? {
                ToRunner::HelloReply(reply) => Ok(reply),
                ToRunner::Error(error) => Err(LinkError::Refused {
                    code: error.code,
                    message: error.message,
                }),
                _ => Err(LinkError::Silent),
            };
        }
        let count = read.read(&mut buffer).await.map_err(LinkError::Io)?;
        if count == 0 {
            return Err(LinkError::Silent);
        }
        decoder.push(&buffer[..count]);
    }
}

async fn send(mut write: OwnedWriteHalf, mut queue: mpsc::UnboundedReceiver<Vec<u8>>) {
    while let Some(mut bytes) = queue.recv().await {
        while let Ok(more) = queue.try_recv() {
            bytes.extend_from_slice(&more);
        }
        if write.write_all(&bytes).await.is_err() {
            return;
        }
    }
}

/// Reads until the connection ends. Everything that arrived together is one batch.
async fn receive(
    mut read: OwnedReadHalf,
    mut decoder: Decoder,
    records: mpsc::Sender<Received>,
    streams: Streams,
) {
    let mut buffer = vec![0; READ_BYTES];
    while deliver(&mut decoder, &records, &streams).await {
        match read.read(&mut buffer).await {
            Ok(0) | Err(_) => break,
            Ok(count) => decoder.push(&buffer[..count]),
        }
    }
    streams.close();
    let _ = records.send(Incoming::Closed.into()).await;
}

async fn deliver(decoder: &mut Decoder, records: &mpsc::Sender<Received>, streams: &Streams) -> bool {
    let mut batch = Vec::new();
    let mut own = Vec::new();
    let mut others: Vec<Received> = Vec::new();
    loop {
        let message = match decoder.next() {
            Ok(Some(frame)) => ToRunner::parse(frame),
            Ok(None) => break,
            Err(error) => Err(error),
        };
        match message {
            Ok(ToRunner::Record(record)) => {
                own.extend(own_id(&record));
                batch.push(journal::read(&record));
            }
            Ok(ToRunner::Fenced) => others.push(Incoming::Fenced.into()),
            Ok(ToRunner::Error(error)) if error.code == wire::CODE_DISK_FULL => {
                others.push(Incoming::DiskFull(true).into());
            }
            Ok(ToRunner::Error(error)) if error.code == wire::CODE_DISK_OK => {
                others.push(Incoming::DiskFull(false).into());
            }
            Ok(ToRunner::Error(error)) => {
                tracing::warn!(code = error.code, message = error.message, "the shim says");
            }
            Ok(ToRunner::Stream(news)) => streams.take(&news),
            Ok(ToRunner::HelloReply(_) | ToRunner::Listener) => {}
            Err(error) => {
                tracing::error!(%error, "the shim's stream is broken");
                return false;
            }
        }
    }
    if !batch.is_empty() {
        others.insert(
            0,
            Received {
                incoming: Incoming::Records(batch),
                own,
            },
        );
    }
    for received in others {
        if records.send(received).await.is_err() {
            return false;
        }
    }
    true
}

/// The id of a record that the runner appended.
fn own_id(record: &lodge_shim::journal::Record<'_>) -> Option<[u8; 16]> {
    use lodge_shim::journal::Kind;
    let own = matches!(record.kind, Kind::Cmd | Kind::Timer | Kind::Note | Kind::Closed);
    own.then(|| record.split_id()).flatten().map(|(id, _)| id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use lodge_proto::ErrorCode;
    use lodge_shim::stream::StartStream;
    use lodge_shim::wire::{ErrorReply, Harness};
    use std::io::{Read as _, Write as _};
    use std::os::unix::net::UnixListener;

    /// A shim of the release before: it refuses version 2 and speaks version 1.
    fn previous_release(listener: &UnixListener) {
        for expected in [wire::WIRE_VERSION, wire::MIN_WIRE_VERSION] {
            let (mut stream, _) = listener.accept().unwrap();
            let mut decoder = Decoder::new();
            let mut bytes = [0; 1024];
            let hello = loop {
                let count = stream.read(&mut bytes).unwrap();
                decoder.push(&bytes[..count]);
                if let Some(frame) = decoder.next().unwrap() {
                    break ToShim::parse(frame).unwrap();
                }
            };
            let ToShim::Hello(Hello { version, .. }) = hello else {
                panic!("{hello:?}")
            };
            assert_eq!(version, expected);
            let mut out = Vec::new();
            if version == wire::MIN_WIRE_VERSION {
                let reply = HelloReply {
                    version,
                    generation: 1,
                    pid: 1,
                    harness: Harness::Running,
                    head_seq: 0,
                    terminals: Vec::new(),
                };
                ToRunner::HelloReply(reply).encode_into(&mut out).unwrap();
            } else {
                let code = wire::CODE_VERSION.to_owned();
                let message = "version 2 is not within 1..=1".to_owned();
                ToRunner::Error(ErrorReply { code, message })
                    .encode_into(&mut out)
                    .unwrap();
            }
            stream.write_all(&out).unwrap();
            // Held until the other side hangs up.
            let _ = stream.read(&mut bytes);
        }
    }

    #[tokio::test]
    async fn a_shim_of_the_previous_release_is_served_without_streams() {
        let dir = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(dir.path().join(wire::SOCKET_NAME)).unwrap();
        let shim = tokio::task::spawn_blocking(move || previous_release(&listener));
        let link = Link::attach(dir.path(), 1, 1).await.unwrap();
        assert_eq!(link.hello.version, wire::MIN_WIRE_VERSION);
        let start = StartStream {
            argv: vec!["true".to_owned()],
            env: Vec::new(),
            terminal: None,
        };
        let refused = link.streams.start(start).await.unwrap_err();
        assert_eq!(refused.code, ErrorCode::Unavailable);
        drop(link);
        shim.await.unwrap();
    }
}
