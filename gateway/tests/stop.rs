//! A gateway of its own process that is told to stop in the middle of streams, and writes all that it can into its log.
#![allow(clippy::unwrap_used)]

#[allow(dead_code, unreachable_pub)]
#[path = "it/common/mod.rs"]
mod common;
#[allow(dead_code, reason = "shared with other tests")]
mod own;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use lodge_gateway::{Config, Options};
use lodge_proto::control::gateway_admin_client::GatewayAdminClient;
use lodge_proto::control::{Budget, CreateKeyRequest, HealthRequest, VirtualKey};
use rustix::process::{Pid, Signal, kill_process};
use tokio::net::TcpStream;
use tonic::transport::Channel;

use common::guest::{self, post};
use common::upstream::{Exchange, Upstream};
use common::{PROVIDER_KEY, soon};
use own::Gateway;

/// The one test, as a runner lists it.
const NAME: &str = "a_gateway_that_is_told_to_stop_ends_its_streams_and_its_log_holds_no_body";
/// The provider's port.
const PORT: &str = "LODGE_TEST_STOP_PORT";
/// Seconds for what is under way.
const DRAIN: &str = "LODGE_TEST_STOP_DRAIN";
/// What may be in no log.
const ASKED: &str = "canary-of-the-request";
const ANSWERED: &str = "canary-of-the-answer";

const BEGIN: &str = "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"usage\":{\"input_tokens\":5,\
    \"output_tokens\":1}}}\n\n";
const END: &str = "event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\"},\
    \"usage\":{\"output_tokens\":7}}\n\nevent: message_stop\ndata: {\"type\":\"message_stop\"}\n\n";

fn main() {
    own::main(NAME, gateway, async {
        ends().await;
        is_cut().await;
        opts_in().await;
    });
}

/// The child: everything into the log.
async fn gateway(data: PathBuf) {
    tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_writer(std::io::stderr)
        .init();
    let (port, drain) = (std::env::var(PORT).unwrap(), std::env::var(DRAIN).unwrap());
    let text = format!(
        "[gateway]\ndrain_seconds = {drain}\n[[provider]]\nname = 'p'\nkind = 'anthropic'\nbase_url = 'http://127.0.0.1:{port}'\nkey_env = 'K'\n\
         models = [{{ id = 'm', max_output = 1000, context_window = 5000, price = {{ input = 2, output = 10 }} }}]\n"
    );
    let key = ("K".to_owned(), zeroize::Zeroizing::new(PROVIDER_KEY.to_owned()));
    let config = Config::parse(&Options::embedded(&data), &text, &[key].into()).unwrap();
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()).unwrap();
    let told = async move {
        terminate.recv().await;
    };
    own::serve(config, told).await;
}

async fn admin(data: &Path) -> GatewayAdminClient<Channel> {
    GatewayAdminClient::new(own::channel(data).await.unwrap())
}

async fn make_key(admin: &mut GatewayAdminClient<Channel>, log_bodies: bool) -> String {
    let request = CreateKeyRequest {
        key: Some(VirtualKey {
            user: "ann".into(),
            log_bodies,
            ..VirtualKey::default()
        }),
        budgets: vec![Budget {
            window: "total".into(),
            limit: 1 << 60,
            ..Budget::default()
        }],
    };
    admin.create_key(request).await.unwrap().into_inner().secret
}

/// None where the connection ends without an answer.
async fn send(address: SocketAddr, request: Request<Full<bytes::Bytes>>) -> Option<Response<Incoming>> {
    let stream = TcpStream::connect(address).await.ok()?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.ok()?;
    tokio::spawn(connection);
    soon("an answer of the gateway", sender.send_request(request))
        .await
        .ok()
}

/// Whoever wants to see what a client sends makes a key for it; what other keys send is not there.
async fn opts_in() {
    let mut scene = Scene::new(1).await;
    let key = make_key(&mut admin(scene.data.path()).await, true).await;
    let asked = r#"{"model":"m","max_tokens":1,"messages":[{"role":"user","content":"an-open-question"}]}"#;
    let asking = send(scene.address, post("/p/v1/messages", &key, asked));
    let (response, ()) = tokio::join!(asking, async {
        let mut exchange = scene.upstream.next().await;
        let answer =
            r#"{"type":"message","content":"an-open-answer","usage":{"input_tokens":1,"output_tokens":1}}"#;
        exchange
            .answer("200 OK", "content-type: application/json\r\n", answer)
            .await;
    });
    assert!(guest::text(response.unwrap()).await.contains("an-open-answer"));
    scene.tell();
    // It was written before it passed.
    let log = std::fs::read_to_string(&scene.log).unwrap();
    for shown in ["an-open-question", "an-open-answer"] {
        assert!(log.contains(shown), "{shown}");
    }
    assert!(!log.contains(&key));
    assert_eq!(scene.ended().await, "exact");
}

