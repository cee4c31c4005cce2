//! The protocol between runner and shim over the Unix stream socket [`SOCKET_NAME`]: a codec without I/O.
//!
//! A frame is a header of [`HEADER_LEN`] bytes (`u32` payload length little endian, `u8` kind, three reserved
//! zero bytes) and a payload of at most [`MAX_FRAME`] bytes.
//!
//! A connection starts with [`ToShim::Hello`] and is answered by [`ToRunner::HelloReply`], then by every
//! journal record from the wanted one on, for ever: catching up and following live are one stream. The one
//! exception is a connection whose first frame is [`ToShim::GetListener`]: it is answered by
//! [`ToRunner::Listener`] with the descriptor attached, and closed (see [`crate::client::fetch_listener`]), so
//! that the main stream stays plain bytes.

use serde::{Deserialize, Serialize};

use crate::journal::{Id, Kind, Record, RecordError};
use crate::stream::{self, FromStream, LiveTerminal, ToStream};

/// Version this release speaks; the shim also accepts [`MIN_WIRE_VERSION`]. Version 2 has [`crate::stream`].
pub const WIRE_VERSION: u32 = 2;
/// Oldest version that is still accepted: that of the previous release.
pub const MIN_WIRE_VERSION: u32 = 1;
/// Version since which there are streams.
pub const STREAMS_SINCE: u32 = 2;
/// The socket's name in the session's directory.
pub const SOCKET_NAME: &str = "shim.sock";
/// The journal's name in the session's directory.
pub const JOURNAL_NAME: &str = "journal";
/// Length of the header before every payload, in bytes.
pub const HEADER_LEN: usize = 8;
/// Largest payload, in bytes.
pub const MAX_FRAME: usize = 17 << 20;
/// Largest input and largest appended record, in bytes.
pub const MAX_INPUT: usize = 16 << 20;

/// Error code: the peer's version is not spoken.
pub const CODE_VERSION: &str = "version";
/// Error code: the frame is malformed or not allowed here; the connection is closed.
pub const CODE_INVALID: &str = "invalid_argument";
/// Error code: the disk is full; the harness is paused, nothing is lost.
pub const CODE_DISK_FULL: &str = "disk_full";
/// Error code: the disk has room again.
pub const CODE_DISK_OK: &str = "disk_ok";
/// Error code: the harness is gone, the input was not and will not be delivered.
pub const CODE_EXITED: &str = "exited";
/// Error code: the wanted record was pruned, or does not exist yet.
pub const CODE_RANGE: &str = "range";
/// Error code: the journal is damaged.
pub const CODE_CORRUPT: &str = "corrupt";

const HELLO: u8 = 1;
const INPUT: u8 = 2;
const APPEND: u8 = 3;
const ACK: u8 = 4;
const SIGNAL: u8 = 5;
const STOP: u8 = 6;
const GET_LISTENER: u8 = 7;
const HELLO_REPLY: u8 = 65;
const RECORD: u8 = 66;
const FENCED: u8 = 67;
const ERROR: u8 = 68;
const LISTENER: u8 = 69;

/// Payload of [`ToShim::Hello`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// [`WIRE_VERSION`] of the runner.
    pub version: u32,
    /// The runner's generation: the highest wins, an equal one replaces its older connection.
    pub fence: u64,
    /// First record wanted, from 1.
    pub from_seq: u64,
}

/// What the shim knows of the harness.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Harness {
    /// The sandbox is coming up.
    Starting,
    Running,
    /// Its `Exit` or `StartFailed` is, or is about to be, in the journal.
    Exited,
}

/// Payload of [`ToRunner::HelloReply`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HelloReply {
    /// Version spoken on this connection.
    pub version: u32,
    /// Counts the shims of the session.
    pub generation: u64,
    /// The shim's process id.
    pub pid: u32,
    pub harness: Harness,
    /// Number of the last record in the journal, 0 for none.
    pub head_seq: u64,
    /// Terminals that run; what each has shown follows as output. Empty before version 2.
    #[serde(default)]
    pub terminals: Vec<LiveTerminal>,
}

/// Payload of [`ToRunner::Error`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorReply {
    /// One of the `CODE_` constants.
    pub code: String,
    /// For a person.
    pub message: String,
}

/// Payload of [`ToShim::Stop`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stop {
    /// How long the guest may take to end by itself, in milliseconds.
    pub grace_ms: u64,
}

