//! Coming out of a pause: one request goes first, and the others see what becomes of it.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tokio::sync::futures::Notified;

/// What is probed: a provider, an account, and the model where only that was paused.
pub type Place = (String, String, String);

/// Who is out on a probe.
#[derive(Debug, Default)]
pub struct Probes {
    taken: Mutex<HashSet<Place>>,
    ended: Notify,
}

/// The right to be the one request. Dropped, with an answer or because its client went away, it is the next one's.
#[derive(Debug)]
pub struct Probe {
    probes: Arc<Probes>,
    place: Place,
}

impl Probes {
    /// None while another one is out.
    pub fn take(self: &Arc<Self>, place: &Place) -> Option<Probe> {
        self.lock().insert(place.clone()).then(|| Probe {
            probes: Arc::clone(self),
            place: place.clone(),
        })
    }

    /// Resolves when any probe has ended after this call, once it was polled or enabled.
    pub fn ended(&self) -> Notified<'_> {
        self.ended.notified()
    }

    fn lock(&self) -> MutexGuard<'_, HashSet<Place>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        self.probes.lock().remove(&self.place);
        self.probes.ended.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_at_a_time_and_the_next_when_it_has_ended() {
        let probes = Arc::new(Probes::default());
        let place = |model: &str| ("p".to_owned(), "a".to_owned(), model.to_owned());
        let first = probes.take(&place("m")).unwrap();
        assert!(probes.take(&place("m")).is_none());
        let other = probes.take(&place("n"));
        assert!(other.is_some());
        let mut ended = std::pin::pin!(probes.ended());
        ended.as_mut().enable();
        drop(first);
        ended.await;
        assert!(probes.take(&place("m")).is_some());
    }
}
