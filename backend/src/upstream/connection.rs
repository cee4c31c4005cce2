//! One connection to a runner: the relay's, and that of any other client of a runner (the terminal client).

use super::encode;
use super::placement::{PlacementError, RunnerAddress};
use lodge_proto::cursor::Cursor;
use lodge_proto::frame::{self, Decoder, FrameError, Header, Kind};
use lodge_proto::relay::{self, Actor, RunnerControl, ToRelay, ToRunner};
use lodge_proto::sock::SockError;
use lodge_proto::{Command, ErrorBody, ErrorCode, Event, Response, SessionId};
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};

/// How long a runner may take to greet.
const HANDSHAKE: Duration = Duration::from_secs(5);
/// Bytes read at once.
const READ_BYTES: usize = 64 * 1024;

/// Why a connection to a runner did not come about or ended.
#[derive(Debug, thiserror::Error)]
pub enum UpstreamError {
    #[error(transparent)]
    Placement(#[from] PlacementError),
    #[error("the runner does not answer")]
    Reach(#[source] SockError),
    #[error("the process behind the runner's socket is not the runner")]
    Peer(#[source] SockError),
    #[error("reading from the runner")]
    Read(#[source] std::io::Error),
    #[error("writing to the runner")]
    Write(#[source] std::io::Error),
    #[error("the runner did not greet within {} s", HANDSHAKE.as_secs())]
    SilentRunner,
    #[error("the runner closed the connection")]
    Closed,
    #[error("the runner speaks protocol version {found}, this side {}", relay::VERSION)]
    Version { found: u32 },
    #[error("the runner broke the framing")]
    Frame(#[from] FrameError),
    #[error("the runner sent text that is not UTF-8 in a {kind:?} frame, at byte {at}")]
    Utf8 { kind: Kind, at: usize },
    #[error("the runner's control frame could not be read")]
    Control(#[source] serde_json::Error),
    #[error("the runner's {kind:?} frame could not be read")]
    Payload { kind: Kind, source: serde_json::Error },
    #[error("the runner broke the protocol: {0}")]
    Protocol(String),
}

impl UpstreamError {
    /// Whether the runner misbehaved, as opposed to being away.
    pub fn is_violation(&self) -> bool {
        matches!(
            self,
            Self::Peer(_)
                | Self::Version { .. }
                | Self::Frame(_)
                | Self::Utf8 { .. }
                | Self::Control(_)
                | Self::Payload { .. }
                | Self::Protocol(_)
        )
    }

    /// The error as clients see it.
    pub fn to_body(&self) -> ErrorBody {
        ErrorBody::new(ErrorCode::Unavailable, self.to_string())
    }
}

/// A frame of a runner: header and payload, which is UTF-8. The payload of a binary frame is not kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunnerFrame {
    pub header: Header,
    pub text: String,
}

impl RunnerFrame {
    fn parse<'a, T: serde::Deserialize<'a>>(&'a self) -> Result<T, UpstreamError> {
        serde_json::from_str(&self.text).map_err(|source| UpstreamError::Payload {
            kind: self.header.kind,
            source,
        })
    }

    /// The event of an event frame.
    pub fn event(&self) -> Result<Event, UpstreamError> {
        self.parse()
    }

    /// The response of a reply frame.
    pub fn response(&self) -> Result<Response, UpstreamError> {
        self.parse()
    }

    /// The control of a control frame, for a client or for the relay by the header's flag.
    pub fn control(&self) -> Result<RunnerControl, UpstreamError> {
        if self.header.flags & frame::flags::FOR_RELAY == 0 {
            self.parse()
                .map(|control| RunnerControl::Client(Box::new(control)))
        } else {
            self.parse().map(RunnerControl::Relay)
        }
    }
}

/// What a frame carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Payload<'a> {
    Text(&'a str),
    /// Of a blob or a credit.
    Bytes(&'a [u8]),
}

/// The reading half. Dropping a pending [`fill`](Self::fill) loses nothing.
#[derive(Debug)]
pub(crate) struct FrameReader {
    half: OwnedReadHalf,
    decoder: Decoder,
    scratch: Box<[u8]>,
}

impl FrameReader {
    /// Waits for more bytes; `false` at the end of the stream.
    pub(crate) async fn fill(&mut self) -> Result<bool, UpstreamError> {
        let count = self
            .half
            .read(&mut self.scratch)
            .await
            .map_err(UpstreamError::Read)?;
        self.decoder.push(&self.scratch[..count]);
        if count == 0 {
            self.decoder.finish()?;
        }
        Ok(count > 0)
    }

    /// The next frame among the bytes at hand.
    pub(crate) fn next_buffered(&mut self) -> Result<Option<(Header, Payload<'_>)>, UpstreamError> {
        let Some((header, payload)) = self.decoder.next_frame()? else {
            return Ok(None);
        };
        if matches!(header.kind, Kind::Blob | Kind::Credit) {
            return Ok(Some((header, Payload::Bytes(payload))));
        }
        let text = std::str::from_utf8(payload).map_err(|e| UpstreamError::Utf8 {
            kind: header.kind,
            at: e.valid_up_to(),
        })?;
        Ok(Some((header, Payload::Text(text))))
    }
}

/// A connection to a runner that has greeted. Channels are chosen by this side.
#[derive(Debug)]
pub struct RunnerConnection {
    reader: FrameReader,
    writer: OwnedWriteHalf,
    out: Vec<u8>,
    epoch: u64,
}

impl RunnerConnection {
    /// Connects, checks who answers and exchanges greetings.
    pub async fn connect(address: &RunnerAddress) -> Result<Self, UpstreamError> {
        let RunnerAddress::Unix { path, uid } = address;
        let stream = crate::unix::connect(path, *uid)
            .await
            .map_err(|error| match error {
                SockError::Peer { .. } | SockError::Credentials { .. } => UpstreamError::Peer(error),
                _ => UpstreamError::Reach(error),
            })?;
        let (half, writer) = stream.into_split();
        let reader = FrameReader {
            half,
            decoder: Decoder::new(),
            scratch: vec![0; READ_BYTES].into(),
        };
        let mut connection = Self {
            reader,
            writer,
            out: Vec::new(),
            epoch: 0,
        };
        tokio::time::timeout(HANDSHAKE, connection.greet())
            .await
            .map_err(|_| UpstreamError::SilentRunner)??;
        Ok(connection)
    }

    async fn greet(&mut self) -> Result<(), UpstreamError> {
        self.control(
            0,
            &ToRunner::Hello {
                version: relay::VERSION,
            },
        )
        .await?;
        let frame = self.next_frame().await?.ok_or(UpstreamError::Closed)?;
        if frame.header.kind != Kind::Control {
            return Err(UpstreamError::Protocol(format!(
                "first frame is {:?}, not hello",
                frame.header.kind
            )));
        }
        match frame.control()? {
            RunnerControl::Relay(ToRelay::Hello {
                version,
                runner_epoch,
            }) if version == relay::VERSION => {
                self.epoch = runner_epoch;
                Ok(())
            }
            RunnerControl::Relay(ToRelay::Hello { version, .. }) => {
                Err(UpstreamError::Version { found: version })
            }
            _ => Err(UpstreamError::Protocol("first control is not hello".into())),
        }
    }

    /// The runner's epoch as it greeted.
    pub fn runner_epoch(&self) -> u64 {
        self.epoch
    }

    /// Announces a client on `channel` (1 or more).
    pub async fn attach(&mut self, channel: u32, actor: &Actor) -> Result<(), UpstreamError> {
        self.control(channel, &ToRunner::Attach { actor: actor.clone() })
            .await
    }

    /// Takes the client on `channel` away.
    pub async fn detach(&mut self, channel: u32) -> Result<(), UpstreamError> {
        self.control(channel, &ToRunner::Detach {}).await
    }

    /// Subscribes the client on `channel`: per session its cursor, or none for a session opened anew.
    pub async fn subscribe(
        &mut self,
        channel: u32,
        cursors: BTreeMap<SessionId, Option<Cursor>>,
    ) -> Result<(), UpstreamError> {
        self.control(channel, &ToRunner::Subscribe { cursors }).await
    }

    /// Asks for a snapshot of one session in place of what the client on `channel` has.
    pub async fn resync(&mut self, channel: u32, session_id: SessionId) -> Result<(), UpstreamError> {
        self.control(channel, &ToRunner::Resync { session_id }).await
    }

    /// Sends a command of the client on `channel`. The response comes as a reply frame with the command's id.
    pub async fn command(
        &mut self,
        channel: u32,
        actor: &Actor,
        command: &Command,
    ) -> Result<(), UpstreamError> {
        let text = serde_json::to_string(command).map_err(|source| UpstreamError::Payload {
            kind: Kind::Command,
            source,
        })?;
        encode::command(channel, actor, &text, &mut self.out)?;
        self.flush().await
    }

    /// The next frame, `None` at the end of the stream. Dropping the future loses nothing.
    pub async fn next_frame(&mut self) -> Result<Option<RunnerFrame>, UpstreamError> {
        loop {
            if let Some((header, payload)) = self.reader.next_buffered()? {
                let text = match payload {
                    Payload::Text(text) => text.to_owned(),
                    Payload::Bytes(_) => String::new(),
                };
                return Ok(Some(RunnerFrame { header, text }));
            }
            if !self.reader.fill().await? {
                return Ok(None);
            }
        }
    }

    async fn control(&mut self, channel: u32, control: &ToRunner) -> Result<(), UpstreamError> {
        encode::control(channel, control, &mut self.out)?;
        self.flush().await
    }

    /// Writes what is encoded. A dropped future leaves the rest to the next call, so that frames stay whole.
    async fn flush(&mut self) -> Result<(), UpstreamError> {
        while !self.out.is_empty() {
            let count = self.writer.write(&self.out).await.map_err(UpstreamError::Write)?;
            if count == 0 {
                return Err(UpstreamError::Closed);
            }
            self.out.drain(..count);
        }
        Ok(())
    }

    /// Both halves, for a task that reads and writes at the same time.
    pub(crate) fn into_halves(self) -> (FrameReader, OwnedWriteHalf) {
        (self.reader, self.writer)
    }
}
