//! The commands init runs: their pipes, their frames, their end.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::process::Child;
use std::time::{Duration, Instant};

use lodge_guest::mux::{Exit, Frame, Kind, MAX_OUTPUT_CHUNK, MuxError, Signal, Start, StartFailed, Started};
use lodge_guest::walls::Limits;
use nix::sys::signal::{self, killpg};
use nix::unistd::Pid;

use crate::buffer::{Buffer, read_once};
use crate::link::{Link, LinkError};
use crate::poller::{Poller, Token};
use crate::sys;

/// Commands that run, or whose pipes are still held open, at the same time.
const MAX_COMMANDS: usize = 256;
/// Above this many bytes waiting for one command's input, init stops taking frames from the shim.
const MAX_STDIN: usize = 4 << 20;
/// How long a pipe that a surviving grandchild holds open may delay the exit of its command.
const DRAIN_GRACE: Duration = Duration::from_millis(200);

/// One output pipe.
#[derive(Debug)]
struct Output {
    pipe: Option<File>,
    kind: Kind,
    /// Bytes in the pipe when the command was reaped: its own last words, which go before its exit.
    owed: u64,
}

impl Output {
    fn new(pipe: Option<impl Into<OwnedFd>>, kind: Kind) -> io::Result<Self> {
        let pipe = pipe.map(|pipe| File::from(pipe.into()));
        if let Some(pipe) = &pipe {
            sys::set_nonblocking(pipe.as_fd())?;
        }
        Ok(Self { pipe, kind, owed: 0 })
    }

    fn note_owed(&mut self) {
        self.owed = self
            .pipe
            .as_ref()
            .map_or(0, |pipe| sys::readable_bytes(pipe.as_fd()));
    }

    /// Reads once, as much as fits into `chunk`, and passes it on; returns how many bytes.
    fn pump(&mut self, stream: u32, chunk: &mut [u8], link: &mut Link) -> Result<usize, LinkError> {
        let Some(pipe) = &mut self.pipe else { return Ok(0) };
        match read_once(pipe, chunk) {
            Ok(None) => Ok(0),
            Ok(Some(0)) | Err(_) => {
                self.pipe = None;
                self.owed = 0;
                link.send(self.kind, stream, &[])?;
                Ok(0)
            }
            Ok(Some(got)) => {
                self.owed = self.owed.saturating_sub(got as u64);
                link.send(self.kind, stream, &chunk[..got])?;
                Ok(got)
            }
        }
    }
}

#[derive(Debug)]
struct Stdin {
    pipe: Option<File>,
    waiting: Buffer,
    ended: bool,
}

impl Stdin {
    fn push(&mut self, bytes: &[u8]) {
        if self.pipe.is_none() || self.ended {
            return;
        }
        if bytes.is_empty() {
            self.ended = true;
        } else {
            self.waiting.push(bytes);
        }
        self.write();
    }

    /// A command that has closed its input loses what still waits for it, like the writer of any pipe.
    fn write(&mut self) {
        let Some(pipe) = &mut self.pipe else { return };
        let failed = self.waiting.write_to(pipe).is_err();
        if failed || (self.ended && self.waiting.is_empty()) {
            self.pipe = None;
            self.waiting.clear();
        }
    }
}

#[derive(Debug)]
struct Command {
    pid: Pid,
    stdin: Stdin,
    stdout: Output,
    stderr: Output,
    /// Output bytes the shim still takes; `None` until it first grants some: no limit.
    credit: Option<u64>,
    ended: Option<(Exit, Instant)>,
    announced: bool,
}

impl Command {
    fn new(mut child: Child) -> io::Result<Self> {
        let stdin = child.stdin.take().map(|pipe| File::from(OwnedFd::from(pipe)));
        if let Some(pipe) = &stdin {
            sys::set_nonblocking(pipe.as_fd())?;
        }
        Ok(Self {
            pid: pid(&child),
            stdin: Stdin {
                pipe: stdin,
                waiting: Buffer::default(),
                ended: false,
            },
            stdout: Output::new(child.stdout.take(), Kind::Stdout)?,
            stderr: Output::new(child.stderr.take(), Kind::Stderr)?,
            credit: None,
            ended: None,
            announced: false,
        })
    }

    fn drained(&self) -> bool {
        self.stdout.pipe.is_none() && self.stderr.pipe.is_none()
    }

