//! The streams of one shim's connection, by number.

use lodge_proto::{ErrorBody, ErrorCode};
use lodge_shim::stream::{Channel, FromStream, StartStream, StreamExit, ToStream};
use lodge_shim::wire::ToShim;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::mpsc;

/// SIGKILL.
const KILL: i32 = 9;

/// What comes of a stream. Its credit bounds how much waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StreamEvent {
    Output {
        channel: Channel,
        bytes: Vec<u8>,
    },
    /// Nothing follows.
    Exit(StreamExit),
}

#[derive(Debug)]
enum Answer {
    Opened(u32),
    Refused(String),
}

type Events = mpsc::UnboundedSender<StreamEvent>;

#[derive(Debug, Default)]
struct State {
    last_tag: u64,
    starting: HashMap<u64, (Events, tokio::sync::oneshot::Sender<Answer>)>,
    open: HashMap<u32, Events>,
    closed: bool,
}

/// A way to run commands in the sandbox behind one shim's connection. Clones share it.
#[derive(Debug, Clone)]
pub struct Streams {
    /// Weak: the connection ends with whoever owns it.
    write: mpsc::WeakUnboundedSender<Vec<u8>>,
    state: Arc<Mutex<State>>,
    /// The shim is of a release that knows no streams.
    outdated: bool,
}

impl Streams {
    /// Streams whose requests go into `write`.
    pub(crate) fn new(write: &mpsc::UnboundedSender<Vec<u8>>, outdated: bool) -> Self {
        Self {
            write: write.downgrade(),
            state: Arc::default(),
            outdated,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, request: ToStream<'_>) {
        let mut bytes = Vec::new();
        match ToShim::Stream(request).encode_into(&mut bytes) {
            // A broken connection ends every stream, which is how it shows.
            Ok(()) => {
                if let Some(write) = self.write.upgrade() {
                    let _ = write.send(bytes);
                }
            }
            Err(error) => tracing::error!(%error, "a request for a stream cannot be encoded"),
        }
    }

    /// Starts a command or a terminal.
    pub async fn start(&self, start: StartStream) -> Result<Stream, ErrorBody> {
        if self.outdated {
            let message = "this session was started by an earlier release, which has no terminals and files; stop and resume it";
            return Err(ErrorBody::new(ErrorCode::Unavailable, message));
        }
        let (events, received) = mpsc::unbounded_channel();
        let (answer, answered) = tokio::sync::oneshot::channel();
        let tag = {
            let mut state = self.state();
            if state.closed {
                return Err(gone());
            }
            state.last_tag += 1;
            let tag = state.last_tag;
            state.starting.insert(tag, (events, answer));
            tag
        };
        let terminal = start.terminal.is_some();
        self.push(ToStream::Start { tag, start });
        match answered.await {
            Ok(Answer::Opened(number)) => Ok(self.stream(number, received, terminal)),
            Ok(Answer::Refused(reason)) => Err(ErrorBody::new(ErrorCode::Unavailable, reason)),
            Err(_) => Err(gone()),
        }
    }

    /// A terminal that outlived the runner before this one. To be called before the connection is read.
    pub(crate) fn adopt(&self, number: u32) -> Stream {
        let (events, received) = mpsc::unbounded_channel();
        self.state().open.insert(number, events);
        self.stream(number, received, true)
    }

    fn stream(&self, number: u32, events: mpsc::UnboundedReceiver<StreamEvent>, terminal: bool) -> Stream {
        Stream {
            input: StreamInput {
                streams: self.clone(),
                number,
            },
            events,
            kill: !terminal,
        }
    }

    /// What the shim says.
    pub(crate) fn take(&self, news: &FromStream<'_>) {
        let mut state = self.state();
        match news {
            FromStream::Opened { tag, stream } => {
                let Some((events, answer)) = state.starting.remove(tag) else {
                    return;
                };
                state.open.insert(*stream, events);
                if answer.send(Answer::Opened(*stream)).is_err() {
                    // Whoever asked has gone: nobody would ever end it.
                    drop(state);
                    self.push(ToStream::Signal {
                        stream: *stream,
                        signal: KILL,
                    });
                }
            }
            FromStream::Refused { tag, reason } => {
                if let Some((_, answer)) = state.starting.remove(tag) {
                    let _ = answer.send(Answer::Refused((*reason).to_owned()));
                }
            }
            FromStream::Output {
                stream,
                channel,
                bytes,
            } => {
                let event = StreamEvent::Output {
                    channel: *channel,
                    bytes: bytes.to_vec(),
                };
                let taken = state
                    .open
                    .get(stream)
                    .is_some_and(|events| events.send(event).is_ok());
                if !taken && *channel != Channel::Replay {
                    // Nobody listens any more: it is let go on until its end is known.
                    drop(state);
                    let bytes = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
                    self.push(ToStream::Credit {
                        stream: *stream,
                        bytes,
                    });
                }
            }
            FromStream::Exit { stream, exit } => {
                if let Some(events) = state.open.remove(stream) {
                    let _ = events.send(StreamEvent::Exit(exit.clone()));
                }
            }
        }
    }

    /// The connection is gone.
    pub(crate) fn close(&self) {
        let mut state = self.state();
        state.closed = true;
        state.starting.clear();
        state.open.clear();
    }
}

fn gone() -> ErrorBody {
    ErrorBody::new(ErrorCode::Unavailable, "the session's sandbox has ended")
}

/// The writing side of a stream.
#[derive(Debug, Clone)]
pub struct StreamInput {
    streams: Streams,
    number: u32,
}

impl StreamInput {
    /// Bytes for standard input; none close it.
    pub fn write(&self, bytes: &[u8]) {
        self.streams.push(ToStream::Input {
            stream: self.number,
            bytes,
        });
    }

    pub fn resize(&self, rows: u16, cols: u16) {
        self.streams.push(ToStream::Resize {
            stream: self.number,
            rows,
            cols,
        });
    }

    /// Sends a signal to the command's process group.
    pub fn signal(&self, signal: i32) {
        self.streams.push(ToStream::Signal {
            stream: self.number,
            signal,
        });
    }

    pub fn kill(&self) {
        self.signal(KILL);
    }

    /// So many bytes were dealt with; as many more may come.
    pub fn grant(&self, bytes: usize) {
        self.streams.push(ToStream::Credit {
            stream: self.number,
            bytes: u32::try_from(bytes).unwrap_or(u32::MAX),
        });
    }
}

/// A command or terminal. A command is killed when this is dropped before its exit; a terminal lives on.
#[derive(Debug)]
pub struct Stream {
    pub input: StreamInput,
    events: mpsc::UnboundedReceiver<StreamEvent>,
    kill: bool,
}

impl Stream {
    /// The next of its events; `None` when the connection to its shim is gone.
    pub async fn next(&mut self) -> Option<StreamEvent> {
        let event = self.events.recv().await;
        if matches!(event, Some(StreamEvent::Exit(_)) | None) {
            self.kill = false;
        }
        event
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        if self.kill {
            self.input.kill();
        }
    }
}
