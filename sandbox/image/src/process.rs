//! Running the programs that build, with a time limit.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use crate::error::ImageError;

/// How much of a program's last words an error shows, in bytes.
const SAID: i64 = 2000;

/// Runs `command` to its end; what it says goes to the file `log`.
pub(crate) fn run(
    tool: &'static str,
    command: &mut Command,
    log: &Path,
    limit: Duration,
) -> Result<(), ImageError> {
    let failed = || ImageError::file("write", log);
    let file = File::create(log).map_err(failed())?;
    let copy = file.try_clone().map_err(failed())?;
    command.stdout(copy).stderr(file);
    let mut child = command
        .spawn()
        .map_err(ImageError::file("start", Path::new(command.get_program())))?;
    let status = match wait(&mut child, limit) {
        Ok(Some(status)) => status,
        Ok(None) => {
            let _ = child.kill();
            let _ = child.wait();
            let seconds = limit.as_secs();
            return Err(ImageError::TimedOut { tool, seconds });
        }
        Err(error) => return Err(ImageError::file("wait for", Path::new(tool))(error)),
    };
    if status.success() {
        return Ok(());
    }
    Err(ImageError::Tool {
        tool,
        status: status.to_string(),
        said: last_words(log),
    })
}

fn wait(child: &mut Child, limit: Duration) -> io::Result<Option<ExitStatus>> {
    let pid = Pid::from_child(child);
    let pidfd = pidfd_open(pid, PidfdFlags::empty())?;
    let limit = Timespec::try_from(limit).map_err(|_| io::ErrorKind::InvalidInput)?;
    loop {
        match poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], Some(&limit)) {
            Ok(0) => return Ok(None),
            Ok(_) => return child.wait().map(Some),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

fn last_words(log: &Path) -> String {
    let read = || -> io::Result<String> {
        let mut file = File::open(log)?;
        let length = file.seek(SeekFrom::End(0))?;
        file.seek(SeekFrom::End(-SAID.min(length.try_into().unwrap_or(SAID))))?;
        let mut words = Vec::new();
        file.read_to_end(&mut words)?;
        Ok(String::from_utf8_lossy(&words).trim().to_owned())
    };
    read().unwrap_or_default()
}

/// Where `name` is in `PATH`.
pub(crate) fn find(name: &str) -> Option<std::path::PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/usr/bin".into()])
        .map(|folder| folder.join(name))
        .find(|file| file.is_file())
}

/// A program, without standard input.
pub(crate) fn command(tool: &'static str, mend: &'static str) -> Result<Command, ImageError> {
    let path = find(tool).ok_or(ImageError::MissingTool { tool, mend })?;
    let mut command = Command::new(path);
    command.stdin(Stdio::null());
    Ok(command)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn failures_and_hangs_are_told() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("log");
        let sh = |script: &str| {
            let mut command = command("sh", "").unwrap();
            command.args(["-c", script]);
            command
        };
        run("sh", &mut sh("exit 0"), &log, Duration::from_secs(20)).unwrap();
        let error = run(
            "sh",
            &mut sh("echo why >&2; exit 3"),
            &log,
            Duration::from_secs(20),
        )
        .unwrap_err();
        assert_eq!(error.to_string(), "sh failed (exit status: 3): why");
        let error = run("sh", &mut sh("exec sleep 1000"), &log, Duration::from_millis(20)).unwrap_err();
        assert!(matches!(error, ImageError::TimedOut { .. }));
        assert!(matches!(
            command("no-such-tool", "x"),
            Err(ImageError::MissingTool { mend: "x", .. })
        ));
    }
}
