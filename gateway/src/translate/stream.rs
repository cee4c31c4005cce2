//! A stream in one dialect as a stream in another: each event is passed on as soon as it is whole.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::{Body, Frame};

use super::answer::Reader;
use super::model::{Answer, Event};
use super::wire::{self, Wire};
use super::{Back, Translation};
use crate::body::{Cut, GuestBody};

/// Of one event, in bytes.
const MAX_EVENT: usize = 8 << 20;

pub(super) fn body(translation: &Translation, incoming: GuestBody) -> GuestBody {
    Translated {
        incoming: Some(incoming),
        events: Events::default(),
        script: Script {
            reader: Reader::new(translation.provider),
            wire: wire::stream(translation.caller, translation.wanted),
            back: translation.back.clone(),
            answer: Answer::default(),
            ended: false,
        },
    }
    .boxed_unsync()
}

/// Bytes to the data of events, wherever they are cut.
#[derive(Debug, Default)]
pub(super) struct Events {
    line: Vec<u8>,
    data: Vec<u8>,
}

/// An event that is larger than any should be.
#[derive(Debug)]
pub(super) struct TooLarge;

impl Events {
    pub(super) fn feed(&mut self, mut bytes: &[u8], mut event: impl FnMut(&[u8])) -> Result<(), TooLarge> {
        while let Some(end) = memchr::memchr(b'\n', bytes) {
            self.line.extend_from_slice(&bytes[..end]);
            bytes = &bytes[end + 1..];
            let line = std::mem::take(&mut self.line);
            let line = line.strip_suffix(b"\r").unwrap_or(&line);
            if let Some(data) = line.strip_prefix(b"data:") {
                if !self.data.is_empty() {
                    self.data.push(b'\n');
                }
                self.data
                    .extend_from_slice(data.strip_prefix(b" ").unwrap_or(data));
            } else if line.is_empty() && !self.data.is_empty() {
                event(&std::mem::take(&mut self.data));
            }
        }
        self.line.extend_from_slice(bytes);
        if self.line.len() + self.data.len() > MAX_EVENT {
            return Err(TooLarge);
        }
        Ok(())
    }

    /// The last event, where the provider left the empty line after it away.
    pub(super) fn end(&mut self, event: impl FnMut(&[u8])) {
        let _fits = self.feed(b"\n\n", event);
    }
}

/// What has been said and what is to be written.
pub(super) struct Script {
    reader: Reader,
    wire: Box<dyn Wire>,
    back: Back,
    answer: Answer,
    /// The caller's end was written.
    ended: bool,
}

impl Script {
    fn data(&mut self, data: &[u8], out: &mut String) {
        for event in self.reader.data(data) {
            if self.ended {
                return;
            }
            self.event(event, out);
        }
    }

    fn event(&mut self, mut event: Event, out: &mut String) {
        self.back.own(&mut event);
        self.answer.take(event.clone());
        match &event {
            Event::Done => self.finish(out),
            Event::Error(message) => {
                self.wire.fail(&self.answer, message, out);
                self.ended = true;
            }
            event => self.wire.event(event, &self.answer, out),
        }
    }

    fn finish(&mut self, out: &mut String) {
        self.back.keep(&mut self.answer);
        self.wire.finish(&self.answer, out);
        self.ended = true;
    }
}

struct Translated {
    /// Gone when the answer has ended: what comes after is not waited for.
    incoming: Option<GuestBody>,
    events: Events,
    script: Script,
}

type BodyError = Box<dyn std::error::Error + Send + Sync>;

impl Body for Translated {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        loop {
            let Some(incoming) = &mut this.incoming else {
                return Poll::Ready(None);
            };
            let frame = match Pin::new(incoming).poll_frame(context) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(frame) => frame,
            };
            let mut out = String::new();
            match frame {
                Some(Ok(frame)) => {
                    let Ok(data) = frame.into_data() else { continue };
                    let script = &mut this.script;
                    let fed = this.events.feed(&data, |event| script.data(event, &mut out));
                    if fed.is_err() && !script.ended {
                        script.event(
                            Event::Error("the provider sent an event that is too large".to_owned()),
                            &mut out,
                        );
                    }
                }
                Some(Err(error)) => {
                    this.incoming = None;
                    return Poll::Ready(Some(Err(error)));
                }
                None => {
                    let script = &mut this.script;
                    this.events.end(|event| script.data(event, &mut out));
                    if !script.ended && script.answer.reason.is_none() {
                        // Not as if it were complete.
                        this.incoming = None;
                        return Poll::Ready(Some(Err(Cut::Short.into())));
                    }
                    if !script.ended {
                        script.finish(&mut out);
                    }
                }
            }
            if this.script.ended {
                this.incoming = None;
            }
            if !out.is_empty() {
                return Poll::Ready(Some(Ok(Frame::data(out.into()))));
            }
        }
    }
}
