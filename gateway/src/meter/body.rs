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
use crate::body::{Cut, GuestBody};
use crate::usage::{Stated, Tap};

impl Meter {
    /// Watches an answer until it ends. An error of the provider costs nothing.
    pub(crate) fn watch(
        self,
        response: Response<GuestBody>,
        ended: &CancellationToken,
    ) -> Response<GuestBody> {
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
        let tap = if self.is_fixed() || !is_plain {
            Tap::blind(self.dialect)
        } else if text(CONTENT_TYPE).to_ascii_lowercase().contains("event-stream") {
            Tap::events(self.dialect)
        } else {
            Tap::whole(self.dialect)
        };
        let ended = Box::pin(ended.clone().cancelled_owned());
        response.map(|inner| {
            Metered {
                inner,
                tap,
                meter: Some(self),
                progressed: false,
                ended,
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
}

impl Metered {
    fn saw(&mut self, data: &[u8]) {
        self.tap.push(data);
        // The first statement is most of what a long prompt costs; the last follows soon.
        if !self.progressed && self.tap.seen().stated > Stated::Nothing {
            self.progressed = true;
            if let Some(meter) = &self.meter {
                meter.progress(self.tap.seen());
            }
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
    type Error = Box<dyn std::error::Error + Send + Sync>;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        if self.ended.as_mut().poll(context).is_ready() {
            self.settle(false);
            return Poll::Ready(Some(Err(Cut::Revoked.into())));
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
