//! Accepting connections where a guest may try to use up all descriptors.

use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::net::{UnixListener, UnixStream};

/// Pause where the process has run out of descriptors: trying again at once would spin.
const PAUSE: Duration = Duration::from_millis(50);
/// Descriptors kept for everything but connections of guests: leases, administration, the database, providers.
const RESERVED: u64 = 256;
/// More descriptors than this are of no use.
const ENOUGH: u64 = 65_536;

/// The next connection.
pub(crate) async fn accept(listener: &UnixListener) -> UnixStream {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => return stream,
            Err(error) => {
                tracing::warn!(%error, "accepting a connection");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

/// Asks for as many descriptors as this process may have; many systems start with 1024.
pub(crate) fn raise_limit() {
    let limit = getrlimit(Resource::Nofile);
    let wanted = limit.maximum.unwrap_or(ENOUGH).min(ENOUGH);
    if limit.current.is_some_and(|current| current < wanted) {
        let raised = setrlimit(
            Resource::Nofile,
            Rlimit {
                current: Some(wanted),
                ..limit
            },
        );
        tracing::debug!(wanted, ok = raised.is_ok(), "descriptor limit");
    }
}

/// How many connections all guests together may have, and all clients of people; each may need another one to a provider.
pub(crate) fn connections() -> usize {
    let limit = getrlimit(Resource::Nofile).current.unwrap_or(ENOUGH).min(ENOUGH);
    let half = limit.saturating_sub(RESERVED.min(limit / 2)) / 2;
    usize::try_from(half).unwrap_or(usize::MAX).max(1)
}
