//! The runner's side of the history service.

use crate::fold::TurnRecord;
use lodge_proto::history::{
    AppendTurnRequest, DeleteSessionRequest, ListMessagesRequest, Message as StoredMessage,
    PutSessionRequest, Session, Turn, read_client::ReadClient, write_client::WriteClient,
};
use lodge_proto::message::{Message, Role};
use lodge_proto::part::plain_text;
use lodge_proto::session::SessionInfo;
use lodge_proto::{ErrorBody, ErrorCode, SessionId};
use serde_json::{Value, json};
use std::path::PathBuf;
use std::time::Duration;
use tonic::transport::{Channel, Endpoint, Uri};

/// Longest answer that is read: a page of messages.
const MAX_ANSWER: usize = 64 << 20;
/// Time one call may take.
const TIMEOUT: Duration = Duration::from_secs(30);
/// Pauses between attempts to store a turn.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// Messages on a page when a client does not say, and at most.
const PAGE: u32 = 50;
const MAX_PAGE: u32 = 500;
/// Messages taken over when a journal is lost.
const TAIL: u32 = 64;

/// A client of the history service. It connects when it is used, and again after a restart.
#[derive(Debug, Clone)]
pub struct History {
    channel: Channel,
}

impl History {
    /// A client for the service at `socket`, which must run as `uid`.
    pub fn new(socket: PathBuf, uid: u32) -> Self {
        let connector = tower::service_fn(move |_: Uri| {
            let socket = socket.clone();
            async move {
                let stream = lodge_proto::sock::connect(&socket).map_err(std::io::Error::other)?;
                lodge_proto::sock::require_peer(&stream, uid).map_err(std::io::Error::other)?;
                stream.set_nonblocking(true)?;
                Ok::<_, std::io::Error>(hyper_util::rt::TokioIo::new(tokio::net::UnixStream::from_std(
                    stream,
                )?))
            }
        });
        let endpoint = Endpoint::from_static("http://history.invalid").timeout(TIMEOUT);
        Self {
            channel: endpoint.connect_with_connector_lazy(connector),
        }
    }

    fn writer(&self) -> WriteClient<Channel> {
        WriteClient::new(self.channel.clone()).max_encoding_message_size(MAX_ANSWER)
    }

    fn reader(&self) -> ReadClient<Channel> {
        ReadClient::new(self.channel.clone()).max_decoding_message_size(MAX_ANSWER)
    }

