//! What comes from one client's WebSocket.

use super::hub::Attachment;
use super::inbound::{self, Verdict};
use super::rate::Bucket;
use super::signal::CloseReason;
use super::socket::Presence;
use futures_util::{Stream, StreamExt};
use lodge_proto::{ErrorBody, ErrorCode};
use tokio::time::Instant;
use tokio_tungstenite::tungstenite::{Error, Message};

/// Commands a client may send a second on average, and at once.
const RATE: f64 = 200.0;
const BURST: f64 = 400.0;

/// Reads until the client is gone.
pub(super) async fn run(
    mut stream: impl Stream<Item = Result<Message, Error>> + Unpin,
    attachment: &Attachment,
    presence: &Presence,
) {
    let mut bucket = Bucket::new(RATE, BURST, Instant::now());
    while let Some(message) = stream.next().await {
        presence.heard();
        match message {
            Ok(Message::Text(text)) => on_text(&text, attachment, &mut bucket).await,
            Ok(Message::Binary(bytes)) => on_binary(&bytes, attachment, &mut bucket).await,
            Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_)) => {}
            Err(Error::Capacity(_)) => {
                // The codec is inside the long message: there is no going on.
                attachment.signal.close(CloseReason::TooLong);
                std::future::pending::<()>().await;
            }
            Ok(Message::Close(_)) | Err(_) => return,
        }
    }
}

/// What was typed into a terminal: its id, then the bytes.
async fn on_binary(bytes: &[u8], attachment: &Attachment, bucket: &mut Bucket) {
    if let Err(wait) = bucket.take(Instant::now()) {
        // Nothing that was typed is dropped: it only waits.
        tokio::time::sleep(wait).await;
    }
    let passed = match bytes.split_first_chunk::<4>() {
        Some((id, typed)) => attachment.terminal_input(u32::from_le_bytes(*id), typed).await,
        None => Err(ErrorBody::new(
            ErrorCode::InvalidArgument,
            "a binary frame is a terminal's id in four bytes and what is typed into it",
        )),
    };
    if let Err(error) = passed {
        attachment.push(inbound::rejected(error));
    }
}

async fn on_text(text: &str, attachment: &Attachment, bucket: &mut Bucket) {
    let limited = bucket.take(Instant::now());
    match inbound::judge(text, attachment.actor.rights, limited) {
        Verdict::Hello(cursors) => attachment.hello(cursors).await,
        Verdict::Answer(answer) => attachment.push(answer),
        Verdict::Forward { id, mutating } => match attachment.command(text).await {
            // The client sends it again at `runner_ready`: an error now would make it give up.
            Err(error) if mutating && error.code == ErrorCode::Unavailable => {}
            Err(error) => attachment.push(inbound::refused(&id, error)),
            Ok(()) => {}
        },
    }
    if let Err(wait) = limited {
        // The client was told; not reading on for so long bounds what answering it costs.
        tokio::time::sleep(wait).await;
    }
}
