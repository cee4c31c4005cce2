//! One record: its header, its kinds and the JSON bodies of the shim's own kinds.

use serde::{Deserialize, Serialize};

/// Length of the header before every body, in bytes.
pub const HEADER_LEN: usize = 32;
/// Largest body, in bytes: a harness line of 16 MiB, or an input of 16 MiB with its id.
pub const MAX_BODY: usize = (16 << 20) + 64;
/// Flag of [`Kind::Out`] and [`Kind::Err`]: the stream ended without a newline after these bytes.
pub const FLAG_UNTERMINATED: u8 = 1;

/// Identifies an input or an appended record over all runners and shims of a session (a UUID's bytes).
pub type Id = [u8; 16];

macro_rules! kinds {
    ($($(#[$doc:meta])* $name:ident = $number:literal,)*) => {
        /// What a record is; the number is the one on disk.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Kind {
            $($(#[$doc])* $name,)*
            /// Written by a newer release; carried, not understood.
            Unknown(u8),
        }

        impl From<u8> for Kind {
            fn from(number: u8) -> Self {
                match number { $($number => Self::$name,)* other => Self::Unknown(other) }
            }
        }

        impl From<Kind> for u8 {
            fn from(kind: Kind) -> Self {
                match kind { $(Kind::$name => $number,)* Kind::Unknown(number) => number }
            }
        }
    };
}

kinds! {
    /// A shim started: [`Generation`].
    Generation = 1,
    /// One line of the harness's standard output, without its newline (a carriage return stays).
    Out = 2,
    /// One line of the harness's standard error.
    Err = 3,
    /// The harness is gone: [`Exit`].
    Exit = 4,
    /// An input is about to be written: its 16-byte id and its bytes.
    InBegin = 5,
    /// The last byte of the input with this 16-byte id was handed to the guest.
    InDone = 6,
    /// A line was too long and is cut: [`Oversize`].
    Oversize = 7,
    /// Runner: a command, its 16-byte id and opaque bytes.
    Cmd = 8,
    /// Runner: a timer fired, its 16-byte id and opaque bytes.
    Timer = 9,
    /// Runner: a decision, its 16-byte id and opaque bytes.
    Note = 10,
    /// Runner: closes what a dead shim left open, its 16-byte id and opaque bytes.
    Closed = 11,
    /// The harness could not be started: [`StartFailed`].
    StartFailed = 12,
    /// The harness runs: [`Started`].
    Started = 13,
    /// A bound of the sandbox was crossed, and everything in it is being killed: [`Limit`].
    Limit = 14,
}

impl Kind {
    /// Whether the body starts with an id that makes the record unique in the session.
    pub fn has_id(self) -> bool {
        matches!(
            self,
            Self::InBegin | Self::InDone | Self::Cmd | Self::Timer | Self::Note | Self::Closed
        )
    }
}

/// Body of [`Kind::Generation`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Generation {
    /// Counts the shims of the session from 1; never repeats.
    pub generation: u64,
    /// The shim's process id.
    pub pid: u32,
    /// The kernel's boot id: differs when the machine was restarted.
    pub boot_id: String,
    /// Release of the shim.
    pub version: String,
    /// Bytes of a torn tail that were cut from the journal at this start.
    #[serde(default)]
    pub cut: u64,
}

/// Body of [`Kind::Exit`]. Without code and signal the outcome is unknown and must not read as success.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exit {
    /// Exit status.
    pub code: Option<i32>,
    /// Signal that ended it.
    pub signal: Option<i32>,
    /// Why the status is unknown, with the end of the sandbox's standard error.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// Body of [`Kind::Oversize`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Oversize {
    /// `out` or `err`.
    pub stream: String,
    /// Length of the whole line in bytes.
    pub length: u64,
    /// Its first 4096 bytes, invalid UTF-8 replaced.
    pub head: String,
}

/// Body of [`Kind::StartFailed`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StartFailed {
    /// What failed, for a person.
    pub error: String,
    /// The system's error number, 0 when there is none.
    pub errno: i32,
}

/// Body of [`Kind::Limit`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limit {
    /// Key of the policy, such as `limits.memory`.
    pub key: String,
    /// Bytes, processes or seconds, as the key counts.
    pub allowed: u64,
    pub found: u64,
}

/// Body of [`Kind::Started`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Started {
    /// Process id inside the sandbox.
    pub pid: i32,
}

/// Why bytes are not a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// More bytes are needed, this many in all.
    #[error("the record is not complete: {need} bytes are needed")]
    Incomplete { need: usize },
    /// The bytes are damaged.
    #[error("{0}")]
    Damaged(&'static str),
}

