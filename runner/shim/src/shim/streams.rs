//! Commands and terminals beside the harness: which there are, what they owe and are owed.
//!
//! Output is never held here but for a terminal's scrollback: what the guest may send is bounded by credit, and the
//! credit comes from the runner. While no runner is there a terminal's output is taken and kept, older for newer.

use std::collections::{BTreeMap, VecDeque};

use lodge_guest::mux::{self, Frame, Kind, MuxError};

use super::Shim;
use super::connection::Connection;
use super::guest::{Guest, HARNESS};
use super::log::log;
use crate::stream::{
    Channel, FromStream, LiveTerminal, MAX_COMMAND_INPUT, MAX_STREAMS, SCROLLBACK, StartStream, StreamExit,
    Terminal, ToStream, WINDOW,
};
use crate::wire::{Harness, ToRunner};

/// SIGKILL.
const KILL: i32 = 9;

/// One command or terminal.
#[derive(Debug)]
struct Stream {
    terminal: Option<Terminal>,
    /// The end of a terminal's output.
    scrollback: VecDeque<u8>,
    /// Bytes of input it was given, counted for commands only.
    fed: usize,
    /// Output bytes that the runner has and did not grant anew.
    in_flight: u32,
    /// Nobody waits for it: it was killed, and its last output is thrown away.
    orphan: bool,
}

/// All of them by stream number.
#[derive(Debug, Default)]
pub(crate) struct Streams {
    last: u32,
    open: BTreeMap<u32, Stream>,
    /// What every command's environment starts from, and where it starts.
    env: Vec<(String, String)>,
    cwd: String,
    /// A runner that speaks of streams is connected.
    attached: bool,
}

impl Streams {
    pub(crate) fn new(env: Vec<(String, String)>, cwd: String) -> Self {
        Self {
            last: HARNESS,
            env,
            cwd,
            ..Self::default()
        }
    }

    /// Terminals for a runner that has just come.
    pub(crate) fn terminals(&self) -> Vec<LiveTerminal> {
        let live = |(&stream, open): (&u32, &Stream)| {
            let terminal = open.terminal.filter(|_| !open.orphan)?;
            Some(LiveTerminal { stream, terminal })
        };
        self.open.iter().filter_map(live).collect()
    }

    fn start(&mut self, start: &StartStream, guest: &mut Guest) -> Result<u32, String> {
        if self.open.len() >= MAX_STREAMS {
            return Err(format!("{MAX_STREAMS} commands and terminals run already"));
        }
        let stream = self.last + 1;
        if stream >= mux::CONNECTIONS {
            return Err("no stream number is left".to_owned());
        }
        let mut env = self.env.clone();
        env.extend(start.env.iter().cloned());
        let frame = mux::Start {
            argv: start.argv.clone(),
            env,
            cwd: self.cwd.clone(),
            pty: start.terminal.is_some(),
            size: start.terminal.map(|terminal| mux::Resize {
                rows: terminal.rows,
                cols: terminal.cols,
            }),
        };
        let payload = serde_json::to_vec(&frame).map_err(|error| error.to_string())?;
        guest
            .queue_for(Kind::Start, stream, &payload)
            .and_then(|()| guest.queue_for(Kind::Credit, stream, &WINDOW.to_le_bytes()))
            .map_err(|error| error.to_string())?;
        self.last = stream;
        self.open.insert(
            stream,
            Stream {
                terminal: start.terminal,
                scrollback: VecDeque::new(),
                fed: 0,
                in_flight: 0,
                orphan: false,
            },
        );
        Ok(stream)
    }

    /// What the runner wants of an open stream. One that has just ended is no error.
    fn steer(&mut self, request: &ToStream<'_>, guest: &mut Guest) -> Result<(), MuxError> {
        match *request {
            ToStream::Input { stream, bytes } => self.input(stream, bytes, guest),
            ToStream::Resize { stream, rows, cols } => {
                let Some(terminal) = self.open.get_mut(&stream).and_then(|open| open.terminal.as_mut())
                else {
                    return Ok(());
                };
                (terminal.rows, terminal.cols) = (rows, cols);
                queue_json(guest, Kind::Resize, stream, &mux::Resize { rows, cols })
            }
            ToStream::Signal { stream, signal } if self.open.contains_key(&stream) => {
                queue_json(guest, Kind::Signal, stream, &mux::Signal { signal })
            }
            ToStream::Credit { stream, bytes } => {
                let Some(open) = self.open.get_mut(&stream) else {
                    return Ok(());
                };
                // A runner cannot grant what it does not have: the window never grows.
                let granted = bytes.min(open.in_flight);
                open.in_flight -= granted;
                grant(guest, stream, granted)
            }
            ToStream::Start { .. } | ToStream::Signal { .. } => Ok(()),
        }
    }

    fn input(&mut self, stream: u32, bytes: &[u8], guest: &mut Guest) -> Result<(), MuxError> {
        let Some(open) = self.open.get_mut(&stream) else {
            return Ok(());
        };
        if open.terminal.is_some() {
            // As a terminal whose buffer is full: what nobody reads is lost, and holds up nothing else.
            if !guest.has_room() {
                return Ok(());
            }
        } else {
            open.fed += bytes.len();
            if open.fed > MAX_COMMAND_INPUT {
                return queue_json(guest, Kind::Signal, stream, &mux::Signal { signal: KILL });
            }
        }
        if bytes.is_empty() {
            return guest.queue_for(Kind::Stdin, stream, &[]);
        }
        bytes
            .chunks(mux::MAX_OUTPUT_CHUNK)
            .try_for_each(|chunk| guest.queue_for(Kind::Stdin, stream, chunk))
    }

