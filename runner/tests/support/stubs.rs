//! Stand-ins for history and gateway: the runner meets both only over sockets.

use lodge_proto::SessionId;
use lodge_proto::control::{
    Dialect, EgressAnswered, EgressNotice, LeaseClosed, LeaseGranted, LeaseRenewed, LeaseReply, LeaseRequest,
    ListModelsResponse, Model, lease_reply::Reply, lease_request::Request,
};
use lodge_proto::history::{
    AppendTurnRequest, AppendTurnResponse, DeleteSessionRequest, DeleteSessionResponse, GetSessionRequest,
    ListMessagesRequest, ListMessagesResponse, ListSessionsRequest, ListSessionsResponse, ListTurnsRequest,
    ListTurnsResponse, Message, PutSessionRequest, PutSessionResponse, Session, read_server, write_server,
};
use prost::Message as _;
use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{broadcast, watch};
use tokio_stream::wrappers::UnixListenerStream;
use tonic::{Request as Call, Response as Answer, Status};

/// Time after which something that was to come never will.
const PATIENCE: Duration = Duration::from_secs(10);

/// Binds a socket as the roles do.
fn listen(path: &Path) -> UnixListener {
    let listener = lodge_proto::sock::bind(path).unwrap();
    listener.set_nonblocking(true).unwrap();
    UnixListener::from_std(listener).unwrap()
}

/// History in memory. A turn is stored once; the same turn with other contents is a fault of the runner.
#[derive(Debug, Default)]
struct Stored {
    turns: HashMap<String, AppendTurnRequest>,
    /// Calls to store a turn, the refused ones too.
    calls: u64,
    messages: BTreeMap<String, Vec<Message>>,
    faults: Vec<String>,
}

/// What history does with a call that changes something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mood {
    Works,
    /// Answers that it is unavailable.
    Refuses,
    /// Does not answer until it works again.
    Hangs,
}

#[derive(Debug, Clone)]
pub(crate) struct History(Arc<Mutex<Stored>>, watch::Sender<Mood>);

impl History {
    pub(crate) fn serve(path: &Path) -> Self {
        let history = Self(Arc::default(), watch::Sender::new(Mood::Works));
        let incoming = UnixListenerStream::new(listen(path));
        let server = tonic::transport::Server::builder()
            .add_service(write_server::WriteServer::new(history.clone()).max_decoding_message_size(64 << 20))
            .add_service(read_server::ReadServer::new(history.clone()))
            .serve_with_incoming(incoming);
        tokio::spawn(server);
        history
    }

    pub(crate) fn has_turn(&self, turn: &str) -> bool {
        self.0.lock().unwrap().turns.contains_key(turn)
    }

    /// The stored messages of a session as their JSON.
    pub(crate) fn messages(&self, session: SessionId) -> Vec<lodge_proto::Message> {
        let stored = self.0.lock().unwrap();
        let messages = stored
            .messages
            .get(&session.to_string())
            .cloned()
            .unwrap_or_default();
        messages
            .iter()
            .map(|message| serde_json::from_slice(&message.json).unwrap())
            .collect()
    }

    pub(crate) fn set(&self, mood: Mood) {
        self.1.send_replace(mood);
    }

    /// Calls to store a turn so far.
    pub(crate) fn calls(&self) -> u64 {
        self.0.lock().unwrap().calls
    }

    async fn mood(&self) -> Result<(), Status> {
        let mut mood = self.1.subscribe();
        let mood = *mood.wait_for(|mood| *mood != Mood::Hangs).await.unwrap();
        match mood {
            Mood::Refuses => Err(Status::unavailable("the disk is full")),
            _ => Ok(()),
        }
    }

    pub(crate) fn faults(&self) -> Vec<String> {
        self.0.lock().unwrap().faults.clone()
    }
}

#[tonic::async_trait]
impl write_server::Write for History {
    async fn put_session(&self, _: Call<PutSessionRequest>) -> Result<Answer<PutSessionResponse>, Status> {
        Ok(Answer::new(PutSessionResponse {}))
    }

    async fn append_turn(&self, call: Call<AppendTurnRequest>) -> Result<Answer<AppendTurnResponse>, Status> {
        self.0.lock().unwrap().calls += 1;
        self.mood().await?;
        let request = call.into_inner();
        let turn = request.turn.clone().unwrap_or_default().turn_id;
        let session = request.session.clone().unwrap_or_default().session_id;
        let mut stored = self.0.lock().unwrap();
        let known = stored
            .turns
            .get(&turn)
            .map(|earlier| earlier.messages == request.messages);
        if known == Some(false) {
            stored
                .faults
                .push(format!("turn {turn} came again with other messages"));
        }
        let messages = stored.messages.entry(session).or_default();
        if known.is_none() {
            messages.extend(request.messages.iter().cloned());
        }
        let message_version = messages.len() as u64;
        stored.turns.entry(turn).or_insert(request);
        Ok(Answer::new(AppendTurnResponse {
            message_version,
            already_stored: known.is_some(),
        }))
    }

    async fn delete_session(
        &self,
        _: Call<DeleteSessionRequest>,
    ) -> Result<Answer<DeleteSessionResponse>, Status> {
        self.mood().await?;
        Ok(Answer::new(DeleteSessionResponse {}))
    }
}

#[tonic::async_trait]
impl read_server::Read for History {
    async fn get_session(&self, _: Call<GetSessionRequest>) -> Result<Answer<Session>, Status> {
        Err(Status::not_found("not kept here"))
    }

    async fn list_sessions(
        &self,
        _: Call<ListSessionsRequest>,
    ) -> Result<Answer<ListSessionsResponse>, Status> {
        Err(Status::unimplemented("not kept here"))
    }

