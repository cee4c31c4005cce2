//! One start of one role: its process, its output, and the line that says it serves.

use super::Role;
use super::logfile::{LogFile, tail};
use crate::failure::Failure;
use lodge_proto::ErrorCode;
use rustix::process::{Pid, Signal};
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::oneshot;

/// The line a role prints when it serves.
pub const READY: &str = "ready";
/// How long a role may take until it serves.
pub const READY_WITHIN: Duration = Duration::from_secs(20);
/// How long the output of a role that has ended is waited for.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// Longest line of a log, bytes; the rest is cut.
const MAX_LINE: usize = 64 * 1024;

/// How to start a role.
#[derive(Debug, Clone)]
pub struct Spec {
    pub role: Role,
    pub program: PathBuf,
    pub args: Vec<OsString>,
    pub log: PathBuf,
}

/// A role that serves.
#[derive(Debug)]
pub struct Running {
    child: Child,
    pub pid: u32,
}

/// Starts a role and waits until it serves. `started` is told its process number at once.
pub async fn start(spec: &Spec, started: impl FnOnce(u32)) -> Result<Running, Failure> {
    let mut child = command(spec).spawn().map_err(|e| {
        Failure::new(
            ErrorCode::Internal,
            format!("the {} cannot be started: {e}", spec.role.as_str()),
        )
        .at(spec.program.display().to_string())
    })?;
    let pid = child.id().unwrap_or_default();
    started(pid);
    let (ready, copies) = collect_output(spec, &mut child)?;
    tokio::select! {
        told = tokio::time::timeout(READY_WITHIN, ready) => match told {
            Ok(Ok(())) => return Ok(Running { child, pid }),
            // Its output ended: it is about to exit.
            Ok(Err(_)) => {}
            Err(_) => {
                let _ = child.kill().await;
                let seconds = READY_WITHIN.as_secs();
                return Err(with_log(spec, &format!("did not become ready within {seconds} s")));
            }
        },
        _ = child.wait() => {}
    }
    let how = child
        .wait()
        .await
        .map_or_else(|e| e.to_string(), |status| status.to_string());
    // Its last words say why; what it started may hold the pipes open for longer.
    let _ = tokio::time::timeout(LAST_WORDS, copies).await;
    Err(with_log(spec, &format!("ended before it was ready ({how})")))
}

impl Running {
    /// Waits for its end.
    pub async fn wait(&mut self) -> String {
        self.child
            .wait()
            .await
            .map_or_else(|e| e.to_string(), |status| status.to_string())
    }

    /// TERM, and KILL where it has not ended after `grace`.
    pub async fn stop(mut self, grace: Duration) {
        if let Some(pid) = self
            .child
            .id()
            .and_then(|pid| i32::try_from(pid).ok())
            .and_then(Pid::from_raw)
        {
            let _ = rustix::process::kill_process(pid, Signal::TERM);
        }
        if tokio::time::timeout(grace, self.child.wait()).await.is_err() {
            let _ = self.child.kill().await;
        }
    }
}

fn command(spec: &Spec) -> Command {
    let mut command = Command::new(&spec.program);
    command
        .args(&spec.args)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    // Ctrl-C at the terminal is for the supervisor, which stops the roles in order.
    command.process_group(0).kill_on_drop(true);
    if spec.role != Role::Gateway {
        // Provider keys are the gateway's alone.
        command
            .env_clear()
            .envs(std::env::vars_os().filter(|(name, _)| is_plain(name.to_string_lossy().as_ref())));
    }
    command
}

/// Variables that every role may see.
fn is_plain(name: &str) -> bool {
    const NAMES: [&str; 19] = [
        "DOCKER_HOST",
        "PATH",
        "HOME",
        "USER",
        "LOGNAME",
        "SHELL",
        "TMPDIR",
        "LANG",
        "TZ",
        "RUST_LOG",
        "RUST_BACKTRACE",
        "NO_COLOR",
        "SSL_CERT_FILE",
        "SSL_CERT_DIR",
        "NODE_EXTRA_CA_CERTS",
        "XDG_RUNTIME_DIR",
        "XDG_DATA_HOME",
        "XDG_CACHE_HOME",
        "XDG_CONFIG_HOME",
    ];
    const SETTINGS: [&str; 3] = ["LODGE_DATA", "LODGE_SHIM", "LODGE_INIT"];
    NAMES.contains(&name) || SETTINGS.contains(&name) || name.starts_with("LC_")
}

