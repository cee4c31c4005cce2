//! One command in the sandbox.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{ClientError, Ends, Event, Shared};
use crate::mux::{Exit, Frame, Kind, MAX_OUTPUT_CHUNK, Resize, Signal};

/// Everything a command gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
    pub exit: Exit,
}

/// A command that was asked for. Dropping it does not end it, its further output is thrown away.
#[derive(Debug)]
pub struct Command {
    id: u32,
    shared: Arc<Shared>,
    ends: Ends,
}

impl Command {
    pub(super) fn new(id: u32, shared: Arc<Shared>, ends: Ends) -> Self {
        Self { id, shared, ends }
    }

    /// The stream id.
    pub fn id(&self) -> u32 {
        self.id
    }

    /// Sends bytes to its standard input; blocks while it reads none. Signals and other commands are not held up.
    pub fn write(&self, mut bytes: &[u8]) -> Result<(), ClientError> {
        while !bytes.is_empty() {
            let taken = self.ends.input.take(bytes.len().min(MAX_OUTPUT_CHUNK));
            let (now, later) = bytes.split_at(taken);
            self.shared.send(Kind::Stdin, self.id, now)?;
            bytes = later;
        }
        Ok(())
    }

    /// Ends its standard input. On a terminal: the end-of-file character, where the program reads lines.
    pub fn close_stdin(&self) -> Result<(), ClientError> {
        self.shared.send(Kind::Stdin, self.id, &[])
    }

    /// Sends a signal to its process group.
    pub fn signal(&self, signal: i32) -> Result<(), ClientError> {
        let frame = Frame::json(Kind::Signal, self.id, &Signal { signal })?;
        self.shared.send(frame.kind, frame.stream, &frame.payload)
    }

    /// Changes the size of its terminal.
    pub fn resize(&self, size: Resize) -> Result<(), ClientError> {
        let frame = Frame::json(Kind::Resize, self.id, &size)?;
        self.shared.send(frame.kind, frame.stream, &frame.payload)
    }

    /// Waits for the next event. After the last one (see [`Event`]) there is none: it blocks for ever.
    pub fn next_event(&self) -> Event {
        // Without a deadline there always is one.
        let event = self.ends.queue.pop(None).unwrap_or(Event::Gone);
        self.consumed(&event);
        event
    }

    /// The next event; `None` when none came before `deadline`.
    pub fn next_event_before(&self, deadline: Instant) -> Option<Event> {
        let event = self.ends.queue.pop(Some(deadline))?;
        self.consumed(&event);
        Some(event)
    }

    /// Closes its input and collects its output until it ends. Beyond `cap` bytes (both outputs together) or
    /// `patience` it is killed.
    pub fn wait_with_output(&self, cap: usize, patience: Duration) -> Result<Output, ClientError> {
        self.close_stdin()?;
        let result = self.collect(cap, patience);
        if let Err(ClientError::TooLong { .. } | ClientError::Timeout { .. }) = &result {
            let _ = self.signal(KILL);
        }
        result
    }

    fn collect(&self, cap: usize, patience: Duration) -> Result<Output, ClientError> {
        let deadline = Instant::now() + patience;
        let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
        let mut limit = None;
        loop {
            let event = self
                .next_event_before(deadline)
                .ok_or(ClientError::Timeout { patience })?;
            match event {
                Event::Stdout(bytes) => stdout.extend(bytes),
                Event::Stderr(bytes) => stderr.extend(bytes),
                Event::Limit(crossed) => limit = Some(crossed),
                Event::StartFailed(failed) => return Err(ClientError::StartFailed(failed)),
                Event::Exit(_) | Event::Gone if limit.is_some() => {
                    return Err(limit.map_or(ClientError::Gone, ClientError::Limit));
                }
                Event::Gone => return Err(ClientError::Gone),
                Event::Exit(exit) => return Ok(Output { stdout, stderr, exit }),
            }
            if stdout.len() + stderr.len() > cap {
                return Err(ClientError::TooLong { cap });
            }
        }
    }

    /// Grants as much again as was taken.
    fn consumed(&self, event: &Event) {
        let (Event::Stdout(bytes) | Event::Stderr(bytes)) = event else {
            return;
        };
        let granted = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        // A sandbox that is gone tells so by itself.
        let _ = self.shared.send(Kind::Credit, self.id, &granted.to_le_bytes());
    }
}

impl Drop for Command {
    fn drop(&mut self) {
        // A command that still runs must not stop at an output that nobody reads.
        if self.shared.state().commands.remove(&self.id).is_some() {
            let _ = self.shared.send(Kind::Credit, self.id, &u32::MAX.to_le_bytes());
        }
    }
}

/// `SIGKILL`, the same on every architecture.
const KILL: i32 = 9;
