//! The system calls that need `unsafe`, and the steps between fork and exec.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

use lodge_guest::mux::{Exit, Start};
use lodge_guest::walls::Limits;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, FdFlag, OFlag, fcntl};
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::{prctl, signal};
use nix::unistd::{Pid, setsid};

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
pub(crate) fn close_others(keep: RawFd) -> io::Result<()> {
    let keep = keep.cast_unsigned();
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

/// No process of the guest may trace init or open its descriptors, and none gains a privilege by exec.
pub(crate) fn protect_self() -> io::Result<()> {
    prctl::set_dumpable(false)?;
    prctl::set_no_new_privs()?;
    setrlimit(Resource::RLIMIT_CORE, 0, 0)?;
    Ok(())
}

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

/// Starts a command: own session, default signals, no descriptor above 2, environment exactly as given.
pub(crate) fn spawn(start: &Start, limits: &Limits) -> io::Result<Child> {
    let (program, arguments) = start.argv.split_first().ok_or(io::ErrorKind::InvalidInput)?;
    let mut command = Command::new(program);
    command
        .args(arguments)
        .env_clear()
        .envs(start.env.iter().map(|(name, value)| (name, value)))
        .current_dir(&start.cwd)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let limits = limits.clone();
    // SAFETY: init has one thread, so the child may do what any process may; the closure makes system
    // calls only and touches nothing of the parent.
    unsafe { command.pre_exec(move || prepare(&limits)) };
    command.spawn()
}

fn prepare(limits: &Limits) -> io::Result<()> {
    setsid()?;
    prctl::set_pdeathsig(Signal::SIGKILL)?;
    SigSet::empty().thread_set_mask()?;
    for (resource, limit) in [
        (Resource::RLIMIT_NPROC, limits.processes),
        (Resource::RLIMIT_DATA, limits.memory),
        (Resource::RLIMIT_FSIZE, limits.file_size),
        (Resource::RLIMIT_NOFILE, limits.open_files),
        (Resource::RLIMIT_CPU, limits.cpu_seconds),
    ] {
        if let Some(limit) = limit {
            lower(resource, limit)?;
        }
    }
    // Marked, not closed: std's own pipe that reports a failed exec lives above 2 as well.
    // SAFETY: takes three integers and no pointer.
    let marked = unsafe { libc::syscall(libc::SYS_close_range, 3u32, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) };
    if marked == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Sets a hard limit; one that is tighter already stays.
fn lower(resource: Resource, limit: u64) -> nix::Result<()> {
    let (_, hard) = nix::sys::resource::getrlimit(resource)?;
    let limit = limit.min(hard);
    setrlimit(resource, limit, limit)
}
