//! How long it takes from the end of a client to the end of its request at the provider, which is silent meanwhile:
//! nothing but the client's end can end it.
//!
//! `just gateway-abort` is the long form, which prints how long.
#![allow(clippy::unwrap_used)]

#[allow(dead_code, unreachable_pub)]
#[path = "it/common/mod.rs"]
mod common;
#[allow(dead_code, reason = "shared with other tests")]
mod own;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use futures_util::{SinkExt, StreamExt};
use hyper_util::rt::TokioIo;
use lodge_proto::control::gateway_admin_client::GatewayAdminClient;
use lodge_proto::control::{CreateKeyRequest, HealthRequest, VirtualKey};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::tungstenite::{Message, http};

use common::{Running, soon};

/// The one test, as a runner lists it.
const NAME: &str = "what_a_client_leaves_is_cancelled_at_the_provider";
/// Of each kind, where nobody says.
const ABORTS: usize = 3;

const ASK: &str = r#"{"model":"m","max_output_tokens":50,"input":"x"}"#;
const CREATE: &str = r#"{"type":"response.create","model":"m","max_output_tokens":50,"input":"x"}"#;

/// What the client waits for when it goes.
#[derive(Clone, Copy)]
enum Waits {
    /// For the provider's headers.
    Headers,
    /// For the next chunk of its stream.
    Chunk,
    /// For the provider's part of a WebSocket's handshake.
    Handshake,
    /// For the next message on it.
    Message,
}

const KINDS: [(Waits, &str); 4] = [
    (Waits::Headers, "HTTP, before the provider's headers"),
    (Waits::Chunk, "HTTP, in the middle of a stream"),
    (Waits::Handshake, "WebSocket, before the provider's handshake"),
    (Waits::Message, "WebSocket, in the middle of a response"),
];

fn main() {
    own::run(NAME, aborts());
}

async fn aborts() {
    let aborts = std::env::var("LODGE_ABORTS").map_or(ABORTS, |text| text.parse().unwrap());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let data = tempfile::tempdir().unwrap();
    let settings = format!(
        "[[provider]]\nname = 'p'\nkind = 'openai'\nbase_url = 'http://127.0.0.1:{port}/v1'\nkey_env = 'PROVIDER_KEY'\n\
         models = [{{ id = 'm', max_output = 50, price = {{ input = 2, output = 10 }} }}]\n"
    );
    let _gateway = Running::start(data.path(), &settings).await;
    let (address, secret) = key(data.path()).await;
    println!("| the client goes | times | p50 | p99 | longest |");
    println!("|---|---:|---:|---:|---:|");
    for (waits, name) in KINDS {
        let mut times = Vec::new();
        for _ in 0..aborts {
            times.push(Box::pin(abort(waits, address, &secret, &listener)).await);
        }
        times.sort_unstable();
        let at = |percent: usize| times[(times.len() * percent).div_ceil(100).max(1) - 1];
        let show = |time: Duration| format!("{:.2} ms", time.as_secs_f64() * 1000.0);
        println!(
            "| {name} | {aborts} | {} | {} | {} |",
            show(at(50)),
            show(at(99)),
            show(at(100))
        );
    }
}

async fn key(data: &std::path::Path) -> (SocketAddr, String) {
    let socket = data.join("run/gateway-admin.sock");
    let connect = tower::service_fn(move |_| {
        let socket = socket.clone();
        async move { tokio::net::UnixStream::connect(socket).await.map(TokioIo::new) }
    });
    let endpoint = tonic::transport::Endpoint::from_static("http://gateway");
    let mut admin = GatewayAdminClient::new(endpoint.connect_with_connector(connect).await.unwrap());
    let request = CreateKeyRequest {
        key: Some(VirtualKey {
            user: "ann".into(),
            ..VirtualKey::default()
        }),
        budgets: Vec::new(),
    };
    let secret = admin.create_key(request).await.unwrap().into_inner().secret;
    let health = admin.health(HealthRequest {}).await.unwrap().into_inner();
    (health.address.parse().unwrap(), secret)
}

/// One request that its client leaves, and how long it took to the provider.
async fn abort(waits: Waits, address: SocketAddr, secret: &str, listener: &TcpListener) -> Duration {
    let what = "the request to the provider is cancelled";
    match waits {
        Waits::Headers | Waits::Chunk => {
            let mut client = TcpStream::connect(address).await.unwrap();
            let length = ASK.len();
            let head = format!(
                "POST /p/v1/responses HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {secret}\r\ncontent-length: {length}\r\n\r\n"
            );
            client.write_all(format!("{head}{ASK}").as_bytes()).await.unwrap();
            let mut provider = accepted(listener, ASK).await;
            if matches!(waits, Waits::Chunk) {
                let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
                let chunk = format!("{head}a\r\ndata: {{}}\n\n\r\n");
                provider.write_all(chunk.as_bytes()).await.unwrap();
                until(&mut client, "data: {}").await;
            }
            let left = Instant::now();
            drop(client);
            soon(what, ended(provider)).await - left
        }
        Waits::Handshake => {
            let mut client = TcpStream::connect(address).await.unwrap();
            let head = "GET /p/v1/responses HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
                        sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
            let head = format!("{head}authorization: Bearer {secret}\r\n\r\n");
            client.write_all(head.as_bytes()).await.unwrap();
            let provider = accepted(listener, "\r\n\r\n").await;
            let left = Instant::now();
            drop(client);
            soon(what, ended(provider)).await - left
        }
        Waits::Message => {
            let stream = TcpStream::connect(address).await.unwrap();
            let request = http::Request::get(format!("ws://{address}/p/v1/responses"))
                .header("host", "x")
                .header("connection", "upgrade")
                .header("upgrade", "websocket")
                .header("sec-websocket-version", "13")
                .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
                .header("authorization", format!("Bearer {secret}"))
                .body(())
                .unwrap();
            let accept = async {
                let (stream, _) = listener.accept().await.unwrap();
                tokio_tungstenite::accept_async(stream).await.unwrap()
            };
            let connect = tokio_tungstenite::client_async(request, stream);
            let (client, mut provider) =
                soon("the sockets open", async { tokio::join!(connect, accept) }).await;
            let mut client = client.unwrap().0;
            client.send(Message::text(CREATE)).await.unwrap();
            soon("the request arrives", provider.next())
                .await
                .unwrap()
                .unwrap();
            provider
                .send(Message::text("{\"type\":\"response.created\"}"))
                .await
                .unwrap();
            soon("the response begins", client.next()).await.unwrap().unwrap();
            let left = Instant::now();
            drop(client);
            let end = async {
                while let Some(Ok(message)) = provider.next().await {
                    assert!(message.is_close(), "the gateway sent more");
                }
                Instant::now()
            };
            soon(what, end).await - left
        }
    }
}

/// The gateway's connection to the provider, read to this text.
async fn accepted(listener: &TcpListener, text: &str) -> TcpStream {
    let (mut stream, _) = soon("the provider is reached", listener.accept()).await.unwrap();
    until(&mut stream, text).await;
    stream
}

async fn until(stream: &mut TcpStream, text: &str) {
    let mut seen = Vec::new();
    while !seen.windows(text.len()).any(|window| window == text.as_bytes()) {
        let read = soon("what is waited for", stream.read_buf(&mut seen)).await;
        assert!(read.unwrap() > 0, "the connection ended");
    }
}

async fn ended(mut stream: TcpStream) -> Instant {
    let mut byte = [0];
    let read = stream.read(&mut byte).await;
    assert!(matches!(read, Ok(0) | Err(_)), "the gateway sent more");
    Instant::now()
}
