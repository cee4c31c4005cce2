//! What one `lodge-tier run` is asked for.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{FromRawFd, OwnedFd, RawFd};

use lodge_sandbox::launch::TierRequest;

/// Largest request, in bytes.
const MAX_REQUEST: u64 = 16 << 20;

/// Why a request cannot be taken.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    #[error("descriptor {fd} is not open")]
    NotOpen { fd: RawFd },
    #[error("cannot read the request: {0}")]
    Read(io::Error),
    #[error("the request is over {MAX_REQUEST} bytes")]
    TooLong,
    #[error("the request is malformed: {0}")]
    Malformed(#[from] serde_json::Error),
}

/// One sandbox to run.
#[derive(Debug)]
pub struct Job {
    pub request: TierRequest,
    /// The framed stream to whoever asked for the sandbox.
    pub mux: OwnedFd,
}

impl Job {
    /// Reads the request from descriptor `request` and takes descriptor `mux` over; both have to be open and nobody
    /// else's.
    pub fn take(request: RawFd, mux: RawFd) -> Result<Self, RequestError> {
        let mux = own(mux)?;
        let mut text = Vec::new();
        let mut file = File::from(own(request)?).take(MAX_REQUEST + 1);
        file.read_to_end(&mut text).map_err(RequestError::Read)?;
        if text.len() as u64 > MAX_REQUEST {
            return Err(RequestError::TooLong);
        }
        Ok(Self {
            request: serde_json::from_slice(&text)?,
            mux,
        })
    }
}

/// Takes over a descriptor this process was started with.
#[allow(unsafe_code)]
fn own(fd: RawFd) -> Result<OwnedFd, RequestError> {
    if fd <= 2 {
        return Err(RequestError::NotOpen { fd });
    }
    // SAFETY: F_SETFD takes an integer; a number that is not open is refused by the kernel.
    if unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) } < 0 {
        return Err(RequestError::NotOpen { fd });
    }
    // SAFETY: it is open, and the caller says that nothing else in this process has it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
