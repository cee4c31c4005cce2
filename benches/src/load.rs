//! Clients that only count: many connections, one thread, so that they do not dominate what is measured.

use crate::clock::now_ns;
use crate::http::Dechunk;
use crate::{marker, ws};
use anyhow::{Context, bail, ensure};
use memchr::memmem;
use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

/// Bytes read at once.
const READ: usize = 256 * 1024;

/// Events that say again what others said: of Lodge, of opencode.
const REPEATS: [&[u8]; 2] = [b"stream.message_end", b"message.part.updated"];

/// How texts are cut out of a stream.
#[derive(Debug)]
enum Framing {
    WebSocket {
        assembly: Vec<u8>,
    },
    /// Server-sent events in chunks; a line is a text.
    Events {
        dechunk: Dechunk,
        plain: Vec<u8>,
    },
}

/// What one client has received.
#[derive(Debug, Default, Clone)]
pub struct Tally {
    /// Number that the next event must have.
    next: u64,
    pub delivered: u64,
    /// Of these, those that came inside a snapshot and not as an event.
    pub folded: u64,
    /// Left to history by a snapshot, which holds the newest messages only.
    pub older: u64,
    /// Came again.
    pub doubled: u64,
    /// Did not come before a later one.
    pub skipped: u64,
    /// When the first event was made.
    first_ns: u64,
    last_ns: u64,
    /// The turn has ended.
    pub ended: bool,
    /// Events made before this moment are counted on their own.
    pub cut_ns: u64,
    pub before_cut: u64,
    /// When the last of them came.
    pub cut_done_ns: u64,
    /// Keep the last text with an event.
    pub keep_last: bool,
    pub last_text: Vec<u8>,
    /// The last id of a stream of server-sent events.
    pub last_id: String,
}

impl Tally {
    fn on_text(&mut self, text: &[u8], now: u64, latencies: &mut Vec<u64>) {
        if let Some(id) = text.strip_prefix(b"id:") {
            String::from_utf8_lossy(id).trim().clone_into(&mut self.last_id);
            return;
        }
        // The whole message at its end repeats what came before.
        if REPEATS.iter().any(|repeat| memmem::find(text, repeat).is_some()) {
            return;
        }
        let folded = text.len() > 2048 && memmem::find(text, b"\"verdict\":").is_some();
        let mut any = false;
        marker::scan(text, |stamp, index| {
            any = true;
            if index < self.next {
                self.doubled += u64::from(!folded);
                return;
            }
            if folded {
                // The snapshot says that there is more before it: the client pages it from history.
                self.older += index - self.next;
            } else {
                self.skipped += index - self.next;
            }
            self.next = index + 1;
            self.delivered += 1;
            if self.first_ns == 0 {
                self.first_ns = stamp;
            }
            self.last_ns = now;
            if stamp < self.cut_ns {
                self.before_cut += 1;
                self.cut_done_ns = now;
            }
            if folded {
                self.folded += 1;
            } else {
                latencies.push(now.saturating_sub(stamp));
            }
        });
        if any && self.keep_last {
            self.last_text.clear();
            self.last_text.extend_from_slice(text);
        }
        self.ended |= !any && memmem::find(text, b"\"turn.ended\"").is_some();
    }

    /// Begins anew, with the same settings.
    pub fn reset(&mut self) {
        *self = Self {
            keep_last: self.keep_last,
            ..Self::default()
        };
    }

    /// Number of the event after the last one received.
    pub fn next(&self) -> u64 {
        self.next
    }

    /// Goes on counting from an event on, as the same client did before.
    pub fn resume_at(&mut self, next: u64) {
        self.next = next;
    }
}

/// One connection.
#[derive(Debug)]
pub struct Conn {
    stream: TcpStream,
    framing: Framing,
    /// Bytes that are no whole text yet.
    pending: Vec<u8>,
    pub tally: Tally,
    pub closed: bool,
}

impl Conn {
    /// On a WebSocket after its handshake.
    pub fn websocket(stream: TcpStream) -> Self {
        Self::new(stream, Framing::WebSocket { assembly: Vec::new() })
    }

    /// On a stream of server-sent events after its head.
    pub fn events(stream: TcpStream) -> Self {
        Self::new(
            stream,
            Framing::Events {
                dechunk: Dechunk::default(),
                plain: Vec::new(),
            },
        )
    }

    fn new(stream: TcpStream, framing: Framing) -> Self {
        Self {
            stream,
            framing,
            pending: Vec::new(),
            tally: Tally::default(),
            closed: false,
        }
    }

    /// Sends a text on a WebSocket.
    pub fn send(&mut self, text: &str) -> anyhow::Result<()> {
        Ok(self.stream.write_all(&ws::text(text.as_bytes()))?)
    }

