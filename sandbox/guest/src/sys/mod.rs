//! The system calls that need `unsafe`, and the steps between fork and exec.
#![allow(unsafe_code)]

mod privileges;
mod spawn;

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use lodge_guest::mux::Exit;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, FdFlag, OFlag, fcntl};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::Signal;
use nix::sys::{prctl, signal};
use nix::unistd::Pid;

pub(crate) use privileges::{
    PrivilegeError, administers, become_user, cover, drop_bounding, drop_capabilities, own_mounts,
    own_network, seal_settings, settings_writable,
};
pub(crate) use spawn::{Spawned, end_of_file, resize, spawn};

/// Takes ownership of an inherited descriptor, refusing numbers that are not open.
pub(crate) fn adopt(fd: RawFd) -> io::Result<OwnedFd> {
    if fd <= 2 {
        return Err(io::Error::from(Errno::EBADF));
    }
    // SAFETY: the borrow lasts for the two calls below, which only fail when the number is not open.
    let borrowed = unsafe { BorrowedFd::borrow_raw(fd) };
    fcntl(borrowed, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))?;
    // SAFETY: it is open (checked above) and nothing else in this process has taken it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Closes everything inherited but the standard streams and `keep`: bwrap passes on what it was given.
pub(crate) fn close_others(keep: Option<RawFd>) -> io::Result<()> {
    let keep = keep.map_or(2, RawFd::cast_unsigned);
    for (first, last) in [
        (3, keep.saturating_sub(1)),
        (keep.saturating_add(1).max(3), u32::MAX),
    ] {
        // SAFETY: called before init opens anything of its own, so no owner loses its descriptor.
        if first <= last && unsafe { libc::syscall(libc::SYS_close_range, first, last, 0u32) } != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

pub(crate) fn set_nonblocking(fd: BorrowedFd<'_>) -> io::Result<()> {
    let flags = OFlag::from_bits_retain(fcntl(fd, FcntlArg::F_GETFL)?);
    fcntl(fd, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
    Ok(())
}

/// Bytes that lie in a pipe at this moment.
pub(crate) fn readable_bytes(fd: BorrowedFd<'_>) -> u64 {
    let mut count: libc::c_int = 0;
    // SAFETY: FIONREAD writes one int to the address given, which lives on this stack.
    let done = unsafe { libc::ioctl(fd.as_raw_fd(), libc::FIONREAD, &raw mut count) };
    if done == 0 {
        u64::try_from(count).unwrap_or(0)
    } else {
        0
    }
}

/// No process of the guest may trace init or open its descriptors, none gains a privilege by exec, none may take the
/// processor from everybody else.
pub(crate) fn protect_self() -> io::Result<()> {
    prctl::set_dumpable(false)?;
    prctl::set_no_new_privs()?;
    setrlimit(Resource::RLIMIT_CORE, 0, 0)?;
    // Who may ask for more of the processor than others is a privilege that some users of the host have.
    setrlimit(Resource::RLIMIT_RTPRIO, 0, 0)?;
    setrlimit(Resource::RLIMIT_NICE, 0, 0)?;
    Ok(())
}

/// Descriptors init may need for connections, commands and terminals, at their bounds.
const OPEN_FILES: u64 = 4096;

/// Lets init itself hold as many descriptors as its bounds add up to, where the hard limit allows it. What commands
/// get is not changed: see [`spawn`].
pub(crate) fn raise_open_files() -> io::Result<()> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    INHERITED_FILES.store(soft, Ordering::Relaxed);
    setrlimit(Resource::RLIMIT_NOFILE, soft.max(OPEN_FILES.min(hard)), hard)?;
    Ok(())
}

/// The soft limit of descriptors that init was started with.
static INHERITED_FILES: AtomicU64 = AtomicU64::new(u64::MAX);

/// Sends `signal` to every process of the sandbox but init itself.
pub(crate) fn kill_all(signal: Signal) {
    // Fails only when there is no other process.
    let _ = signal::kill(Pid::from_raw(-1), signal);
}

/// What one look for a dead child found.
#[derive(Debug)]
pub(crate) enum Reaped {
    Process(Pid, Exit),
    NoneYet,
    NoChild,
}

/// Reaps one dead child or adopted orphan. Not nix's call: that one loses the process id of a command that
/// died of a real-time signal.
pub(crate) fn reap() -> Reaped {
    let mut status = 0;
    loop {
        // SAFETY: writes one int to the address given, which lives on this stack.
        let pid = unsafe { libc::waitpid(-1, &raw mut status, libc::WNOHANG) };
        if pid > 0 {
            let code = libc::WIFEXITED(status).then(|| libc::WEXITSTATUS(status));
            let signal = libc::WIFSIGNALED(status).then(|| libc::WTERMSIG(status));
            return Reaped::Process(Pid::from_raw(pid), Exit { code, signal });
        }
        if pid == 0 {
            return Reaped::NoneYet;
        }
        if Errno::last() != Errno::EINTR {
            return Reaped::NoChild;
        }
    }
}

/// Time since the machine started, suspended time included.
pub(crate) fn boot_time() -> Duration {
    let (seconds, nanoseconds) = clock(libc::CLOCK_BOOTTIME);
    let seconds = u64::try_from(seconds).unwrap_or(0);
    Duration::new(seconds, u32::try_from(nanoseconds).unwrap_or(0))
}

/// The time that this kernel gives to files that are changed now, in seconds and nanoseconds: not later, at least.
pub(crate) fn file_time() -> (i64, i64) {
    clock(libc::CLOCK_REALTIME_COARSE)
}

fn clock(id: libc::clockid_t) -> (i64, i64) {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: writes one timespec to the address given, which lives on this stack.
    if unsafe { libc::clock_gettime(id, &raw mut time) } != 0 {
        return (0, 0);
    }
    (time.tv_sec, time.tv_nsec)
}

/// Version of the kernel's Landlock interface; 0 when it is absent or switched off.
pub(crate) fn landlock_abi() -> i64 {
    const CREATE_RULESET_VERSION: u32 = 1;
    let none = std::ptr::null::<u8>();
    // SAFETY: with this flag the kernel wants a null pointer and size 0, and only returns a number.
    let abi = unsafe {
        libc::syscall(
            libc::SYS_landlock_create_ruleset,
            none,
            0usize,
            CREATE_RULESET_VERSION,
        )
    };
    abi.max(0)
}

/// Closes a connection with a reset instead of an orderly end.
pub(crate) fn reset(stream: std::net::TcpStream) {
    let linger = libc::linger {
        l_onoff: 1,
        l_linger: 0,
    };
    let length = libc::socklen_t::try_from(size_of::<libc::linger>()).unwrap_or(0);
    // SAFETY: reads one `linger` from the address given, which lives on this stack.
    unsafe {
        libc::setsockopt(
            stream.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_LINGER,
            (&raw const linger).cast(),
            length,
        )
    };
    drop(stream);
}
