//! How a person or the system asks this program to stop.

use tokio::signal::unix::{Signal, SignalKind, signal};

/// How urgent it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// Ctrl-C: what is under way may be ended first.
    Gently,
    /// TERM, or the terminal is gone.
    Now,
}

/// The signals that ask.
#[derive(Debug)]
pub struct Asked {
    interrupt: Signal,
    terminate: Signal,
    hangup: Option<Signal>,
}

impl Asked {
    /// Listens from now on. A hangup that `nohup` had ignored stays ignored.
    pub fn new() -> std::io::Result<Self> {
        let hangup = if is_ignored(1) {
            None
        } else {
            Some(signal(SignalKind::hangup())?)
        };
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup,
        })
    }

    /// The next time that somebody asks.
    pub async fn to_stop(&mut self) -> Stop {
        let hangup = async {
            match &mut self.hangup {
                Some(hangup) => hangup.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = self.interrupt.recv() => Stop::Gently,
            _ = self.terminate.recv() => Stop::Now,
            _ = hangup => Stop::Now,
        }
    }
}

/// Whether this process ignores a signal, which is what whoever started it wanted.
pub fn is_ignored(signal: i32) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    // Bit 0 of the mask is signal 1.
    u32::try_from(signal - 1).is_ok_and(|bit| ignored_mask(&status).checked_shr(bit).unwrap_or(0) & 1 == 1)
}

fn ignored_mask(status: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    line.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mask_of_ignored_signals_is_read() {
        assert_eq!(ignored_mask("Name:\tx\nSigIgn:\t0000000000001001\n") & 1, 1);
        assert_eq!(ignored_mask("SigIgn:\t0000000000001000\n") & 1, 0);
        assert_eq!(ignored_mask(""), 0);
    }
}
