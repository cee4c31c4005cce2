//! Wakes the ledger a while after something was written, so that what came together is folded together.

use std::thread::Thread;
use std::time::Duration;

use tokio::sync::mpsc;

use super::handle::Message;

/// Between two folds while requests come: each is a transaction of the database.
pub(super) const PACE: Duration = Duration::from_millis(100);

/// The thread that waits.
#[derive(Debug)]
pub(super) struct Ticker {
    thread: Thread,
}

impl Ticker {
    /// Starts the thread. It ends when the last sender is gone and the ticker is dropped.
    pub(super) fn start(sender: mpsc::WeakUnboundedSender<Message>) -> std::io::Result<Self> {
        let wait = move || {
            loop {
                std::thread::park();
                std::thread::sleep(PACE);
                let Some(sender) = sender.upgrade() else { return };
                let _stopping = sender.send(Message::Fold);
            }
        };
        let handle = std::thread::Builder::new()
            .name("ledger-tick".to_owned())
            .spawn(wait)?;
        Ok(Self {
            thread: handle.thread().clone(),
        })
    }

    /// One tick, [`PACE`] from now.
    pub(super) fn wake(&self) {
        self.thread.unpark();
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.thread.unpark();
    }
}
