//! Whether hardware virtualisation can really be used: devices that open, and machines that can be made, are no sign
//! of it where another hypervisor does not pass everything on.

use std::fs::OpenOptions;
use std::io;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use crate::bwrap::memory;

/// Time QEMU has for a machine of three instructions; it takes some 50 ms.
const PATIENCE: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(5);
/// A firmware of the least size, all of it halts.
const FIRMWARE: usize = 64 << 10;
/// Where a processor starts, from the end of the firmware.
const START: usize = FIRMWARE - 16;
/// `mov al, 16; out 0xf4, al; hlt`: ends QEMU with the status below.
const PROGRAM: [u8; 5] = [0xb0, 0x10, 0xe6, 0xf4, 0xf4];
const STATUS: i32 = (16 << 1) | 1;

/// Lets `qemu` make a machine like those of guests and run a few instructions in it.
pub(super) fn try_out(qemu: &Path) -> io::Result<()> {
    OpenOptions::new().read(true).write(true).open("/dev/kvm")?;
    let mut firmware = vec![0xf4; FIRMWARE];
    firmware[START..START + PROGRAM.len()].copy_from_slice(&PROGRAM);
    let firmware = memory("the firmware", &firmware).map_err(io::Error::other)?;
    // Named through this process, which keeps it open: the child need not inherit it.
    let path = format!("/proc/{}/fd/{}", std::process::id(), firmware.as_raw_fd());
    let mut command = Command::new(qemu);
    command
        .args(["-machine", "microvm,accel=kvm", "-cpu", "host", "-m", "16"])
        .args(["-nodefaults", "-no-user-config", "-display", "none"])
        .args(["-device", "isa-debug-exit,iobase=0xf4,iosize=1", "-bios", &path])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    match run(&mut command)? {
        Some(status) if status.code() == Some(STATUS) => Ok(()),
        Some(status) => Err(io::Error::other(format!(
            "it opens, but QEMU fails with it ({status})"
        ))),
        None => Err(io::Error::other("it opens, but a machine does not run")),
    }
}

/// The exit status; `None` when it had to be killed.
fn run(command: &mut Command) -> io::Result<Option<ExitStatus>> {
    let mut child = command.spawn()?;
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        std::thread::sleep(POLL);
    }
    child.kill()?;
    child.wait()?;
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_does_not_answer_as_the_machine_does_is_no_proof() {
        for program in ["/bin/true", "/bin/false"] {
            try_out(Path::new(program)).expect_err(program);
        }
    }

    #[test]
    fn a_machine_that_runs_the_firmware_is_told_by_its_status() {
        let status = run(Command::new("sh").args(["-c", "exit 33"])).expect("a status");
        assert_eq!(status.and_then(|status| status.code()), Some(STATUS));
    }
}
