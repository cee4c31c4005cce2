//! Requests that were checked: what a [`Store`](crate::Store) gets has passed every limit here.

use lodge_proto::history::{AppendTurnRequest, Message, Session, Turn};
use lodge_proto::{MessageId, SessionId, TurnId};
use serde_json::value::RawValue;
use std::str::FromStr;

/// The longest JSON of one message: a harness line may have 16 MiB, plus the envelope.
pub const MAX_MESSAGE_JSON_BYTES: usize = 17 << 20;
/// Text beyond this is cut: it is not found by search, and complete in the message's JSON.
pub const MAX_INDEXED_TEXT_BYTES: usize = 128 << 10;
const MAX_MESSAGES: usize = 10_000;
const MAX_FIELD_BYTES: usize = 4096;
const MAX_TURN_JSON_BYTES: usize = 64 << 10;
const OUTCOMES: [&str; 4] = ["completed", "aborted", "failed", "interrupted"];
const ROLES: [&str; 4] = ["user", "assistant", "system", "tool"];

/// A request that is wrong in itself: which field, and how.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {problem}")]
pub struct Invalid {
    pub field: String,
    pub problem: String,
}

impl Invalid {
    pub(crate) fn new(field: impl Into<String>, problem: impl Into<String>) -> Self {
        Self {
            field: field.into(),
            problem: problem.into(),
        }
    }
}

/// Parses an identifier; the error names `field`.
pub(crate) fn id<T: FromStr>(field: &str, text: &str) -> Result<T, Invalid> {
    text.parse().map_err(|_| Invalid::new(field, "expected a UUID"))
}

fn require(good: bool, field: &str, problem: impl Into<String>) -> Result<(), Invalid> {
    if good {
        Ok(())
    } else {
        Err(Invalid::new(field, problem))
    }
}

fn milliseconds(field: &str, value: i64) -> Result<(), Invalid> {
    require(value > 0, field, "expected UTC milliseconds greater than 0")
}

fn json(field: &str, bytes: &[u8], limit: usize) -> Result<(), Invalid> {
    require(bytes.len() <= limit, field, format!("longer than {limit} bytes"))?;
    match serde_json::from_slice::<&RawValue>(bytes) {
        Ok(value) if value.get().starts_with('{') => Ok(()),
        Ok(_) => Err(Invalid::new(field, "expected a JSON object")),
        // The parser's message names the position only, never the content.
        Err(error) => Err(Invalid::new(field, format!("expected UTF-8 JSON: {error}"))),
    }
}

/// What is written of a session. Counts are the store's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionWrite {
    pub session_id: SessionId,
    pub title: String,
    pub harness: String,
    pub workspace: String,
    pub model: String,
    /// UTC milliseconds.
    pub created_at: i64,
    /// UTC milliseconds; an update older than the stored one changes nothing.
    pub updated_at: i64,
    pub parent_session_id: Option<SessionId>,
    pub closed: bool,
}

impl TryFrom<Option<Session>> for SessionWrite {
    type Error = Invalid;

    fn try_from(session: Option<Session>) -> Result<Self, Invalid> {
        let session = session.ok_or_else(|| Invalid::new("session", "missing"))?;
        let texts = [
            ("session.title", &session.title),
            ("session.harness", &session.harness),
            ("session.workspace", &session.workspace),
            ("session.model", &session.model),
        ];
        for (field, text) in texts {
            require(
                text.len() <= MAX_FIELD_BYTES,
                field,
                format!("longer than {MAX_FIELD_BYTES} bytes"),
            )?;
        }
        milliseconds("session.created_at", session.created_at)?;
        let order = "expected a time not before session.created_at";
        require(
            session.updated_at >= session.created_at,
            "session.updated_at",
            order,
        )?;
        let parent = session.parent_session_id.as_str();
        let parent_session_id = if parent.is_empty() {
            None
        } else {
            Some(id("session.parent_session_id", parent)?)
        };
        Ok(Self {
            session_id: id("session.session_id", &session.session_id)?,
            title: session.title,
            harness: session.harness,
            workspace: session.workspace,
            model: session.model,
            created_at: session.created_at,
            updated_at: session.updated_at,
            parent_session_id,
            closed: session.closed,
        })
    }
}

/// One turn with its messages, checked in everything that needs no database.
#[derive(Debug, Clone, PartialEq)]
pub struct TurnWrite {
    pub(crate) session: SessionWrite,
    pub(crate) turn_id: TurnId,
    pub(crate) turn: Turn,
    pub(crate) messages: Vec<(MessageId, Message)>,
}

impl TurnWrite {
    /// The memory it takes while it waits, in bytes, roughly.
    pub(crate) fn weight(&self) -> usize {
        let message = |m: &Message| m.json.len() + m.text.len() + 512;
        1024 + self.messages.iter().map(|(_, m)| message(m)).sum::<usize>()
    }
}

impl TryFrom<AppendTurnRequest> for TurnWrite {
    type Error = Invalid;

    fn try_from(request: AppendTurnRequest) -> Result<Self, Invalid> {
        let session = SessionWrite::try_from(request.session)?;
        let turn = request.turn.ok_or_else(|| Invalid::new("turn", "missing"))?;
        let turn_id: TurnId = id("turn.turn_id", &turn.turn_id)?;
        check_turn(&turn)?;
        let many = format!("more than {MAX_MESSAGES}");
        require(request.messages.len() <= MAX_MESSAGES, "messages", many)?;
        let mut messages = Vec::with_capacity(request.messages.len());
        for (position, message) in request.messages.into_iter().enumerate() {
            messages.push(
                check_message(message, turn_id)
                    .map_err(|e| Invalid::new(format!("messages[{position}].{}", e.field), e.problem))?,
            );
        }
        Ok(Self {
            session,
            turn_id,
            turn,
            messages,
        })
    }
}

