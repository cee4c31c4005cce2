//! The server's process.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::io::{self, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, ChildStdout, Command, ExitCode, Stdio};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use rustix::rand::{GetRandomFlags, getrandom};

use super::lines::{self, Line};

/// How it is told to serve; it takes a port that is free.
const ARGUMENTS: [&str; 5] = ["serve", "--port", "0", "--hostname", "127.0.0.1"];
/// Precedes the port in what it prints.
const ANNOUNCEMENT: &str = "listening on http://127.0.0.1:";
/// Longest line of what it prints that is passed on, in bytes.
const MAX_LINE: usize = 16 << 10;
/// The name that it asks for.
const USER: &str = "opencode";
/// A connection on the loopback stands at once or never.
const CONNECT: Duration = Duration::from_secs(5);
/// Time it has to end when it is asked to.
const GRACE: Duration = Duration::from_millis(1500);

/// Why there is no server.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ServerError {
    #[error("no program is named after `--`")]
    NoProgram,
    #[error("starting {program}: {source}")]
    Start { program: String, source: io::Error },
    #[error("making its password: {source}")]
    Password { source: rustix::io::Errno },
    #[error("it ended before it served")]
    NotServing,
    #[error("waiting for it: {source}")]
    Wait { source: io::Error },
}

/// Where it serves, and with which credentials.
#[derive(Debug, Clone)]
pub(super) struct Address {
    pub(super) port: u16,
    /// Value of the header.
    pub(super) authorization: String,
}

impl Address {
    /// A connection for one request.
    pub(super) fn connect(&self) -> io::Result<TcpStream> {
        let stream =
            TcpStream::connect_timeout(&SocketAddr::from((Ipv4Addr::LOCALHOST, self.port)), CONNECT)?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }
}

/// A server that was started.
#[derive(Debug)]
pub(super) struct Server {
    child: Child,
    output: Option<BufReader<ChildStdout>>,
    authorization: String,
}

impl Server {
    /// Starts it. Its password keeps out what else is on the loopback and cannot read its environment.
    pub(super) fn start(command: &[OsString]) -> Result<Self, ServerError> {
        let (program, arguments) = command.split_first().ok_or(ServerError::NoProgram)?;
        let password = password()?;
        let mut child = Command::new(program)
            .args(arguments)
            .args(ARGUMENTS)
            .env("OPENCODE_SERVER_USERNAME", USER)
            .env("OPENCODE_SERVER_PASSWORD", &password)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|source| ServerError::Start {
                program: program.to_string_lossy().into_owned(),
                source,
            })?;
        let output = child.stdout.take().map(BufReader::new);
        let credentials = base64(format!("{USER}:{password}").as_bytes());
        Ok(Self {
            child,
            output,
            authorization: format!("Basic {credentials}"),
        })
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits until it says where it serves. What it prints later is passed on.
    pub(super) fn address(&mut self) -> Result<Address, ServerError> {
        let mut output = self.output.take().ok_or(ServerError::NotServing)?;
        let mut line = Vec::new();
        let port = loop {
            match lines::read(&mut output, MAX_LINE, &mut line) {
                Ok(Line::End) | Err(_) => {
                    let _ = self.child.kill();
                    let _ = self.child.wait();
                    return Err(ServerError::NotServing);
                }
                Ok(Line::Whole | Line::Oversize) => {}
            }
            match announced(&line) {
                Some(port) => break port,
                None => pass_on(&line),
            }
        };
        let rest = move || {
            while let Ok(Line::Whole | Line::Oversize) = lines::read(&mut output, MAX_LINE, &mut line) {
                pass_on(&line);
            }
        };
        // Without the thread its pipe would fill up some day; with the pipe closed it would end.
        thread::Builder::new()
            .stack_size(128 << 10)
            .spawn(rest)
            .map_err(|source| ServerError::Wait { source })?;
        Ok(Address {
            port,
            authorization: self.authorization.clone(),
        })
    }

