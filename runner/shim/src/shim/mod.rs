//! The shim process: one thread, one poll loop, four kinds of work.
//!
//! | module | for |
//! |---|---|
//! | [`setup`] | from the command line to a shim that listens |
//! | `turn` | one turn of the loop: wait, read, settle, stream |
//! | `harness` | what the guest sends, and how a sandbox ends |
//! | `requests` | what the runner sends |
//! | `guest`, `server`, `connection`, `inputs`, `streams`, `backlog`, [`lines`], `tree`, `log` | their parts |
//!
//! The order inside a turn carries the promises: what was read is journalled before it is streamed, an input's
//! beginning is journalled before its first byte leaves, its end after the last.

pub mod lines;
pub mod setup;

mod backlog;
mod connection;
mod guest;
mod harness;
mod inputs;
mod log;
mod requests;
mod server;
mod streams;
mod tree;
mod turn;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use nix::sys::signalfd::SignalFd;

use self::backlog::Backlog;
use self::guest::Guest;
use self::inputs::{Input, Inputs};
use self::lines::Lines;
use self::server::Server;
use self::streams::Streams;
use crate::journal::{JournalError, Writer};
use crate::launch::{LaunchSpec, Limits};
use crate::wire::Harness;

/// How much is read from a socket at once, in bytes.
const READ_CHUNK: usize = 256 << 10;

/// Why a running shim gave up. The harness dies with it.
#[derive(Debug, thiserror::Error)]
pub enum ShimError {
    /// The journal cannot be written: nothing could be promised any more.
    #[error("the journal cannot be written")]
    Journal(#[from] JournalError),
    #[error("cannot wait for events")]
    Poll(#[source] rustix::io::Errno),
    #[error("a record of the shim cannot be encoded")]
    Encode(#[from] serde_json::Error),
}

/// A shim that listens.
#[derive(Debug)]
pub struct Shim {
    journal_dir: PathBuf,
    journal: Writer,
    generation: u64,
    limits: Limits,
    server: Server,
    inputs: Inputs,
    streams: Streams,
    backlog: Backlog,
    signals: SignalFd,
    scratch: Box<[u8]>,

    guest: Option<Guest>,
    /// Until it is sent: it holds the session's secrets.
    spec: Option<LaunchSpec>,
    harness: Harness,
    out: Lines,
    err: Lines,
    /// The guest has said which bound was crossed; it says so once.
    limit_told: bool,
    /// Inputs whose beginning is staged and not yet on disk.
    begun: Vec<Input>,

    /// The guest's init must have said hello by then.
    hello_by: Option<Instant>,
    /// When a stop's grace ends.
    kill_at: Option<Instant>,
    /// When a sandbox whose process or stream has ended counts as dead, whatever is still open.
    dead_at: Option<Instant>,
    /// Number of the record that says how the harness ended.
    exit_seq: Option<u64>,
    /// How long to wait for its acknowledgement.
    linger: Duration,
    leave_at: Option<Instant>,

    /// An append with `sync` was staged.
    sync_wanted: bool,
    /// The disk is full: when to try again.
    retry_at: Option<Instant>,
    /// Highest record the runner has acknowledged.
    acked: u64,
}
