//! A connection whose messages count as bodies while they come in.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::room::{Held, Room};
use tokio::sync::Semaphore;

/// Bytes of a message that are not counted: most are smaller, and there are few connections.
const FREE: usize = 64 << 10;

/// What of a message is in memory.
#[derive(Clone, Debug)]
pub(crate) struct Message(Arc<Mutex<Counted>>);

#[derive(Debug)]
struct Counted {
    bytes: usize,
    held: Held,
}

impl Message {
    /// It is no longer in memory, and the next one may come.
    pub(crate) fn over(&self) {
        let mut counted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        counted.bytes = 0;
        counted.held.shrink(0);
    }

    /// Takes room for more of it; tells whether there was any.
    fn grows(&self, bytes: usize) -> bool {
        let mut counted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        counted.bytes += bytes;
        let missing = counted.bytes.saturating_sub(FREE + counted.held.bytes());
        missing == 0 || counted.held.try_grow(missing)
    }
}

/// A connection that ends where there is no room for what comes in.
#[derive(Debug)]
pub(crate) struct Inflow<I> {
    io: I,
    message: Message,
}

impl<I> Inflow<I> {
    /// What comes in is of this caller.
    pub(crate) fn new(io: I, room: &Room, own: &Arc<Semaphore>) -> (Self, Message) {
        let held = room.nothing(own);
        let message = Message(Arc::new(Mutex::new(Counted { bytes: 0, held })));
        let inflow = Self {
            io,
            message: message.clone(),
        };
        (inflow, message)
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for Inflow<I> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.io).poll_read(context, buffer))?;
        if self.message.grows(buffer.filled().len() - before) {
            return Poll::Ready(Ok(()));
        }
        let why = "there is no memory left for a message of this caller";
        Poll::Ready(Err(io::Error::new(io::ErrorKind::OutOfMemory, why)))
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for Inflow<I> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(context)
    }
}