    fn output_limit(&self) -> usize {
        let granted = |left: u64| usize::try_from(left).unwrap_or(usize::MAX);
        self.credit
            .map_or(MAX_OUTPUT_CHUNK, granted)
            .min(MAX_OUTPUT_CHUNK)
    }

    fn pump(&mut self, at: (u32, Kind), chunk: &mut [u8], link: &mut Link) -> Result<(), LinkError> {
        let (stream, kind) = at;
        let limit = self.output_limit();
        if limit == 0 || link.congested() {
            return Ok(());
        }
        let output = if kind == Kind::Stdout {
            &mut self.stdout
        } else {
            &mut self.stderr
        };
        let got = output.pump(stream, &mut chunk[..limit], link)?;
        if let Some(credit) = &mut self.credit {
            *credit = credit.saturating_sub(got as u64);
        }
        Ok(())
    }

    /// Announces the exit when it is due; otherwise says how long until it is.
    fn settle(&mut self, stream: u32, now: Instant, link: &mut Link) -> Result<Option<Duration>, LinkError> {
        let Some((exit, reaped)) = self.ended.filter(|_| !self.announced) else {
            return Ok(None);
        };
        let waited = now.saturating_duration_since(reaped);
        let owed = self.stdout.owed + self.stderr.owed;
        if self.drained() || (owed == 0 && waited >= DRAIN_GRACE) {
            self.announced = true;
            self.stdin.pipe = None;
            self.stdin.waiting.clear();
            link.send_json(Kind::Exit, stream, &exit)?;
            return Ok(None);
        }
        // While bytes are owed, their pipe is readable and wakes the loop by itself.
        Ok((owed == 0).then(|| DRAIN_GRACE.saturating_sub(waited)))
    }
}

fn pid(child: &Child) -> Pid {
    Pid::from_raw(child.id().cast_signed())
}

/// All commands by stream id.
#[derive(Debug)]
pub(crate) struct Children {
    commands: BTreeMap<u32, Command>,
    limits: Limits,
    /// Where output passes through, [`MAX_OUTPUT_CHUNK`] long.
    chunk: Box<[u8]>,
}

impl Children {
    pub(crate) fn new(limits: Limits) -> Self {
        let chunk = vec![0; MAX_OUTPUT_CHUNK].into_boxed_slice();
        Self {
            commands: BTreeMap::new(),
            limits,
            chunk,
        }
    }

    /// Whether some command has more input waiting than init is willing to hold.
    pub(crate) fn overfed(&self) -> bool {
        self.commands
            .values()
            .any(|command| command.stdin.waiting.len() > MAX_STDIN)
    }

    pub(crate) fn start(&mut self, frame: &Frame, link: &mut Link) -> Result<(), LinkError> {
        match self.try_start(frame) {
            Ok(pid) => link.send_json(Kind::Started, frame.stream, &Started { pid: pid.as_raw() }),
            Err(failed) => link.send_json(Kind::StartFailed, frame.stream, &failed),
        }
    }

    fn try_start(&mut self, frame: &Frame) -> Result<Pid, StartFailed> {
        let start: Start = frame
            .parse()
            .map_err(|error: MuxError| refused(error.to_string(), libc::EINVAL))?;
        if self.commands.contains_key(&frame.stream) {
            return Err(refused(format!("stream {} is in use", frame.stream), libc::EBUSY));
        }
        if self.commands.len() >= MAX_COMMANDS {
            return Err(refused(
                format!("{MAX_COMMANDS} commands run already"),
                libc::EAGAIN,
            ));
        }
        check(&start)?;
        let failed = |error: io::Error| {
            refused(
                format!("cannot start {}: {error}", start.argv[0]),
                error.raw_os_error().unwrap_or(0),
            )
        };
        let child = sys::spawn(&start, &self.limits).map_err(failed)?;
        let command = Command::new(child).map_err(failed)?;
        let pid = command.pid;
        self.commands.insert(frame.stream, command);
        Ok(pid)
    }

    pub(crate) fn stdin(&mut self, frame: &Frame) {
        if let Some(command) = self.commands.get_mut(&frame.stream) {
            command.stdin.push(&frame.payload);
        }
    }

    pub(crate) fn signal(&mut self, frame: &Frame) -> Result<(), LinkError> {
        let Signal { signal } = frame.parse()?;
        let running = self
            .commands
            .get(&frame.stream)
            .filter(|command| command.ended.is_none());
        if let (Some(command), Ok(signal)) = (running, signal::Signal::try_from(signal)) {
            // Fails only when the group is gone, which the exit will say.
            let _ = killpg(command.pid, signal);
        }
        Ok(())
    }

