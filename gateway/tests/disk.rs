//! A gateway of its own process on a disk that is full: nothing is sent that could not be accounted for, nothing is lost,
//! and it goes on when there is room again.
//!
//! A limit of the size of files stands for the disk: a write that goes beyond it is cut where the limit is, as on a full
//! disk, and it can be set and taken away from outside, without any right.
#![allow(clippy::unwrap_used)]

#[allow(dead_code, unreachable_pub)]
#[path = "it/common/mod.rs"]
mod common;
#[allow(dead_code, reason = "shared with other tests")]
mod own;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use http_body_util::Full;
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use lodge_gateway::{Config, Options};
use lodge_proto::control::gateway_admin_client::GatewayAdminClient;
use lodge_proto::control::{
    Budget, CreateKeyRequest, HealthRequest, ListBudgetsRequest, ListUsageRequest, VirtualKey,
};
use rustix::process::{Pid, Resource, Rlimit, prlimit};
use tokio::net::TcpStream;
use tonic::transport::Channel;

use common::guest::{self, post};
use common::upstream::{Exchange, Upstream};
use common::{PROVIDER_KEY, soon};
use own::Gateway;

/// The one test, as a runner lists it.
const NAME: &str = "a_full_disk_stops_requests_and_loses_none";
/// The provider's port.
const PORT: &str = "LODGE_TEST_DISK_PORT";
/// What the kernel tells a process that writes beyond the limit, and would end it.
const SIGXFSZ: i32 = 25;

const PATHS: [&str; 4] = [
    "/openai/v1/chat/completions",
    "/openai/v1/responses",
    "/anthropic/v1/messages",
    "/gemini/v1beta/models/m:generateContent",
];
const ASK: &str = r#"{"model":"m","max_tokens":100,"messages":[]}"#;
/// One request a connection.
const HEAD: &str = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\
    transfer-encoding: chunked\r\n\r\n";
const BEGIN: &str =
    "data: {\"type\":\"message_start\",\"message\":{\"usage\":{\"input_tokens\":5,\"output_tokens\":1}}}\n\n";
const END: &str = "data: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\"},\"usage\":{\"output_tokens\":7}}\n\n";
/// Of such an answer, in nano-dollars.
const COST: u64 = 5 * 2000 + 7 * 10_000;
/// What is reserved for such a request: at the dearest, an hour's cache write costs twice the input.
const RESERVED: u64 = (ASK.len() as u64 + 4096) * 4000 + 100 * 10_000;

fn main() {
    own::main(NAME, gateway, async {
        room_again().await;
        killed_when_full().await;
    });
}

async fn gateway(data: PathBuf) {
    // A full disk is an error of the write and no signal.
    let kind = tokio::signal::unix::SignalKind::from_raw(SIGXFSZ);
    let _handled = tokio::signal::unix::signal(kind).unwrap();
    let port = std::env::var(PORT).unwrap();
    let provider = |name: &str, path: &str| {
        format!(
            "[[provider]]\nname = '{name}'\nkind = '{name}'\nbase_url = 'http://127.0.0.1:{port}{path}'\nkey_env = 'K'\n\
             models = [{{ id = 'm', max_output = 100, context_window = 5000, price = {{ input = 2, output = 10 }} }}]\n"
        )
    };
    let text = [
        provider("openai", "/v1"),
        provider("anthropic", ""),
        provider("gemini", "/v1beta"),
    ]
    .concat();
    let key = ("K".to_owned(), zeroize::Zeroizing::new(PROVIDER_KEY.to_owned()));
    let config = Config::parse(&Options::embedded(&data), &text, &[key].into()).unwrap();
    own::serve(config, std::future::pending()).await;
}

struct Scene {
    data: tempfile::TempDir,
    upstream: Upstream,
    gateway: Option<Gateway>,
    admin: GatewayAdminClient<Channel>,
    address: SocketAddr,
    secret: String,
}

async fn start(data: &Path, port: u16) -> (Gateway, GatewayAdminClient<Channel>, SocketAddr) {
    let gateway = Gateway::start(data, &[(PORT, port.to_string())], None).await;
    let mut admin = GatewayAdminClient::new(own::channel(data).await.unwrap());
    let health = admin.health(HealthRequest {}).await.unwrap().into_inner();
    (gateway, admin, health.address.parse().unwrap())
}

impl Scene {
    async fn new() -> Self {
        let data = tempfile::tempdir().unwrap();
        let upstream = Upstream::start().await;
        let (gateway, mut admin, address) = start(data.path(), upstream.port).await;
        let request = CreateKeyRequest {
            key: Some(VirtualKey {
                user: "ann".into(),
                ..VirtualKey::default()
            }),
            budgets: vec![Budget {
                window: "total".into(),
                limit: 1 << 60,
                ..Budget::default()
            }],
        };
        let secret = admin.create_key(request).await.unwrap().into_inner().secret;
        Self {
            data,
            upstream,
            gateway: Some(gateway),
            admin,
            address,
            secret,
        }
    }

    async fn send(&self, path: &str) -> Response<Incoming> {
        let stream = TcpStream::connect(self.address).await.unwrap();
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        let request: Request<Full<bytes::Bytes>> = post(path, &self.secret, ASK);
        soon("an answer of the gateway", sender.send_request(request))
            .await
            .unwrap()
    }

