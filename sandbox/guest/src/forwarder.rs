//! The gateway's port inside the guest: every connection is spliced to the gateway's socket.
//!
//! Bytes only: who the guest is follows from which socket this is, so nothing has to be added, and
//! half-close passes in both directions so that a reply after the end of a request is not lost.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::PollFlags;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, socket};

use crate::buffer::{Buffer, Fill};
use crate::poller::{Poller, Token};

/// Connections at the same time; further ones wait in the listener's backlog.
const MAX_CONNECTIONS: usize = 256;
/// Bytes under way in one direction of one connection.
const MAX_BUFFER: usize = 64 << 10;
/// How soon a gateway whose backlog is full is tried again.
const RETRY: Duration = Duration::from_millis(50);

/// One direction of a connection.
#[derive(Debug, Default)]
struct Half {
    buffer: Buffer,
    /// The source has ended.
    ended: bool,
    /// The end has been passed on, or the sink takes nothing any more.
    closed: bool,
    /// The sink has failed.
    broken: bool,
}

/// What both socket types can do.
trait Stream: io::Read + io::Write {
    fn end_writing(&self);
}

impl Stream for TcpStream {
    fn end_writing(&self) {
        let _ = self.shutdown(Shutdown::Write);
    }
}

impl Stream for UnixStream {
    fn end_writing(&self) {
        let _ = self.shutdown(Shutdown::Write);
    }
}

impl Half {
    fn wants_read(&self) -> bool {
        !self.ended && (self.closed || self.buffer.len() < MAX_BUFFER)
    }

    fn wants_write(&self) -> bool {
        !self.closed && !self.buffer.is_empty()
    }

    fn read(&mut self, source: &mut impl Stream) {
        if !self.wants_read() {
            return;
        }
        let room = MAX_BUFFER.saturating_sub(self.buffer.len());
        match self.buffer.read_from(source, room) {
            Ok(Fill::Some | Fill::Nothing) => {}
            Ok(Fill::End) | Err(_) => self.ended = true,
        }
        if self.closed {
            // The sink is gone, but its answer may still be under way: swallow what nobody takes, else
            // closing over unread bytes would reset the connection and lose that answer.
            self.buffer.clear();
        }
    }

    fn write(&mut self, sink: &mut impl Stream) {
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

#[derive(Debug)]
struct Connection {
    guest: TcpStream,
    gateway: Option<UnixStream>,
    up: Half,
    down: Half,
}

impl Connection {
    fn step(&mut self, token: Token, ready: PollFlags) {
        let Some(gateway) = &mut self.gateway else { return };
        let readable = ready.intersects(PollFlags::POLLIN | PollFlags::POLLHUP | PollFlags::POLLERR);
        match token {
            Token::Tcp(_) if readable => self.up.read(&mut self.guest),
            Token::Unix(_) if readable => self.down.read(gateway),
            _ => {}
        }
        self.up.write(gateway);
        self.down.write(&mut self.guest);
    }

    fn finished(&self) -> bool {
        // A guest that is gone must not keep a costly answer running; a gateway that has stopped reading
        // may still be answering.
        self.down.broken || (self.down.closed && self.up.closed)
    }
}

#[derive(Debug)]
pub(crate) struct Forwarder {
    listener: TcpListener,
    socket: PathBuf,
    connections: BTreeMap<u64, Connection>,
    next: u64,
}

impl Forwarder {
    pub(crate) fn listen(port: u16, socket: &Path) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))?;
        listener.set_nonblocking(true)?;
        Ok(Self {
            listener,
            socket: socket.to_owned(),
            connections: BTreeMap::new(),
            next: 0,
        })
    }

    pub(crate) fn interest<'a>(&'a self, poller: &mut Poller<'a>) {
        let room = self.connections.len() < MAX_CONNECTIONS;
        poller.add_if(Token::Listener, self.listener.as_fd(), room, false);
        for (&key, connection) in &self.connections {
            let Some(gateway) = &connection.gateway else {
                continue;
            };
            let Connection { guest, up, down, .. } = connection;
            poller.add_if(
                Token::Tcp(key),
                guest.as_fd(),
                up.wants_read(),
                down.wants_write(),
            );
            poller.add_if(
                Token::Unix(key),
                gateway.as_fd(),
                down.wants_read(),
                up.wants_write(),
            );
        }
    }

    pub(crate) fn ready(&mut self, token: Token, ready: PollFlags) {
        match token {
            Token::Listener => self.accept(),
            Token::Tcp(key) | Token::Unix(key) => {
                let Some(connection) = self.connections.get_mut(&key) else {
                    return;
                };
                connection.step(token, ready);
                if connection.finished() {
                    self.connections.remove(&key);
                }
            }
            _ => {}
        }
    }

    /// Connects those whose gateway was too busy; says when to try again.
    pub(crate) fn settle(&mut self) -> Option<Duration> {
        let socket = &self.socket;
        self.connections.retain(|_, connection| {
            connection.gateway.is_some()
                || match dial(socket) {
                    Ok(gateway) => {
                        connection.gateway = gateway;
                        true
                    }
                    Err(_) => false,
                }
        });
        self.connections
            .values()
            .any(|connection| connection.gateway.is_none())
            .then_some(RETRY)
    }

    fn accept(&mut self) {
        while self.connections.len() < MAX_CONNECTIONS {
            match self.listener.accept() {
                Ok((guest, _)) => self.open(guest),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return,
            }
        }
    }

    fn open(&mut self, guest: TcpStream) {
        // Without latency tuning each small frame of an event stream would wait for an acknowledgement.
        if guest.set_nonblocking(true).is_err() || guest.set_nodelay(true).is_err() {
            return;
        }
        match dial(&self.socket) {
            Ok(gateway) => {
                let (up, down) = (Half::default(), Half::default());
                self.connections.insert(
                    self.next,
                    Connection {
                        guest,
                        gateway,
                        up,
                        down,
                    },
                );
                self.next += 1;
            }
            Err(error) => eprintln!("lodge-init: gateway socket: {error}"),
        }
    }
}

/// Connects without blocking; `None` when the listener's backlog is full.
fn dial(path: &Path) -> io::Result<Option<UnixStream>> {
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    let fd: OwnedFd = socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
    match connect(fd.as_raw_fd(), &UnixAddr::new(path)?) {
        Ok(()) => Ok(Some(UnixStream::from(fd))),
        Err(Errno::EAGAIN) => Ok(None),
        Err(error) => Err(error.into()),
    }
}
