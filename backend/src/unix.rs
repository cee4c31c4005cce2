//! Connecting to Unix sockets without ever blocking the event loop.
//!
//! `lodge_proto::sock::connect` waits while the listener's backlog is full, which a stopped process makes happen.
//! Here that is an error at once.

use lodge_proto::sock::{self, SockError};
use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use tokio::net::UnixStream;

/// Connects to the socket at `path` and refuses a process of another uid than `uid`.
pub(crate) async fn connect(path: &Path, uid: u32) -> Result<UnixStream, SockError> {
    let (Some(directory), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(SockError::NoName {
            path: path.to_owned(),
        });
    };
    let directory = File::open(directory).map_err(|source| SockError::Directory {
        path: path.to_owned(),
        source,
    })?;
    // A socket address holds 107 bytes: the socket is named through its open directory.
    let short = PathBuf::from(format!("/proc/self/fd/{}", directory.as_raw_fd())).join(name);
    let stream = UnixStream::connect(&short)
        .await
        .map_err(|source| SockError::Connect {
            path: path.to_owned(),
            source,
        })?;
    sock::require_peer(&stream, uid)?;
    Ok(stream)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_full_backlog_is_an_error_and_not_a_wait() {
        let root = tempfile::tempdir().unwrap();
        let directory = root.path().join("d".repeat(150));
        std::fs::create_dir(&directory).unwrap();
        let path = directory.join("x.sock");
        let _listener = sock::bind(&path).unwrap();
        let mut open = Vec::new();
        let error = loop {
            match connect(&path, sock::own_uid()).await {
                Ok(stream) => open.push(stream),
                Err(error) => break error,
            }
            assert!(open.len() < 100_000, "the backlog has no end");
        };
        assert!(matches!(error, SockError::Connect { .. }), "{error}");
    }

    #[tokio::test]
    async fn another_uid_is_refused() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("x.sock");
        let _listener = sock::bind(&path).unwrap();
        let error = connect(&path, sock::own_uid() + 1).await.unwrap_err();
        assert!(matches!(error, SockError::Peer { .. }), "{error}");
    }
}
