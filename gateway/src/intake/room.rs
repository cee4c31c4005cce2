//! How many bytes of request bodies are in memory at a time: of one caller, and of all.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore};

use crate::dialect::WireError;

/// Largest bodies of one caller that are in memory at a time.
const OF_ONE: usize = 4;
/// The same of all callers.
const OF_ALL: usize = 32;

/// Memory for bodies.
#[derive(Debug)]
pub(crate) struct Room {
    all: Arc<Semaphore>,
    of_one: usize,
}

impl Room {
    /// For bodies of up to so many bytes.
    pub(crate) fn new(max_body: usize) -> Self {
        let times = |count: usize| max_body.saturating_mul(count).min(Semaphore::MAX_PERMITS);
        Self {
            all: Arc::new(Semaphore::new(times(OF_ALL))),
            of_one: times(OF_ONE),
        }
    }

    /// A caller's own share.
    pub(crate) fn of_caller(&self) -> Arc<Semaphore> {
        Arc::new(Semaphore::new(self.of_one))
    }

    /// Takes as much from the caller's share, waiting for it that long; from that of all nothing yet.
    pub(super) async fn enter(
        &self,
        own: &Arc<Semaphore>,
        bytes: usize,
        patience: Duration,
    ) -> Result<Held, WireError> {
        let mut held = self.nothing(own);
        held.own = Some(take(own, bytes, patience).await.ok_or_else(own_is_full)?);
        Ok(held)
    }

    /// What takes no memory yet.
    pub(super) fn nothing(&self, own: &Arc<Semaphore>) -> Held {
        Held {
            share: Arc::clone(own),
            own: None,
            all: Arc::clone(&self.all),
            taken: None,
        }
    }
}

/// Memory that a body takes; dropped, it is free again.
#[derive(Debug)]
pub(crate) struct Held {
    /// Of the caller, and what of it is taken.
    share: Arc<Semaphore>,
    own: Option<OwnedSemaphorePermit>,
    /// The same of all.
    all: Arc<Semaphore>,
    taken: Option<OwnedSemaphorePermit>,
}

impl Held {
    pub(super) fn bytes(&self) -> usize {
        self.taken.as_ref().map_or(0, OwnedSemaphorePermit::num_permits)
    }

    /// Takes more, waiting for it that long.
    pub(super) async fn grow(&mut self, bytes: usize, patience: Duration) -> Result<(), WireError> {
        let more = take(&self.all, bytes, patience).await.ok_or_else(all_is_full)?;
        add(&mut self.taken, more);
        Ok(())
    }

    /// Takes more of both, where there is more; tells whether there was.
    pub(super) fn try_grow(&mut self, bytes: usize) -> bool {
        let count = u32::try_from(bytes).unwrap_or(u32::MAX);
        let own = Arc::clone(&self.share).try_acquire_many_owned(count);
        let all = Arc::clone(&self.all).try_acquire_many_owned(count);
        let (Ok(own), Ok(all)) = (own, all) else {
            return false;
        };
        add(&mut self.own, own);
        add(&mut self.taken, all);
        true
    }

    /// Gives back all but that much.
    pub(super) fn shrink(&mut self, bytes: usize) {
        for permit in self.taken.iter_mut().chain(&mut self.own) {
            drop(permit.split(permit.num_permits().saturating_sub(bytes)));
        }
    }
}

fn add(to: &mut Option<OwnedSemaphorePermit>, more: OwnedSemaphorePermit) {
    match to {
        Some(permit) => permit.merge(more),
        None => *to = Some(more),
    }
}

async fn take(from: &Arc<Semaphore>, bytes: usize, patience: Duration) -> Option<OwnedSemaphorePermit> {
    let count = u32::try_from(bytes).unwrap_or(u32::MAX);
    if let Ok(permit) = Arc::clone(from).try_acquire_many_owned(count) {
        return Some(permit);
    }
    let waiting = Arc::clone(from).acquire_many_owned(count);
    let waited: Result<Result<_, AcquireError>, _> = tokio::time::timeout(patience, waiting).await;
    waited.ok()?.ok()
}

fn own_is_full() -> WireError {
    later(WireError::rate(
        "too many bytes of request bodies of this caller are under way".to_owned(),
    ))
}

fn all_is_full() -> WireError {
    later(WireError::overloaded(
        "the gateway has no memory left for another request body".to_owned(),
    ))
}

fn later(mut error: WireError) -> WireError {
    error.retry_after = Some("5".to_owned());
    error
}
