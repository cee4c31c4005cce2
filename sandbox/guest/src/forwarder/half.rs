//! One direction of a connection.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::unix::net::UnixStream;

use lodge_guest::mux::{CONNECTION_WINDOW, CONNECTIONS, Kind, MAX_OUTPUT_CHUNK};

use crate::buffer::{Buffer, Fill};
use crate::link::Link;

/// Bytes under way in one direction of one connection.
pub(super) const MAX_BUFFER: usize = 64 << 10;

/// What every end of a connection can do.
pub(super) trait Stream: Read + Write {
    fn end_writing(&mut self);
}

impl Stream for TcpStream {
    fn end_writing(&mut self) {
        let _ = self.shutdown(Shutdown::Write);
    }
}

impl Stream for UnixStream {
    fn end_writing(&mut self) {
        let _ = self.shutdown(Shutdown::Write);
    }
}

#[derive(Debug, Default)]
pub(super) struct Half {
    pub(super) buffer: Buffer,
    /// The source has ended.
    pub(super) ended: bool,
    /// The end has been passed on, or the sink takes nothing any more.
    pub(super) closed: bool,
    /// The sink has failed.
    pub(super) broken: bool,
}

impl Half {
    pub(super) fn wants_read(&self) -> bool {
        !self.ended && (self.closed || self.buffer.len() < MAX_BUFFER)
    }

    pub(super) fn wants_write(&self) -> bool {
        !self.closed && !self.buffer.is_empty()
    }

    /// Reads once; returns how many bytes.
    pub(super) fn read(&mut self, source: &mut impl Stream) -> usize {
        if !self.wants_read() {
            return 0;
        }
        let before = self.buffer.len();
        let room = MAX_BUFFER.saturating_sub(before);
        match self.buffer.read_from(source, room) {
            Ok(Fill::Some | Fill::Nothing) => {}
            Ok(Fill::End) | Err(_) => self.ended = true,
        }
        let got = self.buffer.len() - before;
        if self.closed {
            // The sink is gone, but its answer may still be under way: swallow what nobody takes, else
            // closing over unread bytes would reset the connection and lose that answer.
            self.buffer.clear();
        }
        got
    }

    pub(super) fn write(&mut self, sink: &mut impl Stream) {
        if self.closed {
            return;
        }
        if self.buffer.write_to(sink).is_err() {
            self.closed = true;
            self.broken = true;
            self.buffer.clear();
        } else if self.ended && self.buffer.is_empty() {
            self.closed = true;
            sink.end_writing();
        }
    }
}

/// A connection to the gateway that runs over the framed stream.
#[derive(Debug)]
pub(super) struct Channel {
    id: u32,
    inbound: Buffer,
    /// The gateway has sent everything.
    ended: bool,
    /// Given up, by either end.
    gone: bool,
    /// Given up by the host, which need not be told.
    told: bool,
    /// Bytes that may still be sent.
    window: u64,
    /// Bytes taken that the host was not told about.
    taken: u32,
    end_sent: bool,
}

impl Channel {
    pub(super) fn open(key: u32, link: &mut Link) -> io::Result<Self> {
        let id = CONNECTIONS | key;
        link.send(Kind::Open, id, &[]).map_err(io::Error::other)?;
        Ok(Self {
            id,
            inbound: Buffer::default(),
            ended: false,
            gone: false,
            told: false,
            window: u64::from(CONNECTION_WINDOW),
            taken: 0,
            end_sent: false,
        })
    }

    pub(super) fn data(&mut self, bytes: &[u8]) {
        if bytes.is_empty() {
            self.ended = true;
        } else if self.inbound.len() + bytes.len() > CONNECTION_WINDOW as usize {
            // More than was granted: whatever speaks there cannot be followed.
            self.give_up();
        } else {
            self.inbound.push(bytes);
        }
    }

    pub(super) fn grant(&mut self, bytes: u32) {
        self.window = self.window.saturating_add(u64::from(bytes));
    }

    /// The host has given it up.
    pub(super) fn close(&mut self) {
        self.told = true;
        self.give_up();
    }

    fn give_up(&mut self) {
        self.gone = true;
        self.inbound.clear();
    }

    /// Whether bytes can be sent, apart from the room on the stream.
    pub(super) fn open_for_writing(&self) -> bool {
        self.window > 0 && !self.gone
    }

    /// Tells the host that this end is through, unless both directions have ended.
    pub(super) fn leave(&self, link: &mut Link) {
        let over = self.ended && self.end_sent;
        if !over && !self.told {
            let _ = link.send(Kind::Close, self.id, &[]);
        }
    }

    pub(super) fn over<'a>(&'a mut self, link: &'a mut Link) -> ChannelEnd<'a> {
        ChannelEnd { channel: self, link }
    }
}

/// A [`Channel`] together with the stream it runs over.
#[derive(Debug)]
pub(super) struct ChannelEnd<'a> {
    channel: &'a mut Channel,
    link: &'a mut Link,
}

impl Read for ChannelEnd<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let Self { channel, link } = self;
        if channel.gone {
            return Err(ErrorKind::ConnectionReset.into());
        }
        let waiting = channel.inbound.waiting();
        if waiting.is_empty() {
            let nothing = ErrorKind::WouldBlock.into();
            return if channel.ended { Ok(0) } else { Err(nothing) };
        }
        let count = waiting.len().min(into.len());
        into[..count].copy_from_slice(&waiting[..count]);
        channel.inbound.consume(count);
        channel.taken += u32::try_from(count).unwrap_or(u32::MAX);
        if channel.taken >= CONNECTION_WINDOW / 4 && !channel.ended {
            let granted = std::mem::take(&mut channel.taken).to_le_bytes();
            link.send(Kind::Credit, channel.id, &granted)
                .map_err(io::Error::other)?;
        }
        Ok(count)
    }
}

impl Write for ChannelEnd<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let Self { channel, link } = self;
        if channel.gone {
            return Err(ErrorKind::BrokenPipe.into());
        }
        let room = usize::try_from(channel.window).unwrap_or(usize::MAX);
        let count = bytes.len().min(room).min(MAX_OUTPUT_CHUNK);
        if count == 0 || link.congested() {
            return Err(ErrorKind::WouldBlock.into());
        }
        link.send(Kind::Data, channel.id, &bytes[..count])
            .map_err(io::Error::other)?;
        channel.window -= count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Stream for ChannelEnd<'_> {
    fn end_writing(&mut self) {
        self.channel.end_sent = true;
        // Nobody is there any more who could want to know.
        if self.channel.told {
            return;
        }
        let _ = self.link.send(Kind::Data, self.channel.id, &[]);
    }
}
