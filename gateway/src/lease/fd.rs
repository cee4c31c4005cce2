//! The guest's listener as it comes from the runner.

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener as StdListener;

use rustix::net::sockopt::{socket_acceptconn, socket_domain, socket_type};
use rustix::net::{AddressFamily, SocketType};
use tokio::net::UnixListener;

use super::LeaseError;

/// Checks that a descriptor is what a lease needs, and makes it ready for the event loop.
pub(super) fn adopt(fd: Option<OwnedFd>) -> Result<UnixListener, LeaseError> {
    let fd = fd.ok_or(LeaseError::NoListener)?;
    let system = |error: rustix::io::Errno| LeaseError::Adopt(error.into());
    match socket_domain(&fd) {
        Ok(AddressFamily::UNIX) => {}
        Ok(_) => return Err(LeaseError::Listener("another family")),
        Err(rustix::io::Errno::NOTSOCK) => return Err(LeaseError::Listener("not a socket")),
        Err(error) => return Err(system(error)),
    }
    if socket_type(&fd).map_err(system)? != SocketType::STREAM {
        return Err(LeaseError::Listener("not a stream"));
    }
    if !socket_acceptconn(&fd).map_err(system)? {
        return Err(LeaseError::Listener("not listening"));
    }
    let listener = StdListener::from(fd);
    listener.set_nonblocking(true).map_err(LeaseError::Adopt)?;
    UnixListener::from_std(listener).map_err(LeaseError::Adopt)
}
