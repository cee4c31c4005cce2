//! The system calls of a machine's first process.
#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// Bytes that reseed the kernel's generator.
pub(super) const ENTROPY: usize = 64;

const RNDADDENTROPY: libc::Ioctl = 0x4008_5203;
const RNDRESEEDCRNG: libc::Ioctl = 0x5207;

/// `struct rand_pool_info` with room for [`ENTROPY`] bytes.
#[repr(C)]
struct Pool {
    bits: libc::c_int,
    size: libc::c_int,
    bytes: [u8; ENTROPY],
}

fn checked(result: impl Into<i64>) -> io::Result<()> {
    if result.into() < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

pub(super) fn load_module(file: &File) -> io::Result<()> {
    // SAFETY: an open descriptor, an empty string that lives for ever, no flags.
    let done = unsafe { libc::syscall(libc::SYS_finit_module, file.as_raw_fd(), c"".as_ptr(), 0) };
    match checked(done) {
        Err(error) if error.raw_os_error() == Some(libc::EEXIST) => Ok(()),
        done => done,
    }
}

pub(super) fn set_clock(nanoseconds: u64) -> io::Result<()> {
    let time = libc::timespec {
        tv_sec: i64::try_from(nanoseconds / 1_000_000_000).map_err(io::Error::other)?,
        tv_nsec: i64::try_from(nanoseconds % 1_000_000_000).map_err(io::Error::other)?,
    };
    // SAFETY: reads one timespec, which lives on this stack.
    checked(unsafe { libc::clock_settime(libc::CLOCK_REALTIME, &raw const time) })
}

/// Credits `entropy` and makes the generator use it at once.
pub(super) fn reseed(random: &File, entropy: &[u8]) -> io::Result<()> {
    let mut pool = Pool {
        bits: 8 * 64,
        size: 64,
        bytes: [0; ENTROPY],
    };
    pool.bytes.copy_from_slice(entropy);
    // SAFETY: reads the structure it was made for, which lives on this stack.
    checked(unsafe { libc::ioctl(random.as_raw_fd(), RNDADDENTROPY, &raw const pool) })?;
    // SAFETY: takes no argument.
    checked(unsafe { libc::ioctl(random.as_raw_fd(), RNDRESEEDCRNG, 0) })
}

pub(super) fn set_hostname(name: &str) -> io::Result<()> {
    // SAFETY: the kernel reads that many bytes, which the string has.
    checked(unsafe { libc::sethostname(name.as_ptr().cast(), name.len()) })
}

pub(super) fn loopback_up() -> io::Result<()> {
    // SAFETY: three integers; the result is checked before it is used.
    let socket = unsafe { libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) };
    checked(socket)?;
    // SAFETY: the number was returned just now and is known to nobody else.
    let socket = unsafe { OwnedFd::from_raw_fd(socket) };
    // SAFETY: an all-zero ifreq is valid; it holds integers and byte arrays only.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(c"lo".to_bytes()) {
        *to = from.cast_signed();
    }
    let flags = libc::IFF_UP | libc::IFF_RUNNING;
    request.ifr_ifru.ifru_flags = i16::try_from(flags).map_err(io::Error::other)?;
    // SAFETY: reads the structure it was made for, which lives on this stack.
    checked(unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request) })
}
