//! The number of processes as a bound that the kernel holds, whoever started the sandbox.
//!
//! The usual limit (`RLIMIT_NPROC`) is never applied to the first user of the machine, and a sandbox that root
//! started runs as that user, whatever he is called inside. Since Linux 6.14 every PID namespace has a greatest
//! process number of its own, which bounds processes and threads for everybody in it.

use std::fs;

const SETTING: &str = "/proc/sys/kernel/pid_max";
/// The first release in which the setting belongs to the PID namespace.
const SINCE: (u32, u32) = (6, 14);
/// Numbers that the kernel does not give out again once they were used.
const RESERVED: u64 = 300;
/// The least the kernel takes.
const LEAST: u64 = 512;

/// Bounds the processes of this PID namespace; whether that could be done.
pub(crate) fn bound(processes: Option<u64>) -> bool {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let Some(processes) = processes.filter(|_| release_of(&release) >= SINCE) else {
        return false;
    };
    fs::write(SETTING, (processes + RESERVED).max(LEAST).to_string()).is_ok()
}

fn release_of(text: &str) -> (u32, u32) {
    let mut parts = text.trim().split(|c: char| !c.is_ascii_digit()).map(str::parse);
    let mut next = || parts.next().and_then(Result::ok).unwrap_or(0);
    (next(), next())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_are_compared_as_numbers() {
        assert!(release_of("6.14.0-rc1") >= SINCE);
        assert!(release_of("6.18.44-x\n") >= SINCE);
        assert!(release_of("6.1.0-56-amd64") < SINCE);
        assert!(release_of("5.15") < SINCE);
        assert!(release_of("7.0") >= SINCE);
        assert!(release_of("") < SINCE);
    }
}