fn check_turn(turn: &Turn) -> Result<(), Invalid> {
    milliseconds("turn.started_at", turn.started_at)?;
    milliseconds("turn.ended_at", turn.ended_at)?;
    require(
        OUTCOMES.contains(&&*turn.outcome),
        "turn.outcome",
        format!("expected one of {OUTCOMES:?}"),
    )?;
    for (field, bytes) in [
        ("turn.usage_json", &turn.usage_json),
        ("turn.error_json", &turn.error_json),
    ] {
        if !bytes.is_empty() {
            json(field, bytes, MAX_TURN_JSON_BYTES)?;
        }
    }
    require(i64::try_from(turn.last_seq).is_ok(), "turn.last_seq", "too large")
}

/// Checks one message and cuts its text to what is indexed. Field names are relative to the message.
fn check_message(mut message: Message, turn_id: TurnId) -> Result<(MessageId, Message), Invalid> {
    let message_id = id("message_id", &message.message_id)?;
    let own_turn = id::<TurnId>("turn_id", &message.turn_id)? == turn_id;
    require(
        own_turn,
        "turn_id",
        format!("expected {turn_id}, the turn it is written with"),
    )?;
    require(
        ROLES.contains(&&*message.role),
        "role",
        format!("expected one of {ROLES:?}"),
    )?;
    milliseconds("created_at", message.created_at)?;
    json("json", &message.json, MAX_MESSAGE_JSON_BYTES)?;
    let cut = message.text.floor_char_boundary(MAX_INDEXED_TEXT_BYTES);
    message.text.truncate(cut);
    Ok((message_id, message))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request() -> AppendTurnRequest {
        let turn_id = TurnId::new().to_string();
        let session = Session {
            session_id: SessionId::new().to_string(),
            created_at: 1,
            updated_at: 2,
            ..Session::default()
        };
        let turn = Turn {
            turn_id: turn_id.clone(),
            started_at: 1,
            ended_at: 2,
            outcome: "completed".into(),
            ..Turn::default()
        };
        let message = Message {
            message_id: MessageId::new().to_string(),
            turn_id,
            role: "user".into(),
            created_at: 1,
            json: b"{}".to_vec(),
            ..Message::default()
        };
        AppendTurnRequest {
            session: Some(session),
            turn: Some(turn),
            messages: vec![message],
        }
    }

    fn session(request: &mut AppendTurnRequest) -> &mut Session {
        request.session.as_mut().unwrap()
    }

    fn turn(request: &mut AppendTurnRequest) -> &mut Turn {
        request.turn.as_mut().unwrap()
    }

    fn message(request: &mut AppendTurnRequest) -> &mut Message {
        &mut request.messages[0]
    }

    #[test]
    fn every_broken_field_is_named() {
        type Break = fn(&mut AppendTurnRequest);
        let cases: [(&str, Break); 14] = [
            ("session", |r| {
                r.session = None;
            }),
            ("session.session_id", |r| {
                session(r).session_id = "x".into();
            }),
            ("session.title", |r| {
                session(r).title = "x".repeat(5000);
            }),
            ("session.created_at", |r| {
                session(r).created_at = 0;
            }),
            ("session.updated_at", |r| {
                session(r).updated_at = 0;
            }),
            ("session.parent_session_id", |r| {
                session(r).parent_session_id = "x".into();
            }),
            ("turn", |r| {
                r.turn = None;
            }),
            ("turn.outcome", |r| {
                turn(r).outcome = "fine".into();
            }),
            ("turn.error_json", |r| {
                turn(r).error_json = vec![b'{'];
            }),
            ("turn.last_seq", |r| {
                turn(r).last_seq = u64::MAX;
            }),
            ("messages[0].turn_id", |r| {
                message(r).turn_id = "x".into();
            }),
            ("messages[0].role", |r| {
                message(r).role = "robot".into();
            }),
            ("messages[0].json", |r| {
                message(r).json = b"[1]".to_vec();
            }),
            ("messages[0].json", |r| {
                message(r).json = b"{\"a\":\"\xff\"}".to_vec();
            }),
        ];
        TurnWrite::try_from(request()).unwrap();
        for (field, break_it) in cases {
            let mut broken = request();
            break_it(&mut broken);
            assert_eq!(TurnWrite::try_from(broken).unwrap_err().field, field);
        }
    }

    #[test]
    fn the_largest_message_passes_and_one_byte_more_does_not() {
        let mut large = request();
        large.messages[0].json =
            format!("{{\"a\":\"{}\"}}", "x".repeat(MAX_MESSAGE_JSON_BYTES - 8)).into_bytes();
        assert_eq!(large.messages[0].json.len(), MAX_MESSAGE_JSON_BYTES);
        TurnWrite::try_from(large.clone()).unwrap();
        large.messages[0].json.push(b' ');
        assert!(
            TurnWrite::try_from(large)
                .unwrap_err()
                .problem
                .contains("longer than")
        );
    }

    #[test]
    fn long_text_is_cut_at_a_character() {
        let mut long = request();
        long.messages[0].text = "é".repeat(MAX_INDEXED_TEXT_BYTES);
        let write = TurnWrite::try_from(long).unwrap();
        assert_eq!(write.messages[0].1.text.len(), MAX_INDEXED_TEXT_BYTES);
    }
}
