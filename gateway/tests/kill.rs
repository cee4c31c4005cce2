//! A gateway that is killed in the middle of streams, again and again, against a provider that keeps its own count:
//! what the ledger holds is never below that count, and equal to it wherever the provider said what it bills.
//!
//! `just gateway-kills` is the long form.
#![allow(clippy::unwrap_used)]

#[allow(dead_code, reason = "shared with other tests")]
mod own;

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http_body_util::{BodyExt, Full};
use hyper::Request;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use lodge_gateway::{Config, Options};
use lodge_proto::control::gateway_admin_client::GatewayAdminClient;
use lodge_proto::control::{
    Budget, CreateKeyRequest, HealthRequest, ListBudgetsRequest, ListUsageRequest, VirtualKey,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tonic::transport::Channel;

use own::Gateway;

/// The one test, as a runner lists it.
const NAME: &str = "no_kill_loses_what_the_provider_counted";
/// The provider's port.
const PORT: &str = "LODGE_TEST_KILL_PORT";
/// Kills, where nobody says.
const KILLS: u64 = 6;
/// Requests under way at a time.
const REQUESTS: u64 = 12;
/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_mins(2);

/// Nano-dollars a token.
const INPUT: u64 = 2000;
const OUTPUT: u64 = 10_000;
/// Most pieces of an answer, two tokens each; the request allows for all of them.
const PIECES: u64 = 40;

fn main() {
    own::main(NAME, gateway, kills());
}

/// The process that is killed.
async fn gateway(data: PathBuf) {
    let port = std::env::var(PORT).unwrap();
    let settings = format!(
        "[[provider]]\nname = 'p'\nkind = 'anthropic'\nbase_url = 'http://127.0.0.1:{port}'\nkey_env = 'KEY'\n\
         models = [{{ id = 'm', price = {{ input = 2, output = 10 }} }}]\n"
    );
    let environment = BTreeMap::from([("KEY".to_owned(), zeroize::Zeroizing::new("sk-x".to_owned()))]);
    let config = Config::parse(&Options::embedded(&data), &settings, &environment).unwrap();
    own::serve(config, std::future::pending()).await;
}

/// The provider: what it bills for each request, counted before the bytes that say so.
#[derive(Default)]
struct Provider {
    billed: Mutex<HashMap<u64, u64>>,
    /// Answers under way, and pieces sent in all.
    progress: Mutex<(u64, u64)>,
    moved: Notify,
}

impl Provider {
    fn bill(&self, id: u64, nanos: u64) {
        *self.billed.lock().unwrap().entry(id).or_default() += nanos;
    }

    fn moves(&self, open: i64, pieces: u64) {
        let mut progress = self.progress.lock().unwrap();
        progress.0 = progress.0.strict_add_signed(open);
        progress.1 += pieces;
        self.moved.notify_waiters();
    }

    /// Waits until this holds of open answers and pieces.
    async fn until(&self, holds: impl Fn(u64, u64) -> bool) {
        let wait = async {
            loop {
                let moved = self.moved.notified();
                let (open, pieces) = *self.progress.lock().unwrap();
                if holds(open, pieces) {
                    return;
                }
                moved.await;
            }
        };
        tokio::time::timeout(PATIENCE, wait)
            .await
            .expect("the provider is where the test waits for it");
    }

    async fn serve(self: Arc<Self>, listener: TcpListener) {
        while let Ok((stream, _)) = listener.accept().await {
            let provider = Arc::clone(&self);
            tokio::spawn(async move { provider.converse(stream).await });
        }
    }

    async fn converse(&self, mut stream: TcpStream) -> Option<()> {
        let mut buffer = Vec::new();
        loop {
            let id = loop {
                let text = String::from_utf8_lossy(&buffer);
                if let Some((_, rest)) = text.split_once("\"id=")
                    && let Some((id, _)) = rest.split_once('"')
                    && text.ends_with('}')
                {
                    break id.parse::<u64>().unwrap();
                }
                if stream.read_buf(&mut buffer).await.ok()? == 0 {
                    return None;
                }
            };
            buffer.clear();
            self.moves(1, 0);
            let answered = self.answer(&mut stream, id).await;
            self.moves(-1, 0);
            answered?;
        }
    }

    /// Streams for even ids, whole bodies for odd ones; the input is the id, so that each can be told from the others.
    async fn answer(&self, stream: &mut TcpStream, id: u64) -> Option<()> {
        self.bill(id, id * INPUT);
        let pieces = 1 + id % PIECES;
        if id % 2 == 1 {
            self.bill(id, pieces * 2 * OUTPUT);
            self.moves(0, pieces);
            let tokens = pieces * 2;
            let body = format!(
                r#"{{"type":"message","usage":{{"input_tokens":{id},"output_tokens":{tokens}}},"content":[]}}"#
            );
            let length = body.len();
            let head = format!(
                "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n"
            );
            return stream.write_all(format!("{head}{body}").as_bytes()).await.ok();
        }
        let chunk = |data: String| {
            let event = format!("data: {data}\n\n");
            format!("{:x}\r\n{event}\r\n", event.len())
        };
        let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
        let start = format!(
            r#"{{"type":"message_start","message":{{"usage":{{"input_tokens":{id},"output_tokens":0}}}}}}"#
        );
        stream
            .write_all(format!("{head}{}", chunk(start)).as_bytes())
            .await
            .ok()?;
        for _ in 0..pieces {
            self.bill(id, 2 * OUTPUT);
            self.moves(0, 1);
            let delta = r#"{"type":"content_block_delta","delta":{"text":"ab"}}"#.to_owned();
            stream.write_all(chunk(delta).as_bytes()).await.ok()?;
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let tokens = pieces * 2;
        let end = format!(
            r#"{{"type":"message_delta","delta":{{"stop_reason":"end_turn"}},"usage":{{"output_tokens":{tokens}}}}}"#
        );
        stream
            .write_all(format!("{}0\r\n\r\n", chunk(end)).as_bytes())
            .await
            .ok()
    }
}

/// A gateway of its own process, and the ways to it.
struct Scene {
    gateway: Gateway,
    admin: GatewayAdminClient<Channel>,
    address: String,
}

impl Scene {
    async fn start(data: &Path, port: u16) -> Self {
        let gateway = Gateway::start(data, &[(PORT, port.to_string())], None).await;
        let mut admin = GatewayAdminClient::new(own::channel(data).await.unwrap());
        let health = admin.health(HealthRequest {}).await.unwrap().into_inner();
        Self {
            gateway,
            admin,
            address: health.address,
        }
    }
}

/// A client that reads to the end, or goes away in the middle.
async fn ask(address: String, secret: String, id: u64) -> Option<()> {
    let body = format!(r#"{{"model":"m","max_tokens":100,"metadata":"id={id}","messages":[]}}"#);
    let stream = TcpStream::connect(address).await.ok()?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.ok()?;
    let connection = tokio::spawn(connection);
    let request = Request::post("/p/v1/messages")
        .header("host", "x")
        .header("x-api-key", secret)
        .body(Full::new(bytes::Bytes::from(body)))
        .unwrap();
    let mut response = sender.send_request(request).await.ok()?;
    assert_eq!(response.status(), 200);
    if id.is_multiple_of(7) {
        let _first = response.frame().await;
        connection.abort();
        return None;
    }
    response.into_body().collect().await.ok().map(drop)
}

async fn kills() {
    let kills = std::env::var("LODGE_KILLS").map_or(KILLS, |text| text.parse().unwrap());
    let data = tempfile::tempdir().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let provider = Arc::new(Provider::default());
    tokio::spawn(Arc::clone(&provider).serve(listener));
    let (mut secret, mut next, mut random) = (String::new(), 1, 0x2545_F491_4F6C_DD1D_u64);
    // The last round ends in peace.
    for round in 0..=kills {
        let mut scene = Scene::start(data.path(), port).await;
        check(&mut scene.admin, data.path(), &provider).await;
        if secret.is_empty() {
            secret = make_key(&mut scene.admin).await;
        }
        let begun = provider.progress.lock().unwrap().1;
        let clients: Vec<_> = (next..next + REQUESTS)
            .map(|id| tokio::spawn(ask(scene.address.clone(), secret.clone(), id)))
            .collect();
        // At a point of the streams that differs each time, the very first and the last included.
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(round | 1);
        let most: u64 = (next..next + REQUESTS)
            .map(|id| if id.is_multiple_of(7) { 0 } else { 1 + id % PIECES })
            .sum();
        let after = (random >> 33) % most;
        next += REQUESTS;
        if round < kills {
            provider.until(|_, pieces| pieces >= begun + after).await;
            drop(scene.gateway);
        }
        for client in clients {
            let _cut_or_done = client.await.unwrap();
        }
        provider.until(|open, _| open == 0).await;
    }
    let mut scene = Scene::start(data.path(), port).await;
    let last = check(&mut scene.admin, data.path(), &provider).await;
    last.print(kills);
    assert!(
        last.exact > 0 && last.inexact > 0,
        "some of each, or nothing was shown"
    );
}

async fn make_key(admin: &mut GatewayAdminClient<Channel>) -> String {
    let key = VirtualKey {
        user: "ann".into(),
        ..VirtualKey::default()
    };
    let budget = Budget {
        window: "total".into(),
        limit: 1 << 60,
        ..Budget::default()
    };
    let request = CreateKeyRequest {
        key: Some(key),
        budgets: vec![budget],
    };
    admin.create_key(request).await.unwrap().into_inner().secret
}

/// What a look at the ledger has found; amounts are nano-dollars.
#[derive(Default)]
struct Checked {
    /// Requests whose usage arrived, what the provider counted for them, and what the ledger has.
    exact: u64,
    exact_counted: u64,
    exact_settled: u64,
    /// The same of all others.
    inexact: u64,
    counted: u64,
    settled: u64,
}

impl Checked {
    fn print(&self, kills: u64) {
        let dollars = |nanos: u64| format!("${}.{:09}", nanos / 1_000_000_000, nanos % 1_000_000_000);
        println!(
            "{kills} kills, {} looks at the ledger, none of them below the provider's count",
            kills + 2
        );
        println!("| requests | number | counted by the provider | in the ledger |");
        println!("|---|---:|---:|---:|");
        for (name, number, counted, settled) in [
            (
                "whose usage arrived",
                self.exact,
                self.exact_counted,
                self.exact_settled,
            ),
            (
                "cut by a kill or by the client",
                self.inexact,
                self.counted,
                self.settled,
            ),
        ] {
            println!(
                "| {name} | {number} | {} | {} |",
                dollars(counted),
                dollars(settled)
            );
        }
    }
}

/// The ledger against the provider's own count, while nothing is under way.
async fn check(admin: &mut GatewayAdminClient<Channel>, data: &Path, provider: &Provider) -> Checked {
    let request = ListUsageRequest {
        by: "user".into(),
        since: 0,
        users: Vec::new(),
    };
    let rows = admin.list_usage(request).await.unwrap().into_inner().rows;
    let scope = String::new();
    let budgets = admin.list_budgets(ListBudgetsRequest { scope }).await;
    let budgets = budgets.unwrap().into_inner().budgets;
    let billed = provider.billed.lock().unwrap();
    let counted: u64 = billed.values().sum();
    let Some(row) = rows.first() else {
        assert_eq!(counted, 0);
        return Checked::default();
    };
    assert!(
        row.cost >= counted,
        "{} in the ledger, {counted} at the provider",
        row.cost
    );
    assert_eq!((budgets[0].spent, budgets[0].reserved), (row.cost, 0));
    let database = rusqlite::Connection::open(data.join("gateway/ledger/usage.db")).unwrap();
    let mut exact = database
        .prepare("SELECT input, cost FROM request WHERE how = 'exact'")
        .unwrap();
    let exact = exact
        .query_map([], |row| Ok((row.get::<_, u64>(0)?, row.get::<_, u64>(1)?)))
        .unwrap();
    let mut found = Checked {
        inexact: row.inexact,
        ..Checked::default()
    };
    for row in exact {
        let (id, cost) = row.unwrap();
        assert_eq!(Some(&cost), billed.get(&id), "request {id}");
        found.exact += 1;
        found.exact_counted += billed[&id];
        found.exact_settled += cost;
    }
    assert_eq!(found.exact, row.requests - row.inexact);
    found.counted = counted - found.exact_counted;
    found.settled = row.cost - found.exact_settled;
    found
}