/// A running gateway with one stream under way.
struct Scene {
    data: tempfile::TempDir,
    log: PathBuf,
    gateway: Gateway,
    address: SocketAddr,
    secret: String,
    upstream: Upstream,
}

impl Scene {
    async fn new(drain: u64) -> Self {
        let data = tempfile::tempdir().unwrap();
        let log = data.path().join("log");
        let upstream = Upstream::start().await;
        let variables = [(PORT, upstream.port.to_string()), (DRAIN, drain.to_string())];
        let file = std::fs::File::create(&log).unwrap();
        let gateway = Gateway::start(data.path(), &variables, Some(file)).await;
        let mut client = admin(data.path()).await;
        let secret = make_key(&mut client, false).await;
        let health = client.health(HealthRequest {}).await.unwrap().into_inner();
        Self {
            address: health.address.parse().unwrap(),
            data,
            log,
            gateway,
            secret,
            upstream,
        }
    }

    /// A stream that has begun.
    async fn stream(&mut self) -> (Response<Incoming>, Exchange) {
        let body = format!(
            r#"{{"model":"m","max_tokens":100,"stream":true,"messages":[{{"role":"user","content":"{ASKED}"}}]}}"#
        );
        let asking = send(self.address, post("/p/v1/messages", &self.secret, body));
        let (response, exchange) = tokio::join!(asking, async {
            let mut exchange = self.upstream.next().await;
            exchange.begin_stream().await;
            exchange.chunk(BEGIN).await;
            let said = format!("{{\"type\":\"text_delta\",\"text\":\"{ANSWERED}\"}}");
            let said = format!("{{\"type\":\"content_block_delta\",\"delta\":{said}}}");
            exchange
                .chunk(&format!("event: content_block_delta\ndata: {said}\n\n"))
                .await;
            exchange
        });
        (response.unwrap(), exchange)
    }

    fn tell(&self) {
        kill_process(Pid::from_child(&self.gateway.0), Signal::TERM).unwrap();
    }

    /// Waits for its end, and returns how its one request has settled.
    async fn ended(mut self) -> String {
        let ended = tokio::task::spawn_blocking(move || self.gateway.0.wait().unwrap());
        let status = soon("the gateway ends", ended).await.unwrap();
        assert!(status.success(), "{status}");
        logged(&self.log, &self.secret);
        let database = rusqlite::Connection::open(self.data.path().join("gateway/ledger/usage.db")).unwrap();
        let open: u64 = database
            .query_row("SELECT count(*) FROM open", [], |row| row.get(0))
            .unwrap();
        assert_eq!(open, 0);
        let mut rows = database.prepare("SELECT how FROM request").unwrap();
        let rows = rows.query_map([], |row| row.get::<_, String>(0)).unwrap();
        rows.map(Result::unwrap).collect::<Vec<_>>().join(" ")
    }
}

/// What is under way may end, and new requests are told why they are not taken.
async fn ends() {
    let mut scene = Scene::new(600).await;
    let (response, mut exchange) = scene.stream().await;
    scene.tell();
    let told = async {
        loop {
            let request = post("/p/v1/none", &scene.secret, "{}");
            match send(scene.address, request).await {
                Some(answer) if answer.status() == 503 => return answer,
                Some(answer) => assert_eq!(answer.status(), 404),
                // It came in just when the gateway began to stop.
                None => tokio::task::yield_now().await,
            }
        }
    };
    let told = soon("the gateway says that it stops", told).await;
    assert_eq!(told.headers()["retry-after"], "5");
    let told = guest::json(told).await.1;
    assert_eq!(told["error"]["type"], "overloaded_error", "{told}");
    assert!(scene.upstream.is_untouched());
    exchange.chunk(END).await;
    exchange.write("0\r\n\r\n").await;
    let whole = soon("the rest of the stream", response.into_body().collect()).await;
    let whole = whole.unwrap().to_bytes();
    assert!(String::from_utf8_lossy(&whole).contains("message_stop"));
    assert_eq!(scene.ended().await, "exact");
}

/// What would go on is cut after a while, and settled.
async fn is_cut() {
    let mut scene = Scene::new(1).await;
    let (response, _never_ends) = scene.stream().await;
    scene.tell();
    let cut = soon("the stream is cut", response.into_body().collect()).await;
    assert!(cut.is_err());
    assert_eq!(scene.ended().await, "aborted");
}

fn logged(log: &Path, secret: &str) {
    let log = std::fs::read_to_string(log).unwrap();
    assert!(
        log.contains("the gateway stops") && log.contains("DEBUG"),
        "{log}"
    );
    for never in [ASKED, ANSWERED, secret, PROVIDER_KEY] {
        let found = log.lines().find(|line| line.contains(never));
        assert_eq!(found, None, "{never}");
    }
}
