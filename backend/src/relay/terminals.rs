//! Terminal bytes on their way to one client: behind its texts, in slices, and never more than a bound.
//!
//! A client that is too slow for a terminal's output is cut off from that terminal alone. It is told, and attaches
//! again: the runner then begins with what the terminal has shown, in a frame that says so.

use bytes::{BufMut, Bytes, BytesMut};
use std::collections::{HashSet, VecDeque};

/// Bytes of terminals that may wait for one client.
pub(crate) const WAITING: usize = 1024 * 1024;
/// Longest binary frame, without the terminal's id.
pub(crate) const SLICE: usize = 32 * 1024;
/// Terminals a client can be cut off from at the same time; a runner has fewer.
const MAX_CUT: usize = 4096;

/// What waits for one client.
#[derive(Debug, Default)]
pub(crate) struct TerminalQueue {
    /// Terminal and whole binary frame.
    frames: VecDeque<(u32, Bytes)>,
    bytes: usize,
    /// Terminals whose output is thrown away until the client is attached anew.
    cut: HashSet<u32>,
}

impl TerminalQueue {
    /// Queues output; `first` begins what an attached client gets. False when the client is too slow and was cut off.
    pub(crate) fn push(&mut self, terminal: u32, bytes: &[u8], first: bool) -> bool {
        if first {
            self.forget(terminal);
            self.cut.remove(&terminal);
        } else if self.cut.contains(&terminal) {
            return true;
        }
        for slice in bytes.chunks(SLICE) {
            let mut frame = BytesMut::with_capacity(4 + slice.len());
            frame.put_u32_le(terminal);
            frame.put_slice(slice);
            self.bytes += frame.len();
            self.frames.push_back((terminal, frame.freeze()));
        }
        if self.bytes <= WAITING {
            return true;
        }
        self.forget(terminal);
        if self.cut.len() < MAX_CUT {
            self.cut.insert(terminal);
        }
        false
    }

    fn forget(&mut self, terminal: u32) {
        let bytes = &mut self.bytes;
        self.frames.retain(|(of, frame)| {
            let keep = *of != terminal;
            if !keep {
                *bytes -= frame.len();
            }
            keep
        });
    }

    /// Takes frames within `budget`; true when more wait.
    pub(crate) fn take(&mut self, budget: &mut usize, out: &mut Vec<Bytes>) -> bool {
        while *budget > 0
            && let Some((_, frame)) = self.frames.pop_front()
        {
            self.bytes -= frame.len();
            *budget = budget.saturating_sub(frame.len());
            out.push(frame);
        }
        !self.frames.is_empty()
    }

    /// The runner is gone: what waits still goes out, and attaching begins anew.
    pub(crate) fn runner_lost(&mut self) {
        self.cut.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(queue: &mut TerminalQueue) -> Vec<(u32, usize)> {
        let mut out = Vec::new();
        while queue.take(&mut usize::MAX.clone(), &mut out) {}
        out.iter()
            .map(|frame| {
                let (id, bytes) = frame.split_first_chunk::<4>().unwrap();
                (u32::from_le_bytes(*id), bytes.len())
            })
            .collect()
    }

    #[test]
    fn output_is_sliced_and_keeps_its_order() {
        let mut queue = TerminalQueue::default();
        assert!(queue.push(7, &vec![1; SLICE + 1], false));
        assert!(queue.push(8, b"x", false));
        assert_eq!(taken(&mut queue), [(7, SLICE), (7, 1), (8, 1)]);
    }

    #[test]
    fn a_flood_cuts_off_its_own_terminal_until_it_is_attached_again() {
        let mut queue = TerminalQueue::default();
        assert!(queue.push(8, b"other", false));
        assert!(!queue.push(7, &vec![0; WAITING], false));
        assert!(queue.push(7, b"still under way", false), "told once");
        assert_eq!(taken(&mut queue), [(8, 5)]);
        assert!(queue.push(7, b"shown", true));
        assert!(queue.push(7, b"live", false));
        assert_eq!(taken(&mut queue), [(7, 5), (7, 4)]);
    }

    #[test]
    fn attaching_twice_shows_once() {
        let mut queue = TerminalQueue::default();
        assert!(queue.push(7, b"old", false));
        assert!(queue.push(7, b"shown", true));
        assert_eq!(taken(&mut queue), [(7, 5)]);
    }
}
