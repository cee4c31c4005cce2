//! The ways out of the guest: its connections to the gateway's port, and those that were captured on their way to a
//! name, each spliced to a connection to the gateway.
//!
//! Bytes only: who the guest is follows from which socket or stream this is, so nothing has to be added, and
//! half-close passes in both directions so that a reply after the end of a request is not lost.

mod connection;
mod half;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use lodge_guest::mux::{CONNECTIONS, Frame, Kind};
use nix::poll::PollFlags;

use crate::egress::Egress;
use crate::link::{Link, LinkError};
use crate::poller::{Poller, Token};
use crate::sys;
use connection::{Connection, Fate};

/// Connections of one class at the same time; further ones wait in the listener's backlog. Classes are counted
/// apart, so that a flood on the way out leaves room for the model.
const MAX_CONNECTIONS: usize = 512;
/// How soon a gateway whose backlog is full is tried again, and a listener that has no descriptor left.
const RETRY: Duration = Duration::from_millis(50);

/// Where connections lead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Gateway {
    /// To a Unix socket in the file view.
    Socket(PathBuf),
    /// To the host at the other end of the framed stream.
    Stream,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Class {
    /// Made to the gateway's own port.
    Gateway,
    /// Made to a name, at this port.
    Captured(u16),
}

impl Class {
    fn index(self) -> usize {
        usize::from(self != Self::Gateway)
    }
}

#[derive(Debug)]
pub(crate) struct Forwarder {
    gateway: Gateway,
    listeners: Vec<(TcpListener, Class)>,
    /// Names and addresses, where connections by name are captured.
    egress: Option<Egress>,
    connections: BTreeMap<u32, Connection>,
    counts: [usize; 2],
    next: u32,
    /// No descriptor was left for a connection.
    paused: Option<Instant>,
    traffic: u64,
}

impl Forwarder {
    pub(crate) fn new(gateway: Gateway) -> Self {
        Self {
            gateway,
            listeners: Vec::new(),
            egress: None,
            connections: BTreeMap::new(),
            counts: [0; 2],
            next: 0,
            paused: None,
            traffic: 0,
        }
    }

    /// Listens for connections to the gateway itself.
    pub(crate) fn listen(&mut self, port: u16) -> io::Result<()> {
        self.add(Ipv4Addr::LOCALHOST, port, Class::Gateway)
    }

    /// Captures connections by name to `port`. On every local address, because which of the pool are in use changes;
    /// what was not made to a name is reset.
    pub(crate) fn capture(&mut self, port: u16) -> io::Result<()> {
        self.add(Ipv4Addr::UNSPECIFIED, port, Class::Captured(port))
    }

    pub(crate) fn answer_names(&mut self, egress: Egress) {
        self.egress = Some(egress);
    }

    fn add(&mut self, address: Ipv4Addr, port: u16, class: Class) -> io::Result<()> {
        let listener = TcpListener::bind((address, port))?;
        listener.set_nonblocking(true)?;
        self.listeners.push((listener, class));
        Ok(())
    }

    /// Bytes that passed so far, both ways.
    pub(crate) fn traffic(&self) -> u64 {
        self.traffic
    }

