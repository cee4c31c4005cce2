//! The sandbox command and the framed stream to the guest init inside it.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{ChildStderr, Command, Stdio};

use lodge_guest::mux::{self, Frame, Kind, MuxError};
use rustix::process::{Pid, WaitStatus};

use super::inputs::Input;
use crate::journal::Id;
use crate::launch::LaunchSpec;
use crate::sys;

/// The harness's stream.
pub(crate) const HARNESS: u32 = 1;
/// Above this many bytes waiting for the guest no further input is begun.
const HIGH_WATER: usize = 1 << 20;
/// Payload of one input frame, in bytes.
const STDIN_CHUNK: usize = 256 << 10;
/// What is kept of the sandbox command's standard error, in bytes.
const TAIL: usize = 4096;

/// The command and its stream.
#[derive(Debug)]
pub(crate) struct Guest {
    /// `None` once it was reaped.
    pid: Option<Pid>,
    status: Option<WaitStatus>,
    mux: Option<UnixStream>,
    decoder: mux::Decoder,
    out: Vec<u8>,
    out_start: usize,
    /// Bytes ever queued; marks are counted in it.
    queued: u64,
    /// Where each begun input ends.
    marks: VecDeque<(u64, Id)>,
    stderr: Option<ChildStderr>,
    tail: Vec<u8>,
}

/// What a read brought.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Received {
    Some,
    Nothing,
    End,
}

impl Guest {
    /// Starts the sandbox command. `inherited` are the descriptors it gets; this process's copies close here.
    pub(crate) fn spawn(spec: &LaunchSpec, mux: UnixStream, inherited: Vec<OwnedFd>) -> io::Result<Self> {
        mux.set_nonblocking(true)?;
        let (program, arguments) = spec.argv.split_first().ok_or(ErrorKind::InvalidInput)?;
        let mut command = Command::new(program);
        command
            .args(arguments)
            .env_clear()
            .envs(spec.env.iter().map(|(name, value)| (name, value)));
        command
            .env(mux::ENV_FD, spec.mux_fd_in_guest.to_string())
            .process_group(0);
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        sys::die_with_parent(&mut command);
        let mut child = command.spawn()?;
        drop(inherited);
        let stderr = child.stderr.take();
        if let Some(stderr) = &stderr {
            rustix::io::ioctl_fionbio(stderr, true)?;
        }
        Ok(Self {
            pid: Some(Pid::from_child(&child)),
            status: None,
            mux: Some(mux),
            decoder: mux::Decoder::new(),
            out: Vec::new(),
            out_start: 0,
            queued: 0,
            marks: VecDeque::new(),
            stderr,
            tail: Vec::new(),
        })
    }

    pub(crate) fn mux(&self) -> Option<&UnixStream> {
        self.mux.as_ref()
    }

    pub(crate) fn stderr(&self) -> Option<&ChildStderr> {
        self.stderr.as_ref()
    }

    pub(crate) fn pid(&self) -> Option<Pid> {
        self.pid
    }

    /// Whether nothing more can come from it.
    pub(crate) fn is_over(&self) -> bool {
        self.mux.is_none() && self.pid.is_none() && self.stderr.is_none()
    }

    /// Notes the end of a child of the shim, which may be the command.
    pub(crate) fn reaped(&mut self, pid: Pid, status: WaitStatus) -> bool {
        let own = self.pid == Some(pid);
        if own {
            self.pid = None;
            self.status = Some(status);
        }
        own
    }

