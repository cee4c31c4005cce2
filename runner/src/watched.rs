//! Unix streams that are watched in one direction only.
#![allow(unsafe_code)]

use std::os::unix::net::UnixStream;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Registers a non-blocking stream for `interest` alone.
///
/// A stream that is watched in both directions wakes its process once more for everything it sends, when the peer
/// has taken it.
pub(crate) fn watch(stream: UnixStream, interest: Interest) -> std::io::Result<AsyncFd<UnixStream>> {
    // SAFETY: the stream is owned by the registration and always is the same open descriptor; it is closed only when
    // the registration is dropped, which ends it first.
    Ok(unsafe { AsyncFd::register_with_interest(stream, interest) }?)
}
