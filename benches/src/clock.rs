//! Two clocks: one that all processes of the machine share, one that counts a process's use of the processor.

use nix::time::clock_getcpuclockid;
use nix::unistd::Pid;
use rustix::time::{ClockId, clock_gettime};
use std::time::Duration;

/// `CLOCK_MONOTONIC` in nanoseconds: the same in every process, sandboxed ones included.
pub fn now_ns() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    let part = |value: i64| u64::try_from(value).unwrap_or(0);
    part(now.tv_sec) * 1_000_000_000 + part(now.tv_nsec)
}

/// Processor time that a process has used, all its threads (ended ones too), in nanoseconds.
///
/// The scheduler's own count: the ticks in `/proc/PID/stat` are wrong by a factor where work comes in short bursts.
pub fn cpu_ns(pid: u32) -> Option<u64> {
    let pid = Pid::from_raw(i32::try_from(pid).ok()?);
    let time = clock_getcpuclockid(pid).ok()?.now().ok()?;
    let duration = Duration::from(time);
    u64::try_from(duration.as_nanos()).ok()
}

/// Sleeps until [`now_ns`] says so.
pub fn sleep_until(deadline_ns: u64) {
    let left = deadline_ns.saturating_sub(now_ns());
    if left > 0 {
        std::thread::sleep(Duration::from_nanos(left));
    }
}
