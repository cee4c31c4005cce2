//! A runner played by a test: frames over a Unix socket.

use lodge_proto::frame::{self, Decoder, Header, Kind, flags};
use lodge_proto::sock;
use serde_json::{Value, json};
use std::path::Path;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};

pub(crate) struct FakeRunner {
    listener: UnixListener,
}

pub(crate) struct Connection {
    stream: UnixStream,
    decoder: Decoder,
}

/// A frame as it came from the relay.
#[derive(Debug)]
pub(crate) struct Received {
    pub(crate) header: Header,
    pub(crate) json: Value,
    /// The payload as it came.
    pub(crate) bytes: Vec<u8>,
}

impl Received {
    pub(crate) fn is(&self, control: &str) -> bool {
        self.header.kind == Kind::Control && self.json["type"] == control
    }
}

impl FakeRunner {
    pub(crate) fn bind(data: &Path) -> Self {
        let run = data.join("run");
        std::fs::create_dir_all(&run).unwrap();
        let listener = sock::bind(&run.join("runner.sock")).unwrap();
        listener.set_nonblocking(true).unwrap();
        Self {
            listener: UnixListener::from_std(listener).unwrap(),
        }
    }

    /// The relay's next connection, before any greeting.
    pub(crate) async fn accept_silent(&self) -> Connection {
        let (stream, _) = self.listener.accept().await.unwrap();
        Connection {
            stream,
            decoder: Decoder::new(),
        }
    }

    /// The relay's next connection; the REST client's announcement is read.
    pub(crate) async fn accept(&self) -> Connection {
        let mut connection = self.accept_silent().await;
        assert!(connection.recv().await.is("hello"));
        connection
            .relay_control(0, 0, &json!({"type": "hello", "version": 1, "runner_epoch": 9}))
            .await;
        connection.recv_control("attach").await;
        connection
    }
}

impl Connection {
    pub(crate) async fn try_recv(&mut self) -> Option<Received> {
        loop {
            if let Some((header, payload)) = self.decoder.next_frame().unwrap() {
                return Some(Received {
                    header,
                    json: if header.kind == Kind::Blob {
                        Value::Null
                    } else {
                        serde_json::from_slice(payload).unwrap()
                    },
                    bytes: payload.to_vec(),
                });
            }
            let mut bytes = vec![0; 65536];
            let count = self
                .stream
                .read(&mut bytes)
                .await
                .ok()
                .filter(|count| *count > 0)?;
            self.decoder.push(&bytes[..count]);
        }
    }

    pub(crate) async fn recv(&mut self) -> Received {
        self.try_recv().await.expect("the relay closed the connection")
    }

    /// The next frame, which must be this control.
    pub(crate) async fn recv_control(&mut self, kind: &str) -> Received {
        let received = self.recv().await;
        assert!(received.is(kind), "expected {kind}, got {received:?}");
        received
    }

    /// The next command; its channel, and the command itself.
    pub(crate) async fn recv_command(&mut self) -> Received {
        let received = self.recv().await;
        assert_eq!(received.header.kind, Kind::Command, "{received:?}");
        received
    }

    pub(crate) async fn send_bytes(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
    }

    pub(crate) async fn send(&mut self, header: &Header, payload: &str) {
        let mut bytes = Vec::new();
        frame::encode(header, payload.as_bytes(), &mut bytes).unwrap();
        self.send_bytes(&bytes).await;
    }

    pub(crate) async fn control(&mut self, channel: u32, session: u64, control: &Value) {
        let header = Header::new(Kind::Control).channel(channel).session(session);
        self.send(&header, &control.to_string()).await;
    }

    pub(crate) async fn relay_control(&mut self, channel: u32, session: u64, control: &Value) {
        let header = Header::new(Kind::Control)
            .channel(channel)
            .session(session)
            .flags(flags::FOR_RELAY);
        self.send(&header, &control.to_string()).await;
    }

    pub(crate) async fn event(&mut self, channel: u32, session: u64, event: &Value) {
        let header = Header::new(Kind::Event).channel(channel).session(session);
        self.send(&header, &event.to_string()).await;
    }

    pub(crate) async fn reply(&mut self, channel: u32, reply: &Value) {
        self.send(&Header::new(Kind::Reply).channel(channel), &reply.to_string())
            .await;
    }

    /// Answers a subscription: `subscribed`, the missed events `missed`, `join`.
    pub(crate) async fn subscribe(
        &mut self,
        channel: u32,
        session: u64,
        id: &str,
        missed: std::ops::Range<u64>,
    ) {
        let cursor = format!("1.{}", missed.start - 1);
        let subscribed = json!({"type": "subscribed", "session_id": id, "cursor": cursor, "verdict": "ok"});
        self.control(channel, session, &subscribed).await;
        for seq in missed {
            self.event(channel, session, &event(id, seq)).await;
        }
        self.relay_control(channel, session, &json!({"type": "join", "session_id": id}))
            .await;
    }
}

pub(crate) fn event(session: &str, seq: u64) -> Value {
    json!({"session_id": session, "seq": seq, "ts": 1, "event": "session.heartbeat"})
}
