//! Which `lodge-tier` something belongs to, and whether it still lives.

use std::fmt;
use std::fs;
use std::str::FromStr;

/// A process, told apart from a later one with the same number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Owner {
    pid: u32,
    /// Clock ticks since the machine was started.
    started: u64,
}

impl Owner {
    /// This process.
    pub(super) fn this() -> Option<Self> {
        Self::of(std::process::id())
    }

    fn of(pid: u32) -> Option<Self> {
        let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name in parentheses may hold anything; what follows the last one is numbers, the 22nd field of all.
        let started = text
            .rsplit_once(')')?
            .1
            .split_whitespace()
            .nth(19)?
            .parse()
            .ok()?;
        Some(Self { pid, started })
    }

    pub(super) fn lives(self) -> bool {
        Self::of(self.pid) == Some(self)
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.pid, self.started)
    }
}

impl FromStr for Owner {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (pid, started) = text.split_once('-').ok_or(())?;
        Ok(Self {
            pid: pid.parse().map_err(|_| ())?,
            started: started.parse().map_err(|_| ())?,
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_number_that_is_used_again_is_somebody_else() {
        let this = Owner::this().unwrap();
        assert!(this.lives());
        assert_eq!(this.to_string().parse(), Ok(this));
        let earlier = Owner {
            started: this.started - 1,
            ..this
        };
        assert!(!earlier.lives());
        for bad in ["", "1", "a-b", "1-", "-1-2"] {
            assert_eq!(bad.parse::<Owner>(), Err(()), "{bad}");
        }
    }
}
