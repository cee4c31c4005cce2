//! How much input a command may be given.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

#[derive(Debug, Default)]
struct State {
    started: bool,
    ended: bool,
    /// Bytes that may be sent in all; `None` where guest init grants none, and takes them as they come.
    granted: Option<u64>,
    sent: u64,
}

/// Input that nobody reads stays with whoever has it, so that signals and other commands' frames are not stuck
/// behind it.
#[derive(Debug, Default)]
pub(super) struct Input {
    state: Mutex<State>,
    changed: Condvar,
}

impl Input {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state());
        self.changed.notify_all();
    }

    /// The first grant comes before the start is told, so from here on it is known whether there are any.
    pub(super) fn start(&self) {
        self.change(|state| state.started = true);
    }

    /// The command takes no more, and nobody should wait for it.
    pub(super) fn end(&self) {
        self.change(|state| state.ended = true);
    }

    pub(super) fn grant(&self, bytes: u32) {
        self.change(|state| state.granted = Some(state.granted.unwrap_or(0).saturating_add(bytes.into())));
    }

    /// Waits until something may be sent; how much of `wanted` it is.
    pub(super) fn take(&self, wanted: usize) -> usize {
        let mut state = self.state();
        loop {
            let room = match state.granted {
                _ if state.ended => return wanted,
                Some(granted) => granted.saturating_sub(state.sent),
                None if state.started => return wanted,
                None => 0,
            };
            if room > 0 {
                let taken = wanted.min(usize::try_from(room).unwrap_or(usize::MAX));
                state.sent += taken as u64;
                return taken;
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_sent_beyond_what_was_granted() {
        let input = Input::default();
        input.grant(10);
        input.start();
        assert_eq!(input.take(7), 7);
        assert_eq!(input.take(7), 3);
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| input.take(7));
            input.grant(5);
            assert_eq!(waiting.join().expect("a taker"), 5);
            let waiting = scope.spawn(|| input.take(7));
            input.end();
            assert_eq!(
                waiting.join().expect("a taker"),
                7,
                "an ended command holds nobody up"
            );
        });
    }

    #[test]
    fn without_grants_there_is_no_bound_once_it_runs() {
        let input = Input::default();
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| input.take(7));
            input.start();
            assert_eq!(waiting.join().expect("a taker"), 7);
        });
    }
}
