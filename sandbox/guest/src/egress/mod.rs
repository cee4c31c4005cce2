//! Names inside the guest: the sockets of its name server, and which address stands for which name.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsFd;

use lodge_guest::dns::{self, MAX_QUERY, Name, Pool};

use crate::buffer::{Buffer, Fill};
use crate::poller::{Poller, Token};
use crate::sys;

/// The port of name servers.
pub(crate) const PORT: u16 = 53;
/// Names that have an address at the same time.
const MAX_NAMES: usize = 4096;
/// Connections for queries at the same time; a new one replaces the oldest.
const MAX_STREAMS: usize = 32;
/// Datagrams answered before anything else gets a turn.
const BATCH: usize = 64;

#[derive(Debug)]
pub(crate) struct Egress {
    pool: Pool,
    datagrams: UdpSocket,
    listener: TcpListener,
    streams: BTreeMap<u64, NameStream>,
    next: u64,
}

/// A connection for queries, each preceded by its length.
#[derive(Debug)]
struct NameStream {
    stream: TcpStream,
    inbound: Buffer,
    outbound: Buffer,
}

impl Egress {
    pub(crate) fn listen() -> io::Result<Self> {
        let address = (Ipv4Addr::LOCALHOST, PORT);
        let datagrams = UdpSocket::bind(address)?;
        datagrams.set_nonblocking(true)?;
        let listener = TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        Ok(Self {
            pool: Pool::new(MAX_NAMES),
            datagrams,
            listener,
            streams: BTreeMap::new(),
            next: 0,
        })
    }

    /// The name behind `address`, for a connection that lasts until [`Egress::release`].
    pub(crate) fn acquire(&mut self, address: Ipv4Addr) -> Option<Name> {
        self.pool.acquire(address, sys::boot_time())
    }

    pub(crate) fn release(&mut self, address: Ipv4Addr) {
        self.pool.release(address, sys::boot_time());
    }

    pub(crate) fn interest<'a>(&'a self, poller: &mut Poller<'a>, paused: bool) {
        poller.add_if(Token::NameDatagrams, self.datagrams.as_fd(), true, false);
        poller.add_if(Token::NameListener, self.listener.as_fd(), !paused, false);
        for (&key, stream) in &self.streams {
            let writing = !stream.outbound.is_empty();
            // Nobody gets a second answer before the first was taken.
            poller.add_if(Token::NameStream(key), stream.stream.as_fd(), !writing, writing);
        }
    }

    /// An error means that no descriptor is left.
    pub(crate) fn ready(&mut self, token: Token) -> io::Result<()> {
        match token {
            Token::NameDatagrams => self.answer_datagrams(),
            Token::NameListener => return self.accept(),
            Token::NameStream(key) => {
                if let Some(stream) = self.streams.get_mut(&key)
                    && !stream.serve(&mut self.pool)
                {
                    self.streams.remove(&key);
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn answer_datagrams(&mut self) {
        let mut packet = [0; MAX_QUERY];
        for _ in 0..BATCH {
            match self.datagrams.recv_from(&mut packet) {
                Ok((length, from)) => {
                    if let Some(answer) = dns::serve(&packet[..length], &mut self.pool, sys::boot_time()) {
                        // A lost answer is asked for again.
                        let _ = self.datagrams.send_to(&answer, from);
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                // An earlier answer found nobody.
                Err(_) => {}
            }
        }
    }

    fn accept(&mut self) -> io::Result<()> {
        match self.listener.accept() {
            Ok((stream, _)) => {
                stream.set_nonblocking(true)?;
                if self.streams.len() >= MAX_STREAMS {
                    self.streams.pop_first();
                }
                self.streams.insert(
                    self.next,
                    NameStream {
                        stream,
                        inbound: Buffer::default(),
                        outbound: Buffer::default(),
                    },
                );
                self.next += 1;
                Ok(())
            }
            Err(error)
                if matches!(
                    error.kind(),
                    ErrorKind::WouldBlock | ErrorKind::Interrupted | ErrorKind::ConnectionAborted
                ) =>
            {
                Ok(())
            }
            Err(error) => Err(error),
        }
    }
}

impl NameStream {
    /// Reads, answers, writes; `false` when the connection is over.
    fn serve(&mut self, pool: &mut Pool) -> bool {
        if self.outbound.write_to(&mut self.stream).is_err() {
            return false;
        }
        let read = if self.outbound.is_empty() {
            self.inbound.read_from(&mut self.stream, MAX_QUERY)
        } else {
            Ok(Fill::Nothing)
        };
        while self.outbound.is_empty() {
            let waiting = self.inbound.waiting();
            let Some((&[high, low], rest)) = waiting.split_first_chunk::<2>() else {
                break;
            };
            let length = usize::from(u16::from_be_bytes([high, low]));
            if length > MAX_QUERY {
                return false;
            }
            let Some(packet) = rest.get(..length) else { break };
            let Some(answer) = dns::serve(packet, pool, sys::boot_time()) else {
                return false;
            };
            self.inbound.consume(2 + length);
            let length = u16::try_from(answer.len()).unwrap_or(u16::MAX);
            self.outbound.push(&length.to_be_bytes());
            self.outbound.push(&answer);
            if self.outbound.write_to(&mut self.stream).is_err() {
                return false;
            }
        }
        !matches!(read, Ok(Fill::End) | Err(_))
    }
}