    async fn list_messages(
        &self,
        call: Call<ListMessagesRequest>,
    ) -> Result<Answer<ListMessagesResponse>, Status> {
        // One page: no session of these tests has more.
        let stored = self.0.lock().unwrap();
        let messages = stored.messages.get(&call.into_inner().session_id);
        let messages = messages.ok_or_else(|| Status::not_found("no such session"))?;
        Ok(Answer::new(ListMessagesResponse {
            messages: messages.clone(),
            next_cursor: String::new(),
        }))
    }

    async fn list_turns(&self, _: Call<ListTurnsRequest>) -> Result<Answer<ListTurnsResponse>, Status> {
        Err(Status::unimplemented("not kept here"))
    }
}

/// The virtual key of every lease.
pub(crate) const KEY: &str = "virtual-key-of-the-rig";

/// What was asked of the gateway, by session or lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Asked {
    Opened(String),
    /// With less than its user may use: that budget, in nano-dollars.
    Narrowed(String, u64),
    Resumed(String),
    Closed(String),
    /// The answer to a question about a connection.
    Answered(String, String),
}

/// A gateway that grants every lease. It ends with this value.
#[derive(Debug)]
pub(crate) struct Leases {
    asked: watch::Sender<Vec<Asked>>,
    notices: broadcast::Sender<EgressNotice>,
    task: tokio::task::JoinHandle<()>,
}

impl Leases {
    pub(crate) fn serve(path: &Path) -> Self {
        let listener = listen(path);
        let asked = watch::Sender::new(Vec::new());
        let heard = asked.clone();
        let (notices, _) = broadcast::channel(64);
        let said = notices.clone();
        let task = tokio::spawn(async move {
            // Connections end with this task.
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(leases(stream, heard.clone(), said.subscribe()));
            }
        });
        Self { asked, notices, task }
    }

    /// Tells every runner something it did not ask for.
    pub(crate) fn say(&self, notice: EgressNotice) {
        self.notices.send(notice).expect("a runner that listens");
    }

    /// Waits until this was asked.
    pub(crate) async fn heard(&self, wanted: &Asked) {
        let mut asked = self.asked.subscribe();
        let waiting = asked.wait_for(|asked| asked.contains(wanted));
        let heard = tokio::time::timeout(PATIENCE, waiting).await.is_ok();
        assert!(
            heard,
            "the gateway was never asked {wanted:?}: {:?}",
            self.asked.borrow()
        );
    }
}

impl Drop for Leases {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn leases(
    stream: UnixStream,
    asked: watch::Sender<Vec<Asked>>,
    mut notices: broadcast::Receiver<EgressNotice>,
) -> Option<()> {
    let (mut stream, write) = stream.into_split();
    let write = Half::new(write);
    let telling = async {
        while let Ok(notice) = notices.recv().await {
            send(&write, 0, Reply::Egress(notice)).await?;
        }
        Some(())
    };
    tokio::select! {
        ended = answering(&mut stream, &asked, &write) => ended,
        ended = telling => ended,
    }
}

/// Answers and notices are written by one at a time.
type Half = tokio::sync::Mutex<OwnedWriteHalf>;

async fn send(write: &Half, id: u64, reply: Reply) -> Option<()> {
    let reply = LeaseReply {
        id,
        reply: Some(reply),
    };
    let bytes = reply.encode_length_delimited_to_vec();
    write.lock().await.write_all(&bytes).await.ok()
}

async fn answering(
    stream: &mut OwnedReadHalf,
    asked: &watch::Sender<Vec<Asked>>,
    write: &Half,
) -> Option<()> {
    let hear = |what| asked.send_modify(|asked| asked.push(what));
    loop {
        let length = read_varint(stream).await?;
        let mut bytes = vec![0; length];
        // The listener that comes along is dropped: nothing in these guests talks to a model.
        stream.read_exact(&mut bytes).await.ok()?;
        let request = LeaseRequest::decode(bytes.as_slice()).ok()?;

        let reply = match request.request? {
            Request::Open(open) => {
                hear(Asked::Opened(open.session_id.clone()));
                if let Some(narrow) = open.narrow {
                    hear(Asked::Narrowed(open.session_id.clone(), narrow.budget));
                }
                Reply::Granted(granted(&open.session_id, KEY))
            }
            Request::Resume(resume) => {
                hear(Asked::Resumed(resume.session_id));
                Reply::Granted(granted(&resume.lease_id, ""))
            }
            Request::Renew(_) => Reply::Renewed(LeaseRenewed::default()),
            Request::Close(close) => {
                hear(Asked::Closed(close.lease_id));
                Reply::Closed(LeaseClosed {})
            }
            Request::Answer(answer) => {
                hear(Asked::Answered(answer.question_id, answer.answer));
                Reply::Answered(EgressAnswered { known: true })
            }
            Request::Models(_) => Reply::Models(ListModelsResponse {
                models: vec![model()],
                problems: Vec::new(),
            }),
        };
        send(write, request.id, reply).await?;
    }
}

async fn read_varint(stream: &mut OwnedReadHalf) -> Option<usize> {
    let mut value = 0;
    for shift in (0..35).step_by(7) {
        let byte = stream.read_u8().await.ok()?;
        value |= usize::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

fn granted(lease: &str, key: &str) -> LeaseGranted {
    LeaseGranted {
        lease_id: lease.to_owned(),
        virtual_key: key.to_owned(),
        ttl_seconds: 60,
        models: vec![model()],
    }
}

fn model() -> Model {
    Model {
        id: "fake-1".to_owned(),
        name: "Fake".to_owned(),
        provider: "fake".to_owned(),
        dialects: vec![Dialect::OpenaiChat.into()],
        ..Model::default()
    }
}
