//! The provider's body on its way to the guest: each chunk as it comes.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::time::{Instant, Sleep};

use crate::body::Cut;

/// Passes frames on untouched; ends with an error where the provider falls silent.
pub(super) struct Relay {
    incoming: Incoming,
    idle: Duration,
    deadline: Pin<Box<Sleep>>,
    /// The provider has been waited for since the last frame. The time in which the caller takes what it has is no silence
    /// of the provider.
    waiting: bool,
}

impl Relay {
    pub(super) fn new(incoming: Incoming, idle: Duration) -> Self {
        Self {
            incoming,
            idle,
            deadline: Box::pin(tokio::time::sleep(idle)),
            waiting: false,
        }
    }
}

impl Body for Relay {
    type Data = Bytes;
    type Error = Box<dyn std::error::Error + Send + Sync>;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.incoming).poll_frame(context) {
            self.waiting = false;
            return Poll::Ready(frame.map(|frame| frame.map_err(|error| Cut::Upstream(error).into())));
        }
        if !self.waiting {
            self.waiting = true;
            let deadline = Instant::now() + self.idle;
            self.deadline.as_mut().reset(deadline);
        }
        if self.deadline.as_mut().poll(context).is_ready() {
            return Poll::Ready(Some(Err(Cut::Silent(self.idle.as_secs()).into())));
        }
        Poll::Pending
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}
