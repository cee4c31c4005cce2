//! One client's WebSocket: its reader and its writer side by side in one task.

use super::counted::Counted;
use super::hub::Attachment;
use super::inbound::MAX_FRAME;
use super::signal::CloseReason;
use super::{reader, writer};
use futures_util::StreamExt;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::{Duration, SystemTime};
use tokio::time::Instant;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};

/// Buffers of a connection, in bytes. Most connections are idle most of the time.
const READ_BUFFER: usize = 4096;
const WRITE_BUFFER: usize = 4096;

/// Whether the client is still there and still welcome.
#[derive(Debug)]
pub(super) struct Presence {
    heard: Mutex<Instant>,
    login_ends: SystemTime,
}

impl Presence {
    pub(super) fn new(login_ends: SystemTime) -> Self {
        Self {
            heard: Mutex::new(Instant::now()),
            login_ends,
        }
    }

    /// The client said something.
    pub(super) fn heard(&self) {
        *self.heard.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    /// When the client counts as gone if it goes on saying nothing.
    pub(super) fn deadline(&self, silence: Duration) -> Instant {
        *self.heard.lock().unwrap_or_else(PoisonError::into_inner) + silence
    }

    /// A reason to close, if there is one.
    pub(super) fn verdict(&self, silence: Duration) -> Option<CloseReason> {
        if Instant::now() >= self.deadline(silence) {
            return Some(CloseReason::Silent);
        }
        (SystemTime::now() >= self.login_ends).then_some(CloseReason::LoginEnded)
    }
}

fn config() -> WebSocketConfig {
    WebSocketConfig::default()
        .read_buffer_size(READ_BUFFER)
        .write_buffer_size(WRITE_BUFFER)
        .max_message_size(Some(MAX_FRAME))
        .max_frame_size(Some(MAX_FRAME))
}

/// Serves one client to its end.
pub(super) async fn run(upgraded: Upgraded, attachment: Attachment, login_ends: SystemTime) {
    let (stream, written) = Counted::new(TokioIo::new(upgraded));
    let socket = WebSocketStream::from_raw_socket(stream, Role::Server, Some(config())).await;
    let (mut sink, stream) = socket.split();
    let presence = Presence::new(login_ends);
    let end = tokio::select! {
        () = reader::run(stream, &attachment, &presence) => writer::End::Gone,
        end = writer::run(&mut sink, &attachment, &presence, &written) => end,
    };
    if let writer::End::Close(reason) = end {
        tracing::debug!(account = attachment.actor.account, ?reason, "closing a client");
        // A stalled client gets no goodbye: it would have to be written.
        if reason != CloseReason::NoProgress {
            writer::close(&mut sink, reason).await;
        }
    }
}
