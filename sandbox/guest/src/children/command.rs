//! One command: its pipes or its terminal, its credit, its end.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use lodge_guest::mux::{Asks, Exit, INPUT_WINDOW, Kind, MAX_OUTPUT_CHUNK, Resize};
use nix::unistd::Pid;

use crate::buffer::{Buffer, read_once};
use crate::link::{Link, LinkError};
use crate::sys::{self, Spawned};

/// How long a pipe that a surviving grandchild holds open may delay the exit of its command.
const DRAIN_GRACE: Duration = Duration::from_millis(200);
/// Above this many bytes waiting for one command's input, init stops taking frames from the shim.
const MAX_STDIN: usize = 4 << 20;
/// The same while the command may wait for credit, which comes in a frame.
const MAX_STDIN_STARVED: usize = 64 << 20;

/// One output pipe, or the controlling side of a terminal.
#[derive(Debug)]
pub(super) struct Output {
    pub(super) pipe: Option<File>,
    kind: Kind,
    terminal: bool,
    /// Bytes in the pipe when the command was reaped: its own last words, which go before its exit. How many lie in
    /// a terminal the kernel does not say, so there it stays at the maximum until nothing is left.
    owed: u64,
}

impl Output {
    fn new(pipe: Option<OwnedFd>, kind: Kind, terminal: bool) -> io::Result<Self> {
        if let Some(pipe) = &pipe {
            sys::set_nonblocking(pipe.as_fd())?;
        }
        Ok(Self {
            pipe: pipe.map(File::from),
            kind,
            terminal,
            owed: 0,
        })
    }

    fn note_owed(&mut self) {
        self.owed = match &self.pipe {
            None => 0,
            Some(_) if self.terminal => u64::MAX,
            Some(pipe) => sys::readable_bytes(pipe.as_fd()),
        };
    }

    /// Reads once, as much as fits into `chunk`, and passes it on; returns how many bytes.
    fn pump(&mut self, stream: u32, chunk: &mut [u8], link: &mut Link) -> Result<usize, LinkError> {
        let Some(pipe) = &mut self.pipe else { return Ok(0) };
        match read_once(pipe, chunk) {
            Ok(None) => {
                self.owed = 0;
                Ok(0)
            }
            // A terminal whose other side is closed says so with an error.
            Ok(Some(0)) | Err(_) => {
                self.pipe = None;
                self.owed = 0;
                link.send(self.kind, stream, &[])?;
                Ok(0)
            }
            Ok(Some(got)) => {
                if !self.terminal {
                    self.owed = self.owed.saturating_sub(got as u64);
                }
                link.send(self.kind, stream, &chunk[..got])?;
                Ok(got)
            }
        }
    }
}

#[derive(Debug)]
pub(super) struct Stdin {
    pub(super) pipe: Option<File>,
    pub(super) waiting: Buffer,
    terminal: bool,
    ended: bool,
    /// Bytes that came and were not granted anew; `None` where nobody asked for grants.
    owed: Option<u64>,
}

impl Stdin {
    fn push(&mut self, bytes: &[u8]) {
        if let Some(owed) = &mut self.owed {
            *owed += bytes.len() as u64;
        }
        let Some(pipe) = self.pipe.as_ref().filter(|_| !self.ended) else {
            return;
        };
        if !bytes.is_empty() {
            self.waiting.push(bytes);
        } else if self.terminal {
            // A terminal is not closed by the end of its input: whoever reads lines is told by a character.
            self.waiting.push(sys::end_of_file(pipe.as_fd()).as_slice());
        } else {
            self.ended = true;
        }
        self.write();
    }

    /// A command that has closed its input loses what still waits for it, like the writer of any pipe.
    pub(super) fn write(&mut self) {
        let Some(pipe) = &mut self.pipe else { return };
        let failed = self.waiting.write_to(pipe).is_err();
        if failed || (self.ended && self.waiting.is_empty()) {
            self.close();
        }
    }

    fn close(&mut self) {
        self.pipe = None;
        self.waiting.clear();
    }

    /// How many bytes may come in place of those that were read, or that nobody will ever read. Small amounts wait
    /// for more unless they are all there is.
    fn due(&mut self) -> Option<u32> {
        let owed = self.owed.as_mut()?;
        let gone = owed.saturating_sub(self.waiting.len() as u64);
        if gone == 0 || (gone < u64::from(INPUT_WINDOW / 4) && !self.waiting.is_empty()) {
            return None;
        }
        *owed -= gone;
        Some(u32::try_from(gone).unwrap_or(u32::MAX))
    }
}

