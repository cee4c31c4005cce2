//! The system calls that the safe wrappers do not cover: descriptors known by number, and what happens between
//! fork and exec.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

use rustix::io::{FdFlags, fcntl_getfd, fcntl_setfd};
use rustix::process::{Signal, getpid, getppid, set_parent_process_death_signal};

/// Takes over a descriptor that this process inherited under a number.
pub(crate) fn adopt(number: RawFd) -> io::Result<OwnedFd> {
    if number <= 2 {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "a standard stream cannot be passed on",
        ));
    }
    // SAFETY: the borrow only asks the kernel whether the number is open and ends with the call.
    fcntl_getfd(unsafe { BorrowedFd::borrow_raw(number) })?;
    // SAFETY: it is open, and it was inherited: nothing in this process owns it yet. The caller adopts each once.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// Moves a descriptor to a number that nothing of this process uses, without close-on-exec.
pub(crate) fn place(fd: OwnedFd, number: RawFd) -> io::Result<OwnedFd> {
    let placed = if fd.as_raw_fd() == number {
        fd
    } else {
        // SAFETY: called during the start before anything else is opened; `set_inheritance` found every number
        // that is in use, and the caller has checked that this one is not.
        unsafe { nix::unistd::dup2_raw(&fd, number)? }
    };
    fcntl_setfd(&placed, FdFlags::empty())?;
    Ok(placed)
}

/// Lets a command inherit the descriptors `keep` and no other. Answers every number above 2 that is open.
pub(crate) fn set_inheritance(keep: &[RawFd]) -> io::Result<Vec<RawFd>> {
    let mut open = Vec::new();
    for entry in std::fs::read_dir("/proc/self/fd")? {
        open.extend(
            entry?
                .file_name()
                .to_str()
                .and_then(|name| name.parse::<RawFd>().ok())
                .filter(|fd| *fd > 2),
        );
    }
    // The listing's own descriptor is gone by now: it is not open, and that is no error.
    open.retain(|&number| {
        let flags = if keep.contains(&number) {
            FdFlags::empty()
        } else {
            FdFlags::CLOEXEC
        };
        // SAFETY: only a flag is set on a number; nothing is read, written or closed through the borrow.
        fcntl_setfd(unsafe { BorrowedFd::borrow_raw(number) }, flags).is_ok()
    });
    Ok(open)
}

/// Makes the kernel kill the command when this process dies, whatever way.
pub(crate) fn die_with_parent(command: &mut Command) {
    let parent = getpid();
    // SAFETY: the closure makes two system calls that are safe between fork and exec and allocates nothing.
    unsafe {
        command.pre_exec(move || {
            set_parent_process_death_signal(Some(Signal::KILL))?;
            // It may have died before the call above.
            if getppid() == Some(parent) {
                Ok(())
            } else {
                Err(io::Error::from_raw_os_error(3))
            }
        });
    }
}

/// Lets a command inherit descriptors under the numbers they have here.
pub(crate) fn inherit(command: &mut Command, descriptors: Vec<OwnedFd>) {
    // SAFETY: the closure makes one system call for each descriptor, which it owns, and allocates nothing.
    unsafe {
        command.pre_exec(move || {
            for descriptor in &descriptors {
                fcntl_setfd(descriptor, FdFlags::empty())?;
            }
            Ok(())
        });
    }
}
