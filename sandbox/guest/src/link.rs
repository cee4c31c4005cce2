//! Init's end of the framed stream: reading frames, and queueing frames until they can be written.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use lodge_guest::mux::{Decoder, Frame, Kind, MuxError, encode_into};
use nix::poll::PollFlags;
use serde::Serialize;

use crate::buffer::{Buffer, read_once};
use crate::sys;

/// From so many queued bytes on, the output of commands is left in their pipes.
const HIGH_WATER: usize = 256 << 10;
/// Most bytes taken from the stream in one go.
const READ_CHUNK: usize = 256 << 10;

#[derive(Debug, thiserror::Error)]
pub(crate) enum LinkError {
    #[error("the stream to the shim is damaged: {0}")]
    Protocol(#[from] MuxError),
    #[error("the shim sent a {0:?} frame, which only init may send")]
    Direction(Kind),
}

#[derive(Debug)]
pub(crate) struct Link {
    stream: File,
    decoder: Decoder,
    out: Buffer,
    scratch: Box<[u8]>,
    /// Bytes that passed, both ways.
    traffic: u64,
}

impl Link {
    pub(crate) fn new(fd: OwnedFd) -> io::Result<Self> {
        sys::set_nonblocking(fd.as_fd())?;
        Ok(Self {
            stream: File::from(fd),
            decoder: Decoder::new(),
            out: Buffer::default(),
            scratch: vec![0; READ_CHUNK].into_boxed_slice(),
            traffic: 0,
        })
    }

    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }

    /// What to wait for; hang-up is always reported. `paused` leaves what the shim sends in the socket.
    pub(crate) fn interest(&self, paused: bool) -> PollFlags {
        let mut interest = PollFlags::empty();
        interest.set(PollFlags::POLLIN, !paused);
        interest.set(PollFlags::POLLOUT, !self.out.is_empty());
        interest
    }

    pub(crate) fn congested(&self) -> bool {
        self.out.len() >= HIGH_WATER
    }

    pub(crate) fn is_flushed(&self) -> bool {
        self.out.is_empty()
    }

    pub(crate) fn send(&mut self, kind: Kind, stream: u32, payload: &[u8]) -> Result<(), LinkError> {
        Ok(encode_into(kind, stream, payload, self.out.tail())?)
    }

    pub(crate) fn send_json<T: Serialize>(
        &mut self,
        kind: Kind,
        stream: u32,
        value: &T,
    ) -> Result<(), LinkError> {
        Ok(Frame::json(kind, stream, value)?.encode_into(self.out.tail())?)
    }

    pub(crate) fn flush(&mut self) -> io::Result<()> {
        let before = self.out.len();
        let written = self.out.write_to(&mut self.stream);
        self.traffic += (before - self.out.len()) as u64;
        written
    }

    /// Bytes that passed so far, both ways.
    pub(crate) fn traffic(&self) -> u64 {
        self.traffic
    }

    /// Takes what has arrived; `false` when the stream has ended.
    pub(crate) fn receive(&mut self, frames: &mut Vec<Frame>) -> Result<bool, LinkError> {
        // A read error means the same as the end: nobody is there to obey any more.
        match read_once(&mut self.stream, &mut self.scratch) {
            Ok(None) => return Ok(true),
            Ok(Some(0)) | Err(_) => return Ok(false),
            Ok(Some(got)) => {
                self.traffic += got as u64;
                self.decoder.push(&self.scratch[..got]);
            }
        }
        while let Some(frame) = self.decoder.next()? {
            frames.push(frame);
        }
        Ok(true)
    }
}
