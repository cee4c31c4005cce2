//! A client's connection as the server sees it: what the server would not notice or would end without a word.
//!
//! - Headers that trickle: after a while the client is told so in its dialect, and the connection ends.
//! - A client that takes nothing of its answer ends too, when nothing has moved for long.
//! - A client that has closed its side of the connection may have gone, or may only have nothing more to say. [`gone`]
//!   finds out, so that the answer of the second arrives and the request of the first is cancelled. The server learns of
//!   the end when it is sure.

mod gone;
mod head;

use std::io::{self, IoSlice};
use std::os::fd::{AsFd, BorrowedFd};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use hyper::Response;
use hyper::header::{CONNECTION, HeaderValue};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Sleep;

use crate::body::{self, GuestBody};
use crate::dialect::WireError;
use crate::egress::sniff::Rewound;
use gone::Gone;
use head::{AtEnd, Head, Step};

/// What lies below.
pub(crate) trait Wire: AsyncRead + AsyncWrite + Unpin + Send + 'static {
    /// Writes what fits at once, for a last word.
    fn write_now(&self, bytes: &[u8]) -> io::Result<usize>;
    /// The descriptor.
    fn descriptor(&self) -> BorrowedFd<'_>;
}

impl Wire for TcpStream {
    fn write_now(&self, bytes: &[u8]) -> io::Result<usize> {
        self.try_write(bytes)
    }

    fn descriptor(&self) -> BorrowedFd<'_> {
        self.as_fd()
    }
}

impl Wire for Rewound {
    fn write_now(&self, bytes: &[u8]) -> io::Result<usize> {
        self.stream().try_write(bytes)
    }

    fn descriptor(&self) -> BorrowedFd<'_> {
        self.stream().as_fd()
    }
}

/// Has the connection end with this answer, where its client sends no more.
pub(crate) fn last(mut response: Response<GuestBody>, half_closed: &AtomicBool) -> Response<GuestBody> {
    if half_closed.load(Ordering::Relaxed) {
        let close = HeaderValue::from_static("close");
        response.headers_mut().insert(CONNECTION, close);
    }
    response
}

/// How long a client may take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    /// From the first byte of the headers to their end.
    pub(crate) head: Duration,
    /// Without taking any of what it is sent.
    pub(crate) stalled: Duration,
}

/// A connection of a client.
pub(crate) struct Line<W: Wire> {
    wire: W,
    patience: Patience,
    head: Head,
    /// Until the headers must be there; only where they did not come at once.
    late: Option<Pin<Box<Sleep>>>,
    /// Until the client must have taken something; only where it takes nothing.
    stalled: Option<Pin<Box<Sleep>>>,
    /// Set where the client has closed its side and waits for the answer: the last one of the connection.
    half_closed: Arc<AtomicBool>,
    gone: Option<Gone>,
}

impl<W: Wire> std::fmt::Debug for Line<W> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Line")
    }
}

impl<W: Wire> Line<W> {
    /// The connection, and what is set when its client sends no more.
    pub(crate) fn new(wire: W, patience: Patience) -> (Self, Arc<AtomicBool>) {
        let half_closed = Arc::<AtomicBool>::default();
        let line = Self {
            wire,
            patience,
            head: Head::default(),
            late: None,
            stalled: None,
            half_closed: Arc::clone(&half_closed),
            gone: None,
        };
        (line, half_closed)
    }

    /// Ends the connection where its headers have taken too long.
    fn hurry(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.head.is_open() {
            return Poll::Pending;
        }
        let patience = self.patience.head;
        let late = self
            .late
            .get_or_insert_with(|| Box::pin(tokio::time::sleep(patience)));
        ready!(late.as_mut().poll(context));
        let error = WireError::slow_client(format!(
            "the headers of the request were not complete after {} s",
            patience.as_secs()
        ));
        let answer = body::raw(self.head.dialect(), &error);
        let _best_effort = self.wire.write_now(&answer);
        self.head.close();
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }

    /// The client sends no more: that is the end of it, unless it waits for an answer.
    fn end(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.gone.is_none() && self.head.at_end() == AtEnd::Waiting {
            // Without a second descriptor it cannot be told apart.
            self.gone = Gone::watch(self.wire.descriptor()).ok();
            self.half_closed.store(self.gone.is_some(), Ordering::Relaxed);
        }
        match &mut self.gone {
            Some(gone) => gone.poll(context).map(Ok),
            None => Poll::Ready(Ok(())),
        }
    }

    fn wrote(
        &mut self,
        context: &mut Context<'_>,
        done: Poll<io::Result<usize>>,
        first: &[u8],
    ) -> Poll<io::Result<usize>> {
        match done {
            Poll::Ready(done) => {
                self.stalled = None;
                if matches!(done, Ok(1..)) {
                    self.head.wrote(first);
                    if let Some(gone) = &self.gone {
                        gone.answered();
                    }
                }
                Poll::Ready(done)
            }
            Poll::Pending => self.stall(context).map(Err),
        }
    }

    fn stall(&mut self, context: &mut Context<'_>) -> Poll<io::Error> {
        let patience = self.patience.stalled;
        let stalled = self
            .stalled
            .get_or_insert_with(|| Box::pin(tokio::time::sleep(patience)));
        ready!(stalled.as_mut().poll(context));
        Poll::Ready(io::ErrorKind::TimedOut.into())
    }
}

impl<W: Wire> AsyncRead for Line<W> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.gone.is_some() {
            return self.end(context);
        }
        let before = buffer.filled().len();
        match Pin::new(&mut self.wire).poll_read(context, buffer) {
            Poll::Pending => return self.hurry(context),
            Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
            Poll::Ready(Ok(())) => {}
        }
        let read = &buffer.filled()[before..];
        if read.is_empty() {
            return self.end(context);
        }
        if self.head.read(read) == Step::Whole {
            self.late = None;
        }
        Poll::Ready(Ok(()))
    }
}

impl<W: Wire> AsyncWrite for Line<W> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let done = Pin::new(&mut self.wire).poll_write(context, bytes);
        self.wrote(context, done, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let done = Pin::new(&mut self.wire).poll_write_vectored(context, slices);
        let first = slices.iter().find(|slice| !slice.is_empty());
        self.wrote(context, done, first.map_or(&[], |slice| &**slice))
    }

    fn is_write_vectored(&self) -> bool {
        self.wire.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.wire).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.wire).poll_shutdown(context)
    }
}
