//! The answer on its way: the bytes as they come, and a tap beside them.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::Response;
use hyper::body::{Body, Frame, SizeHint};
use hyper::header::{CONTENT_ENCODING, CONTENT_TYPE};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use super::Meter;
use crate::body::{self, Cut, GuestBody};
use crate::caller::Caller;
use crate::dialect::WireError;
use crate::usage::{Stated, Tap};

impl Meter {
    /// Watches an answer until it ends. An error of the provider costs nothing.
    pub(crate) fn watch(self, response: Response<GuestBody>, caller: &Caller) -> Response<GuestBody> {
        if !response.status().is_success() {
            self.refused(response.status().as_u16());
            return response;
        }
        let text = |name| {
            response
                .headers()
                .get(name)
                .and_then(|value: &hyper::header::HeaderValue| value.to_str().ok())
                .unwrap_or_default()
        };
        let is_plain = matches!(text(CONTENT_ENCODING), "" | "identity");
        let is_events = text(CONTENT_TYPE).to_ascii_lowercase().contains("event-stream");
        let tap = if self.is_fixed() || !is_plain {
            Tap::blind(self.dialect)
        } else if is_events {
            Tap::events(self.dialect)
        } else {
            Tap::whole(self.dialect)
        };
        let ended = Box::pin(caller.ended.clone().cancelled_owned());
        let right = caller.right.clone();
        response.map(|inner| {
            Metered {
                inner,
                tap,
                meter: Some(self),
                progressed: false,
                ended,
                right,
                between_events: is_plain && is_events,
                is_events: is_plain && is_events,
            }
            .boxed_unsync()
        })
    }
}

struct Metered {
    inner: GuestBody,
    tap: Tap,
    /// None when it is settled.
    meter: Option<Meter>,
    progressed: bool,
    ended: Pin<Box<WaitForCancellationFutureOwned>>,
    /// Cancelled too where not only this request has ended.
    right: CancellationToken,
    is_events: bool,
    /// An event of our own would not fall into one of the provider's.
    between_events: bool,
}

type BodyError = Box<dyn std::error::Error + Send + Sync>;

impl Metered {
    fn saw(&mut self, data: &[u8]) {
        self.between_events = self.is_events && (data.ends_with(b"\n\n") || data.ends_with(b"\r\n\r\n"));
        self.tap.push(data);
        // The first statement is most of what a long prompt costs; the last follows soon.
        if !self.progressed && self.tap.seen().stated > Stated::Nothing {
            self.progressed = true;
            if let Some(meter) = &self.meter {
                meter.progress(self.tap.seen());
            }
        }
    }

    /// The end before its time: with the reason, where the client can still be told.
    fn cut(&mut self) -> Result<Frame<Bytes>, BodyError> {
        let dialect = self.meter.as_ref().map(Meter::dialect);
        self.settle(false);
        if self.right.is_cancelled() {
            return Err(Cut::Revoked.into());
        }
        // What has a length cannot get longer.
        let can_tell = self.between_events && self.inner.size_hint().exact().is_none();
        match dialect.filter(|_| can_tell) {
            Some(dialect) => {
                // Lets go of the provider, too.
                self.inner = body::full(Bytes::new());
                Ok(Frame::data(WireError::cancelled().event(dialect).into()))
            }
            None => Err(Cut::Cancelled.into()),
        }
    }

    fn settle(&mut self, complete: bool) {
        if let Some(meter) = self.meter.take() {
            self.tap.finish();
            meter.settle(self.tap.seen(), complete);
        }
    }
}

impl Body for Metered {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        // What is settled has nothing left to be ended.
        if self.meter.is_some() && self.ended.as_mut().poll(context).is_ready() {
            return Poll::Ready(Some(self.cut()));
        }
        let polled = Pin::new(&mut self.inner).poll_frame(context);
        match &polled {
            Poll::Ready(Some(Ok(frame))) => {
                if let Some(data) = frame.data_ref() {
                    self.saw(data);
                }
            }
            Poll::Ready(Some(Err(_))) => self.settle(false),
            Poll::Ready(None) => self.settle(true),
            Poll::Pending => {}
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

impl Drop for Metered {
    /// The client went away, or has read as many bytes as were announced and asks for no more.
    fn drop(&mut self) {
        let complete = self.inner.is_end_stream();
        self.settle(complete);
    }
}