#[derive(Debug)]
pub(super) struct Command {
    pub(super) pid: Pid,
    pub(super) stdin: Stdin,
    pub(super) stdout: Output,
    pub(super) stderr: Output,
    /// Output bytes the shim still takes; `None` until it first grants some: no limit.
    credit: Option<u64>,
    ended: Option<(Exit, Instant)>,
    pub(super) announced: bool,
}

impl Command {
    pub(super) fn new(spawned: Spawned, asks: Asks) -> io::Result<Self> {
        let Spawned {
            pid,
            stdin,
            stdout,
            stderr,
            terminal,
        } = spawned;
        if let Some(pipe) = &stdin {
            sys::set_nonblocking(pipe.as_fd())?;
        }
        Ok(Self {
            pid,
            stdin: Stdin {
                pipe: stdin.map(File::from),
                waiting: Buffer::default(),
                terminal,
                ended: false,
                owed: asks.input_credit.then_some(0),
            },
            stdout: Output::new(stdout, Kind::Stdout, terminal)?,
            stderr: Output::new(stderr, Kind::Stderr, false)?,
            credit: None,
            ended: None,
            announced: false,
        })
    }

    pub(super) fn feed(&mut self, bytes: &[u8]) {
        self.stdin.push(bytes);
    }

    /// Whether more input waits than init is willing to hold.
    pub(super) fn overfed(&self) -> bool {
        let starved = self.output_limit() == 0;
        self.stdin.waiting.len() > if starved { MAX_STDIN_STARVED } else { MAX_STDIN }
    }

    pub(super) fn grant(&mut self, bytes: u32) {
        self.credit = Some(self.credit.unwrap_or(0).saturating_add(u64::from(bytes)));
    }

    /// Changes the size of the terminal, if there is one; the kernel tells whoever runs on it.
    pub(super) fn resize(&self, size: Resize) {
        if let Some(terminal) = self.stdout.pipe.as_ref().filter(|_| self.stdout.terminal) {
            sys::resize(terminal.as_fd(), size);
        }
    }

    pub(super) fn running(&self) -> bool {
        self.ended.is_none()
    }

    pub(super) fn end(&mut self, exit: Exit, now: Instant) {
        self.ended = Some((exit, now));
        self.stdout.note_owed();
        self.stderr.note_owed();
    }

    pub(super) fn drained(&self) -> bool {
        self.stdout.pipe.is_none() && self.stderr.pipe.is_none()
    }

    pub(super) fn output_limit(&self) -> usize {
        let granted = |left: u64| usize::try_from(left).unwrap_or(usize::MAX);
        self.credit
            .map_or(MAX_OUTPUT_CHUNK, granted)
            .min(MAX_OUTPUT_CHUNK)
    }

    /// Passes on what one of the outputs has; returns how many bytes.
    pub(super) fn pump(
        &mut self,
        at: (u32, Kind),
        chunk: &mut [u8],
        link: &mut Link,
    ) -> Result<usize, LinkError> {
        let (stream, kind) = at;
        let limit = self.output_limit();
        if limit == 0 || link.congested() {
            return Ok(0);
        }
        let output = if kind == Kind::Stdout {
            &mut self.stdout
        } else {
            &mut self.stderr
        };
        let got = output.pump(stream, &mut chunk[..limit], link)?;
        if let Some(credit) = &mut self.credit {
            *credit = credit.saturating_sub(got as u64);
        }
        Ok(got)
    }

    /// Grants further input for what was passed on.
    pub(super) fn grant_input(&mut self, stream: u32, link: &mut Link) -> Result<(), LinkError> {
        match self.stdin.due() {
            Some(bytes) => link.send(Kind::Credit, stream, &bytes.to_le_bytes()),
            None => Ok(()),
        }
    }

    /// Announces the exit when it is due; otherwise says how long until it is.
    pub(super) fn settle(
        &mut self,
        stream: u32,
        now: Instant,
        link: &mut Link,
    ) -> Result<Option<Duration>, LinkError> {
        let Some((exit, reaped)) = self.ended.filter(|_| !self.announced) else {
            return Ok(None);
        };
        let waited = now.saturating_duration_since(reaped);
        let owed = self.stdout.owed.saturating_add(self.stderr.owed);
        if self.drained() || (owed == 0 && waited >= DRAIN_GRACE) {
            self.announced = true;
            self.stdin.close();
            link.send_json(Kind::Exit, stream, &exit)?;
            return Ok(None);
        }
        // While bytes are owed, their pipe is readable and wakes the loop by itself.
        Ok((owed == 0).then(|| DRAIN_GRACE.saturating_sub(waited)))
    }

    /// Whether the command has ended and its terminal may still hold something, which only reading tells.
    pub(super) fn unsure(&self) -> bool {
        self.ended.is_some() && self.stdout.terminal && self.stdout.owed > 0
    }
}
