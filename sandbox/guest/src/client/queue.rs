//! What one command said and nobody has taken yet.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::Event;

/// A queue whose size is bounded by the credit the command was given: neighbouring output is joined, so that many
/// small pieces need no more room than one large.
#[derive(Debug, Default)]
pub(super) struct Queue {
    events: Mutex<VecDeque<Event>>,
    filled: Condvar,
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, VecDeque<Event>> {
        self.events.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn push(&self, event: Event) {
        let mut events = self.lock();
        match (events.back_mut(), event) {
            (Some(Event::Stdout(last)), Event::Stdout(more))
            | (Some(Event::Stderr(last)), Event::Stderr(more)) => last.extend_from_slice(&more),
            (_, event) => events.push_back(event),
        }
        drop(events);
        self.filled.notify_one();
    }

    /// The next event; `None` when none came before `deadline` (no deadline: waits for ever).
    pub(super) fn pop(&self, deadline: Option<Instant>) -> Option<Event> {
        let mut events = self.lock();
        loop {
            if let Some(event) = events.pop_front() {
                return Some(event);
            }
            events = match deadline.map(|at| at.saturating_duration_since(Instant::now())) {
                None => self.filled.wait(events).unwrap_or_else(PoisonError::into_inner),
                Some(Duration::ZERO) => return None,
                Some(left) => {
                    self.filled
                        .wait_timeout(events, left)
                        .unwrap_or_else(PoisonError::into_inner)
                        .0
                }
            };
        }
    }
}