    /// Passes output on, keeps a terminal's end of it, and grants anew what nobody will.
    fn output(
        &mut self,
        frame: &Frame,
        guest: &mut Guest,
        runner: Option<&mut Connection>,
    ) -> Result<(), MuxError> {
        let Some(open) = self.open.get_mut(&frame.stream) else {
            return Ok(());
        };
        let bytes = frame.payload.as_slice();
        if open.terminal.is_some() {
            open.scrollback.extend(bytes);
            let excess = open.scrollback.len().saturating_sub(SCROLLBACK);
            open.scrollback.drain(..excess);
        }
        let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        match runner.filter(|_| self.attached && !open.orphan) {
            Some(runner) if !bytes.is_empty() => {
                open.in_flight = open.in_flight.saturating_add(length);
                let channel = if frame.kind == Kind::Stdout {
                    Channel::Stdout
                } else {
                    Channel::Stderr
                };
                runner.say(&ToRunner::Stream(FromStream::Output {
                    stream: frame.stream,
                    channel,
                    bytes,
                }));
                Ok(())
            }
            _ => grant(guest, frame.stream, length),
        }
    }

    fn ended(&mut self, stream: u32, exit: StreamExit, runner: Option<&mut Connection>) {
        let Some(open) = self.open.remove(&stream) else {
            return;
        };
        if let Some(runner) = runner.filter(|_| self.attached && !open.orphan) {
            runner.say(&ToRunner::Stream(FromStream::Exit { stream, exit }));
        }
    }

    /// A runner has come: it gets what each terminal has shown.
    fn attach(&mut self, runner: &mut Connection) {
        self.attached = true;
        for (&stream, open) in &mut self.open {
            let (head, tail) = open.scrollback.as_slices();
            for bytes in [head, tail] {
                if !bytes.is_empty() && !open.orphan {
                    runner.say(&ToRunner::Stream(FromStream::Output {
                        stream,
                        channel: Channel::Replay,
                        bytes,
                    }));
                }
            }
        }
    }

    /// The runner is gone: its commands end, terminals go on unwatched.
    fn detach(&mut self, guest: Option<&mut Guest>) {
        self.attached = false;
        let Some(guest) = guest else { return };
        for (&stream, open) in &mut self.open {
            let granted = std::mem::take(&mut open.in_flight);
            let mut result = grant(guest, stream, granted);
            if open.terminal.is_none() && !open.orphan {
                open.orphan = true;
                let kill = queue_json(guest, Kind::Signal, stream, &mux::Signal { signal: KILL });
                result = result.and(kill);
            }
            if let Err(error) = result {
                log(format_args!("stream {stream} cannot be left behind: {error}"));
            }
        }
    }
}

fn grant(guest: &mut Guest, stream: u32, bytes: u32) -> Result<(), MuxError> {
    if bytes == 0 {
        return Ok(());
    }
    guest.queue_for(Kind::Credit, stream, &bytes.to_le_bytes())
}

fn queue_json<T: serde::Serialize>(
    guest: &mut Guest,
    kind: Kind,
    stream: u32,
    value: &T,
) -> Result<(), MuxError> {
    let payload = Frame::json(kind, stream, value)?.payload;
    guest.queue_for(kind, stream, &payload)
}

impl Shim {
    /// What the runner says about streams.
    pub(super) fn obey_stream(&mut self, request: &ToStream<'_>) {
        let guest = self.guest.as_mut().filter(|_| self.harness == Harness::Running);
        if let ToStream::Start { tag, start } = request {
            let started = match guest {
                Some(guest) => self.streams.start(start, guest),
                None => Err("the sandbox does not run".to_owned()),
            };
            if let Some(active) = &mut self.server.active {
                active.say(&ToRunner::Stream(match &started {
                    Ok(stream) => FromStream::Opened {
                        tag: *tag,
                        stream: *stream,
                    },
                    Err(reason) => FromStream::Refused { tag: *tag, reason },
                }));
            }
        } else if let Some(guest) = guest
            && let Err(error) = self.streams.steer(request, guest)
        {
            log(format_args!("a stream's request cannot be passed on: {error}"));
        }
    }

    /// A frame of a stream that is not the harness's.
    pub(super) fn take_stream_frame(&mut self, frame: &Frame) -> Result<(), MuxError> {
        let runner = self.server.active.as_mut();
        let Some(guest) = &mut self.guest else {
            return Ok(());
        };
        match frame.kind {
            Kind::Stdout | Kind::Stderr => self.streams.output(frame, guest, runner),
            Kind::StartFailed => {
                let mux::StartFailed { error, errno } = frame.parse()?;
                let exit = StreamExit {
                    error: Some(error),
                    errno,
                    ..StreamExit::default()
                };
                self.streams.ended(frame.stream, exit, runner);
                Ok(())
            }
            Kind::Exit => {
                let mux::Exit { code, signal } = frame.parse()?;
                let exit = StreamExit {
                    code,
                    signal,
                    ..StreamExit::default()
                };
                self.streams.ended(frame.stream, exit, runner);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// The sandbox is gone with everything in it.
    pub(super) fn end_streams(&mut self) {
        let open: Vec<u32> = self.streams.open.keys().copied().collect();
        for stream in open {
            let runner = self.server.active.as_mut();
            self.streams.ended(stream, StreamExit::default(), runner);
        }
    }

    /// Another runner, or none, in place of the one that started the commands.
    pub(super) fn leave_streams(&mut self) {
        self.streams.detach(self.guest.as_mut());
    }

    /// Follows a hang-up of the runner, wherever it was noticed.
    pub(super) fn follow_runner(&mut self) {
        if self.streams.attached && self.server.active.is_none() {
            self.leave_streams();
        }
    }

    pub(super) fn greet_streams(&mut self) {
        if let Some(active) = &mut self.server.active {
            self.streams.attach(active);
        }
    }
}
