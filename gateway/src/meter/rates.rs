//! Limits by the minute: entered once a request, corrected when it is over.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use super::refusal;
use crate::caller::Caller;
use crate::dialect::WireError;
use crate::keys::{Entry, Gate};

/// A request that was let in. Its place is free again when the last attempt at it is over.
#[derive(Debug)]
pub(super) struct Rates {
    expected: u64,
    /// By all attempts so far; what is under way counts as expected.
    used: AtomicU64,
    gates: Vec<Arc<Gate>>,
    _entries: Vec<Entry>,
}

impl Rates {
    pub(super) fn enter(caller: &Caller, expected: u64) -> Result<Self, WireError> {
        let (mut entries, now) = (Vec::new(), Instant::now());
        for gate in &caller.gates {
            entries.push(gate.enter(expected, now).map_err(refusal::busy)?);
        }
        Ok(Self {
            expected,
            used: AtomicU64::new(0),
            gates: caller.gates.clone(),
            _entries: entries,
        })
    }

    /// One attempt begins.
    pub(super) fn begin(&self, expected: u64) {
        self.used.fetch_add(expected, Ordering::Relaxed);
    }

    /// One attempt is over.
    pub(super) fn settle(&self, expected: u64, used: u64) {
        self.used.fetch_add(used, Ordering::Relaxed);
        self.used.fetch_sub(expected, Ordering::Relaxed);
    }
}

impl Drop for Rates {
    fn drop(&mut self) {
        for gate in &self.gates {
            gate.correct(self.expected, *self.used.get_mut());
        }
    }
}
