//! Whether a client that has closed its side of the connection is still there.
//!
//! The end of what a client sends looks the same, whether it has gone or only has nothing more to say. While it waits for
//! its answer, it may be sent an interim one, which every client of HTTP/1.1 has to skip: one that has gone resets the
//! connection, and a relay between the two, which learns of that with the first piece, fails to pass on the second.

use std::io;
use std::os::fd::BorrowedFd;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use rustix::net::{SendFlags, send};
use tokio::io::Interest;
use tokio::net::UnixStream;

const INTERIM: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";
/// Between the two: time for a reset to come back.
const BETWEEN: Duration = Duration::from_millis(15);

/// Waits for the end of a client that sends no more.
pub(super) struct Gone {
    waiting: Pin<Box<dyn Future<Output = ()> + Send>>,
    /// The answer has begun: an interim one has no place any more.
    answered: Arc<AtomicBool>,
}

impl Gone {
    /// Needs a descriptor of its own.
    pub(super) fn watch(descriptor: BorrowedFd<'_>) -> io::Result<Self> {
        // Of whichever family: it is only watched, and sent to.
        let own = std::os::unix::net::UnixStream::from(descriptor.try_clone_to_owned()?);
        let own = UnixStream::from_std(own)?;
        let answered = Arc::<AtomicBool>::default();
        let has_begun = Arc::clone(&answered);
        let waiting = async move {
            tokio::select! {
                () = probe(&own, &has_begun) => {}
                () = closed(&own) => {}
            }
        };
        Ok(Self {
            waiting: Box::pin(waiting),
            answered,
        })
    }

    pub(super) fn answered(&self) {
        self.answered.store(true, Ordering::Relaxed);
    }

    /// To be polled by the task that writes the answer: an interim one must not get into its middle.
    pub(super) fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        self.waiting.as_mut().poll(context)
    }
}

/// Says something to the client, and ends where that cannot be said.
async fn probe(own: &UnixStream, answered: &AtomicBool) {
    for again in [false, true] {
        if again {
            tokio::time::sleep(BETWEEN).await;
        }
        let may_speak = !answered.load(Ordering::Relaxed);
        if may_speak && send(own, INTERIM, SendFlags::NOSIGNAL | SendFlags::DONTWAIT).is_err() {
            return;
        }
    }
    std::future::pending::<()>().await;
}

/// Waits until nothing that is written can arrive any more.
async fn closed(own: &UnixStream) {
    while let Ok(ready) = own.ready(Interest::WRITABLE).await {
        if ready.is_write_closed() {
            return;
        }
        // That it can be written to is no news; the next change is.
        let _forgotten = own.try_io(Interest::WRITABLE, || {
            Err::<(), _>(io::ErrorKind::WouldBlock.into())
        });
    }
}
