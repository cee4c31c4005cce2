//! How often and how many at a time.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// A minute's worth, refilled steadily; it may go below zero by what turned out to be more.
#[derive(Debug)]
struct Bucket {
    a_minute: f64,
    level: f64,
    at: Instant,
}

impl Bucket {
    fn new(a_minute: u32, now: Instant) -> Self {
        let a_minute = f64::from(a_minute);
        Self {
            a_minute,
            level: a_minute,
            at: now,
        }
    }

    fn refill(&mut self, now: Instant) {
        let gained = now.saturating_duration_since(self.at).as_secs_f64() / 60.0 * self.a_minute;
        self.level = (self.level + gained).min(self.a_minute);
        self.at = now;
    }

    /// How long until there is this much; nothing where there is.
    fn wait(&self, wanted: f64) -> Option<Duration> {
        // What is more than a minute's worth passes when the bucket is full: it could never pass otherwise.
        let missing = wanted.min(self.a_minute) - self.level;
        (missing > 0.0).then(|| Duration::from_secs_f64(missing / self.a_minute * 60.0))
    }
}

/// Limits of a key, a session or a user; 0: any number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Limits {
    /// As an error begins.
    pub(crate) who: &'static str,
    /// Requests a minute.
    pub(crate) rpm: u32,
    /// Tokens a minute.
    pub(crate) tpm: u32,
    /// Requests at a time.
    pub(crate) concurrency: u32,
}

/// What counts how much of its limits is used.
#[derive(Debug)]
pub(crate) struct Gate {
    who: &'static str,
    buckets: Mutex<(Option<Bucket>, Option<Bucket>)>,
    places: Option<Arc<Semaphore>>,
}

/// Why a request has to wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Busy {
    pub who: &'static str,
    pub what: &'static str,
    pub wait: Duration,
}

/// A request that was let in; dropped, it leaves its place.
#[derive(Debug, Default)]
pub struct Entry {
    _place: Option<OwnedSemaphorePermit>,
}

impl Gate {
    pub(crate) fn new(limits: Limits, now: Instant) -> Self {
        let Limits {
            who,
            rpm,
            tpm,
            concurrency,
        } = limits;
        let bucket = |limit: u32| (limit > 0).then(|| Bucket::new(limit, now));
        Self {
            who,
            buckets: Mutex::new((bucket(rpm), bucket(tpm))),
            places: (concurrency > 0).then(|| Arc::new(Semaphore::new(concurrency as usize))),
        }
    }

    /// Lets a request in that may take that many tokens.
    pub(crate) fn enter(&self, tokens: u64, now: Instant) -> Result<Entry, Busy> {
        let who = self.who;
        let place = match &self.places {
            None => None,
            Some(places) => Some(Arc::clone(places).try_acquire_owned().map_err(|_| Busy {
                who,
                what: "requests at a time",
                wait: Duration::from_secs(1),
            })?),
        };
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        let (requests, of_tokens) = &mut *buckets;
        let wanted = count(tokens);
        for (bucket, wanted, what) in [
            (&mut *requests, 1.0, "requests a minute"),
            (&mut *of_tokens, wanted, "tokens a minute"),
        ] {
            let Some(bucket) = bucket else { continue };
            bucket.refill(now);
            if let Some(wait) = bucket.wait(wanted) {
                return Err(Busy { who, what, wait });
            }
        }
        for (bucket, wanted) in [(requests, 1.0), (of_tokens, wanted)] {
            if let Some(bucket) = bucket {
                bucket.level -= wanted;
            }
        }
        Ok(Entry { _place: place })
    }

    /// The request took `used` tokens instead of `expected`.
    pub(crate) fn correct(&self, expected: u64, used: u64) {
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(bucket) = &mut buckets.1 {
            bucket.level = (bucket.level + count(expected) - count(used)).min(bucket.a_minute);
        }
    }
}

#[allow(clippy::cast_precision_loss)] // a rate needs no last digit
fn count(tokens: u64) -> f64 {
    tokens as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gate(rpm: u32, tpm: u32, concurrency: u32, now: Instant) -> Gate {
        let limits = Limits {
            who: "this key",
            rpm,
            tpm,
            concurrency,
        };
        Gate::new(limits, now)
    }

    #[test]
    fn requests_and_tokens_a_minute() {
        let start = Instant::now();
        let gate = gate(2, 100, 0, start);
        let later = |seconds| start + Duration::from_secs(seconds);
        gate.enter(60, start).unwrap();
        let busy = gate.enter(60, start).unwrap_err();
        assert_eq!(
            (busy.what, busy.wait),
            ("tokens a minute", Duration::from_secs(12))
        );
        gate.enter(60, later(12)).unwrap();
        assert_eq!(gate.enter(0, later(12)).unwrap_err().what, "requests a minute");
        // It took less than it might have: the rest is there again.
        gate.correct(60, 0);
        gate.enter(60, later(43)).unwrap();
        // It took far more: the next ones wait.
        gate.correct(60, 260);
        assert!(gate.enter(1, later(100)).unwrap_err().wait > Duration::from_secs(30));
    }

    #[test]
    fn more_than_a_minutes_worth_passes_when_nothing_else_does() {
        let start = Instant::now();
        let gate = gate(0, 100, 0, start);
        gate.enter(1000, start).unwrap();
        assert!(gate.enter(1, start + Duration::from_mins(9)).is_err());
        gate.enter(1, start + Duration::from_mins(10)).unwrap();
    }

    #[test]
    fn places_are_left_when_requests_end() {
        let now = Instant::now();
        let gate = gate(0, 0, 1, now);
        let entry = gate.enter(1, now).unwrap();
        assert_eq!(gate.enter(1, now).unwrap_err().what, "requests at a time");
        drop(entry);
        assert!(gate.enter(1, now).is_ok());
    }
}
