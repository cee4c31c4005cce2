//! The session's journal: everything that determines what a session did, in one append-only log.
//!
//! # Invariants
//!
//! 1. `seq` starts at 1 and is gap-free over the life of the session, across shim generations.
//! 2. One writer at a time: whoever holds the `flock` on the file `lock` (a shim, or the runner when no shim lives).
//! 3. A record is never changed. Only a torn tail is ever cut, and only by a writer that opens the journal.
//!    A tail is *torn* when no intact record follows it; damage before an intact record is *corruption*,
//!    which is reported with its place and never repaired silently.
//! 4. Segments are deleted from the front only, whole, and never the last one.
//!
//! # Format
//!
//! A directory with a file `lock` (its text is the highest shim generation that ever held it) and segments
//! named `<first seq, 20 digits>.log`. A segment is rotated when it has reached [`SEGMENT_LIMIT`].
//! A segment is records back to back; a record is a header of [`HEADER_LEN`] bytes and a body:
//!
//! | bytes | meaning (little endian) |
//! |---|---|
//! | 0..4 | `u32` length of the body, at most [`MAX_BODY`] |
//! | 4..8 | `u32` CRC-32 of the body |
//! | 8..16 | `u64` seq |
//! | 16..24 | `u64` time, milliseconds since the epoch, UTC |
//! | 24 | kind, see [`Kind`] |
//! | 25 | flags, see [`FLAG_UNTERMINATED`] |
//! | 26..28 | reserved, 0 |
//! | 28..32 | `u32` CRC-32 of bytes 0..28 |
//!
//! The header has a checksum of its own so that a damaged length cannot be mistaken for a torn tail.

mod format;
mod ids;
mod reader;
mod segments;
mod writer;

pub use format::{
    Exit, FLAG_UNTERMINATED, Generation, HEADER_LEN, Id, Kind, Limit, MAX_BODY, Oversize, Record,
    RecordError, StartFailed, Started, encode_into,
};
pub use ids::Ids;
pub use reader::Reader;
pub use writer::{Recovery, Writer, now_ms};

use std::io;
use std::path::PathBuf;

/// Size after which a segment takes no further batch, in bytes.
pub const SEGMENT_LIMIT: u64 = 8 << 20;

/// Where a record starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// Number of the record.
    pub seq: u64,
    /// First seq of its segment, which names the file.
    pub segment: u64,
    /// Byte offset in the segment.
    pub offset: u64,
}

/// Why the journal could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// Another process holds the journal: its shim lives.
    #[error("the journal {dir} is held by another process")]
    Locked { dir: PathBuf },
    /// A record is damaged; every record before `seq` is intact.
    #[error("segment {segment} is damaged at byte {offset}, record {seq}: {reason}")]
    Corrupt {
        segment: u64,
        offset: u64,
        seq: u64,
        reason: &'static str,
    },
    /// The record was deleted because everything up to it was settled.
    #[error("record {wanted} was pruned, the journal starts at {first}")]
    Pruned { wanted: u64, first: u64 },
    /// The record does not exist yet.
    #[error("record {wanted} does not exist, the next one will be {next}")]
    Ahead { wanted: u64, next: u64 },
    /// The body is over [`MAX_BODY`].
    #[error("a record body of {length} bytes is over the limit of {MAX_BODY}")]
    TooLong { length: usize },
    /// The system refused.
    #[error("cannot {doing} {path}")]
    Io {
        doing: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

impl JournalError {
    /// Whether the disk, or the quota of the user, is full: the append may be repeated.
    pub fn is_disk_full(&self) -> bool {
        matches!(self, Self::Io { source, .. }
            if matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded))
    }
}
