//! Connections of relays: what is queued for each, and who listens to what.

use bytes::Bytes;
use lodge_proto::Response;
use lodge_proto::frame::{self, Header, Kind};
use lodge_proto::relay::{ToClient, ToRelay};
use serde::Serialize;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::sync::{Notify, mpsc};

/// Bytes that may wait for one relay. A relay reads at once or is broken: it never waits for a browser.
const MAX_QUEUED: usize = 256 * 1024 * 1024;

/// Names a relay's connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnId(pub u64);

/// The sending side of a relay's connection.
#[derive(Debug, Clone)]
pub struct Outbox {
    pub id: ConnId,
    queue: mpsc::UnboundedSender<Bytes>,
    queued: Arc<AtomicUsize>,
    /// Something was taken, or the connection is gone.
    taken: Arc<Notify>,
}

/// What a connection's writer takes from.
#[derive(Debug)]
pub struct OutboxReader {
    queue: mpsc::UnboundedReceiver<Bytes>,
    queued: Arc<AtomicUsize>,
    taken: Arc<Notify>,
}

/// Makes both ends.
pub fn outbox(id: ConnId) -> (Outbox, OutboxReader) {
    let (sender, receiver) = mpsc::unbounded_channel();
    let queued = Arc::new(AtomicUsize::new(0));
    let taken = Arc::<Notify>::default();
    (
        Outbox {
            id,
            queue: sender,
            queued: Arc::clone(&queued),
            taken: Arc::clone(&taken),
        },
        OutboxReader {
            queue: receiver,
            queued,
            taken,
        },
    )
}

impl Outbox {
    /// Queues whole frames. `false` when the connection is gone or hopelessly behind.
    pub fn send(&self, frames: Bytes) -> bool {
        let length = frames.len();
        if self.queued.fetch_add(length, Ordering::Relaxed) + length > MAX_QUEUED {
            return false;
        }
        self.queue.send(frames).is_ok()
    }

    /// Waits until fewer than so many bytes wait, or the connection is gone: what must not come between a relay and
    /// the events behind it.
    pub async fn below(&self, bytes: usize) {
        loop {
            let taken = self.taken.notified();
            if self.queued.load(Ordering::Relaxed) < bytes || self.queue.is_closed() {
                return;
            }
            taken.await;
        }
    }

    /// The answer to a command of a client.
    pub fn reply(&self, channel: u32, response: &Response) {
        self.json(Header::new(Kind::Reply).channel(channel), response);
    }

    /// A control that the relay passes to one client, or to all (channel 0).
    pub fn control(&self, channel: u32, session: u64, control: &ToClient) {
        self.json(
            Header::new(Kind::Control).channel(channel).session(session),
            control,
        );
    }

    fn json(&self, header: Header, value: &impl Serialize) {
        let mut out = Vec::new();
        push_json(&mut out, header, value);
        self.send(Bytes::from(out));
    }
}

/// Appends a frame with a JSON payload.
pub fn push_json(out: &mut Vec<u8>, header: Header, value: &impl Serialize) {
    match serde_json::to_vec(value) {
        Ok(json) => {
            if let Err(error) = frame::encode(&header, &json, out) {
                tracing::error!(%error, "a frame to a relay");
            }
        }
        Err(error) => tracing::error!(%error, "a frame to a relay"),
    }
}

/// Appends a control for the relay itself.
pub fn push_relay_control(out: &mut Vec<u8>, channel: u32, session: u64, control: &ToRelay) {
    let header = Header::new(Kind::Control)
        .channel(channel)
        .session(session)
        .flags(frame::flags::FOR_RELAY);
    push_json(out, header, control);
}

impl OutboxReader {
    /// Everything that waits, at least one piece; `None` when all senders are gone.
    pub async fn next(&mut self) -> Option<Vec<Bytes>> {
        let mut pieces = vec![self.queue.recv().await?];
        while pieces.len() < 64 {
            let Ok(piece) = self.queue.try_recv() else { break };
            pieces.push(piece);
        }
        let length: usize = pieces.iter().map(Bytes::len).sum();
        self.queued.fetch_sub(length, Ordering::Relaxed);
        self.taken.notify_waiters();
        Some(pieces)
    }
}

impl Drop for OutboxReader {
    fn drop(&mut self) {
        self.queue.close();
        self.taken.notify_waiters();
    }
}

/// Where the answer to a command goes.
#[derive(Debug, Clone)]
pub struct ReplyPort {
    pub outbox: Outbox,
    pub channel: u32,
    pub id: String,
}

impl ReplyPort {
    /// Sends the answer.
    pub fn send(self, result: Result<serde_json::Value, lodge_proto::ErrorBody>) {
        let response = match result {
            Ok(value) => Response::ok(self.id, value),
            Err(error) => Response::error(self.id, error),
        };
        self.outbox.reply(self.channel, &response);
    }
}
