//! Bad input, slow and vanishing clients, providers that break off, clocks that jump: what each of them is answered, and
//! that nothing is left over.

mod bodies;
mod clients;
mod clocks;
mod coded;
mod journal;
mod providers;
mod room;

use lodge_gateway::Config;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};

use crate::admin::admin;
use crate::budget::address;
use crate::common::runner::{Runner, Session};
use crate::common::upstream::Upstream;
use crate::common::{Running, soon};

/// One path of each dialect.
pub(crate) const PATHS: [&str; 4] = [
    "/openai/v1/chat/completions",
    "/openai/v1/responses",
    "/anthropic/v1/messages",
    "/gemini/v1beta/models/m:generateContent",
];

/// A provider of each kind at one port.
pub(crate) fn settings(port: u16) -> String {
    let provider = |name: &str, path: &str| {
        format!(
            "[[provider]]\nname = '{name}'\nkind = '{name}'\nbase_url = 'http://127.0.0.1:{port}{path}'\n\
             key_env = 'PROVIDER_KEY'\n\
             models = [{{ id = 'm', max_output = 100, context_window = 50000000, price = {{ input = 2, output = 10 }} }}]\n"
        )
    };
    [
        "[gateway]\nmax_body_mib = 1\ndemo = true\n".to_owned(),
        provider("openai", "/v1"),
        provider("anthropic", ""),
        provider("gemini", "/v1beta"),
        "[[alias]]\nprovider = 'anthropic'\nname = 'best'\ntargets = ['anthropic/m']\n".to_owned(),
    ]
    .concat()
}

pub(crate) struct Scene {
    pub(crate) data: tempfile::TempDir,
    pub(crate) upstream: Upstream,
    pub(crate) runner: Runner,
    pub(crate) session: Session,
    _gateway: Running,
}

impl Scene {
    pub(crate) async fn new() -> Self {
        Self::with(|_| {}).await
    }

    pub(crate) async fn with(change: impl FnOnce(&mut Config)) -> Self {
        let data = tempfile::tempdir().unwrap();
        let upstream = Upstream::start().await;
        let gateway = Running::start_with(data.path(), &settings(upstream.port), change).await;
        let mut runner = Runner::connect(data.path());
        let session = runner.session(data.path(), "s1", 0).await;
        Self {
            data,
            upstream,
            runner,
            session,
            _gateway: gateway,
        }
    }

    pub(crate) fn key(&self) -> &str {
        &self.session.lease.virtual_key
    }

    /// A connection to the session's socket.
    pub(crate) async fn raw(&self) -> Raw<UnixStream> {
        Raw::new(UnixStream::connect(&self.session.socket).await.unwrap())
    }

    /// A connection to the listener for people, and a key that is good there.
    pub(crate) async fn person(&self) -> (Raw<TcpStream>, String) {
        let mut admin = admin(self.data.path()).await;
        let address = address(&mut admin).await;
        let request = lodge_proto::control::CreateKeyRequest {
            key: Some(crate::budget::of_user("ann")),
            budgets: Vec::new(),
        };
        let secret = admin.create_key(request).await.unwrap().into_inner().secret;
        (Raw::new(TcpStream::connect(address).await.unwrap()), secret)
    }
}

/// A connection on which every byte is said by hand.
pub(crate) struct Raw<S> {
    pub(crate) stream: S,
    buffer: Vec<u8>,
}

/// The head of a request.
pub(crate) fn head(path: &str, key: &str, more: &str) -> String {
    format!(
        "POST {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {key}\r\ncontent-type: application/json\r\n{more}\r\n"
    )
}

impl<S: AsyncRead + AsyncWrite + Unpin> Raw<S> {
    pub(crate) fn new(stream: S) -> Self {
        Self {
            stream,
            buffer: Vec::new(),
        }
    }

    pub(crate) async fn say(&mut self, bytes: impl AsRef<[u8]>) {
        let write = async {
            self.stream.write_all(bytes.as_ref()).await?;
            self.stream.flush().await
        };
        soon("the gateway takes it", write).await.unwrap();
    }

    /// The next head: its status and its lines.
    pub(crate) async fn head(&mut self) -> (u16, String) {
        loop {
            if let Some(end) = self.buffer.windows(4).position(|window| window == b"\r\n\r\n") {
                let head: Vec<u8> = self.buffer.drain(..end + 4).collect();
                let head = String::from_utf8(head).unwrap().to_lowercase();
                let status = head.split(' ').nth(1).unwrap().parse().unwrap();
                return (status, head);
            }
            let read = soon("a head of the gateway", self.stream.read_buf(&mut self.buffer)).await;
            assert!(
                read.unwrap() > 0,
                "the connection ended: {:?}",
                String::from_utf8_lossy(&self.buffer)
            );
        }
    }

    /// The next answer that is no interim one, with its JSON.
    pub(crate) async fn answer(&mut self) -> (u16, String, Value) {
        let (status, head) = loop {
            let (status, head) = self.head().await;
            if status != 100 {
                break (status, head);
            }
        };
        let length = head
            .split("content-length: ")
            .nth(1)
            .unwrap_or_else(|| panic!("{head}"));
        let length: usize = length.split('\r').next().unwrap().parse().unwrap();
        while self.buffer.len() < length {
            let read = soon("the body of the gateway", self.stream.read_buf(&mut self.buffer)).await;
            assert!(read.unwrap() > 0, "the connection ended in a body");
        }
        let body: Vec<u8> = self.buffer.drain(..length).collect();
        (status, head, serde_json::from_slice(&body).unwrap())
    }

    /// Everything to the end of the connection.
    pub(crate) async fn rest(&mut self) -> Vec<u8> {
        let read = soon(
            "the end of the connection",
            self.stream.read_to_end(&mut self.buffer),
        )
        .await;
        let _reset = read.is_err();
        std::mem::take(&mut self.buffer)
    }
}

/// The error is one of the path's own dialect, and says so much.
pub(crate) fn typed(path: &str, status: u16, value: &Value, text: &str) {
    let message = value["error"]["message"].as_str();
    let message = message.unwrap_or_else(|| panic!("{path}: {value}"));
    assert!(message.contains(text), "{path}: {message}");
    if path.contains("v1beta") {
        assert_eq!(value["error"]["code"], status, "{path}: {value}");
        assert!(value["error"]["status"].is_string(), "{path}: {value}");
    } else if path.contains("messages") {
        assert_eq!(value["type"], "error", "{path}: {value}");
        assert!(value["error"]["type"].is_string(), "{path}: {value}");
    } else {
        assert!(value["error"]["type"].is_string(), "{path}: {value}");
        assert!(value["error"].get("param").is_some(), "{path}: {value}");
    }
}
