//! The body of a request on its way in: what it may be, how large, how slow, and how much of all bodies is in memory.
//!
//! - here: reading one; [`coding`]: those that come compressed; [`kind`]: what they must be; [`room`]: how many there may be
//! - [`inflow`]: messages of a WebSocket, which are bodies too

mod coding;
mod inflow;
mod kind;
mod room;

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::{Body as _, Incoming};
use hyper::header::EXPECT;
use hyper::http::request::Parts;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::config::Limits;
use crate::dialect::WireError;
use coding::{Coding, Undecodable};
pub(crate) use inflow::{Inflow, Message};
pub(crate) use room::{Held, Room};

/// Bytes a second that a body must come with, once it is late.
const LEAST_RATE: u64 = 64 << 10;
/// How much is read and thrown away after a refusal, as a multiple of the limit: a client that is still sending would
/// see a reset connection instead of the reason.
const LINGER: usize = 4;
/// How long that may take.
const LINGER_TIME: Duration = Duration::from_secs(30);
/// Permits of the room for all are taken in pieces of so many bytes, as the bytes come: what is only announced keeps
/// nobody out.
const STEP: usize = 1 << 20;

/// A body as it is read, and as it came.
#[derive(Clone, Debug, Default)]
pub(crate) struct Body {
    /// What is checked, priced and changed.
    pub(crate) plain: Bytes,
    /// What came, where it came compressed.
    pub(crate) coded: Option<Bytes>,
}

/// Where bodies are read to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Intake<'a> {
    pub(crate) limits: Limits,
    pub(crate) room: &'a Room,
    /// It is the bytes of a file, of whatever type, and not JSON.
    pub(crate) is_file: bool,
    /// Of the caller.
    pub(crate) own: &'a std::sync::Arc<Semaphore>,
}

impl Intake<'_> {
    /// Reads a body. It counts as in memory until what comes beside it is dropped.
    pub(crate) async fn read(
        self,
        parts: &Parts,
        incoming: &mut Incoming,
    ) -> Result<(Body, Held), WireError> {
        if !self.is_file {
            kind::check(&parts.headers)?;
        }
        let coding = Coding::of(&parts.headers)?;
        let most = self.limits.max_body;
        let announced = incoming
            .size_hint()
            .exact()
            .and_then(|bytes| usize::try_from(bytes).ok());
        if announced.is_some_and(|bytes| bytes > most) {
            return Err(WireError::too_large(most));
        }
        // A caller's own share all at once, so that two of its half-read requests cannot wait for each other.
        let unpacked = if coding.is_some() { most } else { 0 };
        let own = announced.unwrap_or(most) + unpacked;
        let mut held = self.room.enter(self.own, own, self.limits.room).await?;
        let body = self.collect(announced, incoming, &mut held).await?;
        let Some(coding) = coding else {
            held.shrink(body.len());
            let plain = body;
            return Ok((Body { plain, coded: None }, held));
        };
        held.grow(most, self.limits.room).await?;
        let coded = body.clone();
        let decoding = tokio::task::spawn_blocking(move || coding.decode(&coded, most));
        let decoded = decoding.await.unwrap_or(Err(Undecodable::Broken));
        let plain: Bytes = decoded.map_err(|error| undecodable(error, coding, most))?.into();
        held.shrink(plain.len() + body.len());
        let coded = Some(body);
        Ok((Body { plain, coded }, held))
    }

    async fn collect(
        self,
        announced: Option<usize>,
        incoming: &mut Incoming,
        held: &mut Held,
    ) -> Result<Bytes, WireError> {
        let most = self.limits.max_body;
        // What is announced is believed up to a step: it costs a client nothing to say it.
        let expected = announced.unwrap_or(STEP).min(STEP);
        let mut collected = BytesMut::with_capacity(announced.unwrap_or(0).min(STEP));
        held.grow(expected, self.limits.room).await?;
        let mut pace = Pace::new(self.limits.slow);
        while let Some(chunk) = pace.next(incoming).await? {
            let length = collected.len() + chunk.len();
            if length > most {
                return Err(WireError::too_large(most));
            }
            while held.bytes() < length {
                let rest = announced.unwrap_or(most).saturating_sub(held.bytes());
                held.grow(rest.clamp(1, STEP), self.limits.room).await?;
            }
            collected.extend_from_slice(&chunk);
        }
        Ok(collected.freeze())
    }
}

/// How fast a body comes.
struct Pace {
    begun: Instant,
    slow: Duration,
    got: u64,
}

impl Pace {
    fn new(slow: Duration) -> Self {
        Self {
            begun: Instant::now(),
            slow,
            got: 0,
        }
    }

    /// When the next piece must be there: one that trickles has all of the time that it would need at the least rate.
    fn deadline(&self) -> Instant {
        let whole = self.begun + self.slow + Duration::from_millis(self.got * 1000 / LEAST_RATE);
        whole.min(Instant::now() + self.slow)
    }

    async fn next(&mut self, incoming: &mut Incoming) -> Result<Option<Bytes>, WireError> {
        loop {
            let frame = tokio::time::timeout_at(self.deadline(), incoming.frame()).await;
            match frame.map_err(|_| self.late())? {
                None => return Ok(None),
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        self.got += data.len() as u64;
                        return Ok(Some(data));
                    }
                }
                Some(Err(_)) => return Err(WireError::invalid("the request body broke off".to_owned())),
            }
        }
    }

    fn late(&self) -> WireError {
        WireError::slow_client(format!(
            "the request body came too slowly: {} bytes in {} s; it may pause for {} s, and must come with {} KiB/s \
             after that",
            self.got,
            self.begun.elapsed().as_secs(),
            self.slow.as_secs(),
            LEAST_RATE >> 10
        ))
    }
}

fn undecodable(error: Undecodable, coding: Coding, most: usize) -> WireError {
    let name = coding.name();
    match error {
        Undecodable::TooLarge => WireError::unpacked_too_large(name, most),
        Undecodable::Broken => WireError::invalid(format!(
            "the request body is no whole {name}, which its content-encoding says it is"
        )),
        Undecodable::Trailing => {
            WireError::invalid(format!("the request body goes on after its {name} has ended"))
        }
    }
}

/// Throws away what a refused client is still sending, within bounds, while it is told why.
pub(crate) fn linger(parts: &Parts, mut incoming: Incoming, most: usize) {
    // One that waits to be asked for its body sends none.
    let waits = parts.headers.contains_key(EXPECT) && incoming.size_hint().exact().is_some();
    if incoming.is_end_stream() || waits {
        return;
    }
    tokio::spawn(async move {
        let read = async {
            let mut seen = 0;
            while seen <= most.saturating_mul(LINGER)
                && let Some(Ok(frame)) = incoming.frame().await
            {
                seen += frame.data_ref().map_or(0, Bytes::len);
            }
        };
        let _late = tokio::time::timeout(LINGER_TIME, read).await;
    });
}
