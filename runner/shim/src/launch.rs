//! What the runner tells a new shim on its standard input.

use std::fmt;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use lodge_guest::mux;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde::{Deserialize, Serialize};

use crate::sys;

/// Exit status: it was called the wrong way.
pub const EXIT_USAGE: u8 = 64;
/// Exit status: the launch specification is malformed.
pub const EXIT_SPEC: u8 = 65;
/// Exit status: the system refused something before `ready`; the message is on standard error.
pub const EXIT_SYSTEM: u8 = 71;
/// Exit status: another shim, or the runner, holds the journal.
pub const EXIT_LOCKED: u8 = 73;
/// Exit status: the journal is damaged; the message says where.
pub const EXIT_JOURNAL: u8 = 74;
/// Exit status: the runner that started it died before it held the journal.
pub const EXIT_ORPHANED: u8 = 75;
/// The line on standard output after which the socket takes connections.
pub const READY: &str = "ready";

/// How to start one session. Written as JSON to the shim's standard input and nowhere else: `start` holds secrets.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LaunchSpec {
    /// Command that makes the sandbox and runs guest init in it, or guest init itself. It must speak
    /// [`lodge_guest::mux`] on the descriptor named by [`mux::ENV_FD`].
    pub argv: Vec<String>,
    /// The whole environment of that command; [`mux::ENV_FD`] is added.
    pub env: Vec<(String, String)>,
    /// Descriptors open in the shim under these numbers which the command inherits. The shim closes its copies.
    #[serde(default)]
    pub fds: Vec<i32>,
    /// Number the command's end of the mux has.
    pub mux_fd_in_guest: i32,
    /// The harness; sent through the mux.
    pub start: mux::Start,
    /// Environment of commands and terminals beside the harness; they start where it does.
    #[serde(default)]
    pub command_env: Vec<(String, String)>,
    /// The session's gateway listener, open in the shim under this number; the command does not inherit it.
    #[serde(default)]
    pub listener_fd: Option<i32>,
    /// The runner's process id, where the shim is its child: a shim whose runner died before it held the journal leaves
    /// again, because the next runner may have begun to start another.
    #[serde(default)]
    pub runner_pid: Option<u32>,
    #[serde(default)]
    pub limits: Limits,
}

impl fmt::Debug for LaunchSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Environments and the harness's arguments hold keys and prompts.
        f.debug_struct("LaunchSpec")
            .field("argv", &self.argv)
            .field("fds", &self.fds)
            .field("mux_fd_in_guest", &self.mux_fd_in_guest)
            .field("listener_fd", &self.listener_fd)
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}

/// Bounds of one shim. Times are milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// The harness is not read while more journal bytes than this are not acknowledged.
    pub unacked_bytes: u64,
    /// How long the sandbox may take to come up.
    pub hello_ms: u64,
    /// How long the shim waits, after the harness is gone, for a runner to acknowledge that.
    pub linger_ms: u64,
    /// How long the sandbox command may take, once its stream has ended, to remove what it made outside of this
    /// machine's process tree (a container); 0 where killing it is enough.
    pub cleanup_ms: u64,
    /// Size after which a journal segment is rotated, in bytes.
    pub segment_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            unacked_bytes: 64 << 20,
            hello_ms: 10_000,
            linger_ms: 24 * 3600 * 1000,
            cleanup_ms: 0,
            segment_bytes: crate::journal::SEGMENT_LIMIT,
        }
    }
}

/// Why no shim came up.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    #[error("cannot run {program}")]
    Spawn {
        program: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("cannot encode the launch specification")]
    Encode(#[source] serde_json::Error),
    #[error("cannot talk to the new shim")]
    Talk(#[source] io::Error),
    /// It ended before it was ready; `code` is one of the `EXIT_` constants.
    #[error("the shim ended with status {code:?}: {message}")]
    Refused { code: Option<i32>, message: String },
    /// It was killed because it was not ready in time.
    #[error("the shim was not ready after {0:?}")]
    Late(Duration),
}

/// Starts a shim for a session directory and waits until its socket takes connections.
///
/// Blocking: some 10 ms as a rule, `patience` at most. `descriptors` reach the shim under the numbers they have
/// in this process; the specification's `fds` and `listener_fd` name them, `mux_fd_in_guest` is any other number
/// above 2. The shim leaves the caller's session and outlives it; while the caller lives it reaps the shim.
pub fn spawn(
    program: &Path,
    dir: &Path,
    spec: &LaunchSpec,
    descriptors: Vec<OwnedFd>,
    patience: Duration,
) -> Result<Child, LaunchError> {
    let text = serde_json::to_vec(spec).map_err(LaunchError::Encode)?;
    let mut command = Command::new(program);
    command
        .arg(dir)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    sys::inherit(&mut command, descriptors);
    let mut child = command.spawn().map_err(|source| LaunchError::Spawn {
        program: program.to_owned(),
        source,
    })?;
    // The command holds this process's copies of the descriptors.
    drop(command);
    match greet(&mut child, &text, patience) {
        Ok(true) => Ok(child),
        Ok(false) => Err(refusal(&mut child)),
        Err(error) => {
            let _ = child.kill();
            let _ = child.wait();
            Err(error)
        }
    }
}

/// Hands the specification over and waits for the answer; false when the shim ended instead.
fn greet(child: &mut Child, text: &[u8], patience: Duration) -> Result<bool, LaunchError> {
    if let Some(mut stdin) = child.stdin.take() {
        match stdin.write_all(text) {
            // It refused before it read everything: its exit status says why.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
            other => other.map_err(LaunchError::Talk)?,
        }
    }
    match child.stdout.take() {
        Some(stdout) => is_ready(stdout, patience),
        None => Ok(false),
    }
}

fn is_ready(mut stdout: ChildStdout, patience: Duration) -> Result<bool, LaunchError> {
    let deadline = Instant::now() + patience;
    let mut line = Vec::new();
    while !line.contains(&b'\n') {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = Timespec::try_from(left).map_err(|_| LaunchError::Late(patience))?;
        let found = poll(&mut [PollFd::new(&stdout, PollFlags::IN)], Some(&timeout));
        if found.map_err(|error| LaunchError::Talk(error.into()))? == 0 {
            return Err(LaunchError::Late(patience));
        }
        let mut chunk = [0; 64];
        match stdout.read(&mut chunk).map_err(LaunchError::Talk)? {
            0 => return Ok(false),
            count => line.extend_from_slice(&chunk[..count]),
        }
    }
    Ok(line.trim_ascii_end() == READY.as_bytes())
}

fn refusal(child: &mut Child) -> LaunchError {
    let mut message = Vec::new();
    if let Some(stderr) = child.stderr.take() {
        let _ = stderr.take(4096).read_to_end(&mut message);
    }
    let code = child.wait().ok().and_then(|status| status.code());
    LaunchError::Refused {
        code,
        message: String::from_utf8_lossy(&message).trim().to_owned(),
    }
}
