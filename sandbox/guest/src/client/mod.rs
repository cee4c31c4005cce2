//! The host's end of the framed stream, for programs that may block: start commands in a sandbox, feed them, read
//! them. Thread-safe; one thread reads the stream, writers take turns.
//!
//! Memory is bounded: a command whose output is not taken gets no further credit, so init leaves the output in the
//! command's pipe. The guest end is not trusted: a damaged stream, or a frame that only the host may send, ends the
//! sandbox.

mod command;
mod input;
mod queue;

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

pub use command::{Command, Output};

use crate::mux::{
    self, Asks, CONNECTIONS, Decoder, Exit, Frame, Hello, Kind, Limit, MuxError, Start, StartAsking,
    StartFailed,
};
use input::Input;
use queue::Queue;

/// Output bytes of one command that may wait for its reader.
const WINDOW: u32 = 1 << 20;
/// Commands at the same time.
const MAX_COMMANDS: usize = 1024;
const READ_CHUNK: usize = 256 << 10;

/// Why the sandbox did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The stream could not be set up.
    #[error("the stream to the sandbox cannot be used: {source}")]
    Stream { source: io::Error },
    /// It ended before guest init was ready; what it had to say is on its standard error.
    #[error("the sandbox ended before it was ready")]
    NotReady,
    /// No [`Hello`] within the given time.
    #[error("the sandbox was not ready within {} s", patience.as_secs_f32())]
    Late { patience: Duration },
    /// Guest init speaks another version of the protocol.
    #[error(
        "guest init speaks version {version} of the stream, this program version {}",
        mux::VERSION
    )]
    Version { version: u32 },
    /// What was to be sent does not fit into a frame.
    #[error("{0}")]
    Frame(#[from] MuxError),
    /// The sandbox has ended.
    #[error("the sandbox has ended")]
    Gone,
    /// A bound was crossed and the sandbox was ended for it.
    #[error("{} was crossed: {} allowed, {} found", .0.key, .0.allowed, .0.found)]
    Limit(Limit),
    /// The command could not be started.
    #[error("{}", .0.error)]
    StartFailed(StartFailed),
    /// [`MAX_COMMANDS`] run already.
    #[error("{MAX_COMMANDS} commands run already")]
    TooMany,
    /// The command did not end in time.
    #[error("the command did not end within {} s", patience.as_secs_f32())]
    Timeout { patience: Duration },
    /// The command said more than was asked for.
    #[error("the command gave more than {cap} bytes")]
    TooLong { cap: usize },
}

/// What happens to a command, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    Stdout(Vec<u8>),
    Stderr(Vec<u8>),
    /// The last one.
    Exit(Exit),
    /// The last one.
    StartFailed(StartFailed),
    /// The sandbox is being ended for this.
    Limit(Limit),
    /// The sandbox has ended without telling an exit. The last one.
    Gone,
}

/// State of the stream.
#[derive(Debug, Default)]
struct State {
    hello: Option<Hello>,
    limit: Option<Limit>,
    ended: bool,
    commands: HashMap<u32, Ends>,
}

/// What a command gives and may be given.
#[derive(Debug, Clone, Default)]
struct Ends {
    queue: Arc<Queue>,
    input: Arc<Input>,
}

