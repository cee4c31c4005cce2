//! How many journal bytes no runner has acknowledged.

use std::collections::VecDeque;

/// Marks closer together than this are merged, in bytes.
const GRAIN: u64 = 64 << 10;

/// Bytes written and acknowledged by this shim.
#[derive(Debug, Default)]
pub(crate) struct Backlog {
    written: u64,
    acked: u64,
    /// Up to which record how many bytes had been written, ascending.
    marks: VecDeque<(u64, u64)>,
}

impl Backlog {
    /// Records up to `seq` were written, these many bytes more.
    pub(crate) fn wrote(&mut self, seq: u64, bytes: u64) {
        self.written += bytes;
        let before = self.marks.len().checked_sub(2).and_then(|at| self.marks.get(at));
        let since = self.written - before.map_or(self.acked, |mark| mark.1);
        match self.marks.back_mut() {
            Some(mark) if since < GRAIN => *mark = (seq, self.written),
            _ => self.marks.push_back((seq, self.written)),
        }
    }

    /// Everything up to record `seq` is durable elsewhere.
    pub(crate) fn ack(&mut self, seq: u64) {
        while let Some(&(_, written)) = self.marks.front().filter(|mark| mark.0 <= seq) {
            self.acked = written;
            self.marks.pop_front();
        }
    }

    /// Bytes written and not acknowledged, rounded up.
    pub(crate) fn unacked(&self) -> u64 {
        self.written - self.acked
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ack_frees_what_it_covers_and_nothing_later() {
        let mut backlog = Backlog::default();
        for seq in 1..=1000 {
            backlog.wrote(seq, 1000);
        }
        assert!(
            backlog.marks.len() < 40,
            "marks are merged: {}",
            backlog.marks.len()
        );
        backlog.ack(500);
        let left = backlog.unacked();
        assert!((500_000..=500_000 + 2 * GRAIN).contains(&left), "{left}");
        backlog.ack(1000);
        assert_eq!(backlog.unacked(), 0);
        backlog.ack(3);
        assert_eq!(backlog.unacked(), 0);
    }
}
