//! Bytes between a guest and what it reached: both directions, each with its own end, within bounds.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{ReadHalf as TcpRead, WriteHalf as TcpWrite};
use tokio::net::unix::{ReadHalf, WriteHalf};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::gate::{Gate, GateError};
use super::head::Body;
use super::meter::{Exhausted, Meter};
use super::sniff::Guest;

/// Bytes moved at once.
const CHUNK: usize = 64 << 10;
/// Time in which what has begun (a request's head, a client hello) has to be there.
pub(super) const SLOW: Duration = Duration::from_secs(10);
/// Bytes of an answer in which its status is.
const STATUS_LINE: usize = 12;

/// What is known of the guest's side.
#[derive(Debug)]
pub(super) enum Carries {
    /// A tunnel.
    Tunnel(Gate),
    /// The body of one request; whatever comes after it is not passed.
    Body(Body),
}

/// Why a connection was cut.
#[derive(Debug, thiserror::Error)]
pub(super) enum Cut {
    #[error(transparent)]
    Gate(#[from] GateError),
    #[error(transparent)]
    Exhausted(#[from] Exhausted),
    #[error("a request or a client hello did not come to its end within {} s", SLOW.as_secs())]
    Slow,
    #[error("nothing was sent or received for {0} s")]
    Idle(u64),
    #[error("the connection broke")]
    Io(#[from] io::Error),
}

/// What went through.
#[derive(Debug)]
pub(super) struct Carried {
    pub(super) sent: u64,
    pub(super) received: u64,
    pub(super) end: Result<(), Cut>,
}

struct Tunnel<'a> {
    meter: &'a Meter,
    carries: Mutex<Carries>,
    /// Bytes that the server's answer let through.
    unlocked: Mutex<Vec<u8>>,
    answered: Notify,
    moved: Mutex<Instant>,
    sent: AtomicU64,
    received: AtomicU64,
}

/// Carries until both sides have ended, one breaks, or nothing moves for `idle`.
pub(super) async fn carry(
    guest: &mut Guest,
    mut server: TcpStream,
    carries: Carries,
    meter: &Meter,
    idle: Duration,
) -> Carried {
    let tunnel = Tunnel {
        meter,
        carries: Mutex::new(carries),
        unlocked: Mutex::default(),
        answered: Notify::new(),
        moved: Mutex::new(Instant::now()),
        sent: AtomicU64::new(0),
        received: AtomicU64::new(0),
    };
    let first = std::mem::take(&mut guest.buffer);
    let (guest_read, guest_write) = guest.stream.split();
    let (server_read, server_write) = server.split();
    let both = async {
        tokio::try_join!(
            tunnel.up(first, guest_read, server_write),
            tunnel.down(server_read, guest_write)
        )
    };
    let end = tokio::select! {
        end = both => end.map(drop),
        () = tunnel.stands_still(idle) => Err(Cut::Idle(idle.as_secs())),
    };
    Carried {
        sent: tunnel.sent.load(Ordering::Relaxed),
        received: tunnel.received.load(Ordering::Relaxed),
        end,
    }
}

impl Tunnel<'_> {
    /// From the guest to the server.
    async fn up(&self, first: Vec<u8>, mut read: ReadHalf<'_>, mut write: TcpWrite<'_>) -> Result<(), Cut> {
        let mut out = self.admit(&first)?;
        let mut chunk = vec![0; CHUNK];
        let mut waiting_since = None;
        loop {
            if !out.is_empty() {
                self.meter.pass(out.len()).await?;
                if write.write_all(&out).await.is_err() {
                    // The server takes no more; it may have answered all the same.
                    return Ok(());
                }
                self.count(&self.sent, out.len());
            }
            let since = self
                .is_waiting()
                .then(|| waiting_since.unwrap_or_else(Instant::now));
            waiting_since = since;
            let slow = async {
                match since {
                    Some(since) => tokio::time::sleep_until(since + SLOW).await,
                    None => std::future::pending().await,
                }
            };
            out = tokio::select! {
                read = read.read(&mut chunk) => match read? {
                    0 => break,
                    count => self.admit(&chunk[..count])?,
                },
                () = self.answered.notified() => std::mem::take(&mut *lock(&self.unlocked)),
                () = slow => return Err(Cut::Slow),
            };
        }
        let _it_may_be_closed = write.shutdown().await;
        Ok(())
    }

    /// From the server to the guest.
    async fn down(&self, mut read: TcpRead<'_>, mut write: WriteHalf<'_>) -> Result<(), Cut> {
        let mut chunk = vec![0; CHUNK];
        let mut status_line = Some(Vec::new());
        loop {
            let count = read.read(&mut chunk).await?;
            if count == 0 {
                break;
            }
            if let Some(line) = &mut status_line {
                line.extend_from_slice(&chunk[..count.min(STATUS_LINE)]);
                if line.len() >= STATUS_LINE {
                    self.answered(status(line))?;
                    status_line = None;
                }
            }
            self.meter.pass(count).await?;
            write.write_all(&chunk[..count]).await?;
            self.count(&self.received, count);
        }
        write.shutdown().await?;
        Ok(())
    }

    /// Of what the guest sent, what may be passed.
    fn admit(&self, bytes: &[u8]) -> Result<Vec<u8>, Cut> {
        let mut carries = lock(&self.carries);
        let mut out = std::mem::take(&mut *lock(&self.unlocked));
        match &mut *carries {
            Carries::Tunnel(gate) => gate.feed(bytes, &mut out)?,
            Carries::Body(body) => {
                let taken = body.take(bytes).map_err(GateError::Http)?;
                out.extend_from_slice(&bytes[..taken]);
            }
        }
        Ok(out)
    }

    fn answered(&self, status: u16) -> Result<(), Cut> {
        let mut carries = lock(&self.carries);
        if let Carries::Tunnel(gate) = &mut *carries
            && gate.awaits_answer()
        {
            gate.answered(status, &mut lock(&self.unlocked))?;
            self.answered.notify_one();
        }
        Ok(())
    }

    fn is_waiting(&self) -> bool {
        match &*lock(&self.carries) {
            Carries::Tunnel(gate) => gate.is_waiting(),
            Carries::Body(_) => false,
        }
    }

    fn count(&self, counter: &AtomicU64, bytes: usize) {
        counter.fetch_add(bytes as u64, Ordering::Relaxed);
        *lock(&self.moved) = Instant::now();
    }

    /// Returns when nothing has moved for so long.
    async fn stands_still(&self, idle: Duration) {
        loop {
            let until = *lock(&self.moved) + idle;
            if until <= Instant::now() {
                return;
            }
            tokio::time::sleep_until(until).await;
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The status of an answer; 0 where it is none of HTTP/1.
fn status(line: &[u8]) -> u16 {
    let digits = line
        .strip_prefix(b"HTTP/1.1 ")
        .or_else(|| line.strip_prefix(b"HTTP/1.0 "));
    digits
        .and_then(|rest| rest.get(..3))
        .and_then(|digits| std::str::from_utf8(digits).ok())
        .and_then(|digits| digits.parse().ok())
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_status_is_a_status() {
        assert_eq!(status(b"HTTP/1.1 101 Switching"), 101);
        assert_eq!(status(b"HTTP/1.0 200"), 200);
        assert_eq!(status(b"HTTP/2.0 101"), 0);
        assert_eq!(status(b"101"), 0);
        assert_eq!(status(b"HTTP/1.1 1x1"), 0);
    }
}