#[derive(Debug)]
struct Shared {
    stream: UnixStream,
    /// Held for a whole frame.
    writer: Mutex<()>,
    state: Mutex<State>,
    changed: Condvar,
    next: AtomicU32,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self, bytes: &[u8]) -> Result<(), ClientError> {
        let _turn = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        (&self.stream).write_all(bytes).map_err(|_| ClientError::Gone)
    }

    fn send(&self, kind: Kind, stream: u32, payload: &[u8]) -> Result<(), ClientError> {
        let mut bytes = Vec::new();
        mux::encode_into(kind, stream, payload, &mut bytes)?;
        self.write(&bytes)
    }

    fn hang_up(&self) {
        let _ = self.stream.shutdown(Shutdown::Both);
    }

    /// Waits until `found` gives something; `None` when it did not before `deadline`.
    fn wait<T>(&self, deadline: Instant, found: impl Fn(&State) -> Option<T>) -> Option<T> {
        let mut state = self.state();
        loop {
            if let Some(found) = found(&state) {
                return Some(found);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return None;
            }
            state = self
                .changed
                .wait_timeout(state, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }

    /// Reads until the stream ends.
    fn read(&self) {
        let mut decoder = Decoder::new();
        let mut chunk = vec![0; READ_CHUNK];
        'stream: loop {
            match (&self.stream).read(&mut chunk) {
                Ok(0) => break,
                Ok(got) => decoder.push(&chunk[..got]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(_) => break,
            }
            loop {
                let obeyed = |frame: Option<Frame>| frame.map(|frame| self.obey(frame)).transpose();
                match decoder.next().and_then(obeyed) {
                    Ok(Some(())) => {}
                    Ok(None) => break,
                    Err(_) => break 'stream,
                }
            }
        }
        self.hang_up();
        let mut state = self.state();
        state.ended = true;
        for (_, ends) in state.commands.drain() {
            ends.input.end();
            ends.queue.push(Event::Gone);
        }
        drop(state);
        self.changed.notify_all();
    }

    /// An error means that the stream cannot be trusted any more.
    fn obey(&self, frame: Frame) -> Result<(), MuxError> {
        let mut state = self.state();
        let event = match frame.kind {
            Kind::Hello => {
                state.hello = Some(frame.parse()?);
                self.changed.notify_all();
                return Ok(());
            }
            Kind::Limit => {
                let limit: Limit = frame.parse()?;
                for ends in state.commands.values() {
                    ends.queue.push(Event::Limit(limit.clone()));
                }
                state.limit = Some(limit);
                return Ok(());
            }
            Kind::Stdout if !frame.payload.is_empty() => Event::Stdout(frame.payload),
            Kind::Stderr if !frame.payload.is_empty() => Event::Stderr(frame.payload),
            Kind::Stdout | Kind::Stderr => return Ok(()),
            Kind::Started => {
                if let Some(ends) = state.commands.get(&frame.stream) {
                    ends.input.start();
                }
                return Ok(());
            }
            Kind::Credit => {
                let granted = frame.credit()?;
                if let Some(ends) = state.commands.get(&frame.stream) {
                    ends.input.grant(granted);
                }
                return Ok(());
            }
            Kind::Exit => Event::Exit(frame.parse()?),
            Kind::StartFailed => Event::StartFailed(frame.parse()?),
            kind => {
                return Err(MuxError::Payload {
                    kind,
                    reason: "only the host may send it".into(),
                });
            }
        };
        // Nobody is interested in the late output of a command that has ended.
        let last = matches!(event, Event::Exit(_) | Event::StartFailed(_));
        let ends = if last {
            state.commands.remove(&frame.stream)
        } else {
            state.commands.get(&frame.stream).cloned()
        };
        drop(state);
        if let Some(ends) = ends {
            if last {
                ends.input.end();
            }
            ends.queue.push(event);
        }
        Ok(())
    }
}

/// A running sandbox. Dropping it ends everything in it at once; [`Command`]s then see [`Event::Gone`].
#[derive(Debug)]
pub struct Client {
    shared: Arc<Shared>,
    reader: Option<JoinHandle<()>>,
}

impl Client {
    /// Takes over the host's end of the stream and waits for guest init, at most `patience`.
    pub fn new(stream: OwnedFd, patience: Duration) -> Result<Self, ClientError> {
        let stream = UnixStream::from(stream);
        let failed = |source| ClientError::Stream { source };
        stream.set_nonblocking(false).map_err(failed)?;
        let shared = Arc::new(Shared {
            stream,
            writer: Mutex::new(()),
            state: Mutex::default(),
            changed: Condvar::new(),
            next: AtomicU32::new(1),
        });
        let reading = Arc::clone(&shared);
        let reader = std::thread::Builder::new()
            .name("sandbox stream".into())
            .spawn(move || reading.read())
            .map_err(failed)?;
        let client = Self {
            shared,
            reader: Some(reader),
        };
        let ready = |state: &State| state.hello.map(Some).or(state.ended.then_some(None));
        match client.shared.wait(Instant::now() + patience, ready) {
            Some(Some(hello)) if hello.version == mux::VERSION => Ok(client),
            Some(Some(Hello { version })) => Err(ClientError::Version { version }),
            Some(None) => Err(ClientError::NotReady),
            None => Err(ClientError::Late { patience }),
        }
    }

    /// Asks for a command; whether it runs is told by its events.
    pub fn start(&self, start: &Start) -> Result<Command, ClientError> {
        let id = self.shared.next.fetch_add(1, Ordering::Relaxed);
        if id >= CONNECTIONS {
            return Err(ClientError::TooMany);
        }
        // The credit travels with the start, so that it is there before the first output.
        let mut bytes = Vec::new();
        let asks = Asks { input_credit: true };
        Frame::json(Kind::Start, id, &StartAsking { start, asks })?.encode_into(&mut bytes)?;
        mux::encode_into(Kind::Credit, id, &WINDOW.to_le_bytes(), &mut bytes)?;
        let ends = Ends::default();
        {
            let mut state = self.shared.state();
            if state.ended {
                return Err(gone(&state));
            }
            if state.commands.len() >= MAX_COMMANDS {
                return Err(ClientError::TooMany);
            }
            state.commands.insert(id, ends.clone());
        }
        if let Err(error) = self.shared.write(&bytes) {
            self.shared.state().commands.remove(&id);
            return Err(error);
        }
        Ok(Command::new(id, Arc::clone(&self.shared), ends))
    }

    /// The bound that the sandbox was ended for.
    pub fn limit(&self) -> Option<Limit> {
        self.shared.state().limit.clone()
    }

    /// Whether the stream has ended.
    pub fn ended(&self) -> bool {
        self.shared.state().ended
    }

    /// Asks everything in the sandbox to end (TERM, after two seconds KILL), and waits until it has, at most
    /// `patience`; then it is ended at once.
    pub fn shutdown(self, patience: Duration) -> Result<(), ClientError> {
        if self.shared.send(Kind::Shutdown, 0, &[]).is_ok() {
            let ended = |state: &State| state.ended.then_some(());
            let ended = self.shared.wait(Instant::now() + patience, ended);
            return ended.ok_or(ClientError::Timeout { patience });
        }
        Ok(())
    }
}

fn gone(state: &State) -> ClientError {
    state.limit.clone().map_or(ClientError::Gone, ClientError::Limit)
}

impl Drop for Client {
    fn drop(&mut self) {
        self.shared.hang_up();
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
    }
}
