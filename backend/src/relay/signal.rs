//! How a client's writer is woken: one flag for "there is something", one for "and it should leave at once".

use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Mutex, PoisonError};
use tokio::sync::Notify;

const READY: u8 = 1;
const URGENT: u8 = 2;
const CLOSED: u8 = 4;

/// Why the relay closes a client, with the WebSocket close code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CloseReason {
    /// The backend stops.
    Restart,
    /// A message was over the limit.
    TooLong,
    /// The login ended: logged out, revoked or expired.
    LoginEnded,
    /// No byte could be written for 30 s.
    NoProgress,
    /// Nothing was heard for 45 s.
    Silent,
    /// What waited for this client alone passed its bound.
    Overflow,
}

impl CloseReason {
    /// Code of the close frame.
    pub(crate) const fn code(self) -> u16 {
        match self {
            Self::Restart => 1012,
            Self::TooLong => 1009,
            Self::LoginEnded => 4401,
            Self::NoProgress => 4408,
            Self::Silent => 4409,
            Self::Overflow => 4413,
        }
    }

    /// Reason in the close frame.
    pub(crate) const fn reason(self) -> &'static str {
        match self {
            Self::Restart => "the backend restarts; connect again",
            Self::TooLong => "a message is at most 1048576 bytes long",
            Self::LoginEnded => "the login has ended; log in again",
            Self::NoProgress => "nothing could be written for 30 s; connect again with your cursors",
            Self::Silent => "nothing was heard for 45 s",
            Self::Overflow => "too much waits for this client; connect again with your cursors",
        }
    }
}

/// Wakes one writer.
#[derive(Debug, Default)]
pub(crate) struct Signal {
    state: AtomicU8,
    notify: Notify,
    reason: Mutex<Option<CloseReason>>,
}

impl Signal {
    /// Says that there is something to write. Cheap when that was said before.
    pub(crate) fn ready(&self, urgent: bool) {
        let bits = if urgent { READY | URGENT } else { READY };
        if self.state.fetch_or(bits, Ordering::Relaxed) & bits != bits {
            self.notify.notify_one();
        }
    }

    /// Asks the client's task to close; the first reason stays.
    pub(crate) fn close(&self, reason: CloseReason) {
        self.reason
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get_or_insert(reason);
        self.state.fetch_or(CLOSED, Ordering::Relaxed);
        self.notify.notify_one();
    }

    /// The reason to close, once there is one.
    pub(crate) fn closing(&self) -> Option<CloseReason> {
        if self.state.load(Ordering::Relaxed) & CLOSED == 0 {
            return None;
        }
        *self.reason.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn is_ready(&self) -> bool {
        self.state.load(Ordering::Relaxed) & READY != 0
    }

    pub(crate) fn is_urgent(&self) -> bool {
        self.state.load(Ordering::Relaxed) & URGENT != 0
    }

    /// Takes the flags back before the writer looks what there is.
    pub(crate) fn clear(&self) {
        self.state.fetch_and(CLOSED, Ordering::Relaxed);
    }

    /// Waits for a change of the flags.
    pub(crate) async fn changed(&self) {
        self.notify.notified().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    #[tokio::test]
    async fn flags_rise_once_and_urgency_wakes_again() {
        let signal = Signal::default();
        signal.ready(false);
        signal.changed().now_or_never().expect("the first word wakes");
        signal.ready(false);
        assert!(
            signal.changed().now_or_never().is_none(),
            "the second says nothing new"
        );
        signal.ready(true);
        signal.changed().now_or_never().expect("urgency is news");
        assert!(signal.is_ready() && signal.is_urgent());
        signal.clear();
        assert!(!signal.is_ready() && !signal.is_urgent());
    }

    #[tokio::test]
    async fn the_first_reason_to_close_stays() {
        let signal = Signal::default();
        assert_eq!(signal.closing(), None);
        signal.close(CloseReason::Restart);
        signal.close(CloseReason::Silent);
        signal.clear();
        assert_eq!(signal.closing(), Some(CloseReason::Restart));
    }
}