    /// Reads until a text is found for which `want` gives something.
    pub fn wait_for<T>(&mut self, mut want: impl FnMut(&[u8]) -> Option<T>) -> anyhow::Result<T> {
        self.stream.set_nonblocking(false)?;
        self.stream.set_read_timeout(Some(Duration::from_secs(20)))?;
        let mut buffer = vec![0; 64 * 1024];
        let mut found = None;
        let mut seen = Vec::new();
        loop {
            let count = self.stream.read(&mut buffer).with_context(|| {
                format!(
                    "waiting for an answer; last: {:.300}",
                    String::from_utf8_lossy(&seen)
                )
            })?;
            ensure!(
                count > 0,
                "the connection was closed; last: {:.300}",
                String::from_utf8_lossy(&seen)
            );
            let now = now_ns();
            let (tally, mut latencies) = (&mut self.tally, Vec::new());
            let pongs = self.framing.split(&mut self.pending, &buffer[..count], |text| {
                tally.on_text(text, now, &mut latencies);
                if found.is_none() {
                    found = want(text);
                }
                seen.clear();
                seen.extend_from_slice(text);
            });
            self.answer(&pongs)?;
            if let Some(found) = found {
                return Ok(found);
            }
        }
    }

    fn answer(&mut self, pongs: &Pongs) -> anyhow::Result<()> {
        if !pongs.bytes.is_empty() {
            self.stream.write_all(&pongs.bytes)?;
        }
        self.closed |= pongs.closed;
        Ok(())
    }

    /// Reads all that is there. `false` when the other side has closed.
    fn drain(&mut self, buffer: &mut [u8], latencies: &mut Vec<u64>) -> anyhow::Result<bool> {
        loop {
            let count = match self.stream.read(buffer) {
                Ok(0) => return Ok(false),
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(true),
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return Ok(false),
                Err(error) => return Err(error.into()),
            };
            let now = now_ns();
            let tally = &mut self.tally;
            let pongs = self.framing.split(&mut self.pending, &buffer[..count], |text| {
                tally.on_text(text, now, latencies);
            });
            self.answer(&pongs)?;
            if count < buffer.len() {
                return Ok(!self.closed);
            }
        }
    }
}

/// What is to be answered.
#[derive(Debug, Default)]
struct Pongs {
    bytes: Vec<u8>,
    closed: bool,
}

impl Framing {
    fn split(&mut self, pending: &mut Vec<u8>, bytes: &[u8], each: impl FnMut(&[u8])) -> Pongs {
        match self {
            Self::WebSocket { assembly } => {
                if pending.is_empty() {
                    let (used, pongs) = frames(bytes, assembly, each);
                    pending.extend_from_slice(&bytes[used..]);
                    return pongs;
                }
                pending.extend_from_slice(bytes);
                let (used, pongs) = frames(pending, assembly, each);
                pending.drain(..used);
                pongs
            }
            Self::Events { dechunk, plain } => {
                dechunk.push(bytes, plain);
                let used = lines(plain, each);
                plain.drain(..used);
                Pongs {
                    bytes: Vec::new(),
                    closed: dechunk.done,
                }
            }
        }
    }
}

fn frames(bytes: &[u8], assembly: &mut Vec<u8>, mut each: impl FnMut(&[u8])) -> (usize, Pongs) {
    let mut used = 0;
    let mut pongs = Pongs::default();
    while let Some((frame, length)) = ws::parse(&bytes[used..]) {
        match frame {
            ws::Frame::Text { part, last: true } if assembly.is_empty() => each(part),
            ws::Frame::Text { part, last } => {
                assembly.extend_from_slice(part);
                if last {
                    each(assembly);
                    assembly.clear();
                }
            }
            ws::Frame::Ping(payload) => pongs.bytes.extend(ws::pong(payload)),
            ws::Frame::Close => pongs.closed = true,
            ws::Frame::Other => {}
        }
        used += length;
    }
    (used, pongs)
}

fn lines(bytes: &[u8], mut each: impl FnMut(&[u8])) -> usize {
    let mut used = 0;
    while let Some(length) = memchr::memchr(b'\n', &bytes[used..]) {
        each(&bytes[used..used + length]);
        used += length + 1;
    }
    used
}

/// When watching is over.
#[derive(Debug, Clone, Copy)]
pub enum Until {
    /// Every client has seen the turn end.
    TurnEnded,
    /// Every client has seen the event before this one.
    Count(u64),
}

/// Bounds of a watch.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    pub until: Until,
    pub deadline: Duration,
    /// It is over too when, after the first event, nothing came for so long.
    pub quiet: Duration,
}

/// What came of a watch, over all clients.
#[derive(Debug, Clone)]
pub struct Seen {
    pub clients: usize,
    pub delivered: u64,
    pub folded: u64,
    /// Left to history by a snapshot.
    pub older: u64,
    pub doubled: u64,
    /// Sorted, in nanoseconds.
    latencies: Vec<u64>,
    /// From the making of the first event to the arrival of the last at any client.
    pub span: Duration,
    pub closed: usize,
}

impl Seen {
    /// Latency of which `share` (0 to 1) of the deliveries stay below, in nanoseconds.
    pub fn percentile(&self, share: f64) -> Option<u64> {
        let last = self.latencies.len().checked_sub(1)?;
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_precision_loss,
            clippy::cast_sign_loss
        )]
        let at = (last as f64 * share).round() as usize;
        self.latencies.get(at).copied()
    }

    /// Deliveries that did not come.
    pub fn lost(&self, events: u64) -> u64 {
        (events * self.clients as u64).saturating_sub(self.delivered + self.older)
    }
}

