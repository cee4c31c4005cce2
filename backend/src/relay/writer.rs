//! What goes to one client's WebSocket.
//!
//! What comes after a quiet moment leaves at once; a stream leaves at most once per [`WINDOW`]. Each time all that
//! waits is encoded, then flushed once.

use super::fanout::Drained;
use super::hub::Attachment;
use super::signal::CloseReason;
use super::socket::Presence;
use bytes::Bytes;
use futures_util::{Sink, SinkExt};
use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::Frame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};
use tokio_tungstenite::tungstenite::{Error, Message};

/// Shortest time between two flushes of a stream.
const WINDOW: Duration = Duration::from_millis(8);
/// Bytes encoded before a flush.
const BATCH: usize = 64 * 1024;
/// Longest WebSocket frame: a longer text goes out in several, so that the codec's buffer stays small.
const FRAGMENT: usize = 8 * 1024;
/// A write that moves no byte for so long ends the connection.
const STALL: Duration = Duration::from_secs(30);
/// Time between two pings.
const PING: Duration = Duration::from_secs(20);
/// A client that says nothing for so long, not even to a ping, is gone.
const SILENCE: Duration = Duration::from_secs(45);

/// Why writing ended.
#[derive(Debug)]
pub(super) enum End {
    /// The relay closes the connection.
    Close(CloseReason),
    /// The client is gone.
    Gone,
}

impl From<Error> for End {
    fn from(_: Error) -> Self {
        Self::Gone
    }
}

/// Writes until there is a reason not to.
pub(super) async fn run<S>(
    sink: &mut S,
    attachment: &Attachment,
    presence: &Presence,
    written: &AtomicU64,
) -> End
where
    S: Sink<Message, Error = Error> + Unpin,
{
    let mut last_flush: Option<Instant> = None;
    let mut next_ping = Instant::now() + PING;
    loop {
        if let Some(reason) = attachment.signal.closing().or_else(|| presence.verdict(SILENCE)) {
            return End::Close(reason);
        }
        if Instant::now() >= next_ping {
            next_ping = Instant::now() + PING;
            if let Err(end) = progressing(sink.send(Message::Ping(Bytes::new())), written).await {
                return end;
            }
        }
        let idle_until = next_ping.min(presence.deadline(SILENCE));
        let wake = wake_at(attachment, last_flush, idle_until);
        if let Some(until) = wake {
            tokio::select! {
                () = attachment.signal.changed() => {}
                () = sleep_until(until) => {}
            }
            continue;
        }
        attachment.signal.clear();
        let drained = attachment.drain(BATCH);
        if drained.more {
            attachment.signal.ready(true);
        }
        if let Err(end) = progressing(write(sink, drained), written).await {
            return end;
        }
        last_flush = Some(Instant::now());
    }
}

/// Until when to wait; `None` when it is time to write.
fn wake_at(attachment: &Attachment, last_flush: Option<Instant>, idle_until: Instant) -> Option<Instant> {
    if !attachment.signal.is_ready() {
        return Some(idle_until);
    }
    let until = last_flush? + WINDOW;
    (!attachment.signal.is_urgent() && Instant::now() < until).then_some(until)
}

async fn write<S>(sink: &mut S, drained: Drained) -> Result<(), Error>
where
    S: Sink<Message, Error = Error> + Unpin,
{
    for text in drained.texts {
        feed(sink, text, Data::Text).await?;
    }
    for bytes in drained.binaries {
        feed(sink, bytes, Data::Binary).await?;
    }
    sink.flush().await
}

/// Encodes one message, in fragments where it is long.
async fn feed<S>(sink: &mut S, mut text: Bytes, mut opcode: Data) -> Result<(), Error>
where
    S: Sink<Message, Error = Error> + Unpin,
{
    while text.len() > FRAGMENT {
        let fragment = Frame::message(text.split_to(FRAGMENT), OpCode::Data(opcode), false);
        sink.feed(Message::Frame(fragment)).await?;
        opcode = Data::Continue;
    }
    sink.feed(Message::Frame(Frame::message(text, OpCode::Data(opcode), true)))
        .await
}

/// Waits for a write as long as bytes move.
async fn progressing(write: impl Future<Output = Result<(), Error>>, written: &AtomicU64) -> Result<(), End> {
    let mut write = std::pin::pin!(write);
    loop {
        let before = written.load(Ordering::Relaxed);
        tokio::select! {
            biased;
            result = &mut write => return Ok(result?),
            () = sleep(STALL) => {}
        }
        if written.load(Ordering::Relaxed) == before {
            return Err(End::Close(CloseReason::NoProgress));
        }
    }
}

/// Says goodbye, for at most a second.
pub(super) async fn close<S>(sink: &mut S, reason: CloseReason)
where
    S: Sink<Message, Error = Error> + Unpin,
{
    let frame = CloseFrame {
        code: reason.code().into(),
        reason: reason.reason().into(),
    };
    // Whoever does not take it finds the connection cut.
    let _ = tokio::time::timeout(Duration::from_secs(1), sink.send(Message::Close(Some(frame)))).await;
}
