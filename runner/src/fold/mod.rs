//! The session fold: journal records in, canonical events out.
//!
//! Everything that determines a session's events is a record of its journal, so the fold does no I/O, has no clock
//! and no randomness: a replay from any snapshot arrives at the same events, ids and numbers. What the world is to
//! do next is not a list of effects but part of the state ([`SessionFold::wants`]): inputs not yet delivered,
//! timers that run, a turn that history has not stored. After any crash the runner replays and looks at it again.
//!
//! ```text
//!              prompt            settled             history ack
//!   starting ─────────► working ─────────► (persisting) ─────────► idle ─► working …
//!       │ ready            │ abort                                   │
//!       ▼                  ▼                                         │ close
//!     idle              aborting ── settled, or killed at its deadline
//!                                                                    ▼
//!   any ── harness gone ──► stopped (the next prompt resumes it)   stopping
//!   starting ── gone ─────► failed
//! ```

mod approvals;
mod commands;
mod cx;
mod forks;
mod lifecycle;
mod network;
mod output;
mod record;
mod seen;
mod state;
mod stream;
#[cfg(test)]
mod tests;
mod tools;
mod trust;
mod turn;
mod view;

pub use approvals::{Given, Rule};
pub use cx::Cx;
pub use forks::Origin;
pub use network::{Access, NetworkAnswer, NetworkWord};
pub use output::Output;
pub use record::{
    Created, DeliveryId, Exit, Fork, JournalCommand, Launch, Limit, Note, Queued, Record, RecordBody, Reply,
    Source, Timer, Wish,
};
pub use state::{BlobSlot, PendingInput, TurnRecord, Wants};
pub use stream::Final;

use crate::harness::AnyAdapter;
use serde::{Deserialize, Serialize};
use state::Core;

/// Version of the snapshot format. A snapshot of another version is not read: the journal is replayed instead.
pub const SNAPSHOT_VERSION: u32 = 1;

/// The state of one session.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SessionFold {
    core: Core,
    adapter: AnyAdapter,
}

impl SessionFold {
    /// A session before its first record.
    pub fn new(session: lodge_proto::SessionId, adapter: AnyAdapter) -> Self {
        Self {
            core: Core::new(session),
            adapter,
        }
    }

    /// Applies the next record.
    pub fn apply(&mut self, record: &Record, out: &mut Output) {
        self.core.record_seq = record.seq;
        let mut cx = Cx::new(&mut self.core, out, record);
        lifecycle::apply(&mut cx, &mut self.adapter, record);
        approvals::settle(&mut cx, &mut self.adapter);
        turn::settle(&mut cx, &mut self.adapter);
    }

    /// Number of the last record that was applied.
    pub fn record_seq(&self) -> u64 {
        self.core.record_seq
    }

    /// Number of the last event.
    pub fn seq(&self) -> u64 {
        self.core.seq
    }

    /// Whether a snapshot may be taken here: between turns, with nothing under way.
    pub fn is_at_boundary(&self) -> bool {
        self.core.turn.is_none() && self.core.persisting.is_none() && self.core.deferred.is_empty()
    }
}