/// Reads all connections until it is over.
pub fn watch(conns: &mut [Conn], bounds: Bounds) -> anyhow::Result<Seen> {
    let poll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    for (index, conn) in conns.iter().enumerate() {
        conn.stream.set_nonblocking(true)?;
        epoll::add(
            &poll,
            &conn.stream,
            epoll::EventData::new_u64(index as u64),
            epoll::EventFlags::IN,
        )?;
    }
    let mut latencies = Vec::new();
    let mut buffer = vec![0; READ];
    let mut ready = Vec::with_capacity(256);
    let (begun, mut last) = (Instant::now(), Instant::now());
    let pause = Timespec {
        tv_sec: 0,
        tv_nsec: 100_000_000,
    };
    let mut done = vec![false; conns.len()];
    let mut left = conns.len();
    while left > 0 && begun.elapsed() < bounds.deadline {
        ready.clear();
        epoll::wait(&poll, spare_capacity(&mut ready), Some(&pause))?;
        if ready.is_empty() {
            let begun = conns.iter().any(|conn| conn.tally.delivered > 0);
            if begun && last.elapsed() > bounds.quiet {
                break;
            }
            continue;
        }
        last = Instant::now();
        for event in &ready {
            let Ok(index) = usize::try_from(event.data.u64()) else {
                bail!("an event without a connection")
            };
            let conn = &mut conns[index];
            let open = conn.drain(&mut buffer, &mut latencies)?;
            if !open {
                conn.closed = true;
                epoll::delete(&poll, &conn.stream)?;
            }
            let over = match bounds.until {
                Until::TurnEnded => conn.tally.ended,
                Until::Count(count) => conn.tally.next >= count,
            };
            if (over || !open) && !std::mem::replace(&mut done[index], true) {
                left -= 1;
            }
        }
    }
    Ok(summary(conns, latencies))
}

fn summary(conns: &[Conn], mut latencies: Vec<u64>) -> Seen {
    latencies.sort_unstable();
    let tallies = || {
        conns
            .iter()
            .map(|conn| &conn.tally)
            .filter(|tally| tally.delivered > 0)
    };
    let first = tallies().map(|tally| tally.first_ns).min().unwrap_or(0);
    let last = tallies().map(|tally| tally.last_ns).max().unwrap_or(0);
    Seen {
        clients: conns.len(),
        delivered: tallies().map(|tally| tally.delivered).sum(),
        folded: tallies().map(|tally| tally.folded).sum(),
        older: tallies().map(|tally| tally.older).sum(),
        doubled: tallies().map(|tally| tally.doubled).sum(),
        latencies,
        span: Duration::from_nanos(last.saturating_sub(first)),
        closed: conns.iter().filter(|conn| conn.closed).count(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(index: u64) -> Vec<u8> {
        format!("{{\"delta\":\"@1234567890123@{index}@xx\"}}").into_bytes()
    }

    #[test]
    fn what_is_missing_or_comes_again_is_counted() {
        let (mut tally, mut latencies) = (Tally::default(), Vec::new());
        for index in [0, 1, 1, 4] {
            tally.on_text(&event(index), 2_000_000_000_000, &mut latencies);
        }
        assert_eq!((tally.delivered, tally.doubled, tally.skipped), (3, 1, 2));
        assert_eq!(latencies.len(), 3);
        let whole = format!(
            "{{\"event\":\"stream.message_end\",{}",
            String::from_utf8_lossy(&event(5))
        );
        tally.on_text(whole.as_bytes(), 0, &mut latencies);
        assert_eq!(tally.next(), 5, "a repetition of the text is no delivery");
        tally.on_text(b"{\"event\":\"turn.ended\"}", 0, &mut latencies);
        assert!(tally.ended);
    }

    #[test]
    fn what_comes_in_a_snapshot_is_folded() {
        let (mut tally, mut latencies) = (Tally::default(), Vec::new());
        let mut snapshot = b"{\"verdict\":\"snapshot\"".to_vec();
        (0..100).for_each(|index| snapshot.extend(event(index)));
        tally.on_text(&snapshot, 2_000_000_000_000, &mut latencies);
        assert_eq!((tally.delivered, tally.folded), (100, 100));
        assert!(latencies.is_empty());
    }

    #[test]
    fn frames_are_joined_however_they_are_cut() {
        let mut bytes = vec![0x01, 2, b'a', b'b', 0x89, 0, 0x80, 1, b'c'];
        bytes.extend([0x81, 1, b'd']);
        for cut in 1..bytes.len() {
            let mut framing = Framing::WebSocket { assembly: Vec::new() };
            let (mut pending, mut texts, mut pongs) = (Vec::new(), Vec::new(), 0);
            for part in bytes.chunks(cut) {
                let answer = framing.split(&mut pending, part, |text| texts.push(text.to_vec()));
                pongs += answer.bytes.len();
            }
            assert_eq!(texts, [b"abc".to_vec(), b"d".to_vec()]);
            assert_eq!(pongs, ws::pong(b"").len());
        }
    }
}
