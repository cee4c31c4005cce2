//! Keeps the connection to one account's runner up.

use super::connection::{FrameReader, Payload, RunnerConnection, UpstreamError};
use super::outbox::Outbox;
use super::placement::Placement;
use lodge_proto::frame::Header;
use std::error::Error as _;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::net::unix::OwnedWriteHalf;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

/// First pause between two attempts.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
/// Longest pause while an outage is young: a runner that is restarted should be found at once.
const YOUNG_PAUSE: Duration = Duration::from_millis(200);
/// Attempts that count as young.
const YOUNG_ATTEMPTS: u32 = 50;
/// Longest pause.
const LAST_PAUSE: Duration = Duration::from_secs(1);
/// A connection that lived this long starts the pauses anew.
const STABLE: Duration = Duration::from_secs(5);

/// Who takes what a link brings.
pub(crate) trait LinkHandler: Send + Sync + 'static {
    /// The runner is there; frames for it go into `outbox`.
    fn up(&self, outbox: Outbox);
    /// Frames are at hand. An error ends the connection.
    fn frames(&self, batch: &mut Batch<'_>) -> Result<(), UpstreamError>;
    /// The runner went away. Called once after each `up`, and once for a first attempt that failed.
    fn down(&self, reason: &UpstreamError);
}

/// The frames that one read brought.
#[derive(Debug)]
pub(crate) struct Batch<'a>(&'a mut FrameReader);

impl Batch<'_> {
    /// The next of them.
    pub(crate) fn next_frame(&mut self) -> Result<Option<(Header, Payload<'_>)>, UpstreamError> {
        self.0.next_buffered()
    }
}

/// The pauses between attempts: doubling from 50 ms to 200 ms, and to 1 s once the outage is old. A runner that
/// breaks the protocol is asked again after 1 s.
#[derive(Debug, Default)]
struct Backoff {
    attempts: u32,
}

impl Backoff {
    fn pause(&mut self, violation: bool) -> Duration {
        let doubled = FIRST_PAUSE * (1 << self.attempts.min(5));
        self.attempts = self.attempts.saturating_add(1);
        match (violation, self.attempts > YOUNG_ATTEMPTS) {
            (true, _) => LAST_PAUSE,
            (false, true) => doubled.min(LAST_PAUSE),
            (false, false) => doubled.min(YOUNG_PAUSE),
        }
    }
}

/// Connects, serves and reconnects until `stop`.
pub(crate) async fn run(
    account: String,
    placement: Arc<dyn Placement>,
    handler: Arc<impl LinkHandler>,
    stop: CancellationToken,
) {
    tokio::select! {
        () = stop.cancelled() => {}
        () = reconnecting(&account, &*placement, &*handler) => {}
    }
}

async fn reconnecting(account: &str, placement: &dyn Placement, handler: &impl LinkHandler) {
    let mut backoff = Backoff::default();
    let mut told = false;
    loop {
        let violation = match open(account, placement).await {
            Ok(connection) => {
                info!(account, "runner connected");
                let since = Instant::now();
                let reason = serve(connection, handler).await;
                warn!(account, error = %reason, cause = ?reason.source(), "runner lost");
                handler.down(&reason);
                told = true;
                if since.elapsed() >= STABLE {
                    backoff = Backoff::default();
                }
                reason.is_violation()
            }
            Err(error) => {
                debug!(account, %error, cause = ?error.source(), "no runner yet");
                if !told {
                    handler.down(&error);
                    told = true;
                }
                error.is_violation()
            }
        };
        tokio::time::sleep(backoff.pause(violation)).await;
    }
}

async fn open(account: &str, placement: &dyn Placement) -> Result<RunnerConnection, UpstreamError> {
    let address = placement.locate(account).await?;
    RunnerConnection::connect(&address).await
}

/// Serves one connection to its end and says why it ended.
async fn serve(connection: RunnerConnection, handler: &impl LinkHandler) -> UpstreamError {
    let (mut reader, writer) = connection.into_halves();
    let outbox = Outbox::new();
    handler.up(outbox.clone());
    let reason = tokio::select! {
        reason = read_all(&mut reader, handler) => reason,
        reason = write_all(writer, &outbox) => reason,
    };
    outbox.close();
    reason
}

async fn read_all(reader: &mut FrameReader, handler: &impl LinkHandler) -> UpstreamError {
    loop {
        // Greeting and first frames may have come in one read.
        if let Err(error) = handler.frames(&mut Batch(reader)) {
            return error;
        }
        match reader.fill().await {
            Ok(true) => {}
            Ok(false) => return UpstreamError::Closed,
            Err(error) => return error,
        }
    }
}

async fn write_all(mut writer: OwnedWriteHalf, outbox: &Outbox) -> UpstreamError {
    while let Some(bytes) = outbox.take().await {
        if let Err(error) = writer.write_all(&bytes).await {
            return UpstreamError::Write(error);
        }
    }
    UpstreamError::Protocol("it does not read what the relay sends".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_stay_short_while_young_and_grow_to_a_second() {
        let mut backoff = Backoff::default();
        let first: Vec<_> = (0..4).map(|_| backoff.pause(false).as_millis()).collect();
        assert_eq!(first, [50, 100, 200, 200]);
        for _ in 0..YOUNG_ATTEMPTS {
            backoff.pause(false);
        }
        assert_eq!(backoff.pause(false), LAST_PAUSE);
        assert_eq!(Backoff::default().pause(true), LAST_PAUSE);
    }
}
