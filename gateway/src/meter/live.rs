//! Requests under way that can be ended by hand, by the number of their reservation.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio_util::sync::CancellationToken;

/// All of them.
#[derive(Debug, Default)]
pub(crate) struct Live {
    requests: Mutex<HashMap<u64, CancellationToken>>,
}

impl Live {
    /// From now on it can be ended, until its place is dropped.
    pub(super) fn enter(self: &Arc<Self>, id: u64, ended: &CancellationToken) -> Place {
        self.lock().insert(id, ended.clone());
        Place {
            live: Arc::clone(self),
            id,
        }
    }

    /// Ends a request; whether there was one of that number.
    pub(crate) fn cancel(&self, id: u64) -> bool {
        // Not under the lock: whoever waits for the token may give its place back at once.
        let request = self.lock().remove(&id);
        request.is_some_and(|request| {
            request.cancel();
            true
        })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u64, CancellationToken>> {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A request among those that can be ended.
#[derive(Debug)]
pub(super) struct Place {
    live: Arc<Live>,
    id: u64,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.live.lock().remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_ended_once_and_not_after_it_is_over() {
        let live = Arc::new(Live::default());
        let [first, second] = [CancellationToken::new(), CancellationToken::new()];
        let place = live.enter(1, &first);
        drop(live.enter(2, &second));
        assert!(live.cancel(1) && first.is_cancelled());
        assert!(!live.cancel(1) && !live.cancel(2) && !second.is_cancelled());
        drop(place);
        assert!(live.lock().is_empty());
    }
}
