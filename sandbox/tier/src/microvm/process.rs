//! A running QEMU inside its wall.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream as StdStream;
use std::process::{Child, Stdio};

use lodge_sandbox::bwrap;
use lodge_sandbox::host::Bwrap;
use lodge_sandbox::plan::Mount;
use tokio::net::UnixStream;

use super::console::Console;
use super::error::MicrovmError;
use super::machine::{Begin, Descriptors, Machine};

/// Descriptors for QEMU start at this number, out of the way of whatever a spawner opens for itself.
const PARKED: i32 = 768;

/// Killed, and waited for, when it is dropped.
#[derive(Debug)]
pub(super) struct Process {
    child: Child,
    pub(super) console: Console,
}

/// The ends that stay here.
#[derive(Debug)]
pub(super) struct Ends {
    pub(super) stream: UnixStream,
    pub(super) monitor: Option<UnixStream>,
}

/// Starts QEMU with `memory` as the guest's and `tree` as what it shares. Has to be called on the main thread: the
/// wall dies with the thread that made it.
pub(super) fn spawn(
    machine: &Machine,
    begin: Begin,
    memory: &OwnedFd,
    tree: Vec<Mount>,
    (wall, monitored): (&Bwrap, bool),
) -> Result<(Process, Ends), MicrovmError> {
    let failed = || MicrovmError::system("make the machine's channels");
    let (stream, vm_stream) = pair().map_err(failed())?;
    let (console, vm_console) = pair().map_err(failed())?;
    let (errors, vm_errors) = pair().map_err(failed())?;
    let (monitor, vm_monitor) = if monitored {
        let (ours, theirs) = pair().map_err(failed())?;
        (Some(ours), Some(park(&theirs).map_err(failed())?))
    } else {
        (None, None)
    };
    let memory = park(memory).map_err(failed())?;
    let vm_console = park(&vm_console).map_err(failed())?;
    let fds = Descriptors {
        ram: memory.as_raw_fd(),
        console: vm_console.as_raw_fd(),
        monitor: vm_monitor.as_ref().map(AsRawFd::as_raw_fd),
    };
    let mut command = bwrap::compile(&machine.plan(begin, fds, tree), wall)?;
    command.fds.extend([memory, vm_console]);
    command.fds.extend(vm_monitor);
    let child = command.spawn(vm_stream, Stdio::from(vm_errors))?;
    let process = Process {
        child,
        console: Console::default(),
    };
    for source in [console, errors] {
        tokio::spawn(
            process
                .console
                .clone()
                .follow(tokio_stream(source).map_err(failed())?),
        );
    }
    let ends = Ends {
        stream: tokio_stream(stream).map_err(failed())?,
        monitor: monitor.map(tokio_stream).transpose().map_err(failed())?,
    };
    Ok((process, ends))
}

impl Drop for Process {
    fn drop(&mut self) {
        // The wall's first process takes QEMU with it. It cannot be gone before it is waited for.
        lodge_sandbox::spawn::kill(&self.child);
        let _ = self.child.wait();
    }
}

fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let (ours, theirs) = StdStream::pair()?;
    Ok((ours.into(), theirs.into()))
}

fn park(fd: &impl AsFd) -> io::Result<OwnedFd> {
    Ok(rustix::io::fcntl_dupfd_cloexec(fd, PARKED)?)
}

pub(super) fn tokio_stream(fd: OwnedFd) -> io::Result<UnixStream> {
    let stream = StdStream::from(fd);
    stream.set_nonblocking(true)?;
    UnixStream::from_std(stream)
}
