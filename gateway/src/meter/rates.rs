//! Limits by the minute: entered once a request, corrected when it is over.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::refusal;
use crate::caller::Caller;
use crate::dialect::WireError;
use crate::keys::{Entry, Key};

/// A request that was let in. Its place is free again when the last attempt at it is over.
#[derive(Debug)]
pub(super) struct Rates {
    expected: u64,
    /// By all attempts so far; what is under way counts as expected.
    used: AtomicU64,
    line: Vec<Arc<Key>>,
    _entries: Vec<Entry>,
}

impl Rates {
    pub(super) fn enter(caller: &Caller, expected: u64) -> Result<Self, WireError> {
        let mut entries = Vec::new();
        for key in &caller.line {
            entries.push(key.enter(expected).map_err(refusal::busy)?);
        }
        Ok(Self {
            expected,
            used: AtomicU64::new(0),
            line: caller.line.clone(),
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
        for key in &self.line {
            key.correct(self.expected, *self.used.get_mut());
        }
    }
}
