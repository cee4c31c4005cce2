//! The socket in the session's directory: who may connect, who is served.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::time::Instant;

use rustix::fs::{AtFlags, Mode, chmodat, unlinkat};

use super::connection::Connection;
use super::log::log;
use crate::wire::SOCKET_NAME;

/// Connections that have not said hello.
const MAX_FRESH: usize = 8;

/// The listener and its connections.
#[derive(Debug)]
pub(crate) struct Server {
    /// The session's directory, held so that a long path fits a socket address.
    dir: File,
    listener: UnixListener,
    pub(crate) fresh: Vec<Connection>,
    /// The one runner that is served.
    pub(crate) active: Option<Connection>,
    /// Highest runner generation seen.
    pub(crate) fence: u64,
    /// The gateway listener kept open for the runner.
    pub(crate) gateway: Option<OwnedFd>,
}

impl Server {
    /// Binds the socket (0600), in place of one that a dead shim left. The caller holds the journal's lock.
    pub(crate) fn bind(dir: &Path, gateway: Option<OwnedFd>) -> io::Result<Self> {
        let dir = File::open(dir)?;
        match unlinkat(&dir, SOCKET_NAME, AtFlags::empty()) {
            Ok(()) | Err(rustix::io::Errno::NOENT) => {}
            Err(error) => return Err(error.into()),
        }
        let listener = UnixListener::bind(format!("/proc/self/fd/{}/{SOCKET_NAME}", dir.as_raw_fd()))?;
        chmodat(&dir, SOCKET_NAME, Mode::RUSR | Mode::WUSR, AtFlags::empty())?;
        listener.set_nonblocking(true)?;
        Ok(Self {
            dir,
            listener,
            fresh: Vec::new(),
            active: None,
            fence: 0,
            gateway,
        })
    }

    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.listener.as_fd()
    }

    /// Takes every waiting connection of the shim's own user.
    pub(crate) fn accept(&mut self) {
        loop {
            match self.listener.accept() {
                Ok((stream, _)) => self.admit(stream),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // Nobody waits, or there is no descriptor left: level-triggered, so it is tried again.
                Err(_) => return,
            }
        }
    }

    fn admit(&mut self, stream: UnixStream) {
        let own = rustix::process::geteuid();
        let is_own = rustix::net::sockopt::socket_peercred(&stream).is_ok_and(|peer| peer.uid == own);
        if !is_own {
            log(format_args!("refused a connection of another user"));
            return;
        }
        if self.fresh.len() >= MAX_FRESH {
            self.fresh.remove(0);
        }
        self.fresh.extend(Connection::new(stream).ok());
    }

    pub(crate) fn drop_late(&mut self, now: Instant) {
        self.fresh.retain(|connection| connection.deadline > now);
    }

    /// Takes the socket away, so that nobody connects to a shim that leaves.
    pub(crate) fn unlink(&self) {
        let _ = unlinkat(&self.dir, SOCKET_NAME, AtFlags::empty());
    }
}
