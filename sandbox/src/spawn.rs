//! Starting a [`SandboxCommand`].
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal};

use crate::bwrap::{PARKED, SandboxCommand};
use crate::error::SandboxError;
use crate::plan::MUX_FD;

impl SandboxCommand {
    /// Starts the sandbox with `mux` as guest init's end of the framed stream. Errors of bwrap and init go
    /// to `stderr`.
    ///
    /// The sandbox dies with the THREAD that calls this (the kernel's parent-death signal counts threads),
    /// so call it from one that lives as long as the sandbox should, and keep `self` (its `hold`) until the end.
    pub fn spawn(&mut self, mux: OwnedFd, stderr: Stdio) -> Result<Child, SandboxError> {
        let Some((program, arguments)) = self.argv.split_first() else {
            return Err(SandboxError::Nul {
                what: "an empty command".into(),
            });
        };
        let kept = |e: rustix::io::Errno| SandboxError::Content {
            what: "the framed stream".into(),
            source: e.into(),
        };
        // std reports a failed exec through a pipe of its own: with number 3 taken, that pipe is elsewhere.
        let _taken = rustix::io::fcntl_dupfd_cloexec(&mux, MUX_FD).map_err(kept)?;
        let parked = rustix::io::fcntl_dupfd_cloexec(&mux, PARKED).map_err(kept)?;
        drop(mux);
        let from = parked.as_raw_fd();
        let inherited: Vec<RawFd> = self.fds.iter().map(AsRawFd::as_raw_fd).collect();
        let mut command = Command::new(program);
        command
            .args(arguments)
            .env_clear()
            // A terminal's Ctrl-C is for whoever started the sandbox, and passed on by them.
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(stderr);
        // SAFETY: fcntl and dup2 are async-signal-safe, the vector was filled before the fork and is only read.
        unsafe { command.pre_exec(move || hand_over(from, &inherited)) };
        let spawned = command.spawn();
        self.fds.clear();
        spawned.map_err(|source| SandboxError::Spawn {
            program: program.into(),
            source,
        })
    }
}

/// Kills a launcher together with what it has started so far. Between its fork and the moment its child is set up bwrap
/// would otherwise leave a process behind that waits for it for ever.
pub fn kill(launcher: &Child) {
    let _ = rustix::process::kill_process_group(Pid::from_child(launcher), Signal::KILL);
}

/// In the child: gives the stream its number and lets the other descriptors through exec.
fn hand_over(mux: RawFd, inherited: &[RawFd]) -> io::Result<()> {
    // SAFETY: plain numbers; both are open or harmlessly refused.
    if unsafe { libc::dup2(mux, MUX_FD) } < 0 {
        return Err(io::Error::last_os_error());
    }
    for &fd in inherited {
        // SAFETY: as above; F_SETFD takes an integer.
        if unsafe { libc::fcntl(fd, libc::F_SETFD, 0) } < 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}