/// One record, borrowed from a buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record<'a> {
    /// Number in the session, from 1, gap-free.
    pub seq: u64,
    /// When it was written, milliseconds since the epoch, UTC.
    pub time_ms: u64,
    pub kind: Kind,
    pub flags: u8,
    pub body: &'a [u8],
    /// The record as it is on disk, header included.
    pub raw: &'a [u8],
}

impl<'a> Record<'a> {
    /// Reads the record at the start of `bytes`; what follows it is ignored.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, RecordError> {
        let (length, _) = check(bytes)?;
        bytes
            .get(..length)
            .and_then(Self::trusted)
            .ok_or(RecordError::Incomplete { need: length })
    }

    /// Reads a record whose checksums were just verified and that fills `raw`.
    pub(super) fn trusted(raw: &'a [u8]) -> Option<Self> {
        let (head, body) = raw.split_first_chunk::<HEADER_LEN>()?;
        let (seq, time_ms) = (u64_at(head, 8), u64_at(head, 16));
        Some(Self {
            seq,
            time_ms,
            kind: Kind::from(head[24]),
            flags: head[25],
            body,
            raw,
        })
    }

    /// The id of an input or appended record and what follows it; `None` for kinds without an id.
    pub fn split_id(&self) -> Option<(Id, &'a [u8])> {
        if !self.kind.has_id() {
            return None;
        }
        self.body.split_first_chunk::<16>().map(|(id, rest)| (*id, rest))
    }

    /// The body read as JSON.
    pub fn json<T: serde::de::DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        serde_json::from_slice(self.body)
    }
}

/// Length and seq of the record at the start of `bytes`, both checksums verified.
pub(super) fn check(bytes: &[u8]) -> Result<(usize, u64), RecordError> {
    let Some((head, rest)) = bytes.split_first_chunk::<HEADER_LEN>() else {
        return Err(RecordError::Incomplete { need: HEADER_LEN });
    };
    if crc32fast::hash(&head[..28]) != u32_at(head, 28) {
        return Err(RecordError::Damaged("the header does not match its checksum"));
    }
    let length = u32_at(head, 0) as usize;
    if length > MAX_BODY {
        return Err(RecordError::Damaged("the body is over the limit"));
    }
    match rest.get(..length) {
        None => Err(RecordError::Incomplete {
            need: HEADER_LEN + length,
        }),
        Some(body) if crc32fast::hash(body) == u32_at(head, 4) => Ok((HEADER_LEN + length, u64_at(head, 8))),
        Some(_) => Err(RecordError::Damaged("the body does not match its checksum")),
    }
}

/// Whether `bytes` start with an intact header; its seq and the length of the record.
pub(super) fn intact_header(bytes: &[u8]) -> Option<(u64, usize)> {
    let head = bytes.first_chunk::<HEADER_LEN>()?;
    let length = u32_at(head, 0) as usize;
    // The cheap test first: this runs at every offset of a damaged segment.
    let plausible = length <= MAX_BODY && head[26] == 0 && head[27] == 0;
    (plausible && crc32fast::hash(&head[..28]) == u32_at(head, 28))
        .then(|| (u64_at(head, 8), HEADER_LEN + length))
}

/// Appends a record to `out`; its body is `parts` one after another.
///
/// The caller keeps the body within [`MAX_BODY`].
pub fn encode_into(out: &mut Vec<u8>, seq: u64, time_ms: u64, kind: Kind, flags: u8, parts: &[&[u8]]) {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    debug_assert!(length <= MAX_BODY, "the writer refuses longer bodies");
    let mut crc = crc32fast::Hasher::new();
    for part in parts {
        crc.update(part);
    }
    let mut head = [0; HEADER_LEN];
    head[0..4].copy_from_slice(&u32::try_from(length).unwrap_or(u32::MAX).to_le_bytes());
    head[4..8].copy_from_slice(&crc.finalize().to_le_bytes());
    head[8..16].copy_from_slice(&seq.to_le_bytes());
    head[16..24].copy_from_slice(&time_ms.to_le_bytes());
    head[24] = kind.into();
    head[25] = flags;
    let sum = crc32fast::hash(&head[..28]);
    head[28..32].copy_from_slice(&sum.to_le_bytes());
    out.reserve(HEADER_LEN + length);
    out.extend_from_slice(&head);
    for part in parts {
        out.extend_from_slice(part);
    }
}

fn u32_at(bytes: &[u8; HEADER_LEN], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

fn u64_at(bytes: &[u8; HEADER_LEN], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) | u64::from(u32_at(bytes, at + 4)) << 32
}
