//! Starting commands: what happens between fork and exec, and terminals.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::Ordering;

use lodge_guest::mux::{Resize, Start};
use lodge_guest::walls::Limits;
use nix::pty::{OpenptyResult, Winsize, openpty};
use nix::sys::prctl;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use nix::sys::stat::{Mode, umask};
use nix::sys::termios::{LocalFlags, SpecialCharacterIndices, tcgetattr};
use nix::unistd::{Pid, setsid};

/// Size of a terminal whose size nobody told.
const DEFAULT_SIZE: Resize = Resize { rows: 24, cols: 80 };

/// A command that was started, and this end of what it reads and writes.
#[derive(Debug)]
pub(crate) struct Spawned {
    pub(crate) pid: Pid,
    pub(crate) stdin: Option<OwnedFd>,
    pub(crate) stdout: Option<OwnedFd>,
    pub(crate) stderr: Option<OwnedFd>,
    /// `stdin` and `stdout` are the same terminal.
    pub(crate) terminal: bool,
}

/// Starts a command: own session, default signals, no descriptor above 2, environment exactly as given.
pub(crate) fn spawn(start: &Start, limits: &Limits) -> io::Result<Spawned> {
    if start.pty {
        return spawn_on_terminal(start, limits);
    }
    let mut command = command(start, limits)?;
    let piped = [Stdio::piped(), Stdio::piped(), Stdio::piped()];
    let mut child = run(&mut command, piped)?;
    Ok(Spawned {
        pid: pid(&child),
        stdin: child.stdin.take().map(OwnedFd::from),
        stdout: child.stdout.take().map(OwnedFd::from),
        stderr: child.stderr.take().map(OwnedFd::from),
        terminal: false,
    })
}

fn spawn_on_terminal(start: &Start, limits: &Limits) -> io::Result<Spawned> {
    let OpenptyResult { master, slave } = openpty(&winsize(start.size.unwrap_or(DEFAULT_SIZE)), None)?;
    let input = master.try_clone()?;
    let slaves = [slave.try_clone()?.into(), slave.try_clone()?.into(), slave.into()];
    let mut command = command(start, limits)?;
    // SAFETY: runs after `prepare` made the session, and only makes a system call with integers.
    unsafe {
        command.pre_exec(|| {
            // SAFETY: descriptor 0 is the terminal; the argument is an integer.
            if libc::ioctl(0, libc::TIOCSCTTY, 0) == 0 {
                Ok(())
            } else {
                Err(io::Error::last_os_error())
            }
        });
    }
    let child = run(&mut command, slaves)?;
    // `command` still holds the other side; the terminal only ends when it is gone.
    drop(command);
    Ok(Spawned {
        pid: pid(&child),
        stdin: Some(input),
        stdout: Some(master),
        stderr: None,
        terminal: true,
    })
}

fn command(start: &Start, limits: &Limits) -> io::Result<Command> {
    let (program, arguments) = start.argv.split_first().ok_or(io::ErrorKind::InvalidInput)?;
    let mut command = Command::new(program);
    command
        .args(arguments)
        .env_clear()
        .envs(start.env.iter().map(|(name, value)| (name, value)))
        .current_dir(&start.cwd);
    let limits = limits.clone();
    // SAFETY: init has one thread, so the child may do what any process may; the closure makes system
    // calls only and touches nothing of the parent.
    unsafe { command.pre_exec(move || prepare(&limits)) };
    Ok(command)
}

fn run(command: &mut Command, [stdin, stdout, stderr]: [Stdio; 3]) -> io::Result<Child> {
    command.stdin(stdin).stdout(stdout).stderr(stderr).spawn()
}

fn pid(child: &Child) -> Pid {
    Pid::from_raw(child.id().cast_signed())
}

fn winsize(size: Resize) -> Winsize {
    Winsize {
        ws_row: size.rows,
        ws_col: size.cols,
        ws_xpixel: 0,
        ws_ypixel: 0,
    }
}

/// Changes the size of a terminal; the kernel signals its foreground processes.
pub(crate) fn resize(terminal: BorrowedFd<'_>, size: Resize) {
    let size = winsize(size);
    // SAFETY: reads one `winsize` from the address given, which lives on this stack. Fails only on what is no
    // terminal.
    unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCSWINSZ, &raw const size) };
}

/// The character that means the end of input on `terminal`; `None` when it passes characters on as they are.
pub(crate) fn end_of_file(terminal: BorrowedFd<'_>) -> Option<u8> {
    let modes = tcgetattr(terminal).ok()?;
    modes
        .local_flags
        .contains(LocalFlags::ICANON)
        .then_some(modes.control_chars[SpecialCharacterIndices::VEOF as usize])
}

fn prepare(limits: &Limits) -> io::Result<()> {
    setsid()?;
    prctl::set_pdeathsig(Signal::SIGKILL)?;
    SigSet::empty().thread_set_mask()?;
    heed_signals()?;
    // Not Lodge's own, which keeps what it makes to itself: these are the user's files.
    umask(Mode::from_bits_truncate(0o022));
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
    if limits.open_files.is_none() {
        let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
        let inherited = super::INHERITED_FILES.load(Ordering::Relaxed);
        setrlimit(Resource::RLIMIT_NOFILE, soft.min(inherited), hard)?;
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

/// Signals that whoever started Lodge ignored, as `nohup` and shells in the background do, would be ignored by every
/// command of the guest, and by none could they be heeded again where a shell starts it.
fn heed_signals() -> nix::Result<()> {
    let default = SigAction::new(SigHandler::SigDfl, SaFlags::empty(), SigSet::empty());
    let own = |signal: &Signal| !matches!(signal, Signal::SIGKILL | Signal::SIGSTOP);
    for signal in Signal::iterator().filter(own) {
        // SAFETY: no handler is set, and no memory is handed over.
        unsafe { sigaction(signal, &default) }?;
    }
    Ok(())
}

/// Sets a hard limit; one that is tighter already stays.
fn lower(resource: Resource, limit: u64) -> nix::Result<()> {
    let (_, hard) = getrlimit(resource)?;
    let limit = limit.min(hard);
    setrlimit(resource, limit, limit)
}
