//! One `poll` over everything init waits for.

use std::os::fd::BorrowedFd;
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// Which descriptor became ready; the number is a stream id or a connection's key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Token {
    Mux,
    Signals,
    /// Which of the listening sockets.
    Listener(usize),
    /// Name queries: datagrams, the listening socket, a connection.
    NameDatagrams,
    NameListener,
    NameStream(u64),
    Stdin(u32),
    Stdout(u32),
    Stderr(u32),
    /// The guest's end of a connection, and the gateway's.
    Tcp(u32),
    Unix(u32),
}

#[derive(Debug, Default)]
pub(crate) struct Poller<'fd> {
    tokens: Vec<Token>,
    fds: Vec<PollFd<'fd>>,
}

impl<'fd> Poller<'fd> {
    /// Waits for `interest` on `fd`. Without interest a descriptor should not be added at all: a hang-up
    /// nobody handles would turn the loop into a spin.
    pub(crate) fn add(&mut self, token: Token, fd: BorrowedFd<'fd>, interest: PollFlags) {
        self.tokens.push(token);
        self.fds.push(PollFd::new(fd, interest));
    }

    /// Adds `fd` with the interests that hold; nothing when none does.
    pub(crate) fn add_if(&mut self, token: Token, fd: BorrowedFd<'fd>, read: bool, write: bool) {
        let mut interest = PollFlags::empty();
        interest.set(PollFlags::POLLIN, read);
        interest.set(PollFlags::POLLOUT, write);
        if !interest.is_empty() {
            self.add(token, fd, interest);
        }
    }

    /// Blocks until something is ready or `timeout` has passed (`None`: for ever).
    pub(crate) fn wait(mut self, timeout: Option<Duration>) -> nix::Result<Vec<(Token, PollFlags)>> {
        let timeout = timeout.map_or(PollTimeout::NONE, |left| {
            // Rounded up, else the last millisecond before a deadline would be spun away.
            let millis = left.as_millis() + u128::from(!left.is_zero());
            PollTimeout::from(u16::try_from(millis).unwrap_or(u16::MAX))
        });
        match poll(&mut self.fds, timeout) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(error),
        }
        let ready = self.tokens.into_iter().zip(&self.fds);
        Ok(ready
            .filter_map(|(token, fd)| Some((token, fd.revents().filter(|r| !r.is_empty())?)))
            .collect())
    }
}
