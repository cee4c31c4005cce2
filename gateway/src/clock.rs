//! What time it is, from the two clocks there are. The ledger and the leases ask here, so that a test can set them.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, clock_gettime};

/// The clocks of a machine.
pub trait Clock: std::fmt::Debug + Send + Sync {
    /// Since boot: counts through suspend, is set by nobody, begins anew at each boot.
    fn since_boot(&self) -> Duration;

    /// Seconds since 1970, as somebody has set them.
    fn wall(&self) -> u64;

    /// Which boot this is.
    fn boot_id(&self) -> std::io::Result<String>;
}

/// Those of this machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn since_boot(&self) -> Duration {
        let time = clock_gettime(ClockId::Boottime);
        Duration::new(
            time.tv_sec.try_into().unwrap_or(0),
            time.tv_nsec.try_into().unwrap_or(0),
        )
    }

    fn wall(&self) -> u64 {
        SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default()
            .as_secs()
    }

    fn boot_id(&self) -> std::io::Result<String> {
        Ok(std::fs::read_to_string("/proc/sys/kernel/random/boot_id")?
            .trim()
            .to_owned())
    }
}
