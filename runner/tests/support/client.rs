//! A relay with one client: connects again after each kill, with its cursors and its unanswered commands.

use lodge_proto::frame::{self, Decoder, Header, Kind, flags};
use lodge_proto::relay::{self, Actor, CommandEnvelope, Rights, ToClient, ToRunner};
use lodge_proto::{Command, CommandBody, Cursor, ErrorCode, Event, Outcome, Response, SessionId};
use serde::Serialize;
use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;

/// The client's channel.
const CHANNEL: u32 = 1;
/// Pause before a runner that is not there yet is tried again.
const RETRY: Duration = Duration::from_millis(5);

/// What the client hears.
#[derive(Debug)]
pub(crate) enum Heard {
    Subscribed(SessionId, Cursor, Box<relay::Verdict>),
    Event(Box<Event>),
    Answer(String, Outcome),
    /// Any other control.
    Control(Box<ToClient>),
    /// Output of a terminal; the first piece after an attachment is marked.
    Shown(u32, Vec<u8>, bool),
}

#[derive(Debug)]
pub(crate) struct Client {
    socket: PathBuf,
    stream: Option<UnixStream>,
    decoder: Decoder,
    /// Session handles of this connection.
    handles: HashMap<u64, SessionId>,
    /// Commands without an answer, by their id.
    pub(crate) pending: BTreeMap<String, Command>,
    next_id: u64,
    /// Temporary refusals are not heard: the command stays pending and is sent again.
    patient: bool,
    pub(crate) rights: Rights,
}

impl Client {
    /// A client that hears every answer.
    pub(crate) fn new(socket: PathBuf) -> Self {
        Self {
            socket,
            stream: None,
            decoder: Decoder::new(),
            handles: HashMap::new(),
            pending: BTreeMap::new(),
            next_id: 1,
            patient: false,
            rights: Rights::Own,
        }
    }

    /// A client that asks again until it gets an answer that is no temporary refusal.
    pub(crate) fn patient(socket: PathBuf) -> Self {
        Self {
            patient: true,
            ..Self::new(socket)
        }
    }

    /// Sends a command; it is sent again until it is answered.
    pub(crate) async fn command(&mut self, session_id: Option<SessionId>, body: CommandBody) -> String {
        let client_id = format!("client-c{:06}", self.next_id);
        self.command_as(Some(client_id), session_id, body).await
    }

    /// The same under a client id of the caller's choice.
    pub(crate) async fn command_as(
        &mut self,
        client_id: Option<String>,
        session_id: Option<SessionId>,
        body: CommandBody,
    ) -> String {
        let id = format!("c{:06}", self.next_id);
        self.next_id += 1;
        let command = Command {
            id: id.clone(),
            session_id,
            client_id,
            body,
        };
        let envelope = self.envelope(&command);
        self.send(Header::new(Kind::Command), &envelope).await;
        self.pending.insert(id.clone(), command);
        id
    }

    pub(crate) async fn subscribe(&mut self, session: SessionId, cursor: Option<Cursor>) {
        let cursors = BTreeMap::from([(session, cursor)]);
        self.send(Header::new(Kind::Control), &ToRunner::Subscribe { cursors })
            .await;
    }

    /// Types into a terminal.
    pub(crate) async fn type_in(&mut self, terminal: u32, text: &str) {
        let header = Header::new(Kind::Blob).session(u64::from(terminal));
        self.send_bytes(header, text.as_bytes()).await;
    }

    async fn send(&mut self, header: Header, payload: &impl Serialize) {
        let payload = serde_json::to_vec(payload).unwrap();
        self.send_bytes(header, &payload).await;
    }

    async fn send_bytes(&mut self, header: Header, payload: &[u8]) {
        let Some(stream) = &mut self.stream else { return };
        let mut bytes = Vec::new();
        frame::encode(&header.channel(CHANNEL), payload, &mut bytes).unwrap();
        if stream.write_all(&bytes).await.is_err() {
            self.stream = None;
        }
    }