    pub(crate) fn interest<'a>(&'a self, poller: &mut Poller<'a>) {
        if self.paused.is_none() {
            for (index, (listener, class)) in self.listeners.iter().enumerate() {
                let room = self.counts[class.index()] < MAX_CONNECTIONS;
                poller.add_if(Token::Listener(index), listener.as_fd(), room, false);
            }
        }
        if let Some(egress) = &self.egress {
            egress.interest(poller, self.paused.is_some());
        }
        for (&key, connection) in &self.connections {
            connection.interest(key, poller);
        }
    }

    pub(crate) fn ready(&mut self, token: Token, ready: PollFlags, link: &mut Link) {
        match token {
            Token::Listener(index) => self.accept(index, link),
            Token::Tcp(key) | Token::Unix(key) => self.step(key, Some((token, ready)), link),
            _ => {
                if let Some(egress) = &mut self.egress
                    && egress.ready(token).is_err()
                {
                    self.paused = Some(Instant::now());
                }
            }
        }
    }

    /// Takes a frame that belongs to a connection; those of connections that are gone are ignored.
    pub(crate) fn frame(&mut self, frame: &Frame, link: &mut Link) -> Result<(), LinkError> {
        let key = frame.stream & !CONNECTIONS;
        let Some(channel) = self.connections.get_mut(&key).and_then(Connection::channel) else {
            return Ok(());
        };
        match frame.kind {
            Kind::Data => channel.data(&frame.payload),
            Kind::Close => channel.close(),
            Kind::Credit => channel.grant(frame.credit()?),
            kind => return Err(LinkError::Direction(kind)),
        }
        self.step(key, None, link);
        Ok(())
    }

    /// Moves on what waited for room on the framed stream or for a busy gateway; says when to try again.
    pub(crate) fn settle(&mut self, now: Instant, link: &mut Link) -> Option<Duration> {
        if self.paused.is_some_and(|since| now >= since + RETRY) {
            self.paused = None;
        }
        let waiting: Vec<u32> = self.connections.keys().copied().collect();
        for key in waiting {
            self.dial(key, link);
            if self.gateway == Gateway::Stream {
                self.step(key, None, link);
            }
        }
        let busy = self.connections.values().any(Connection::busy);
        (busy || self.paused.is_some()).then_some(RETRY)
    }

    /// Whether there is room on the framed stream again for bytes that wait for it: nothing else would wake the loop.
    pub(crate) fn sendable(&self, link: &Link) -> bool {
        !link.congested() && self.connections.values().any(Connection::sendable)
    }

    fn dial(&mut self, key: u32, link: &mut Link) {
        let Some(connection) = self.connections.get_mut(&key).filter(|found| found.busy()) else {
            return;
        };
        if let Err(error) = connection.dial(&self.gateway, key, link) {
            eprintln!("lodge-init: gateway: {error}");
            self.end(key, Fate::Refused, link);
        }
    }

    fn step(&mut self, key: u32, ready: Option<(Token, PollFlags)>, link: &mut Link) {
        let Some(connection) = self.connections.get_mut(&key) else {
            return;
        };
        match connection.step(ready, link, &mut self.traffic) {
            Fate::Goes => {}
            fate => self.end(key, fate, link),
        }
    }

    fn end(&mut self, key: u32, fate: Fate, link: &mut Link) {
        let Some(connection) = self.connections.remove(&key) else {
            return;
        };
        self.counts[connection.class.index()] -= 1;
        if let (Some(egress), Some(address)) = (&mut self.egress, connection.address) {
            egress.release(address);
        }
        connection.leave(fate, link);
    }

    fn accept(&mut self, index: usize, link: &mut Link) {
        let Some(&(_, class)) = self.listeners.get(index) else {
            return;
        };
        while self.counts[class.index()] < MAX_CONNECTIONS {
            match self.listeners[index].0.accept() {
                Ok((guest, _)) => self.open(guest, class, link),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                // The caller gave up before it was accepted, or a signal came.
                Err(error)
                    if matches!(
                        error.kind(),
                        ErrorKind::Interrupted | ErrorKind::ConnectionAborted
                    ) => {}
                // No descriptor or memory left: the listener would stay ready.
                Err(_) => {
                    self.paused = Some(Instant::now());
                    return;
                }
            }
        }
    }

    fn open(&mut self, guest: TcpStream, class: Class, link: &mut Link) {
        let (request, address) = match class {
            Class::Gateway => (None, None),
            Class::Captured(port) => {
                let Some((address, name)) = self.target(&guest) else {
                    return sys::reset(guest);
                };
                let request = format!("CONNECT {name}:{port} HTTP/1.1\r\nHost: {name}:{port}\r\n\r\n");
                (Some(request), Some(address))
            }
        };
        let Ok(mut connection) = Connection::new(guest, class, request.as_deref()) else {
            if let (Some(egress), Some(address)) = (&mut self.egress, address) {
                egress.release(address);
            }
            return;
        };
        connection.address = address;
        let key = self.free_key();
        self.counts[class.index()] += 1;
        self.connections.insert(key, connection);
        self.dial(key, link);
        self.step(key, None, link);
    }

    /// The name that a captured connection was made to; its address is in use from here on.
    fn target(&mut self, guest: &TcpStream) -> Option<(Ipv4Addr, lodge_guest::dns::Name)> {
        let Ok(SocketAddr::V4(local)) = guest.local_addr() else {
            return None;
        };
        let name = self.egress.as_mut()?.acquire(*local.ip())?;
        Some((*local.ip(), name))
    }

    fn free_key(&mut self) -> u32 {
        loop {
            let key = self.next;
            self.next = (self.next + 1) & !CONNECTIONS;
            if !self.connections.contains_key(&key) {
                return key;
            }
        }
    }
}