    /// Stores a turn, tried until it is there; answers the number of messages of the session.
    ///
    /// A turn that history refuses for good (the session was deleted, or the request is wrong) counts as stored:
    /// waiting would hold the session up for ever. It is logged, and the messages stay in the journal.
    pub async fn append_turn(&self, info: &SessionInfo, record: &TurnRecord) -> u64 {
        let request = append_request(info, record);
        let mut pause = FIRST_PAUSE;
        loop {
            match self.writer().append_turn(request.clone()).await {
                Ok(answer) => return answer.into_inner().message_version,
                Err(status) if is_final(&status) => {
                    tracing::error!(turn = %record.id, code = ?status.code(), message = status.message(), "history refuses a turn");
                    return info.message_count;
                }
                Err(status) => {
                    tracing::warn!(turn = %record.id, code = ?status.code(), "history does not answer; trying again");
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
            }
        }
    }

    /// Stores the session's row.
    pub async fn put_session(&self, info: &SessionInfo) -> Result<(), ErrorBody> {
        let request = PutSessionRequest {
            session: Some(session_row(info)),
        };
        self.writer()
            .put_session(request)
            .await
            .map(drop)
            .map_err(|status| error_of(&status))
    }

    /// Stores messages that a fork takes over, as turns of the new session.
    pub async fn append_copy(&self, request: AppendTurnRequest) -> Result<(), ErrorBody> {
        self.writer()
            .append_turn(request)
            .await
            .map(drop)
            .map_err(|status| error_of(&status))
    }

    /// Leaves a tombstone.
    pub async fn delete(&self, id: SessionId) -> Result<(), ErrorBody> {
        match self
            .writer()
            .delete_session(DeleteSessionRequest {
                session_id: id.to_string(),
            })
            .await
        {
            Err(status) if status.code() != tonic::Code::NotFound => Err(error_of(&status)),
            _ => Ok(()),
        }
    }

    /// A page of messages from the end backwards, as the result of `get_messages`.
    pub async fn page(
        &self,
        id: SessionId,
        cursor: Option<String>,
        limit: Option<u32>,
    ) -> Result<Value, ErrorBody> {
        let request = ListMessagesRequest {
            session_id: id.to_string(),
            cursor: cursor.unwrap_or_default(),
            limit: limit.unwrap_or(PAGE).clamp(1, MAX_PAGE),
            backwards: true,
        };
        match self.reader().list_messages(request).await {
            Ok(page) => {
                let page = page.into_inner();
                let messages = decode(&page.messages)?;
                let next = Some(page.next_cursor).filter(|cursor| !cursor.is_empty());
                Ok(json!({ "messages": messages, "next_cursor": next }))
            }
            // A session without a finished turn is not in history yet.
            Err(status) if status.code() == tonic::Code::NotFound => {
                Ok(json!({ "messages": [], "next_cursor": null }))
            }
            Err(status) => Err(error_of(&status)),
        }
    }

    /// All messages of a session, in order.
    pub async fn all(&self, id: SessionId) -> Result<Vec<Message>, ErrorBody> {
        let mut messages = Vec::new();
        let mut cursor = String::new();
        loop {
            let request = ListMessagesRequest {
                session_id: id.to_string(),
                cursor,
                limit: MAX_PAGE,
                backwards: false,
            };
            let page = match self.reader().list_messages(request).await {
                Ok(page) => page.into_inner(),
                Err(status) if status.code() == tonic::Code::NotFound => return Ok(messages),
                Err(status) => return Err(error_of(&status)),
            };
            messages.extend(decode(&page.messages)?);
            if page.next_cursor.is_empty() {
                return Ok(messages);
            }
            cursor = page.next_cursor;
        }
    }

    /// How many messages there are, and the newest of them; nothing where history does not answer.
    pub async fn tail(&self, id: SessionId) -> (u64, Vec<Message>) {
        let request = ListMessagesRequest {
            session_id: id.to_string(),
            cursor: String::new(),
            limit: TAIL,
            backwards: true,
        };
        let messages = match self.reader().list_messages(request).await {
            Ok(page) => decode(&page.into_inner().messages).unwrap_or_default(),
            Err(_) => Vec::new(),
        };
        (messages.last().map_or(0, |message| message.index + 1), messages)
    }
}

fn decode(messages: &[StoredMessage]) -> Result<Vec<Message>, ErrorBody> {
    messages
        .iter()
        .map(|message| {
            serde_json::from_slice(&message.json).map_err(|error| {
                ErrorBody::new(
                    ErrorCode::Internal,
                    format!("message {} of history: {error}", message.message_id),
                )
            })
        })
        .collect()
}

fn is_final(status: &tonic::Status) -> bool {
    matches!(
        status.code(),
        tonic::Code::NotFound | tonic::Code::InvalidArgument | tonic::Code::FailedPrecondition
    )
}

fn error_of(status: &tonic::Status) -> ErrorBody {
    let code = match status.code() {
        tonic::Code::NotFound => ErrorCode::NotFound,
        tonic::Code::InvalidArgument => ErrorCode::InvalidArgument,
        tonic::Code::Unauthenticated | tonic::Code::PermissionDenied => ErrorCode::Forbidden,
        tonic::Code::Internal => ErrorCode::Internal,
        _ => ErrorCode::Unavailable,
    };
    ErrorBody::new(code, format!("history: {}", status.message()))
}

fn time(ms: u64) -> i64 {
    i64::try_from(ms).unwrap_or(i64::MAX)
}

fn session_row(info: &SessionInfo) -> Session {
    Session {
        session_id: info.id.to_string(),
        title: info.title.clone(),
        harness: info.harness.clone(),
        workspace: info.workspace.clone(),
        model: info.model.clone().unwrap_or_default(),
        created_at: time(info.created_at),
        updated_at: time(info.updated_at.max(info.created_at)),
        parent_session_id: info.parent.map(|parent| parent.to_string()).unwrap_or_default(),
        ..Session::default()
    }
}

fn append_request(info: &SessionInfo, record: &TurnRecord) -> AppendTurnRequest {
    let mut session = session_row(info);
    session.updated_at = session.updated_at.max(time(record.ended_at));
    AppendTurnRequest {
        session: Some(session),
        turn: Some(Turn {
            turn_id: record.id.to_string(),
            started_at: time(record.started_at),
            ended_at: time(record.ended_at.max(record.started_at)),
            outcome: record.outcome.as_str().to_owned(),
            usage_json: serde_json::to_vec(&record.usage).unwrap_or_default(),
            error_json: record
                .error
                .as_ref()
                .and_then(|error| serde_json::to_vec(error).ok())
                .unwrap_or_default(),
            last_seq: record.last_seq,
        }),
        messages: record.messages.iter().map(stored).collect(),
    }
}

/// A message as history keeps it.
pub fn stored(message: &Message) -> StoredMessage {
    let role = match message.role {
        Role::User => "user",
        Role::Assistant => "assistant",
        Role::System => "system",
        Role::Tool => "tool",
    };
    StoredMessage {
        message_id: message.id.to_string(),
        turn_id: message.turn_id.to_string(),
        index: message.index,
        role: role.to_owned(),
        created_at: time(message.created_at),
        json: serde_json::to_vec(message).unwrap_or_default(),
        text: plain_text(&message.parts),
    }
}
