//! Terminal bytes on their way to one client: behind its texts, in slices, and never more than a bound.
//!
//! A client that is too slow for a terminal's output is cut off from that terminal alone. It is told, and attaches
//! again: the runner then begins with what the terminal has shown, in a frame that says so.
//!
//! That a terminal has ended is a text, which waits here until the last of its output is out.

use bytes::{BufMut, Bytes, BytesMut};
use serde::Deserialize;
use std::borrow::Cow;
use std::collections::{HashSet, VecDeque};

/// Bytes of terminals that may wait for one client.
pub(crate) const WAITING: usize = 1024 * 1024;
/// Longest binary frame, without the terminal's id.
pub(crate) const SLICE: usize = 32 * 1024;
/// Terminals a client can be cut off from at the same time; a runner has fewer.
const MAX_CUT: usize = 4096;

/// Whether a control without a session says that a terminal has ended.
pub(crate) fn is_end(control: &str) -> bool {
    #[derive(Deserialize)]
    struct Tag<'a> {
        #[serde(borrow, rename = "type")]
        tag: Cow<'a, str>,
    }
    serde_json::from_str::<Tag<'_>>(control).is_ok_and(|control| control.tag == "terminal_closed")
}

#[derive(Debug)]
enum Frame {
    /// Terminal and whole binary frame.
    Output(u32, Bytes),
    /// Text frame that says that a terminal has ended.
    End(Bytes),
}

/// What waits for one client.
#[derive(Debug, Default)]
pub(crate) struct TerminalQueue {
    frames: VecDeque<Frame>,
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
            self.frames.push_back(Frame::Output(terminal, frame.freeze()));
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

    /// Queues the text that says that a terminal has ended; it is given back where nothing is ahead of it.
    pub(crate) fn end(&mut self, text: Bytes) -> Option<Bytes> {
        if self.frames.is_empty() {
            return Some(text);
        }
        self.frames.push_back(Frame::End(text));
        None
    }

    fn forget(&mut self, terminal: u32) {
        let bytes = &mut self.bytes;
        self.frames.retain(|frame| match frame {
            Frame::Output(of, frame) if *of == terminal => {
                *bytes -= frame.len();
                false
            }
            _ => true,
        });
    }

    /// Takes frames within `budget`, texts into `texts`; true when more wait. Texts are written ahead of binary frames,
    /// so one that follows a binary frame waits for the next time.
    pub(crate) fn take(
        &mut self,
        budget: &mut usize,
        texts: &mut Vec<Bytes>,
        binaries: &mut Vec<Bytes>,
    ) -> bool {
        while *budget > 0 {
            match self.frames.pop_front() {
                Some(Frame::End(text)) if !binaries.is_empty() => {
                    self.frames.push_front(Frame::End(text));
                    break;
                }
                Some(Frame::End(text)) => {
                    *budget = budget.saturating_sub(text.len());
                    texts.push(text);
                }
                Some(Frame::Output(_, frame)) => {
                    self.bytes -= frame.len();
                    *budget = budget.saturating_sub(frame.len());
                    binaries.push(frame);
                }
                None => break,
            }
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
        while queue.take(&mut usize::MAX.clone(), &mut Vec::new(), &mut out) {}
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
    fn an_end_is_told_behind_the_last_output() {
        let ended = r#"{"type":"terminal_closed","terminal_id":7}"#;
        assert!(is_end(ended) && !is_end(r#"{"type":"terminal_lagged"}"#) && !is_end("[]"));
        let mut queue = TerminalQueue::default();
        let text = Bytes::from_static(b"ended");
        assert_eq!(queue.end(text.clone()), Some(text.clone()), "nothing is ahead");
        assert!(queue.push(7, b"last words", false));
        assert_eq!(queue.end(text.clone()), None);
        let (mut texts, mut binaries) = (Vec::new(), Vec::new());
        assert!(queue.take(&mut usize::MAX.clone(), &mut texts, &mut binaries));
        assert_eq!((texts.len(), binaries.len()), (0, 1));
        binaries.clear();
        assert!(!queue.take(&mut usize::MAX.clone(), &mut texts, &mut binaries));
        assert_eq!((texts, binaries.len()), (vec![text], 0));
    }

    #[test]
    fn attaching_twice_shows_once() {
        let mut queue = TerminalQueue::default();
        assert!(queue.push(7, b"old", false));
        assert!(queue.push(7, b"shown", true));
        assert_eq!(taken(&mut queue), [(7, 5)]);
    }
}