    pub(crate) fn credit(&mut self, frame: &Frame) -> Result<(), LinkError> {
        let bytes = frame
            .payload
            .as_slice()
            .try_into()
            .map_err(|_| MuxError::Payload {
                kind: Kind::Credit,
                reason: format!("{} bytes where 4 are due", frame.payload.len()),
            })?;
        if let Some(command) = self.commands.get_mut(&frame.stream) {
            let granted = u64::from(u32::from_le_bytes(bytes));
            command.credit = Some(command.credit.unwrap_or(0).saturating_add(granted));
        }
        Ok(())
    }

    pub(crate) fn interest<'a>(&'a self, poller: &mut Poller<'a>, congested: bool) {
        for (&stream, command) in &self.commands {
            if let Some(pipe) = command
                .stdin
                .pipe
                .as_ref()
                .filter(|_| !command.stdin.waiting.is_empty())
            {
                poller.add_if(Token::Stdin(stream), pipe.as_fd(), false, true);
            }
            if congested || command.output_limit() == 0 {
                continue;
            }
            if let Some(pipe) = &command.stdout.pipe {
                poller.add_if(Token::Stdout(stream), pipe.as_fd(), true, false);
            }
            if let Some(pipe) = &command.stderr.pipe {
                poller.add_if(Token::Stderr(stream), pipe.as_fd(), true, false);
            }
        }
    }

    pub(crate) fn ready(&mut self, token: Token, link: &mut Link) -> Result<(), LinkError> {
        let (Token::Stdin(stream) | Token::Stdout(stream) | Token::Stderr(stream)) = token else {
            return Ok(());
        };
        let Some(command) = self.commands.get_mut(&stream) else {
            return Ok(());
        };
        match token {
            Token::Stdin(_) => command.stdin.write(),
            Token::Stdout(_) => command.pump((stream, Kind::Stdout), &mut self.chunk, link)?,
            _ => command.pump((stream, Kind::Stderr), &mut self.chunk, link)?,
        }
        Ok(())
    }

    /// Notes the end of a process; orphans that were only adopted are not in the table.
    pub(crate) fn reaped(&mut self, pid: Pid, exit: Exit, now: Instant) {
        let running = |command: &&mut Command| command.pid == pid && command.ended.is_none();
        if let Some(command) = self.commands.values_mut().find(running) {
            command.ended = Some((exit, now));
            command.stdout.note_owed();
            command.stderr.note_owed();
        }
    }

    /// Whether the exit of every command was told.
    pub(crate) fn all_announced(&self) -> bool {
        self.commands.values().all(|command| command.announced)
    }

    /// Announces exits that are due, forgets finished commands, says when to look again.
    pub(crate) fn settle(&mut self, now: Instant, link: &mut Link) -> Result<Option<Duration>, LinkError> {
        let mut next: Option<Duration> = None;
        for (&stream, command) in &mut self.commands {
            let wait = command.settle(stream, now, link)?;
            next = next.into_iter().chain(wait).min();
        }
        self.commands
            .retain(|_, command| !(command.announced && command.drained()));
        Ok(next)
    }
}

fn refused(error: String, errno: i32) -> StartFailed {
    StartFailed { error, errno }
}

/// Refuses what exec would answer with an error that does not say what was wrong.
fn check(start: &Start) -> Result<(), StartFailed> {
    if start.pty {
        return Err(refused(
            "terminals are not supported by this init".into(),
            libc::ENOTSUP,
        ));
    }
    if start.argv.first().is_none_or(String::is_empty) {
        return Err(refused("the command is empty".into(), libc::EINVAL));
    }
    if start
        .env
        .iter()
        .any(|(name, _)| name.is_empty() || name.contains('='))
    {
        return Err(refused(
            "an environment variable has no valid name".into(),
            libc::EINVAL,
        ));
    }
    match std::fs::metadata(&start.cwd) {
        Ok(found) if found.is_dir() && start.cwd.starts_with('/') => Ok(()),
        Ok(_) => Err(refused(
            format!("{} is no absolute directory", start.cwd),
            libc::ENOTDIR,
        )),
        Err(error) => Err(refused(
            format!("working directory {}: {error}", start.cwd),
            error.raw_os_error().unwrap_or(0),
        )),
    }
}
