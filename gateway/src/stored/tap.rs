//! Watching an answer pass. The bytes are never held back, changed or copied, but for the line that is under way.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use memchr::memmem;

use super::{Issuer, Objects, ids};
use crate::asked::Kind;
use crate::dialect::Dialect;

/// A longer line, or answer, is passed on and not read.
const MAX_HELD: usize = 8 << 20;

/// Reads ids out of the bytes of one answer.
#[derive(Debug)]
pub(crate) struct Tap {
    objects: Arc<Objects>,
    issuer: Issuer,
    dialect: Dialect,
    /// What the request makes, where it is nothing but an object.
    makes: Option<Kind>,
    /// Lines of events, instead of one JSON value.
    lines: bool,
    held: Vec<u8>,
    /// The line, or the answer, is too long.
    skipping: bool,
}

impl Tap {
    pub(crate) fn new(objects: Arc<Objects>, issuer: Issuer, dialect: Dialect, lines: bool) -> Self {
        Self {
            objects,
            issuer,
            dialect,
            makes: None,
            lines,
            held: Vec::new(),
            skipping: false,
        }
    }

    /// Of an answer that is the object that was made, or tells of it.
    pub(crate) fn made(objects: Arc<Objects>, issuer: Issuer, dialect: Dialect, kind: Kind) -> Self {
        Self {
            makes: Some(kind),
            ..Self::new(objects, issuer, dialect, false)
        }
    }

    /// The next bytes of the answer, wherever they are cut.
    pub(crate) fn data(&mut self, mut bytes: &[u8]) {
        if !self.lines {
            self.hold(bytes);
            return;
        }
        while let Some(end) = memchr::memchr(b'\n', bytes) {
            if self.held.is_empty() && !self.skipping {
                self.line(&bytes[..end]);
            } else {
                self.hold(&bytes[..end]);
                let line = std::mem::take(&mut self.held);
                if !std::mem::take(&mut self.skipping) {
                    self.line(&line);
                }
            }
            bytes = &bytes[end + 1..];
        }
        self.hold(bytes);
    }

    /// Nothing more will come.
    pub(crate) fn end(&mut self) {
        let held = std::mem::take(&mut self.held);
        if std::mem::replace(&mut self.skipping, true) {
            return;
        }
        if self.lines {
            self.line(&held);
        } else {
            self.value(&held);
        }
    }

    fn hold(&mut self, bytes: &[u8]) {
        if self.skipping || self.held.len() + bytes.len() > MAX_HELD {
            self.skipping = true;
            self.held = Vec::new();
        } else {
            self.held.extend_from_slice(bytes);
        }
    }

    fn line(&self, line: &[u8]) {
        if let Some(data) = line.strip_prefix(b"data:") {
            self.value(data);
        }
    }

    /// One event or a whole answer.
    pub(crate) fn value(&self, json: &[u8]) {
        if let Some(kind) = self.makes {
            if let Ok(value) = serde_json::from_slice(json)
                && let Some((kind, id)) = ids::made(kind, &value)
            {
                self.objects.issue(&self.issuer, kind, id);
            }
            return;
        }
        let may_hold_ids = ids::needles(self.dialect)
            .iter()
            .any(|needle| memmem::find(json, needle.as_bytes()).is_some());
        if !may_hold_ids {
            return;
        }
        if let Ok(value) = serde_json::from_slice(json) {
            for (kind, id) in ids::find(self.dialect, &value) {
                self.objects.issue(&self.issuer, kind, id);
            }
        }
    }
}

/// A body that is watched as it passes.
pub(crate) struct Tapped<B> {
    inner: B,
    tap: Tap,
}

impl<B> Tapped<B> {
    pub(crate) fn new(inner: B, tap: Tap) -> Self {
        Self { inner, tap }
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for Tapped<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let polled = Pin::new(&mut self.inner).poll_frame(context);
        match &polled {
            Poll::Ready(Some(Ok(frame))) => {
                if let Some(data) = frame.data_ref() {
                    self.tap.data(data);
                }
                // The client may answer as soon as it has the last byte, before the end itself is asked for.
                if self.inner.is_end_stream() {
                    self.tap.end();
                }
            }
            Poll::Ready(None) => self.tap.end(),
            _ => {}
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
