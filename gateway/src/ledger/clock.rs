//! The ledger's time: seconds since 1970 that never go back and never leap.
//!
//! Between two boots the wall clock is believed once, at the first start; from then on the boot clock counts. A wall
//! clock that is set forward while the machine runs opens no new day, and one that is set back closes none.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Where the two clocks were put together.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Anchor {
    boot_id: String,
    /// Seconds since boot.
    boot: u64,
    /// Seconds since 1970.
    wall: u64,
}

impl Anchor {
    /// Of this start: the one of an earlier start in the same boot goes on; the time is never before `last`.
    pub(super) fn new(kept: Option<Self>, boot_id: &str, boot: Duration, wall: u64, last: u64) -> Self {
        match kept {
            Some(kept) if kept.boot_id == boot_id && kept.boot <= boot.as_secs() => kept,
            _ => Self {
                boot_id: boot_id.to_owned(),
                boot: boot.as_secs(),
                wall: wall.max(last),
            },
        }
    }

    /// The time at a reading of the boot clock.
    pub(super) fn now(&self, boot: Duration) -> u64 {
        self.wall + boot.as_secs().saturating_sub(self.boot)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_neither_leaps_nor_goes_back() {
        let seconds = Duration::from_secs;
        let first = Anchor::new(None, "a", seconds(100), 1_000_000, 0);
        assert_eq!(first.now(seconds(160)), 1_000_060);
        // Restarted after the wall clock was set a year ahead, and after it was set back.
        for wall in [32_000_000, 5] {
            let again = Anchor::new(Some(first.clone()), "a", seconds(200), wall, 1_000_090);
            assert_eq!(again.now(seconds(200)), 1_000_100);
        }
        let booted = Anchor::new(Some(first.clone()), "b", seconds(5), 2_000_000, 1_000_100);
        assert_eq!(booted.now(seconds(5)), 2_000_000);
        let behind = Anchor::new(Some(first), "b", seconds(5), 0, 1_000_100);
        assert_eq!(behind.now(seconds(6)), 1_000_101);
    }
}
