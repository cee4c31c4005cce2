//! What the machine itself takes for a line to reach a reader that waits: the floor under every hop.

use crate::clock::{now_ns, sleep_until};
use crate::report::nanos;
use anyhow::Context;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

/// Time between two lines, in nanoseconds: 50 a second.
const PERIOD: u64 = 20_000_000;

/// Median and 99th percentile over one Unix socket between two threads, in words.
pub fn measure(lines: u64) -> anyhow::Result<String> {
    let (mut sender, mut receiver) = UnixStream::pair()?;
    let reader = std::thread::spawn(move || -> std::io::Result<Vec<u64>> {
        let mut line = [0; 8];
        let mut times = Vec::new();
        for _ in 0..lines {
            receiver.read_exact(&mut line)?;
            times.push(now_ns().saturating_sub(u64::from_le_bytes(line)));
        }
        Ok(times)
    });
    let begun = now_ns();
    for index in 0..lines {
        sleep_until(begun + index * PERIOD);
        sender.write_all(&now_ns().to_le_bytes())?;
    }
    let mut times = reader.join().ok().context("the reader broke off")??;
    times.sort_unstable();
    let at = |share: usize| times.get(times.len() * share / 100).copied();
    Ok(format!("{} / {}", nanos(at(50)), nanos(at(99))))
}