/// What the runner says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ToShim<'a> {
    Hello(Hello),
    /// Bytes for the harness's standard input, delivered once; a known id is dropped silently. Without bytes it
    /// closes the standard input.
    Input {
        id: Id,
        bytes: &'a [u8],
    },
    /// A record of the runner's own (`Cmd`, `Timer`, `Note` or `Closed`); a known id is dropped silently. It comes
    /// back in the stream, with `sync` only after it is safe from a loss of power.
    Append {
        kind: Kind,
        sync: bool,
        id: Id,
        bytes: &'a [u8],
    },
    /// Records up to `durable` are committed by the runner; segments whose records are all below
    /// `prune_before` may go (at most those that are durable).
    Ack {
        durable: u64,
        prune_before: u64,
    },
    /// Sends a signal to the harness.
    Signal(i32),
    Stop(Stop),
    GetListener,
    /// Commands and terminals beside the harness, since version 2.
    Stream(ToStream<'a>),
}

/// What the shim says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ToRunner<'a> {
    HelloReply(HelloReply),
    Record(Record<'a>),
    /// A runner with a higher generation, or a newer connection of this one, took over; the connection ends.
    Fenced,
    Error(ErrorReply),
    /// The gateway listener's descriptor is attached.
    Listener,
    /// Commands and terminals beside the harness, since version 2.
    Stream(FromStream<'a>),
}

/// Why bytes are not this protocol. The connection is to be closed.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    #[error("a frame of {length} bytes is over the limit of {MAX_FRAME}")]
    TooLong { length: usize },
    #[error("unknown frame kind {kind}")]
    UnknownKind { kind: u8 },
    #[error("a frame of kind {kind} has a malformed payload of {length} bytes")]
    Malformed { kind: u8, length: usize },
    #[error("a frame of kind {kind} carries malformed JSON")]
    Json {
        kind: u8,
        #[source]
        source: serde_json::Error,
    },
    #[error("a streamed record is damaged")]
    Record(#[source] RecordError),
}

/// Whether a peer's version is spoken.
pub fn accepts(version: u32) -> bool {
    (MIN_WIRE_VERSION..=WIRE_VERSION).contains(&version)
}

impl ToShim<'_> {
    /// Appends the frame to `out`.
    pub fn encode_into(&self, out: &mut Vec<u8>) -> Result<(), WireError> {
        match self {
            Self::Hello(hello) => json_frame(out, HELLO, hello),
            Self::Input { id, bytes } => frame(out, INPUT, &[id, bytes]),
            Self::Append {
                kind,
                sync,
                id,
                bytes,
            } => frame(out, APPEND, &[&[u8::from(*kind), u8::from(*sync)], id, bytes]),
            Self::Ack {
                durable,
                prune_before,
            } => frame(out, ACK, &[&durable.to_le_bytes(), &prune_before.to_le_bytes()]),
            Self::Signal(signal) => frame(out, SIGNAL, &[&signal.to_le_bytes()]),
            Self::Stop(stop) => json_frame(out, STOP, stop),
            Self::GetListener => frame(out, GET_LISTENER, &[]),
            Self::Stream(request) => stream_frame(out, stream::START, request.encode()),
        }
    }
}

impl<'a> ToShim<'a> {
    /// Reads a frame as one of the runner's.
    pub fn parse(frame: Frame<'a>) -> Result<Self, WireError> {
        let Frame { kind, payload } = frame;
        let malformed = WireError::Malformed {
            kind,
            length: payload.len(),
        };
        match kind {
            HELLO => json(frame).map(Self::Hello),
            INPUT => match payload.split_first_chunk::<16>() {
                Some((id, bytes)) if bytes.len() <= MAX_INPUT => Ok(Self::Input { id: *id, bytes }),
                _ => Err(malformed),
            },
            APPEND => parse_append(payload).ok_or(malformed),
            ACK => match payload.split_first_chunk::<8>() {
                Some((durable, rest)) => Ok(Self::Ack {
                    durable: u64::from_le_bytes(*durable),
                    prune_before: u64::from_le_bytes(rest.try_into().map_err(|_| malformed)?),
                }),
                None => Err(malformed),
            },
            SIGNAL => payload
                .try_into()
                .map(|b| Self::Signal(i32::from_le_bytes(b)))
                .map_err(|_| malformed),
            STOP => json(frame).map(Self::Stop),
            GET_LISTENER => Ok(Self::GetListener),
            kind if stream::TO_SHIM.contains(&kind) => {
                ToStream::parse(kind, payload).map(Self::Stream).ok_or(malformed)
            }
            kind => Err(WireError::UnknownKind { kind }),
        }
    }
}

