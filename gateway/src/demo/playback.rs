//! A plan as a sequence of timed steps, encoded for one dialect. Pure: whoever plays it does the waiting.

use std::time::Duration;

use super::dialect::Wire;
use super::plan::Plan;

/// What to do next.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// Wait, then send.
    Send {
        wait: Duration,
        bytes: String,
    },
    /// Cut the connection.
    Cut,
    End,
}

#[derive(Clone, Copy)]
enum Phase {
    Hang,
    Begin { wait: Duration },
    Open(usize),
    Delta(usize, usize),
    Finish,
    Done,
}

/// Plays a plan lazily, so that a long one is never in memory as a whole.
pub struct Playback {
    plan: Plan,
    wire: Box<dyn Wire>,
    deltas: Vec<String>,
    phase: Phase,
    sent: usize,
}

impl std::fmt::Debug for Playback {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Playback")
            .field("sent", &self.sent)
            .finish_non_exhaustive()
    }
}

impl Playback {
    /// From the first byte of the body.
    pub fn new(plan: Plan, wire: Box<dyn Wire>) -> Self {
        let phase = if plan.hang.is_some() {
            Phase::Hang
        } else {
            Phase::Begin { wait: Duration::ZERO }
        };
        Self {
            plan,
            wire,
            deltas: Vec::new(),
            phase,
            sent: 0,
        }
    }

    /// The next step that does something.
    pub fn step(&mut self) -> Step {
        loop {
            let mut bytes = String::new();
            let mut wait = Duration::ZERO;
            match self.phase {
                Phase::Hang => {
                    self.phase = Phase::Begin {
                        wait: self.plan.hang.unwrap_or_default(),
                    };
                    // A comment makes the headers leave; some clients time the first byte of the body.
                    bytes.push_str(self.wire.comment());
                }
                Phase::Begin { wait: hang } => {
                    wait = hang;
                    self.wire.begin(&mut bytes);
                    self.phase = Phase::Open(0);
                }
                Phase::Open(index) => self.open(index, &mut bytes),
                Phase::Delta(index, delta) => {
                    if delta < self.deltas.len()
                        && self.plan.drop_after.is_some_and(|limit| self.sent >= limit)
                    {
                        self.phase = Phase::Done;
                        return Step::Cut;
                    }
                    wait = self.delta(index, delta, &mut bytes);
                }
                Phase::Finish => {
                    self.wire.finish(&self.plan, &mut bytes);
                    self.phase = Phase::Done;
                }
                Phase::Done => return Step::End,
            }
            if !bytes.is_empty() || !wait.is_zero() {
                return Step::Send { wait, bytes };
            }
        }
    }

    fn open(&mut self, index: usize, bytes: &mut String) {
        let Some(item) = self.plan.items.get(index) else {
            self.phase = Phase::Finish;
            return;
        };
        self.deltas = item.deltas();
        self.wire.open(item, bytes);
        self.phase = Phase::Delta(index, 0);
    }

    fn delta(&mut self, index: usize, delta: usize, bytes: &mut String) -> Duration {
        let item = &self.plan.items[index];
        if let Some(text) = self.deltas.get(delta) {
            self.wire.delta(item, text, bytes);
            self.sent += 1;
            self.phase = Phase::Delta(index, delta + 1);
            return self.plan.gap;
        }
        if self.plan.midstream_error {
            self.wire.fail(item, bytes);
            self.phase = Phase::Done;
        } else {
            self.wire.close(item, bytes);
            self.phase = Phase::Open(index + 1);
        }
        Duration::ZERO
    }
}
