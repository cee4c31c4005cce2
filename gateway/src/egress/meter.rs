//! How much a session may carry, and how fast.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// The session has carried all it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the session has used up its {0} bytes")]
pub struct Exhausted(pub u64);

/// Counts the bytes of all connections of a session, both directions together.
#[derive(Debug)]
pub struct Meter {
    /// Bytes a second; what was not used is kept for one second.
    rate: u64,
    limit: u64,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    total: u64,
    /// When all that passed so far would have passed at the allowed rate.
    paid_until: Instant,
}

impl Meter {
    /// `rate` in bytes a second, `limit` in bytes.
    pub fn new(rate: u64, limit: u64) -> Self {
        Self {
            rate: rate.max(1),
            limit,
            state: Mutex::new(State {
                total: 0,
                paid_until: Instant::now(),
            }),
        }
    }

    /// Returns when so many bytes may pass.
    pub async fn pass(&self, bytes: usize) -> Result<(), Exhausted> {
        let bytes = bytes as u64;
        let ready = {
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            state.total = state.total.saturating_add(bytes);
            if state.total > self.limit {
                return Err(Exhausted(self.limit));
            }
            let now = Instant::now();
            let earliest = now.checked_sub(Duration::from_secs(1)).unwrap_or(now);
            let nanos = u128::from(bytes) * 1_000_000_000 / u128::from(self.rate);
            let cost = Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
            state.paid_until = state.paid_until.max(earliest) + cost;
            state.paid_until
        };
        // Shorter waits are not worth a timer.
        if ready > Instant::now() + Duration::from_millis(1) {
            tokio::time::sleep_until(ready).await;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn rate_and_limit_hold_over_all_connections() {
        let meter = Meter::new(1000, 10_000);
        let start = Instant::now();
        let pass = async || {
            for _ in 0..10 {
                meter.pass(400).await.unwrap();
            }
        };
        tokio::join!(pass(), pass());
        let took = start.elapsed();
        assert!(
            took >= Duration::from_secs(6) && took <= Duration::from_secs(9),
            "{took:?}"
        );
        assert_eq!(meter.pass(2001).await, Err(Exhausted(10_000)));
    }
}