    /// A stream that has begun.
    async fn stream(&mut self) -> (Response<Incoming>, Exchange) {
        let stream = TcpStream::connect(self.address).await.unwrap();
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        let asking = sender.send_request(post(PATHS[2], &self.secret, ASK));
        let (answer, exchange) = tokio::join!(asking, async {
            let mut exchange = self.upstream.next().await;
            exchange.write(HEAD).await;
            exchange.chunk(BEGIN).await;
            exchange
        });
        (answer.unwrap(), exchange)
    }

    /// From now on files of the gateway may have so many bytes; none: as many as they like.
    fn limit(&self, bytes: Option<u64>) {
        let process = Pid::from_child(&self.gateway.as_ref().unwrap().0);
        let limit = Rlimit {
            current: bytes,
            maximum: None,
        };
        prlimit(Some(process), Resource::Fsize, limit).unwrap();
    }

    /// The disk is full after another few bytes of the journal: in the middle of the next record.
    fn fill(&self) {
        let directory = self.data.path().join("gateway/ledger");
        let journals = std::fs::read_dir(directory)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.extension().is_some_and(|end| end == "journal"));
        let length = journals.map(|path| path.metadata().unwrap().len()).max().unwrap();
        self.limit(Some(length + 25));
    }

    async fn spent(&mut self) -> (u64, u64) {
        let scope = String::new();
        let listed = self.admin.list_budgets(ListBudgetsRequest { scope }).await;
        let budget = listed.unwrap().into_inner().budgets.remove(0);
        (budget.spent, budget.reserved)
    }

    /// Waits until everything that settled is in the files.
    async fn folded(&mut self, requests: u64) {
        let wait = async {
            loop {
                let request = ListUsageRequest {
                    by: "user".into(),
                    since: 0,
                    users: Vec::new(),
                };
                if let Ok(listed) = self.admin.list_usage(request).await
                    && listed
                        .into_inner()
                        .rows
                        .first()
                        .is_some_and(|row| row.requests == requests)
                {
                    return;
                }
                tokio::task::yield_now().await;
            }
        };
        soon("the ledger is written", wait).await;
    }

    fn kill(&mut self) {
        drop(self.gateway.take());
    }

    async fn restart(&mut self) {
        self.kill();
        let (gateway, admin, address) = start(self.data.path(), self.upstream.port).await;
        (self.gateway, self.admin, self.address) = (Some(gateway), admin, address);
    }

    /// One stream from its beginning to its end.
    async fn one(&mut self) {
        let (answer, mut exchange) = self.stream().await;
        assert_eq!(answer.status(), 200);
        exchange.chunk(END).await;
        exchange.write("0\r\n\r\n").await;
        guest::bytes(answer).await;
    }

    async fn refused(&mut self) {
        for path in PATHS {
            let answer = self.send(path).await;
            let wait = answer.headers().get("retry-after").cloned();
            let (status, value) = guest::json(answer).await;
            assert_eq!(status, 503, "{path}: {value}");
            assert_eq!(
                wait.unwrap(),
                "30",
                "clients that try again at once would only fill the log"
            );
            let message = value["error"]["message"].as_str().unwrap();
            assert!(message.contains("cannot write its ledger"), "{path}: {message}");
            let is_typed = match path {
                path if path.contains("v1beta") => value["error"]["status"] == "UNAVAILABLE",
                path if path.contains("messages") => value["type"] == "error",
                _ => value["error"]["type"] == "api_error",
            };
            assert!(is_typed, "{path}: {value}");
        }
        assert!(self.upstream.is_untouched());
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Full in the middle of a stream, and then no more.
async fn room_again() {
    let mut scene = Scene::new().await;
    scene.one().await;
    scene.folded(1).await;
    let (answer, mut exchange) = scene.stream().await;
    scene.fill();
    scene.refused().await;
    // What is under way goes on, and what it did cost is known although it is nowhere written.
    exchange.chunk(END).await;
    exchange.write("0\r\n\r\n").await;
    guest::bytes(answer).await;
    let settled = async {
        while scene.spent().await != (2 * COST, 0) {
            tokio::task::yield_now().await;
        }
    };
    soon("the stream is settled", settled).await;
    scene.refused().await;
    assert_eq!(scene.spent().await, (2 * COST, 0));
    // Room again: it is written without anybody asking for it, and requests pass.
    scene.limit(None);
    scene.folded(2).await;
    scene.one().await;
    scene.folded(3).await;
    scene.restart().await;
    assert_eq!(scene.spent().await, (3 * COST, 0));
}

/// Killed while the disk is full: what could not be written counts in full.
async fn killed_when_full() {
    let mut scene = Scene::new().await;
    scene.one().await;
    scene.folded(1).await;
    let (answer, mut exchange) = scene.stream().await;
    scene.fill();
    scene.refused().await;
    exchange.chunk(END).await;
    exchange.write("0\r\n\r\n").await;
    guest::bytes(answer).await;
    scene.restart().await;
    assert_eq!(scene.spent().await, (COST + RESERVED, 0));
    scene.one().await;
    scene.folded(3).await;
    assert_eq!(scene.spent().await, (2 * COST + RESERVED, 0));
}