fn parse_append(payload: &[u8]) -> Option<ToShim<'_>> {
    let (&[kind, sync], rest) = payload.split_first_chunk::<2>()?;
    let (id, bytes) = rest.split_first_chunk::<16>()?;
    let kind = Kind::from(kind);
    let allowed = matches!(kind, Kind::Cmd | Kind::Timer | Kind::Note | Kind::Closed);
    (allowed && sync <= 1 && bytes.len() <= MAX_INPUT).then_some(ToShim::Append {
        kind,
        sync: sync == 1,
        id: *id,
        bytes,
    })
}

impl ToRunner<'_> {
    /// Appends the frame to `out`. The descriptor of [`ToRunner::Listener`] is the sender's business.
    pub fn encode_into(&self, out: &mut Vec<u8>) -> Result<(), WireError> {
        match self {
            Self::HelloReply(reply) => json_frame(out, HELLO_REPLY, reply),
            Self::Record(record) => frame(out, RECORD, &[record.raw]),
            Self::Fenced => frame(out, FENCED, &[]),
            Self::Error(error) => json_frame(out, ERROR, error),
            Self::Listener => frame(out, LISTENER, &[]),
            Self::Stream(news) => stream_frame(out, *stream::TO_RUNNER.start(), news.encode()),
        }
    }
}

impl<'a> ToRunner<'a> {
    /// Reads a frame as one of the shim's; a record's checksums are verified.
    pub fn parse(frame: Frame<'a>) -> Result<Self, WireError> {
        match frame.kind {
            HELLO_REPLY => json(frame).map(Self::HelloReply),
            RECORD => Record::decode(frame.payload)
                .map(Self::Record)
                .map_err(WireError::Record),
            FENCED => Ok(Self::Fenced),
            ERROR => json(frame).map(Self::Error),
            LISTENER => Ok(Self::Listener),
            kind if stream::TO_RUNNER.contains(&kind) => FromStream::parse(kind, frame.payload)
                .map(Self::Stream)
                .ok_or(WireError::Malformed {
                    kind,
                    length: frame.payload.len(),
                }),
            kind => Err(WireError::UnknownKind { kind }),
        }
    }
}

/// One frame, borrowed from a [`Decoder`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame<'a> {
    pub kind: u8,
    pub payload: &'a [u8],
}

/// Turns bytes in any chunking back into frames. Keeps at most one incomplete frame when [`Decoder::next`] is
/// called until it answers `None`.
#[derive(Debug, Default)]
pub struct Decoder {
    buffer: Vec<u8>,
    start: usize,
}

impl Decoder {
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds received bytes.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.drain(..self.start);
        self.start = 0;
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole frame; `None` when more bytes are needed. After an error the connection is of no use.
    #[expect(clippy::should_implement_trait, reason = "a frame borrows from the decoder")]
    pub fn next(&mut self) -> Result<Option<Frame<'_>>, WireError> {
        let rest = &self.buffer[self.start..];
        let Some((&[l0, l1, l2, l3, kind, ..], body)) = rest.split_first_chunk::<HEADER_LEN>() else {
            return Ok(None);
        };
        let length = u32::from_le_bytes([l0, l1, l2, l3]) as usize;
        if length > MAX_FRAME {
            return Err(WireError::TooLong { length });
        }
        let Some(payload) = body.get(..length) else {
            return Ok(None);
        };
        self.start += HEADER_LEN + length;
        Ok(Some(Frame { kind, payload }))
    }
}

fn frame(out: &mut Vec<u8>, kind: u8, parts: &[&[u8]]) -> Result<(), WireError> {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    let short = u32::try_from(length).ok().filter(|_| length <= MAX_FRAME);
    let short = short.ok_or(WireError::TooLong { length })?;
    out.reserve(HEADER_LEN + length);
    out.extend_from_slice(&short.to_le_bytes());
    out.extend_from_slice(&[kind, 0, 0, 0]);
    for part in parts {
        out.extend_from_slice(part);
    }
    Ok(())
}

fn stream_frame(
    out: &mut Vec<u8>,
    kind: u8,
    encoded: Result<(u8, Vec<u8>), serde_json::Error>,
) -> Result<(), WireError> {
    let (kind, payload) = encoded.map_err(|source| WireError::Json { kind, source })?;
    frame(out, kind, &[&payload])
}

fn json_frame<T: Serialize>(out: &mut Vec<u8>, kind: u8, value: &T) -> Result<(), WireError> {
    let payload = serde_json::to_vec(value).map_err(|source| WireError::Json { kind, source })?;
    frame(out, kind, &[&payload])
}

fn json<T: serde::de::DeserializeOwned>(frame: Frame<'_>) -> Result<T, WireError> {
    serde_json::from_slice(frame.payload).map_err(|source| WireError::Json {
        kind: frame.kind,
        source,
    })
}
