//! One connection of the guest and what it is spliced to.

use std::io;
use std::net::{Ipv4Addr, TcpStream};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;

use nix::errno::Errno;
use nix::poll::PollFlags;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, socket};

use super::half::{Channel, Half, Stream};
use super::{Class, Gateway};
use crate::link::Link;
use crate::poller::{Poller, Token};

/// Longest answer to a request for a connection, in bytes.
const MAX_HEAD: usize = 8 << 10;

/// The gateway's end.
#[derive(Debug)]
enum Upstream {
    /// Its backlog is full.
    Busy,
    Socket(UnixStream),
    Channel(Channel),
}

/// Whether a connection goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    Goes,
    Finished,
    /// The guest must not take it for an orderly end.
    Refused,
}

#[derive(Debug)]
pub(super) struct Connection {
    guest: TcpStream,
    upstream: Upstream,
    up: Half,
    down: Half,
    /// The broker was asked for a connection and has not agreed yet; bytes do not pass.
    asking: bool,
    pub(super) class: Class,
    /// The captured address, which keeps its name as long as this lasts.
    pub(super) address: Option<Ipv4Addr>,
}

impl Connection {
    /// `request` goes to the gateway first, and bytes pass once it agreed.
    pub(super) fn new(guest: TcpStream, class: Class, request: Option<&str>) -> io::Result<Self> {
        guest.set_nonblocking(true)?;
        // Without latency tuning each small frame of an event stream would wait for an acknowledgement.
        guest.set_nodelay(true)?;
        let mut up = Half::default();
        up.buffer.push(request.unwrap_or_default().as_bytes());
        Ok(Self {
            guest,
            upstream: Upstream::Busy,
            up,
            down: Half::default(),
            asking: request.is_some(),
            class,
            address: None,
        })
    }

    pub(super) fn busy(&self) -> bool {
        matches!(self.upstream, Upstream::Busy)
    }

    /// Connects to the gateway; stays busy when its backlog is full.
    pub(super) fn dial(&mut self, gateway: &Gateway, key: u32, link: &mut Link) -> io::Result<()> {
        self.upstream = match gateway {
            Gateway::Socket(path) => dial(path)?.map_or(Upstream::Busy, Upstream::Socket),
            Gateway::Stream => Upstream::Channel(Channel::open(key, link)?),
        };
        Ok(())
    }

    pub(super) fn channel(&mut self) -> Option<&mut Channel> {
        match &mut self.upstream {
            Upstream::Channel(channel) => Some(channel),
            Upstream::Busy | Upstream::Socket(_) => None,
        }
    }

    /// Whether bytes wait that only room on the framed stream was missing for.
    pub(super) fn sendable(&self) -> bool {
        match &self.upstream {
            Upstream::Channel(channel) => self.up.wants_write() && channel.open_for_writing(),
            Upstream::Busy | Upstream::Socket(_) => false,
        }
    }

    pub(super) fn interest<'a>(&'a self, key: u32, poller: &mut Poller<'a>) {
        let Self { guest, up, down, .. } = self;
        let mut of_guest = PollFlags::empty();
        if !self.asking && !self.busy() {
            of_guest.set(PollFlags::POLLIN, up.wants_read());
            of_guest.set(PollFlags::POLLOUT, down.wants_write());
        }
        // While the broker is asked only a reset is of interest, which is always told.
        if self.asking || !of_guest.is_empty() {
            poller.add(Token::Tcp(key), guest.as_fd(), of_guest);
        }
        if let Upstream::Socket(gateway) = &self.upstream {
            poller.add_if(
                Token::Unix(key),
                gateway.as_fd(),
                down.wants_read(),
                up.wants_write(),
            );
        }
    }

    /// Moves what can be moved after `token` became ready (`None`: something came over the framed stream); adds the
    /// bytes to `traffic`.
    pub(super) fn step(
        &mut self,
        ready: Option<(Token, PollFlags)>,
        link: &mut Link,
        traffic: &mut u64,
    ) -> Fate {
        if let Some((Token::Tcp(_), flags)) = ready
            && self.asking
            && flags.intersects(PollFlags::POLLERR | PollFlags::POLLHUP)
        {
            return Fate::Refused;
        }
        let Self {
            guest,
            upstream,
            up,
            down,
            asking,
            ..
        } = self;
        let mut ends = Ends {
            guest,
            up,
            down,
            asking,
        };
        match upstream {
            Upstream::Busy => Fate::Goes,
            Upstream::Socket(gateway) => ends.exchange(gateway, ready, traffic),
            Upstream::Channel(channel) => ends.exchange(&mut channel.over(link), ready, traffic),
        }
    }

    /// Ends it.
    pub(super) fn leave(self, fate: Fate, link: &mut Link) {
        if let Upstream::Channel(channel) = &self.upstream {
            channel.leave(link);
        }
        if fate == Fate::Refused {
            crate::sys::reset(self.guest);
        }
    }
}

struct Ends<'a> {
    guest: &'a mut TcpStream,
    up: &'a mut Half,
    down: &'a mut Half,
    asking: &'a mut bool,
}

impl Ends<'_> {
    fn exchange(
        &mut self,
        gateway: &mut impl Stream,
        ready: Option<(Token, PollFlags)>,
        traffic: &mut u64,
    ) -> Fate {
        let read = PollFlags::POLLIN | PollFlags::POLLHUP | PollFlags::POLLERR;
        let readable = ready.is_none_or(|(_, flags)| flags.intersects(read));
        let got = match ready {
            Some((Token::Tcp(_), _)) if readable && !*self.asking => self.up.read(self.guest),
            Some((Token::Unix(_), _)) | None if readable => self.down.read(gateway),
            _ => 0,
        };
        *traffic += got as u64;
        self.up.write(gateway);
        if *self.asking && self.agreed() == Fate::Refused {
            return Fate::Refused;
        }
        if !*self.asking {
            self.down.write(self.guest);
        }
        // A guest that is gone must not keep a costly answer running; a gateway that has stopped reading
        // may still be answering.
        if self.down.broken || (self.down.closed && self.up.closed) {
            Fate::Finished
        } else {
            Fate::Goes
        }
    }

    /// Looks for the broker's answer, and takes it out of what the guest will get.
    fn agreed(&mut self) -> Fate {
        match head(self.down.buffer.waiting()) {
            Some((length, true)) => {
                self.down.buffer.consume(length);
                *self.asking = false;
                Fate::Goes
            }
            Some((_, false)) => Fate::Refused,
            None if self.down.ended || self.down.buffer.len() > MAX_HEAD => Fate::Refused,
            None => Fate::Goes,
        }
    }
}

/// Length of a complete answer to `CONNECT`, and whether it says yes.
fn head(bytes: &[u8]) -> Option<(usize, bool)> {
    const END: &[u8] = b"\r\n\r\n";
    let end = bytes.windows(END.len()).position(|part| part == END)?;
    let status = bytes.split(|&byte| byte == b' ').nth(1);
    let agreed = bytes.starts_with(b"HTTP/1.") && status.is_some_and(|status| status.starts_with(b"200"));
    Some((end + END.len(), agreed))
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
