//! One command to its end, within bounds.

use super::streams::{Stream, StreamEvent, Streams};
use lodge_proto::{ErrorBody, ErrorCode};
use lodge_shim::stream::{Channel, StartStream, StreamExit};
use std::time::Duration;

/// Bytes of standard error that are kept.
const STDERR: usize = 4096;
/// Bytes of input handed over at once.
const CHUNK: usize = 64 * 1024;

/// Bounds of one command.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Bytes of standard output; the command is killed beyond.
    pub output: usize,
    pub time: Duration,
}

/// What came of a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finished {
    pub stdout: Vec<u8>,
    pub stderr: String,
    /// `None` when it was killed because its output was over the limit.
    pub exit: Option<StreamExit>,
}

impl Finished {
    /// Whether there was more output than was kept.
    pub fn is_cut(&self) -> bool {
        self.exit.is_none()
    }
}

/// Runs a command with this input. `argv[0]` is in errors, arguments are not.
pub async fn run(
    streams: &Streams,
    argv: Vec<String>,
    env: Vec<(String, String)>,
    input: &[u8],
    limits: Limits,
) -> Result<Finished, ErrorBody> {
    let name = argv.first().cloned().unwrap_or_default();
    let start = StartStream {
        argv,
        env,
        terminal: None,
    };
    let work = async {
        let mut stream = streams.start(start).await?;
        for chunk in input.chunks(CHUNK) {
            stream.input.write(chunk);
        }
        stream.input.write(&[]);
        collect(&mut stream, limits.output).await
    };
    let finished = tokio::time::timeout(limits.time, work).await.map_err(|_| {
        let seconds = limits.time.as_secs();
        ErrorBody::new(
            ErrorCode::DeadlineExceeded,
            format!("`{name}` took longer than {seconds} s in the sandbox and was ended"),
        )
    })??;
    match &finished.exit {
        Some(StreamExit {
            error: Some(error), ..
        }) => Err(ErrorBody::new(
            ErrorCode::Unavailable,
            format!("`{name}` cannot be run in the sandbox: {error}"),
        )),
        _ => Ok(finished),
    }
}

async fn collect(stream: &mut Stream, limit: usize) -> Result<Finished, ErrorBody> {
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    loop {
        match stream.next().await {
            Some(StreamEvent::Output { channel, bytes }) => {
                stream.input.grant(bytes.len());
                if channel == Channel::Stderr {
                    let room = STDERR.saturating_sub(stderr.len()).min(bytes.len());
                    stderr.extend_from_slice(&bytes[..room]);
                    continue;
                }
                let room = limit.saturating_sub(stdout.len());
                if bytes.len() > room {
                    stdout.extend_from_slice(&bytes[..room]);
                    return Ok(finished(stdout, &stderr, None));
                }
                stdout.extend_from_slice(&bytes);
            }
            Some(StreamEvent::Exit(exit)) => return Ok(finished(stdout, &stderr, Some(exit))),
            None => {
                return Err(ErrorBody::new(
                    ErrorCode::Unavailable,
                    "the session's sandbox ended meanwhile",
                ));
            }
        }
    }
}

fn finished(stdout: Vec<u8>, stderr: &[u8], exit: Option<StreamExit>) -> Finished {
    Finished {
        stdout,
        stderr: String::from_utf8_lossy(stderr).trim().to_owned(),
        exit,
    }
}
