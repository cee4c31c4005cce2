//! The framed stream between shim and guest init: a codec without I/O.
//!
//! A frame is a 12-byte header and a payload of at most [`MAX_PAYLOAD`] bytes:
//!
//! | bytes | meaning |
//! |---|---|
//! | 0..4 | payload length, `u32` little endian |
//! | 4 | kind |
//! | 5 | flags, 0 |
//! | 6..8 | reserved, 0 |
//! | 8..12 | stream id, `u32` little endian |
//!
//! The guest end is hostile: every length is checked before it is believed, and a stream that once carried
//! garbage stays refused, because there is no way to find the next frame boundary.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// Largest payload of one frame, in bytes.
pub const MAX_PAYLOAD: usize = 1 << 20;
/// Length of the header before every payload, in bytes.
pub const HEADER_LEN: usize = 12;
/// Version that [`Hello`] announces.
pub const VERSION: u32 = 1;
/// What `init` sends at most in one [`Kind::Stdout`] or [`Kind::Stderr`] frame, in bytes.
pub const MAX_OUTPUT_CHUNK: usize = 64 << 10;
/// Environment variable that holds the number of the descriptor the stream runs over.
pub const ENV_FD: &str = "LODGE_MUX_FD";
/// Environment variable that holds the path of a Unix socket to connect to for the stream instead.
pub const ENV_SOCKET: &str = "LODGE_MUX_SOCKET";
/// Environment variable that holds the path of a character device the stream runs over instead; init then waits for
/// [`Kind::Configure`] before its [`Kind::Hello`].
pub const ENV_DEVICE: &str = "LODGE_MUX_DEVICE";
/// First stream id of gateway connections, which init chooses; below, ids are the shim's choice.
pub const CONNECTIONS: u32 = 1 << 31;
/// Bytes that may be under way in each direction of a gateway connection before the receiver has granted more with
/// [`Kind::Credit`].
pub const CONNECTION_WINDOW: u32 = 256 << 10;
/// Input bytes that init takes of a command with [`Asks::input_credit`] and does not pass on yet.
pub const INPUT_WINDOW: u32 = 1 << 20;

/// Why a frame could not be encoded or decoded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MuxError {
    /// The payload, or the length a header announces, is over [`MAX_PAYLOAD`].
    #[error("frame payload of {length} bytes is over the limit of {MAX_PAYLOAD}")]
    Oversized { length: usize },
    /// The header names a kind that does not exist.
    #[error("unknown frame kind {kind}")]
    UnknownKind { kind: u8 },
    /// Flags or reserved bytes are not zero.
    #[error("reserved bytes of the frame header are not zero: {flags:#04x} {reserved:#06x}")]
    ReservedBits { flags: u8, reserved: u16 },
    /// The stream ended inside a frame.
    #[error("the stream ended inside a frame: {have} of {want} bytes")]
    Torn { have: usize, want: usize },
    /// The payload is not the JSON its kind demands.
    #[error("payload of a {kind:?} frame is malformed: {reason}")]
    Payload { kind: Kind, reason: String },
}

/// What a frame carries; the number is the wire's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Kind {
    /// Shim to init: run a command, payload [`Start`].
    Start = 1,
    /// Init to shim: it runs, payload [`Started`].
    Started = 2,
    /// Init to shim: it could not be run, payload [`StartFailed`].
    StartFailed = 3,
    /// Shim to init: bytes for standard input; empty closes it.
    Stdin = 4,
    /// Init to shim: bytes of standard output; empty means its end.
    Stdout = 5,
    /// Init to shim: bytes of standard error; empty means its end.
    Stderr = 6,
    /// Init to shim: the command is gone, payload [`Exit`].
    Exit = 7,
    /// Shim to init: send a signal to the command's process group, payload [`Signal`].
    Signal = 8,
    /// Init to shim: the first frame, payload [`Hello`].
    Hello = 9,
    /// Shim to init: terminal size, payload [`Resize`].
    Resize = 10,
    /// Shim to init: it takes that many more output bytes of a stream, payload `u32` little endian. Until the first
    /// one the output of a command is not limited. Init to shim, for a command that was started with
    /// [`Asks::input_credit`]: the same of its input, the first one before its [`Kind::Started`]. On gateway
    /// connections both ways, on top of [`CONNECTION_WINDOW`].
    Credit = 11,
    /// Init to host, in a tier whose only channel is this stream: a connection to the gateway's socket was made in
    /// the guest. The stream id is init's choice, from [`CONNECTIONS`] on; ids in use are not given out again. No
    /// payload.
    Open = 12,
    /// Shim to init: end everything (TERM, 2 s later KILL) and leave.
    Shutdown = 13,
    /// Both ways: bytes of a gateway connection; empty means that no more follow in this direction.
    Data = 14,
    /// Both ways: a gateway connection is given up in both directions, by whoever cannot go on (a refused connection,
    /// a peer that is gone). Not sent when both directions have ended with an empty [`Kind::Data`]. Either way the id
    /// is free then, and frames that were still under way are ignored.
    Close = 15,
    /// Host to a waiting init, once, before its [`Kind::Hello`]: payload [`Configure`].
    Configure = 16,
    /// Init to shim: a bound that the kernel cannot hold was crossed and everything is being killed, payload
    /// [`Limit`].
    Limit = 17,
}

