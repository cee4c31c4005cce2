//! Builders and helpers shared by the tests. Each test binary uses some of them.
#![allow(dead_code)]

use lodge_history::{Options, Owner, SqliteStore, TurnWrite};
use lodge_proto::history::{AppendTurnRequest, Message, Session, Turn};
use lodge_proto::{MessageId, SessionId, TurnId};
use std::path::Path;
use tonic::transport::{Channel, Endpoint};

pub(crate) fn owner(name: &str) -> Owner {
    Owner::new(name).unwrap()
}

pub(crate) fn open(path: &Path) -> SqliteStore {
    SqliteStore::open(path, &Options::default()).unwrap()
}

pub(crate) fn session(id: SessionId, time: i64) -> Session {
    Session {
        session_id: id.to_string(),
        title: format!("title at {time}"),
        harness: "pi".into(),
        workspace: "/w".into(),
        model: "m".into(),
        created_at: 1,
        updated_at: time,
        ..Session::default()
    }
}

/// A turn with one message per text, the first of which has index `from`.
pub(crate) fn turn(id: SessionId, turn_id: TurnId, from: u64, texts: &[&str]) -> AppendTurnRequest {
    let message = |(index, text): (u64, &&str)| Message {
        message_id: MessageId::new().to_string(),
        turn_id: turn_id.to_string(),
        index,
        role: if index % 2 == 0 { "user" } else { "assistant" }.into(),
        created_at: 1000 + i64::try_from(index).unwrap(),
        json: serde_json::json!({ "parts": [{ "type": "text", "text": text }] })
            .to_string()
            .into_bytes(),
        text: (*text).to_owned(),
    };
    AppendTurnRequest {
        session: Some(session(id, 1000 + i64::try_from(from).unwrap())),
        turn: Some(Turn {
            turn_id: turn_id.to_string(),
            started_at: 1000,
            ended_at: 2000,
            outcome: "completed".into(),
            usage_json: b"{\"input\":1}".to_vec(),
            error_json: Vec::new(),
            last_seq: 10 + from,
        }),
        messages: (from..).zip(texts).map(message).collect(),
    }
}

pub(crate) fn write(id: SessionId, turn_id: TurnId, from: u64, texts: &[&str]) -> TurnWrite {
    turn(id, turn_id, from, texts).try_into().unwrap()
}

/// A channel to the service at `socket`; connects at the first call, and again when the service came back.
pub(crate) fn channel(socket: &Path) -> Channel {
    let socket = socket.to_owned();
    let connect = tower::service_fn(move |_| {
        let socket = socket.clone();
        async move {
            let stream = lodge_proto::sock::connect(&socket).map_err(std::io::Error::other)?;
            stream.set_nonblocking(true)?;
            tokio::net::UnixStream::from_std(stream).map(hyper_util::rt::TokioIo::new)
        }
    });
    Endpoint::from_static("http://history").connect_with_connector_lazy(connect)
}
