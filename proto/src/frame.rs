//! The binary frames between backend and runner.
//!
//! A fixed header of 32 bytes, little endian, then the payload:
//!
//! | offset | size | field |
//! |---|---|---|
//! | 0 | 4 | length of the payload, at most [`MAX_PAYLOAD`] |
//! | 4 | 1 | version, [`VERSION`] |
//! | 5 | 1 | kind, [`Kind`] |
//! | 6 | 2 | flags, [`flags`] |
//! | 8 | 4 | channel: the client it concerns, 0 for all |
//! | 12 | 8 | session handle, 0 for none |
//! | 20 | 8 | seq of an event, else 0 |
//! | 28 | 4 | epoch of an event, else 0 |
//!
//! The payload of an event is the exact JSON that the browser will get, encoded once by the runner.

/// Bytes of a header.
pub const HEADER_LEN: usize = 32;
/// Version of the frame format.
pub const VERSION: u8 = 1;
/// Longest payload: 17 MiB, a harness line of 16 MiB and its envelope.
pub const MAX_PAYLOAD: usize = 17 * 1024 * 1024;

/// Bits of [`Header::flags`].
pub mod flags {
    /// The payload is a snapshot or was folded from several events.
    pub const FOLDED: u16 = 1;
    /// A control for the relay itself, not passed to the client.
    pub const FOR_RELAY: u16 = 2;
    /// Leaves at once, without waiting for the coalescing window.
    pub const URGENT: u16 = 4;
}

/// What a frame carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Kind {
    /// One event as JSON.
    Event = 1,
    /// A [`Response`](crate::Response) as JSON.
    Reply = 2,
    /// A control of [`crate::relay`] as JSON.
    Control = 3,
    /// Bytes the receiver may send on the channel, u32.
    Credit = 4,
    /// Bytes of a file, an image or a terminal.
    Blob = 5,
    /// A [`CommandEnvelope`](crate::relay::CommandEnvelope) as JSON.
    Command = 6,
}

impl TryFrom<u8> for Kind {
    type Error = FrameError;
    fn try_from(value: u8) -> Result<Self, FrameError> {
        Ok(match value {
            1 => Self::Event,
            2 => Self::Reply,
            3 => Self::Control,
            4 => Self::Credit,
            5 => Self::Blob,
            6 => Self::Command,
            other => return Err(FrameError::UnknownKind(other)),
        })
    }
}

/// Header of a frame without its length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    pub kind: Kind,
    pub flags: u16,
    pub channel: u32,
    pub session: u64,
    pub seq: u64,
    pub epoch: u32,
}

impl Header {
    /// A header with all but the kind at zero.
    pub const fn new(kind: Kind) -> Self {
        Self {
            kind,
            flags: 0,
            channel: 0,
            session: 0,
            seq: 0,
            epoch: 0,
        }
    }

    /// The same with a channel.
    #[must_use]
    pub const fn channel(mut self, channel: u32) -> Self {
        self.channel = channel;
        self
    }

    /// The same with a session handle.
    #[must_use]
    pub const fn session(mut self, session: u64) -> Self {
        self.session = session;
        self
    }

    /// The same with flags.
    #[must_use]
    pub const fn flags(mut self, flags: u16) -> Self {
        self.flags = flags;
        self
    }
}

/// Bytes that are no frame. After any of these the connection is of no further use.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    #[error("frame version {0} is not supported (this side speaks {VERSION})")]
    Version(u8),
    #[error("unknown frame kind {0}")]
    UnknownKind(u8),
    #[error("frame of {0} bytes is over the limit of {MAX_PAYLOAD}")]
    Oversized(usize),
    #[error("the stream ended inside a frame, {missing} bytes short")]
    Torn { missing: usize },
}

/// Appends one frame to `out`.
pub fn encode(header: &Header, payload: &[u8], out: &mut Vec<u8>) -> Result<(), FrameError> {
    out.extend_from_slice(&encode_header(header, payload.len())?);
    out.extend_from_slice(payload);
    Ok(())
}

/// The header bytes for a payload of `len` bytes.
pub fn encode_header(header: &Header, len: usize) -> Result<[u8; HEADER_LEN], FrameError> {
    let length = u32::try_from(len)
        .ok()
        .filter(|_| len <= MAX_PAYLOAD)
        .ok_or(FrameError::Oversized(len))?;
    let mut bytes = [0u8; HEADER_LEN];
    bytes[0..4].copy_from_slice(&length.to_le_bytes());
    bytes[4] = VERSION;
    bytes[5] = header.kind as u8;
    bytes[6..8].copy_from_slice(&header.flags.to_le_bytes());
    bytes[8..12].copy_from_slice(&header.channel.to_le_bytes());
    bytes[12..20].copy_from_slice(&header.session.to_le_bytes());
    bytes[20..28].copy_from_slice(&header.seq.to_le_bytes());
    bytes[28..32].copy_from_slice(&header.epoch.to_le_bytes());
    Ok(bytes)
}

/// Reads a header; returns it with the length of the payload that follows.
pub fn decode_header(bytes: &[u8; HEADER_LEN]) -> Result<(Header, usize), FrameError> {
    let u32_at = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
    let u64_at = |at: usize| u64::from(u32_at(at)) | (u64::from(u32_at(at + 4)) << 32);
    if bytes[4] != VERSION {
        return Err(FrameError::Version(bytes[4]));
    }
    let length = u32_at(0) as usize;
    if length > MAX_PAYLOAD {
        return Err(FrameError::Oversized(length));
    }
    let header = Header {
        kind: Kind::try_from(bytes[5])?,
        flags: u16::from_le_bytes([bytes[6], bytes[7]]),
        channel: u32_at(8),
        session: u64_at(12),
        seq: u64_at(20),
        epoch: u32_at(28),
    };
    Ok((header, length))
}

/// Splits a byte stream into frames. It holds at most one frame and what came with it.
#[derive(Debug, Default)]
pub struct Decoder {
    buffer: Vec<u8>,
    start: usize,
}

impl Decoder {
    /// An empty decoder.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds bytes as they were read.
    pub fn push(&mut self, bytes: &[u8]) {
        if self.start > 0 && self.start * 2 >= self.buffer.len() {
            self.buffer.drain(..self.start);
            self.start = 0;
        }
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole frame, if there is one. The payload borrows from the decoder.
    pub fn next_frame(&mut self) -> Result<Option<(Header, &[u8])>, FrameError> {
        let rest = &self.buffer[self.start..];
        let Some(head) = rest.first_chunk::<HEADER_LEN>() else {
            return Ok(None);
        };
        let (header, length) = decode_header(head)?;
        if rest.len() < HEADER_LEN + length {
            return Ok(None);
        }
        let payload_at = self.start + HEADER_LEN;
        self.start = payload_at + length;
        Ok(Some((header, &self.buffer[payload_at..payload_at + length])))
    }

    /// Bytes held: of a frame that is under way, and what came with it.
    pub fn buffered(&self) -> usize {
        self.buffer.len()
    }

    /// What the end of the stream means: nothing, or a torn frame.
    pub fn finish(&self) -> Result<(), FrameError> {
        let rest = &self.buffer[self.start..];
        let Some(head) = rest.first_chunk::<HEADER_LEN>() else {
            return if rest.is_empty() {
                Ok(())
            } else {
                Err(FrameError::Torn {
                    missing: HEADER_LEN - rest.len(),
                })
            };
        };
        let (_, length) = decode_header(head)?;
        Err(FrameError::Torn {
            missing: (HEADER_LEN + length).saturating_sub(rest.len()),
        })
    }
}
