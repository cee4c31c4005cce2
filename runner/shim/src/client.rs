//! Blocking helpers for the runner's side; the stream itself is [`crate::wire`].

use std::fs::File;
use std::io::{self, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};

use crate::wire::{Decoder, SOCKET_NAME, ToRunner, ToShim, WireError};

/// Why a shim could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// No shim listens: it is gone, or not there yet.
    #[error("no shim listens in {dir}")]
    Connect {
        dir: PathBuf,
        #[source]
        source: io::Error,
    },
    /// What listens there belongs to somebody else.
    #[error("the shim in {dir} runs as user {uid}, not as this one")]
    ForeignUser { dir: PathBuf, uid: u32 },
    #[error("the connection to the shim broke")]
    Io(#[source] io::Error),
    #[error("the shim answered what is not its protocol")]
    Wire(#[source] WireError),
    /// The shim refused.
    #[error("the shim refused: {code}: {message}")]
    Refused { code: String, message: String },
    /// The answer had no descriptor, or was another one.
    #[error("the shim sent no listener")]
    NoListener,
}

/// Connects to the shim of a session directory and checks that it runs as the caller's user.
///
/// The path may be longer than a socket address holds. Never blocks for long: a Unix connect either works or
/// fails at once.
pub fn connect(dir: &Path) -> Result<UnixStream, ClientError> {
    let failed = |source| ClientError::Connect {
        dir: dir.to_owned(),
        source,
    };
    let handle = File::open(dir).map_err(failed)?;
    let short = format!("/proc/self/fd/{}/{SOCKET_NAME}", handle.as_raw_fd());
    let stream = UnixStream::connect(short).map_err(failed)?;
    let peer = rustix::net::sockopt::socket_peercred(&stream).map_err(|e| failed(e.into()))?;
    if peer.uid != rustix::process::geteuid() {
        return Err(ClientError::ForeignUser {
            dir: dir.to_owned(),
            uid: peer.uid.as_raw(),
        });
    }
    Ok(stream)
}

/// Fetches a duplicate of the session's gateway listener, over a connection of its own.
pub fn fetch_listener(dir: &Path, timeout: Duration) -> Result<OwnedFd, ClientError> {
    let mut stream = connect(dir)?;
    stream.set_read_timeout(Some(timeout)).map_err(ClientError::Io)?;
    let mut request = Vec::new();
    ToShim::GetListener
        .encode_into(&mut request)
        .map_err(ClientError::Wire)?;
    stream.write_all(&request).map_err(ClientError::Io)?;
    let mut bytes = [0; 4096];
    let (mut count, fd) = receive(&stream, &mut bytes).map_err(ClientError::Io)?;
    let mut decoder = Decoder::new();
    loop {
        decoder.push(&bytes[..count]);
        if let Some(frame) = decoder.next().map_err(ClientError::Wire)? {
            return match ToRunner::parse(frame).map_err(ClientError::Wire)? {
                ToRunner::Listener => fd.ok_or(ClientError::NoListener),
                ToRunner::Error(error) => Err(ClientError::Refused {
                    code: error.code,
                    message: error.message,
                }),
                _ => Err(ClientError::NoListener),
            };
        }
        count = stream.read(&mut bytes).map_err(ClientError::Io)?;
        if count == 0 {
            return Err(ClientError::NoListener);
        }
    }
}

fn receive(stream: &UnixStream, bytes: &mut [u8]) -> io::Result<(usize, Option<OwnedFd>)> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received = recvmsg(
        stream,
        &mut [IoSliceMut::new(bytes)],
        &mut control,
        RecvFlags::CMSG_CLOEXEC,
    )?;
    let mut descriptor = None;
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(mut rights) = message {
            descriptor = rights.next();
        }
    }
    Ok((received.bytes, descriptor))
}