    /// Reads once; frames are then taken with [`Guest::next_frame`].
    pub(crate) fn receive(&mut self, scratch: &mut [u8]) -> Received {
        let Some(mux) = &mut self.mux else {
            return Received::Nothing;
        };
        match mux.read(scratch) {
            Ok(0) => Received::End,
            Ok(count) => {
                self.decoder.push(&scratch[..count]);
                Received::Some
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {
                Received::Nothing
            }
            // A reset is an end with frames of ours unread.
            Err(_) => Received::End,
        }
    }

    pub(crate) fn next_frame(&mut self) -> Result<Option<Frame>, MuxError> {
        self.decoder.next()
    }

    /// Keeps the end of what the command says on its standard error.
    pub(crate) fn read_stderr(&mut self) {
        let mut chunk = [0; TAIL];
        let Some(stderr) = &mut self.stderr else { return };
        match stderr.read(&mut chunk) {
            Ok(0) => self.stderr = None,
            Ok(count) => {
                self.tail.extend_from_slice(&chunk[..count]);
                let excess = self.tail.len().saturating_sub(TAIL);
                self.tail.drain(..excess);
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
            Err(_) => self.stderr = None,
        }
    }

    /// How the command ended and what it said last.
    pub(crate) fn epitaph(&self) -> String {
        let end = match self.status {
            None => "it still runs".to_owned(),
            Some(status) => match (status.exit_status(), status.terminating_signal()) {
                (Some(code), _) => format!("exit status {code}"),
                (None, Some(signal)) => format!("signal {signal}"),
                (None, None) => "unknown status".to_owned(),
            },
        };
        let tail = String::from_utf8_lossy(&self.tail);
        format!("{end}: {}", tail.trim())
            .trim_end_matches([' ', ':'])
            .to_owned()
    }

    /// Whether another input may be begun.
    pub(crate) fn has_room(&self) -> bool {
        self.mux.is_some() && self.out.len() - self.out_start < HIGH_WATER
    }

    pub(crate) fn has_output(&self) -> bool {
        self.mux.is_some() && self.out_start < self.out.len()
    }

    pub(crate) fn queue(&mut self, kind: Kind, payload: &[u8]) -> Result<(), MuxError> {
        let stream = if kind == Kind::Shutdown { 0 } else { HARNESS };
        self.queue_for(kind, stream, payload)
    }

    /// Queues a frame of any stream.
    pub(crate) fn queue_for(&mut self, kind: Kind, stream: u32, payload: &[u8]) -> Result<(), MuxError> {
        if self.out_start > HIGH_WATER {
            self.out.drain(..self.out_start);
            self.out_start = 0;
        }
        let before = self.out.len();
        mux::encode_into(kind, stream, payload, &mut self.out)?;
        self.queued += (self.out.len() - before) as u64;
        Ok(())
    }

    /// Queues an input whose beginning is in the journal; without bytes it is the end of the standard input.
    pub(crate) fn queue_input(&mut self, input: &Input) -> Result<(), MuxError> {
        if input.bytes.is_empty() {
            self.queue(Kind::Stdin, &[])?;
        }
        for chunk in input.bytes.chunks(STDIN_CHUNK) {
            self.queue(Kind::Stdin, chunk)?;
        }
        self.marks.push_back((self.queued, input.id));
        Ok(())
    }

    /// Writes what the guest takes. A stream that broke is noticed by the next read.
    pub(crate) fn flush(&mut self) {
        let Some(mux) = &mut self.mux else { return };
        while self.out_start < self.out.len() {
            match mux.write(&self.out[self.out_start..]) {
                Ok(count) => self.out_start += count,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(_) => {
                    // What was not taken never will be: these inputs stay begun, hence uncertain.
                    self.marks.clear();
                    break;
                }
            }
        }
        self.out.clear();
        self.out.shrink_to(HIGH_WATER);
        self.out_start = 0;
    }

    /// The next input whose last byte has left.
    pub(crate) fn next_done(&mut self) -> Option<Id> {
        let written = self.queued - (self.out.len() - self.out_start) as u64;
        let (end, id) = *self.marks.front()?;
        (end <= written).then(|| {
            self.marks.pop_front();
            id
        })
    }

    /// Ends the stream in the guest's direction: its init kills everything. What it still sends is read.
    pub(crate) fn hang_up(&mut self) {
        if let Some(mux) = &self.mux {
            let _ = mux.shutdown(Shutdown::Write);
        }
    }

    /// Closes the stream in both directions.
    pub(crate) fn close(&mut self) {
        self.mux = None;
        self.marks.clear();
    }
}
