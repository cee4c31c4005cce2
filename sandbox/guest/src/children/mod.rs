//! The commands init runs: their frames, their start, their end.

mod command;

use std::collections::BTreeMap;
use std::io;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use lodge_guest::mux::{
    Asks, CONNECTIONS, Exit, Frame, INPUT_WINDOW, Kind, MAX_OUTPUT_CHUNK, MuxError, Resize, Signal, Start,
    StartFailed, Started,
};
use lodge_guest::walls::Limits;
use nix::sys::signal::{self, killpg};
use nix::unistd::Pid;

use crate::link::{Link, LinkError};
use crate::poller::{Poller, Token};
use crate::sys;
use command::Command;

/// Commands that run, or whose pipes are still held open, at the same time.
const MAX_COMMANDS: usize = 256;

/// All commands by stream id.
#[derive(Debug)]
pub(crate) struct Children {
    commands: BTreeMap<u32, Command>,
    limits: Limits,
    /// Where output passes through, [`MAX_OUTPUT_CHUNK`] long.
    chunk: Box<[u8]>,
    /// Bytes of output so far.
    output: u64,
    /// Nothing is started any more.
    closed: bool,
}

impl Children {
    pub(crate) fn new(limits: Limits) -> Self {
        let chunk = vec![0; MAX_OUTPUT_CHUNK].into_boxed_slice();
        Self {
            commands: BTreeMap::new(),
            limits,
            chunk,
            output: 0,
            closed: false,
        }
    }

    /// Bytes of standard output and error that all commands gave.
    pub(crate) fn output(&self) -> u64 {
        self.output
    }

    /// From now on every start is refused.
    pub(crate) fn close(&mut self) {
        self.closed = true;
    }

    /// Whether some command has more input waiting than init is willing to hold.
    pub(crate) fn overfed(&self) -> bool {
        self.commands.values().any(Command::overfed)
    }

    pub(crate) fn start(&mut self, frame: &Frame, link: &mut Link) -> Result<(), LinkError> {
        let asks: Asks = frame.parse().unwrap_or_default();
        match self.try_start(frame, asks) {
            Ok(pid) => {
                if asks.input_credit {
                    link.send(Kind::Credit, frame.stream, &INPUT_WINDOW.to_le_bytes())?;
                }
                link.send_json(Kind::Started, frame.stream, &Started { pid: pid.as_raw() })
            }
            Err(failed) => link.send_json(Kind::StartFailed, frame.stream, &failed),
        }
    }

    fn try_start(&mut self, frame: &Frame, asks: Asks) -> Result<Pid, StartFailed> {
        let start: Start = frame
            .parse()
            .map_err(|error: MuxError| refused(error.to_string(), libc::EINVAL))?;
        if self.closed {
            return Err(refused("the sandbox is ending".into(), libc::ESHUTDOWN));
        }
        if frame.stream >= CONNECTIONS {
            return Err(refused(
                format!("stream {} is not for commands", frame.stream),
                libc::EINVAL,
            ));
        }
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
        let spawned = sys::spawn(&start, &self.limits).map_err(failed)?;
        let command = Command::new(spawned, asks).map_err(failed)?;
        let pid = command.pid;
        self.commands.insert(frame.stream, command);
        Ok(pid)
    }

    pub(crate) fn stdin(&mut self, frame: &Frame) {
        if let Some(command) = self.commands.get_mut(&frame.stream) {
            command.feed(&frame.payload);
        }
    }

    pub(crate) fn signal(&mut self, frame: &Frame) -> Result<(), LinkError> {
        let Signal { signal } = frame.parse()?;
        let running = self
            .commands
            .get(&frame.stream)
            .filter(|command| command.running());
        if let (Some(command), Ok(signal)) = (running, signal::Signal::try_from(signal)) {
            // Fails only when the group is gone, which the exit will say.
            let _ = killpg(command.pid, signal);
        }
        Ok(())
    }

    pub(crate) fn resize(&mut self, frame: &Frame) -> Result<(), LinkError> {
        let size: Resize = frame.parse()?;
        if let Some(command) = self.commands.get(&frame.stream) {
            command.resize(size);
        }
        Ok(())
    }

    pub(crate) fn credit(&mut self, frame: &Frame) -> Result<(), LinkError> {
        let granted = frame.credit()?;
        if let Some(command) = self.commands.get_mut(&frame.stream) {
            command.grant(granted);
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
        let (stream, kind) = match token {
            Token::Stdout(stream) => (stream, Kind::Stdout),
            Token::Stderr(stream) => (stream, Kind::Stderr),
            Token::Stdin(stream) => {
                if let Some(command) = self.commands.get_mut(&stream) {
                    command.stdin.write();
                }
                return Ok(());
            }
            _ => return Ok(()),
        };
        if let Some(command) = self.commands.get_mut(&stream) {
            self.output += command.pump((stream, kind), &mut self.chunk, link)? as u64;
        }
        Ok(())
    }

    /// Notes the end of a process; orphans that were only adopted are not in the table.
    pub(crate) fn reaped(&mut self, pid: Pid, exit: Exit, now: Instant) {
        let running = |command: &&mut Command| command.pid == pid && command.running();
        if let Some(command) = self.commands.values_mut().find(running) {
            command.end(exit, now);
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
            if command.unsure() {
                self.output += command.pump((stream, Kind::Stdout), &mut self.chunk, link)? as u64;
            }
            command.grant_input(stream, link)?;
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