    /// Connects, tells where it stands, and repeats what was not answered.
    async fn connect(&mut self, cursors: &BTreeMap<SessionId, Option<Cursor>>) {
        self.decoder = Decoder::new();
        self.handles.clear();
        let stream = loop {
            match UnixStream::connect(&self.socket).await {
                Ok(stream) => break stream,
                Err(_) => tokio::time::sleep(RETRY).await,
            }
        };
        self.stream = Some(stream);
        let control = Header::new(Kind::Control);
        self.send(
            control,
            &ToRunner::Hello {
                version: relay::VERSION,
            },
        )
        .await;
        self.send(control, &ToRunner::Attach { actor: self.actor() })
            .await;
        self.send(
            control,
            &ToRunner::Subscribe {
                cursors: cursors.clone(),
            },
        )
        .await;
        for command in self.pending.clone().values() {
            let envelope = self.envelope(command);
            self.send(Header::new(Kind::Command), &envelope).await;
        }
    }

    /// The next things that are heard; empty after a lost connection. Safe to be dropped half-way.
    pub(crate) async fn hear(&mut self, cursors: &BTreeMap<SessionId, Option<Cursor>>) -> Vec<Heard> {
        if self.stream.is_none() {
            self.connect(cursors).await;
        }
        let Some(stream) = &mut self.stream else {
            return Vec::new();
        };
        let mut buffer = vec![0; 64 * 1024];
        match stream.read(&mut buffer).await {
            Ok(count) if count > 0 => self.decoder.push(&buffer[..count]),
            _ => {
                self.stream = None;
                return Vec::new();
            }
        }
        self.frames()
    }

    fn frames(&mut self) -> Vec<Heard> {
        let mut frames = Vec::new();
        while let Some((header, payload)) = self.decoder.next_frame().unwrap() {
            if header.flags & flags::FOR_RELAY == 0 {
                frames.push((header, payload.to_vec()));
            }
        }
        frames
            .into_iter()
            .filter_map(|(header, payload)| self.heard(&header, &payload))
            .collect()
    }

    fn heard(&mut self, header: &Header, payload: &[u8]) -> Option<Heard> {
        match header.kind {
            Kind::Event => {
                let event: Event = serde_json::from_slice(payload).unwrap();
                let session = self.handles.get(&header.session).copied();
                assert_eq!(
                    session,
                    Some(event.session_id),
                    "an event under another session's handle"
                );
                assert_eq!(header.seq, event.seq);
                Some(Heard::Event(Box::new(event)))
            }
            Kind::Reply => {
                let response: Response = serde_json::from_slice(payload).unwrap();
                if self.patient && is_temporary(&response.outcome) {
                    // Stays pending; asked again with the next connection or the next round.
                    return None;
                }
                self.pending.remove(&response.id)?;
                Some(Heard::Answer(response.id, response.outcome))
            }
            Kind::Control => match serde_json::from_slice(payload).unwrap() {
                ToClient::Subscribed {
                    session_id,
                    cursor,
                    verdict,
                } => {
                    self.handles.insert(header.session, session_id);
                    Some(Heard::Subscribed(session_id, cursor, Box::new(verdict)))
                }
                other => Some(Heard::Control(Box::new(other))),
            },
            Kind::Blob => {
                let terminal = u32::try_from(header.session).unwrap();
                let first = header.flags & flags::FOLDED != 0;
                Some(Heard::Shown(terminal, payload.to_vec(), first))
            }
            Kind::Credit | Kind::Command => panic!("a runner sent {:?}", header.kind),
        }
    }

    fn actor(&self) -> Actor {
        Actor {
            account: "local".to_owned(),
            name: "Tester".to_owned(),
            rights: self.rights,
        }
    }

    fn envelope(&self, command: &Command) -> CommandEnvelope {
        let text = serde_json::to_string(command).unwrap();
        CommandEnvelope {
            actor: self.actor(),
            command: serde_json::value::RawValue::from_string(text).unwrap(),
        }
    }

    pub(crate) fn is_connected(&self) -> bool {
        self.stream.is_some()
    }

    /// Sends all unanswered commands again.
    pub(crate) async fn repeat(&mut self) {
        for command in self.pending.clone().values() {
            let envelope = self.envelope(command);
            self.send(Header::new(Kind::Command), &envelope).await;
        }
    }
}

fn is_temporary(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Error(error) if matches!(error.code, ErrorCode::Unavailable | ErrorCode::Persisting))
}