impl TryFrom<u8> for Kind {
    type Error = MuxError;

    fn try_from(kind: u8) -> Result<Self, MuxError> {
        Ok(match kind {
            1 => Self::Start,
            2 => Self::Started,
            3 => Self::StartFailed,
            4 => Self::Stdin,
            5 => Self::Stdout,
            6 => Self::Stderr,
            7 => Self::Exit,
            8 => Self::Signal,
            9 => Self::Hello,
            10 => Self::Resize,
            11 => Self::Credit,
            12 => Self::Open,
            13 => Self::Shutdown,
            14 => Self::Data,
            15 => Self::Close,
            16 => Self::Configure,
            17 => Self::Limit,
            kind => return Err(MuxError::UnknownKind { kind }),
        })
    }
}

/// Payload of [`Kind::Start`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Start {
    /// Program and arguments; the program is looked up in `PATH` of `env` when it has no slash.
    pub argv: Vec<String>,
    /// The whole environment of the command, nothing is inherited.
    pub env: Vec<(String, String)>,
    /// Absolute working directory inside the sandbox.
    pub cwd: String,
    /// Whether to run it on a terminal.
    pub pty: bool,
    /// Size of that terminal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<Resize>,
}

/// What the payload of [`Kind::Start`] may ask for besides.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asks {
    /// Whether init grants input of the command with [`Kind::Credit`]. A host that heeds it never has frames wait
    /// behind input that nobody reads.
    #[serde(default)]
    pub input_credit: bool,
}

/// [`Start`] and [`Asks`] in one payload.
#[derive(Debug, Serialize)]
pub struct StartAsking<'a> {
    #[serde(flatten)]
    pub start: &'a Start,
    #[serde(flatten)]
    pub asks: Asks,
}

/// Payload of [`Kind::Configure`]: what guest init takes from its environment elsewhere, and what a machine that was
/// restored from a snapshot cannot know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Configure {
    /// The variables init reads at its start ([`crate::walls::ENV`] and the others).
    pub env: Vec<(String, String)>,
    /// Wall clock, nanoseconds since 1970.
    pub clock_ns: u64,
    /// 64 fresh random bytes in hexadecimal, credited to the kernel's generator before anything runs.
    pub entropy: String,
    pub hostname: String,
    /// User and group of every command.
    pub uid: u32,
    pub gid: u32,
    /// The file view over the image, in order.
    pub mounts: Vec<Share>,
}

/// One step of a virtual machine's file view.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "share", rename_all = "snake_case", deny_unknown_fields)]
pub enum Share {
    /// What the host shares under `from` appears at `at`.
    Host {
        from: String,
        at: String,
        writable: bool,
    },
    Tmpfs {
        at: String,
        size: u64,
        mode: u32,
    },
    /// A read-only file with this text.
    Content {
        at: String,
        content: String,
    },
}

/// Payload of [`Kind::Limit`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limit {
    /// Key of the policy, such as `limits.memory`.
    pub key: String,
    /// Bytes, processes or seconds, as the key counts.
    pub allowed: u64,
    pub found: u64,
}

/// Payload of [`Kind::Started`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Started {
    /// Process id inside the sandbox.
    pub pid: i32,
}

/// Payload of [`Kind::StartFailed`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StartFailed {
    /// What failed, for a person.
    pub error: String,
    /// The system's error number, 0 when there is none.
    pub errno: i32,
}

/// Payload of [`Kind::Exit`]: exactly one of the two is present.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exit {
    /// Exit status.
    pub code: Option<i32>,
    /// Signal that ended it.
    pub signal: Option<i32>,
}

/// Payload of [`Kind::Signal`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signal {
    /// Signal number.
    pub signal: i32,
}

/// Payload of [`Kind::Hello`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// Version of this protocol, see [`VERSION`].
    pub version: u32,
}

/// Payload of [`Kind::Resize`], in character cells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resize {
    pub rows: u16,
    pub cols: u16,
}

/// One unit of the stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    pub kind: Kind,
    /// Which command it belongs to; chosen by the shim, 1 is the harness, 0 is the connection itself.
    pub stream: u32,
    pub payload: Vec<u8>,
}

impl Frame {
    pub fn new(kind: Kind, stream: u32, payload: impl Into<Vec<u8>>) -> Self {
        Self {
            kind,
            stream,
            payload: payload.into(),
        }
    }

    /// A frame whose payload is `value` as JSON.
    pub fn json<T: Serialize>(kind: Kind, stream: u32, value: &T) -> Result<Self, MuxError> {
        let payload = serde_json::to_vec(value).map_err(|e| MuxError::Payload {
            kind,
            reason: e.to_string(),
        })?;
        Ok(Self {
            kind,
            stream,
            payload,
        })
    }

