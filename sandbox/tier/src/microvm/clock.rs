//! How fast this host's time stamp counter runs, which an emulated guest sees as its own.
#![allow(unsafe_code)]

use std::time::{Duration, Instant};

/// Long enough for an error below a thousandth.
const MEASURED: Duration = Duration::from_millis(20);

/// Tries for a reading that was not interrupted.
const TRIES: usize = 64;

/// In kHz.
#[cfg(target_arch = "x86_64")]
pub(super) fn tsc_khz() -> u64 {
    let begin = reading();
    std::thread::sleep(MEASURED);
    let end = reading();
    let ticks = end.1.saturating_sub(begin.1);
    let nanoseconds = u64::try_from((end.0 - begin.0).as_nanos()).unwrap_or(u64::MAX);
    ticks.saturating_mul(1_000_000) / nanoseconds.max(1)
}

/// Time and counter of the same moment: the closest of a few, because a loaded host interrupts.
#[cfg(target_arch = "x86_64")]
fn reading() -> (Instant, u64) {
    let one = |_| {
        let before = counter();
        let time = Instant::now();
        let after = counter();
        (after.saturating_sub(before), time, before)
    };
    let best = (0..TRIES).map(one).min_by_key(|(width, ..)| *width);
    best.map_or_else(|| (Instant::now(), counter()), |(_, time, ticks)| (time, ticks))
}

#[cfg(target_arch = "x86_64")]
fn counter() -> u64 {
    // SAFETY: every x86-64 processor has the instruction; it touches no memory.
    unsafe { std::arch::x86_64::_rdtsc() }
}

/// There is no microVM tier elsewhere.
#[cfg(not(target_arch = "x86_64"))]
pub(super) fn tsc_khz() -> u64 {
    let _ = (MEASURED, TRIES, Instant::now());
    1_000_000
}
