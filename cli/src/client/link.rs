//! One client on a connection to a runner: commands with their responses, events, controls.

use crate::failure::Failure;
use lodge_backend::upstream::{RunnerAddress, RunnerConnection, RunnerFrame, UpstreamError};
use lodge_proto::frame::{Header, Kind};
use lodge_proto::relay::{Actor, RunnerControl, ToClient, ToRelay};
use lodge_proto::{Command, ErrorBody, ErrorCode, Outcome, Response, SessionId, sock};
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::collections::{HashMap, HashSet, VecDeque};
use std::path::Path;
use std::time::Duration;

/// The one client of this connection.
const CHANNEL: u32 = 1;
/// How long a command may take.
const REPLY_WITHIN: Duration = Duration::from_mins(1);
/// Events that may wait while a reply is awaited.
const MAX_WAITING: usize = 100_000;

/// What the runner sent.
#[derive(Debug)]
pub enum Incoming {
    /// One event: its number, epoch and exact JSON.
    Event {
        session: SessionId,
        seq: u64,
        epoch: u32,
        json: String,
    },
    Control(Box<ToClient>),
    /// A command was refused whose answer nobody waited for, an abort for example.
    Refused(ErrorBody),
}

/// A connection to a runner.
#[derive(Debug)]
pub struct Link {
    connection: RunnerConnection,
    actor: Actor,
    handles: HashMap<u64, SessionId>,
    /// Sessions whose live events are for this client.
    joined: HashSet<u64>,
    waiting: VecDeque<Incoming>,
}

enum Received {
    Incoming(Incoming),
    Response(Response),
    Nothing,
}

impl Link {
    /// Connects, checks who listens, and appears as a client.
    pub async fn connect(path: &Path, actor: Actor) -> anyhow::Result<Self> {
        let address = RunnerAddress::Unix {
            path: path.to_owned(),
            uid: sock::own_uid(),
        };
        let mut connection = RunnerConnection::connect(&address).await?;
        connection.attach(CHANNEL, &actor).await?;
        Ok(Self {
            connection,
            actor,
            handles: HashMap::new(),
            joined: HashSet::new(),
            waiting: VecDeque::new(),
        })
    }

    /// Sends a command and waits for its result. Events that come in between are kept for [`Link::next`].
    pub async fn call(&mut self, command: &Command) -> anyhow::Result<Value> {
        self.send(command).await?;
        let answer = async {
            loop {
                match self.receive().await? {
                    Received::Response(response) if response.id == command.id => {
                        return anyhow::Ok(response.outcome);
                    }
                    Received::Incoming(incoming) if self.waiting.len() < MAX_WAITING => {
                        self.waiting.push_back(incoming);
                    }
                    Received::Incoming(_) => return Err(protocol("too many events before a reply").into()),
                    Received::Response(_) | Received::Nothing => {}
                }
            }
        };
        let late = || {
            Failure::new(ErrorCode::DeadlineExceeded, "the runner did not answer in time")
                .mend("lodge logs runner")
        };
        match tokio::time::timeout(REPLY_WITHIN, answer)
            .await
            .map_err(|_| late())??
        {
            Outcome::Ok(value) => Ok(value),
            Outcome::Error(body) => Err(body.into()),
        }
    }

    /// The same with the result, or its field `name` where it has one, read as `T`.
    pub async fn call_for<T: DeserializeOwned>(
        &mut self,
        command: &Command,
        name: &str,
    ) -> anyhow::Result<T> {
        let mut value = self.call(command).await?;
        let found = value.get_mut(name).map(Value::take).unwrap_or(value);
        Ok(serde_json::from_value(found).map_err(|e| protocol(&format!("a result cannot be read: {e}")))?)
    }

    /// Sends a command without waiting for its response.
    pub async fn send(&mut self, command: &Command) -> anyhow::Result<()> {
        Ok(self.connection.command(CHANNEL, &self.actor, command).await?)
    }

    /// The next event or control. Cancelling loses nothing.
    pub async fn next(&mut self) -> anyhow::Result<Incoming> {
        if let Some(incoming) = self.waiting.pop_front() {
            return Ok(incoming);
        }
        loop {
            match self.receive().await? {
                Received::Incoming(incoming) => return Ok(incoming),
                Received::Response(Response {
                    outcome: Outcome::Error(body),
                    ..
                }) => {
                    return Ok(Incoming::Refused(body));
                }
                Received::Response(_) | Received::Nothing => {}
            }
        }
    }

    async fn receive(&mut self) -> anyhow::Result<Received> {
        let frame = self.connection.next_frame().await?.ok_or(UpstreamError::Closed)?;
        match frame.header.kind {
            Kind::Event => Ok(self.event(frame)),
            Kind::Reply => Ok(Received::Response(frame.response()?)),
            Kind::Control => Ok(self.control(&frame.header, frame.control()?)),
            Kind::Credit | Kind::Blob | Kind::Command => Ok(Received::Nothing),
        }
    }

    fn event(&self, RunnerFrame { header, text }: RunnerFrame) -> Received {
        let ours = header.channel == CHANNEL || self.joined.contains(&header.session);
        match self.handles.get(&header.session) {
            Some(session) if ours => {
                let (seq, epoch) = (header.seq, header.epoch);
                Received::Incoming(Incoming::Event {
                    session: *session,
                    seq,
                    epoch,
                    json: text,
                })
            }
            _ => Received::Nothing,
        }
    }

    fn control(&mut self, header: &Header, control: RunnerControl) -> Received {
        match control {
            RunnerControl::Client(control) => {
                if let ToClient::Subscribed { session_id, .. } = *control {
                    self.handles.insert(header.session, session_id);
                }
                return Received::Incoming(Incoming::Control(control));
            }
            RunnerControl::Relay(ToRelay::Join { .. }) if header.channel == CHANNEL => {
                self.joined.insert(header.session);
            }
            RunnerControl::Relay(ToRelay::Leave {}) if header.channel == CHANNEL => {
                self.joined.remove(&header.session);
            }
            RunnerControl::Relay(_) => {}
        }
        Received::Nothing
    }
}

fn protocol(what: &str) -> Failure {
    Failure::new(
        ErrorCode::Internal,
        format!("the runner breaks the protocol: {what}"),
    )
}

/// Whether `error` says that the runner is away and may come back.
pub(crate) fn is_lost(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        cause
            .downcast_ref::<UpstreamError>()
            .is_some_and(|error| !error.is_violation())
    })
}