    /// The payload read as JSON.
    pub fn parse<T: DeserializeOwned>(&self) -> Result<T, MuxError> {
        serde_json::from_slice(&self.payload).map_err(|e| MuxError::Payload {
            kind: self.kind,
            reason: e.to_string(),
        })
    }

    /// What a [`Kind::Credit`] frame grants, in bytes.
    pub fn credit(&self) -> Result<u32, MuxError> {
        let bytes = self.payload.as_slice().try_into();
        bytes.map(u32::from_le_bytes).map_err(|_| MuxError::Payload {
            kind: self.kind,
            reason: format!("{} bytes where 4 are due", self.payload.len()),
        })
    }

    /// Appends the frame to `out`; leaves `out` alone on error.
    pub fn encode_into(&self, out: &mut Vec<u8>) -> Result<(), MuxError> {
        encode_into(self.kind, self.stream, &self.payload, out)
    }
}

/// Appends a frame to `out` without owning its payload; leaves `out` alone on error.
pub fn encode_into(kind: Kind, stream: u32, payload: &[u8], out: &mut Vec<u8>) -> Result<(), MuxError> {
    let too_long = MuxError::Oversized {
        length: payload.len(),
    };
    if payload.len() > MAX_PAYLOAD {
        return Err(too_long);
    }
    let length = u32::try_from(payload.len()).map_err(|_| too_long)?;
    out.reserve(HEADER_LEN + payload.len());
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(&[kind as u8, 0, 0, 0]);
    out.extend_from_slice(&stream.to_le_bytes());
    out.extend_from_slice(payload);
    Ok(())
}

/// Turns bytes in any chunking back into frames.
///
/// Memory is bounded by what the caller pushes before it drains: at most one incomplete frame is kept
/// when [`Decoder::next`] is called until it answers `None`.
#[derive(Debug, Default)]
pub struct Decoder {
    buffer: Vec<u8>,
    start: usize,
    broken: Option<MuxError>,
}

impl Decoder {
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds received bytes.
    pub fn push(&mut self, bytes: &[u8]) {
        if self.broken.is_none() {
            self.buffer.drain(..self.start);
            self.start = 0;
            self.buffer.extend_from_slice(bytes);
        }
    }

    /// The next whole frame; `None` when more bytes are needed. After an error every call repeats it.
    #[expect(
        clippy::should_implement_trait,
        reason = "an iterator would have to end at `None`"
    )]
    pub fn next(&mut self) -> Result<Option<Frame>, MuxError> {
        if let Some(error) = &self.broken {
            return Err(error.clone());
        }
        self.decode().inspect_err(|error| {
            self.broken = Some(error.clone());
            self.buffer = Vec::new();
            self.start = 0;
        })
    }

    /// To be called at the end of the stream: an error when it ended inside a frame.
    pub fn finish(&self) -> Result<(), MuxError> {
        if let Some(error) = &self.broken {
            return Err(error.clone());
        }
        let rest = self.rest();
        match header(rest) {
            _ if rest.is_empty() => Ok(()),
            Ok(Some(head)) => Err(MuxError::Torn {
                have: rest.len(),
                want: HEADER_LEN + head.length,
            }),
            Ok(None) => Err(MuxError::Torn {
                have: rest.len(),
                want: HEADER_LEN,
            }),
            Err(error) => Err(error),
        }
    }

    /// Bytes kept that are not yet part of a returned frame.
    pub fn buffered(&self) -> usize {
        self.rest().len()
    }

    fn rest(&self) -> &[u8] {
        &self.buffer[self.start..]
    }

    fn decode(&mut self) -> Result<Option<Frame>, MuxError> {
        let rest = self.rest();
        let Some(head) = header(rest)? else {
            return Ok(None);
        };
        let end = HEADER_LEN + head.length;
        if rest.len() < end {
            return Ok(None);
        }
        let frame = Frame::new(head.kind, head.stream, &rest[HEADER_LEN..end]);
        self.start += end;
        if self.start == self.buffer.len() {
            self.buffer.clear();
            self.start = 0;
        }
        Ok(Some(frame))
    }
}

struct Header {
    length: usize,
    kind: Kind,
    stream: u32,
}

/// Reads a header; `None` when there are fewer than [`HEADER_LEN`] bytes.
fn header(bytes: &[u8]) -> Result<Option<Header>, MuxError> {
    let Some(&[l0, l1, l2, l3, kind, flags, r0, r1, s0, s1, s2, s3]) = bytes.first_chunk::<HEADER_LEN>()
    else {
        return Ok(None);
    };
    let length = u32::from_le_bytes([l0, l1, l2, l3]) as usize;
    let reserved = u16::from_le_bytes([r0, r1]);
    let kind = Kind::try_from(kind)?;
    if flags != 0 || reserved != 0 {
        return Err(MuxError::ReservedBits { flags, reserved });
    }
    if length > MAX_PAYLOAD {
        return Err(MuxError::Oversized { length });
    }
    Ok(Some(Header {
        length,
        kind,
        stream: u32::from_le_bytes([s0, s1, s2, s3]),
    }))
}
