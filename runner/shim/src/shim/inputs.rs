//! Inputs on their way to the harness: each once.

use std::collections::{HashSet, VecDeque};

use crate::journal::{Id, Ids};

/// Above this many queued bytes nothing more is read from the runner.
const HIGH_WATER: usize = 32 << 20;

/// An input that was accepted and not begun.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Input {
    pub(crate) id: Id,
    pub(crate) bytes: Vec<u8>,
}

/// Inputs and ids: what the journal holds, and what waits to get into it.
#[derive(Debug, Default)]
pub(crate) struct Inputs {
    /// Ids in the journal, those of earlier shims included.
    pub(crate) journalled: Ids,
    waiting: VecDeque<Input>,
    waiting_ids: HashSet<Id>,
    waiting_bytes: usize,
}

impl Inputs {
    pub(crate) fn new(journalled: Ids) -> Self {
        Self {
            journalled,
            ..Self::default()
        }
    }

    /// Queues an input; a known id is dropped.
    pub(crate) fn accept(&mut self, id: Id, bytes: &[u8]) {
        if !self.journalled.contains(&id) && self.waiting_ids.insert(id) {
            self.waiting_bytes += bytes.len();
            self.waiting.push_back(Input {
                id,
                bytes: bytes.to_vec(),
            });
        }
    }

    /// Takes the next input out; the caller journals its beginning as record `seq`.
    pub(crate) fn begin(&mut self, seq: u64) -> Option<Input> {
        let input = self.take()?;
        self.journalled.insert(input.id, seq);
        Some(input)
    }

    /// Takes an input out that will never be delivered.
    pub(crate) fn take(&mut self) -> Option<Input> {
        let input = self.waiting.pop_front()?;
        self.waiting_ids.remove(&input.id);
        self.waiting_bytes -= input.bytes.len();
        Some(input)
    }

    pub(crate) fn is_full(&self) -> bool {
        self.waiting_bytes >= HIGH_WATER
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repeated_id_is_delivered_once() {
        let mut inputs = Inputs::default();
        inputs.accept([1; 16], b"one");
        inputs.accept([1; 16], b"again, while it waits");
        assert_eq!(
            inputs.begin(7),
            Some(Input {
                id: [1; 16],
                bytes: b"one".to_vec()
            })
        );
        inputs.accept([1; 16], b"again, after it began");
        assert_eq!(inputs.begin(8), None);
    }

    #[test]
    fn an_input_that_was_given_up_may_come_again() {
        let mut inputs = Inputs::default();
        inputs.accept([2; 16], b"two");
        assert!(inputs.take().is_some());
        inputs.accept([2; 16], b"two");
        assert!(inputs.begin(1).is_some());
    }
}
