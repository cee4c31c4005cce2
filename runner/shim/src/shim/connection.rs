//! One connection of a runner: buffers in both directions and its cursor into the journal.

use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};

use super::log::log;
use crate::journal::{JournalError, Reader};
use crate::wire::{Decoder, ErrorReply, ToRunner};

/// How long a new connection may take to say what it wants.
const HELLO_PATIENCE: Duration = Duration::from_secs(5);
/// Pause between two sendings of a stream.
const WINDOW: Duration = Duration::from_millis(2);
/// Records that are not held back for that.
const PILE: u64 = 64;
/// Above this many bytes unsent no further record is read for the runner.
const HIGH_WATER: usize = 256 << 10;
/// Most bytes streamed in one turn of the loop, so that the guest and other connections get theirs.
const TURN: usize = 4 << 20;

/// A connection whose peer's user was checked.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: UnixStream,
    pub(crate) decoder: Decoder,
    out: Vec<u8>,
    out_start: usize,
    /// Present once the hello was accepted.
    pub(crate) reader: Option<Reader>,
    /// When the next records may leave, unless they pile up.
    next_stream: Instant,
    pub(crate) deadline: Instant,
}

impl Connection {
    pub(crate) fn new(stream: UnixStream) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        let deadline = Instant::now() + HELLO_PATIENCE;
        Ok(Self {
            stream,
            decoder: Decoder::new(),
            out: Vec::new(),
            out_start: 0,
            reader: None,
            next_stream: Instant::now(),
            deadline,
        })
    }

    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }

    /// Reads once into the decoder; false when the peer is gone.
    pub(crate) fn receive(&mut self, scratch: &mut [u8]) -> bool {
        match self.stream.read(scratch) {
            Ok(0) => false,
            Ok(count) => {
                self.decoder.push(&scratch[..count]);
                true
            }
            Err(error) => matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted),
        }
    }

    /// Queues a frame.
    pub(crate) fn say(&mut self, message: &ToRunner<'_>) {
        if let Err(error) = message.encode_into(&mut self.out) {
            log(format_args!("cannot encode a frame: {error}"));
        }
    }

    pub(crate) fn say_error(&mut self, code: &str, message: String) {
        self.say(&ToRunner::Error(ErrorReply {
            code: code.to_owned(),
            message,
        }));
    }

    /// Answers a request for the listener; the connection has said nothing else before.
    pub(crate) fn send_listener(&mut self, listener: &OwnedFd) -> io::Result<()> {
        self.say(&ToRunner::Listener);
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        let rights = [listener.as_fd()];
        control.push(SendAncillaryMessage::ScmRights(&rights));
        let sent = sendmsg(
            &self.stream,
            &[IoSlice::new(&self.out)],
            &mut control,
            SendFlags::NOSIGNAL,
        )?;
        self.out_start += sent;
        Ok(())
    }

    pub(crate) fn has_output(&self) -> bool {
        self.out_start < self.out.len()
    }

    /// When records up to `head_seq` may be sent that wait for their moment; `None` where nothing waits for that.
    ///
    /// The first record after a quiet moment leaves at once, a stream at most once per [`WINDOW`], what piles up at
    /// once again: each sending wakes every process on the way to the browser.
    pub(crate) fn waits_until(&self, head_seq: u64) -> Option<Instant> {
        let reader = self.reader.as_ref().filter(|_| !self.has_output())?;
        let waiting = (head_seq + 1).saturating_sub(reader.next_seq());
        (1..PILE).contains(&waiting).then_some(self.next_stream)
    }

    /// Whether records up to `head_seq` are still to be sent, or bytes to be written.
    pub(crate) fn is_behind(&self, head_seq: u64) -> bool {
        self.has_output()
            || self
                .reader
                .as_ref()
                .is_some_and(|reader| reader.next_seq() <= head_seq)
    }

    /// Streams the journal up to `head_seq` as far as the peer takes it; false when the peer is gone.
    pub(crate) fn stream(&mut self, head_seq: u64) -> Result<bool, JournalError> {
        let now = Instant::now();
        if self.waits_until(head_seq).is_some_and(|at| now < at) {
            return Ok(true);
        }
        if self.is_behind(head_seq) {
            self.next_stream = now + WINDOW;
        }
        let mut turn = 0;
        loop {
            turn += self.fill(head_seq)?;
            if !self.flush() {
                return Ok(false);
            }
            if self.has_output() || !self.is_behind(head_seq) || turn >= TURN {
                return Ok(true);
            }
        }
    }

    fn fill(&mut self, head_seq: u64) -> Result<usize, JournalError> {
        let Some(reader) = &mut self.reader else {
            return Ok(0);
        };
        let before = self.out.len();
        while self.out.len() - self.out_start < HIGH_WATER && reader.next_seq() <= head_seq {
            let Some(record) = reader.next()? else { break };
            if let Err(error) = ToRunner::Record(record).encode_into(&mut self.out) {
                log(format_args!("cannot encode a record: {error}"));
            }
        }
        Ok(self.out.len() - before)
    }

    /// Writes what the peer takes; false when it is gone.
    pub(crate) fn flush(&mut self) -> bool {
        while self.has_output() {
            match self.stream.write(&self.out[self.out_start..]) {
                Ok(count) => self.out_start += count,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return true,
                Err(_) => return false,
            }
        }
        self.out.clear();
        self.out.shrink_to(4 * HIGH_WATER);
        self.out_start = 0;
        true
    }
}