    /// Waits for its end.
    pub(super) fn wait(&mut self) -> Result<ExitCode, ServerError> {
        let status = self.child.wait().map_err(|source| ServerError::Wait { source })?;
        let code = status
            .code()
            .or_else(|| status.signal().map(|signal| 128 + signal))
            .and_then(|code| u8::try_from(code).ok());
        Ok(code.map_or(ExitCode::FAILURE, ExitCode::from))
    }
}

/// Ends the server: asks it, then does not ask. Only while nobody else has seen its end.
pub(super) fn end(pid: u32) {
    let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) else {
        return;
    };
    let _ = kill_process(pid, Signal::TERM);
    thread::sleep(GRACE);
    let _ = kill_process(pid, Signal::KILL);
}

fn pass_on(line: &[u8]) {
    let mut err = io::stderr().lock();
    let _ = err.write_all(line).and_then(|()| err.write_all(b"\n"));
}

/// The port in a line that says where it serves.
fn announced(line: &[u8]) -> Option<u16> {
    let line = String::from_utf8_lossy(line);
    let (_, rest) = line.split_once(ANNOUNCEMENT)?;
    let digits = rest.split(|c: char| !c.is_ascii_digit()).next()?;
    digits.parse().ok().filter(|port| *port != 0)
}

fn password() -> Result<String, ServerError> {
    let mut bytes = [0; 16];
    getrandom(&mut bytes, GetRandomFlags::empty()).map_err(|source| ServerError::Password { source })?;
    Ok(bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    }))
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let mut three = [0; 3];
        three[..chunk.len()].copy_from_slice(chunk);
        let [a, b, c] = three;
        let digits = [a >> 2, (a & 3) << 4 | b >> 4, (b & 15) << 2 | c >> 6, c & 63];
        for (place, digit) in digits.into_iter().enumerate() {
            let digit = if place <= chunk.len() {
                char::from(DIGITS[usize::from(digit)])
            } else {
                '='
            };
            text.push(digit);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)] // A test that panics has failed.

    use super::*;

    #[test]
    fn the_port_is_the_announced_one() {
        let port = |line: &str| announced(line.as_bytes());
        assert_eq!(
            port("opencode server listening on http://127.0.0.1:18097"),
            Some(18097)
        );
        assert_eq!(port("x listening on http://127.0.0.1:80/ (y)"), Some(80));
        for none in [
            "Warning: 127.0.0.1:18097",
            "listening on http://127.0.0.1:0",
            "listening on http://127.0.0.1:99999",
            "listening on http://127.0.0.1:",
        ] {
            assert_eq!(port(none), None, "{none}");
        }
    }

    #[test]
    fn credentials_are_in_base64() {
        for (text, wanted) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("opencode:pw", "b3BlbmNvZGU6cHc="),
        ] {
            assert_eq!(base64(text.as_bytes()), wanted);
        }
        assert_ne!(password().unwrap(), password().unwrap());
    }

    #[test]
    fn a_program_that_does_not_serve_is_an_error() {
        assert!(matches!(Server::start(&[]), Err(ServerError::NoProgram)));
        let missing = Server::start(&["/does/not/exist".into()]);
        assert!(matches!(missing, Err(ServerError::Start { .. })));
        let mut silent = Server::start(&["/bin/true".into()]).unwrap();
        assert!(matches!(silent.address(), Err(ServerError::NotServing)));
    }

    #[test]
    fn the_status_is_passed_on_and_an_end_can_be_asked_for() {
        let script = "echo listening on http://127.0.0.1:1234; exec sleep 600";
        let mut server = Server::start(&["/bin/sh".into(), "-c".into(), script.into()]).unwrap();
        assert_eq!(server.address().unwrap().port, 1234);
        let pid = server.pid();
        let ending = thread::spawn(move || end(pid));
        assert_eq!(server.wait().unwrap(), ExitCode::from(128 + 15));
        ending.join().unwrap();
    }
}
