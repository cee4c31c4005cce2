//! Bytes on their way to a runner: bounded for commands, so that a runner that does not read slows the clients
//! that send, not the relay's memory.

use std::mem;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::{Notify, Semaphore};

/// Bytes of commands that may wait for the runner.
const LIMIT: usize = 8 * 1024 * 1024;
/// Bytes of the relay's own controls beyond that: a runner that lets these pile up is dropped.
const CONTROL_LIMIT: usize = 2 * LIMIT;

/// The connection is gone, or its runner stopped reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the runner's connection is gone")]
pub(crate) struct Gone;

#[derive(Debug, Default)]
struct Waiting {
    bytes: Vec<u8>,
    /// How many of `bytes` hold room in the semaphore.
    counted: usize,
}

/// A queue of encoded frames with one reader. Clones share it.
#[derive(Debug, Clone)]
pub(crate) struct Outbox {
    waiting: Arc<Mutex<Waiting>>,
    filled: Arc<Notify>,
    room: Arc<Semaphore>,
}

impl Outbox {
    pub(crate) fn new() -> Self {
        Self {
            waiting: Arc::default(),
            filled: Arc::default(),
            room: Arc::new(Semaphore::new(LIMIT)),
        }
    }

    /// Waits for room, then queues a command frame (at most 1 MiB and its envelope).
    pub(crate) async fn send(&self, frame: &[u8]) -> Result<(), Gone> {
        let permits = u32::try_from(frame.len().min(LIMIT)).map_err(|_| Gone)?;
        self.room.acquire_many(permits).await.map_err(|_| Gone)?.forget();
        self.push(frame, permits as usize)
    }

    /// Queues a control frame at once.
    pub(crate) fn send_control(&self, frame: &[u8]) -> Result<(), Gone> {
        self.push(frame, 0)
    }

    fn push(&self, frame: &[u8], counted: usize) -> Result<(), Gone> {
        if self.room.is_closed() {
            return Err(Gone);
        }
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.bytes.len() + frame.len() > LIMIT + CONTROL_LIMIT {
            self.close();
            return Err(Gone);
        }
        waiting.bytes.extend_from_slice(frame);
        waiting.counted += counted;
        self.filled.notify_one();
        Ok(())
    }

    /// Waits for frames and takes all of them; `None` after [`close`](Self::close).
    pub(crate) async fn take(&self) -> Option<Vec<u8>> {
        loop {
            let filled = self.filled.notified();
            if self.room.is_closed() {
                return None;
            }
            let taken = {
                let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
                mem::take(&mut *waiting)
            };
            if !taken.bytes.is_empty() {
                self.room.add_permits(taken.counted);
                return Some(taken.bytes);
            }
            filled.await;
        }
    }

    /// Ends it: waiting and further sends fail.
    pub(crate) fn close(&self) {
        self.room.close();
        self.filled.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    #[tokio::test]
    async fn a_full_outbox_makes_commands_wait_and_taking_makes_room() {
        let outbox = Outbox::new();
        let chunk = vec![7u8; 1024 * 1024];
        for _ in 0..8 {
            outbox.send(&chunk).await.unwrap();
        }
        assert!(
            outbox.send(&chunk).now_or_never().is_none(),
            "the ninth megabyte must wait"
        );
        outbox.send_control(b"c").unwrap();
        assert_eq!(outbox.take().await.unwrap().len(), 8 * chunk.len() + 1);
        outbox
            .send(&chunk)
            .now_or_never()
            .expect("there is room again")
            .unwrap();
    }

    #[tokio::test]
    async fn closing_fails_who_waits_and_who_comes_later() {
        let outbox = Outbox::new();
        outbox.send(&vec![0; LIMIT]).await.unwrap();
        let mut waiter = Box::pin(outbox.send(b"x"));
        assert!(waiter.as_mut().now_or_never().is_none());
        outbox.close();
        assert_eq!(waiter.await, Err(Gone));
        assert_eq!(outbox.send_control(b"x"), Err(Gone));
        assert_eq!(outbox.take().await, None);
    }

    #[test]
    fn controls_are_bounded_too() {
        let outbox = Outbox::new();
        let chunk = vec![0u8; 1024 * 1024];
        let sent = (0..64)
            .take_while(|_| outbox.send_control(&chunk).is_ok())
            .count();
        assert_eq!(sent, 24);
    }
}