/// Copies both outputs to the log. The receiver is told when the role serves, and dropped when its output ends; the
/// future is the end of both.
fn collect_output(
    spec: &Spec,
    child: &mut Child,
) -> Result<(oneshot::Receiver<()>, impl Future + use<>), Failure> {
    let log = LogFile::open(&spec.log).map_err(|e| {
        Failure::new(ErrorCode::Unavailable, format!("the log cannot be opened: {e}"))
            .at(spec.log.display().to_string())
            .mend("check owner and free space of the data directory")
    })?;
    let log = Arc::new(Mutex::new(log));
    let (ready, told) = oneshot::channel();
    let out = child
        .stdout
        .take()
        .map(|pipe| tokio::spawn(copy(pipe, Arc::clone(&log), Some(ready))));
    let err = child
        .stderr
        .take()
        .map(|pipe| tokio::spawn(copy(pipe, log, None)));
    let copies = async move {
        for copy in [out, err].into_iter().flatten() {
            let _ = copy.await;
        }
    };
    Ok((told, copies))
}

async fn copy(
    source: impl AsyncRead + Unpin,
    log: Arc<Mutex<LogFile>>,
    mut ready: Option<oneshot::Sender<()>>,
) {
    let mut source = BufReader::new(source);
    let mut line = Vec::new();
    while let Ok(end) = next_line(&mut source, &mut line).await {
        if line == READY.as_bytes() {
            ready.take().map(|ready| ready.send(()));
        }
        if !(end && line.is_empty()) {
            log.lock().unwrap_or_else(PoisonError::into_inner).line(&line);
        }
        if end {
            return;
        }
        line.clear();
    }
}

/// Reads to the next line feed, keeping at most [`MAX_LINE`] bytes; true at the end of the source.
async fn next_line(source: &mut (impl AsyncBufReadExt + Unpin), line: &mut Vec<u8>) -> std::io::Result<bool> {
    loop {
        let buffer = source.fill_buf().await?;
        if buffer.is_empty() {
            return Ok(true);
        }
        let at = buffer.iter().position(|byte| *byte == b'\n');
        let found = &buffer[..at.unwrap_or(buffer.len())];
        line.extend_from_slice(&found[..found.len().min(MAX_LINE.saturating_sub(line.len()))]);
        let used = at.map_or(buffer.len(), |at| at + 1);
        source.consume(used);
        if at.is_some() {
            return Ok(false);
        }
    }
}

/// A failure that ends with what the role said last.
pub fn with_log(spec: &Spec, what: &str) -> Failure {
    let mut text = format!("the {} {what}", spec.role.as_str());
    if let Ok(last) = tail(&spec.log, 5)
        && !last.is_empty()
    {
        text.push_str("; its log ends with:\n");
        text.push_str(&last);
    }
    Failure::new(ErrorCode::Unavailable, text)
        .at(spec.log.display().to_string())
        .mend(format!("lodge logs {}; lodge doctor", spec.role.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> (tempfile::TempDir, Spec) {
        let root = tempfile::tempdir().unwrap();
        let args = vec!["-c".into(), script.into()];
        let log = root.path().join("history.log");
        (
            root,
            Spec {
                role: Role::History,
                program: "/bin/sh".into(),
                args,
                log,
            },
        )
    }

    #[tokio::test]
    async fn a_role_that_says_ready_runs_and_stops_on_term() {
        let (_root, spec) = shell("echo starting; echo ready; exec sleep 100");
        let mut told = None;
        let running = start(&spec, |pid| told = Some(pid)).await.unwrap();
        assert_eq!(told, Some(running.pid));
        running.stop(Duration::from_secs(20)).await;
        assert!(tail(&spec.log, 9).unwrap().contains("starting"));
    }

    #[tokio::test]
    async fn a_role_that_ignores_term_is_killed() {
        let (_root, spec) = shell("trap '' TERM; echo ready; while :; do sleep 0.05; done");
        let running = start(&spec, |_| {}).await.unwrap();
        running.stop(Duration::from_millis(100)).await;
    }

    #[tokio::test]
    async fn an_early_end_is_an_error_with_the_last_words() {
        let (_root, spec) = shell("echo the reason >&2; exit 3");
        let failure = start(&spec, |_| {}).await.unwrap_err();
        let text = failure.to_string();
        assert!(
            text.contains("exit status: 3") && text.contains("the reason"),
            "{text}"
        );
    }

    #[tokio::test]
    async fn a_long_line_is_cut_and_bad_utf8_is_kept() {
        let (_root, spec) =
            shell("head -c 200000 /dev/zero | tr '\\0' x; printf '\\n\\377\\376\\n'; echo ready; sleep 100");
        let running = start(&spec, |_| {}).await.unwrap();
        running.stop(Duration::from_secs(20)).await;
        let log = std::fs::read(&spec.log).unwrap();
        assert!(log.len() < 70_000, "{}", log.len());
        assert!(log.windows(2).any(|pair| pair == [0xff, 0xfe]));
    }

    #[test]
    fn keys_are_not_plain_variables() {
        for name in [
            "ANTHROPIC_API_KEY",
            "OPENAI_API_KEY",
            "LODGE_DEMO_KEY",
            "AWS_SECRET_ACCESS_KEY",
            "HTTPS_PROXY",
        ] {
            assert!(!is_plain(name), "{name}");
        }
        assert!(is_plain("PATH") && is_plain("LC_ALL"));
    }
}
