//! One operation on a file below the working directory, for whoever looks at a workspace from outside.
//!
//! `lodge-init files` runs as an ordinary command of the guest: it can do nothing that the guest could not. It reads a
//! [`Request`] as one line of JSON from standard input, for a write followed by the bytes, and writes
//! `{"Ok": Answer}` or `{"Err": Failure}` as one line to standard output, for a read followed by the bytes. Paths are
//! relative to the working directory and do not leave it; writing follows no link and replaces a file in one step.

use serde::{Deserialize, Serialize};

/// Longest file that is written, in bytes.
pub const MAX_WRITE: usize = 1024 * 1024;

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case")]
pub enum Request {
    List {
        path: String,
        limit: u32,
    },
    Read {
        path: String,
        offset: u64,
        limit: u32,
    },
    /// As many bytes follow.
    Write {
        path: String,
        size: u64,
        expected_version: Option<String>,
    },
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "snake_case")]
pub enum Answer {
    Listing {
        entries: Vec<Entry>,
        truncated: bool,
    },
    /// The bytes follow.
    Content {
        size: u64,
        version: String,
    },
    Written {
        size: u64,
        version: String,
    },
}

/// A name in a directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    pub name: String,
    pub kind: Kind,
    pub size: u64,
    /// UTC milliseconds.
    pub modified: u64,
    pub target: Option<String>,
}

/// What a name stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    Directory,
    File,
    Symlink,
    Special,
}

/// Why it was not done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    pub kind: FailureKind,
    /// For a person.
    pub message: String,
}

/// What kind of failure it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureKind {
    NotFound,
    /// The path is not what the operation needs, or is none.
    Invalid,
    /// It leads out of the workspace, or may not be touched.
    Denied,
    /// The file is another one than expected.
    Conflict,
    /// No room, or over the sandbox's limit.
    Full,
    Other,
}
