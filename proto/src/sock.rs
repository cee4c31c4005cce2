//! Unix sockets as every part of Lodge makes and checks them.
//!
//! Paths may be longer than the 107 bytes a socket address holds: the directory is opened first and the socket is
//! named through it.

use rustix::fs::{Mode, OFlags};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

/// A socket that could not be made, reached or trusted.
#[derive(Debug, thiserror::Error)]
pub enum SockError {
    #[error("{path}: a socket path needs a directory and a name")]
    NoName { path: PathBuf },
    #[error("opening the directory of {path}")]
    Directory { path: PathBuf, source: std::io::Error },
    #[error("removing the stale socket {path}")]
    RemoveStale { path: PathBuf, source: std::io::Error },
    #[error("listening on {path}")]
    Bind { path: PathBuf, source: std::io::Error },
    #[error("connecting to {path}")]
    Connect { path: PathBuf, source: std::io::Error },
    #[error("setting the mode of {path}")]
    Mode { path: PathBuf, source: std::io::Error },
    #[error("reading the peer's credentials")]
    Credentials { source: std::io::Error },
    #[error("the peer runs as uid {found}, expected {expected}")]
    Peer { found: u32, expected: u32 },
}

/// Opens the directory of `path`; the returned short path is good while the descriptor lives.
fn through_directory(path: &Path) -> Result<(OwnedFd, PathBuf), SockError> {
    let (Some(directory), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(SockError::NoName {
            path: path.to_owned(),
        });
    };
    // A bare name lies in the working directory.
    let directory = if directory.as_os_str().is_empty() {
        Path::new(".")
    } else {
        directory
    };
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let fd = rustix::fs::open(directory, flags, Mode::empty()).map_err(|e| SockError::Directory {
        path: path.to_owned(),
        source: e.into(),
    })?;
    let short = PathBuf::from(format!("/proc/self/fd/{}", fd.as_raw_fd())).join(name);
    Ok((fd, short))
}

/// Listens on `path` with mode 0600, in place of a socket that an earlier process left there.
///
/// The caller holds a lock that says it is the only one: a live socket would be replaced too.
pub fn bind(path: &Path) -> Result<UnixListener, SockError> {
    let (_directory, short) = through_directory(path)?;
    match std::fs::remove_file(&short) {
        Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
            return Err(SockError::RemoveStale {
                path: path.to_owned(),
                source,
            });
        }
        _ => {}
    }
    let listener = UnixListener::bind(&short).map_err(|source| SockError::Bind {
        path: path.to_owned(),
        source,
    })?;
    std::fs::set_permissions(&short, std::fs::Permissions::from_mode(0o600)).map_err(|source| {
        SockError::Mode {
            path: path.to_owned(),
            source,
        }
    })?;
    Ok(listener)
}

/// Connects to the socket at `path`.
pub fn connect(path: &Path) -> Result<UnixStream, SockError> {
    let (_directory, short) = through_directory(path)?;
    UnixStream::connect(&short).map_err(|source| SockError::Connect {
        path: path.to_owned(),
        source,
    })
}

/// The uid at the other end of a connected Unix socket.
pub fn peer_uid(socket: impl AsFd) -> Result<u32, SockError> {
    let credentials = rustix::net::sockopt::socket_peercred(socket)
        .map_err(|e| SockError::Credentials { source: e.into() })?;
    Ok(credentials.uid.as_raw())
}

/// Refuses a peer of another uid than `expected`.
pub fn require_peer(socket: impl AsFd, expected: u32) -> Result<(), SockError> {
    let found = peer_uid(socket)?;
    if found == expected {
        Ok(())
    } else {
        Err(SockError::Peer { found, expected })
    }
}

/// The uid of this process.
pub fn own_uid() -> u32 {
    rustix::process::getuid().as_raw()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};

    #[test]
    fn a_long_path_works_and_the_peer_is_known() {
        let root = tempfile::tempdir().unwrap();
        let directory = root.path().join("d".repeat(200));
        std::fs::create_dir(&directory).unwrap();
        let path = directory.join("x.sock");
        let listener = bind(&path).unwrap();
        let mode = std::fs::metadata(&path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600);
        let mut client = connect(&path).unwrap();
        let (mut server, _) = listener.accept().unwrap();
        client.write_all(b"x").unwrap();
        let mut byte = [0];
        server.read_exact(&mut byte).unwrap();
        require_peer(&server, own_uid()).unwrap();
        assert!(matches!(
            require_peer(&server, own_uid() + 1),
            Err(SockError::Peer { .. })
        ));
    }

    #[test]
    fn a_stale_socket_is_replaced_and_a_missing_one_is_an_error() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("x.sock");
        drop(bind(&path).unwrap());
        assert!(matches!(connect(&path), Err(SockError::Connect { .. })));
        let _listener = bind(&path).unwrap();
        connect(&path).unwrap();
    }
}
