//! Measures the relay: CPU per delivered event, latency, and memory per connected browser.
//!
//! `cargo run --release -p lodge-backend --example relay_load -- [VIEWERS] [EVENTS_PER_SECOND] [SECONDS]`
//!
//! The backend runs in a process of its own; this one plays the runner and all browsers.

use futures_util::StreamExt;
use http::header::{CONTENT_TYPE, COOKIE, HOST, ORIGIN, SET_COOKIE};
use http::{Method, Request};
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use lodge_backend::{Config, Settings, control};
use lodge_proto::frame::{self, Decoder, Header, Kind, flags};
use lodge_proto::sock;
use serde_json::{Value, json};
use std::error::Error;
use std::path::Path;
use std::process::{Child, Command};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixListener, UnixStream};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;

type Outcome<T> = Result<T, Box<dyn Error>>;

const SESSION: &str = "0191a0b0-0000-7000-8000-000000000001";
/// What `/proc/PID/stat` counts in: the kernel's `USER_HZ`, 100 on every Linux.
const TICKS_PER_SECOND: f64 = 100.0;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Outcome<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if let [mode, data] = &args[..]
        && mode == "serve"
    {
        let settings = Settings {
            listen: "127.0.0.1:0".parse()?,
            ..Settings::default()
        };
        let path = Path::new(data).join("address");
        let ready = move |address: std::net::SocketAddr| drop(std::fs::write(path, address.to_string()));
        return Ok(
            lodge_backend::serve(Config::embedded(data, settings), ready, std::future::pending()).await?,
        );
    }
    let number = |at: usize, default: u32| args.get(at).and_then(|arg| arg.parse().ok()).unwrap_or(default);
    measure(number(0, 100), number(1, 1000), number(2, 10)).await
}

struct Kill(Child);

impl Drop for Kill {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Kill {
    fn cpu_seconds(&self) -> Outcome<f64> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.0.id()))?;
        let fields: Vec<&str> = stat
            .rsplit(')')
            .next()
            .unwrap_or_default()
            .split_whitespace()
            .collect();
        let ticks = fields[11].parse::<f64>()? + fields[12].parse::<f64>()?;
        Ok(ticks / TICKS_PER_SECOND)
    }

    fn resident_kib(&self) -> Outcome<f64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.0.id()))?;
        let line = status
            .lines()
            .find(|line| line.starts_with("VmRSS"))
            .ok_or("no VmRSS")?;
        Ok(line.split_whitespace().nth(1).ok_or("no VmRSS")?.parse()?)
    }
}

async fn measure(viewers: u32, rate: u32, seconds: u32) -> Outcome<()> {
    let directory = tempfile::tempdir()?;
    let data = directory.path();
    std::fs::create_dir_all(data.join("run"))?;
    let listener = sock::bind(&data.join("run/runner.sock"))?;
    listener.set_nonblocking(true)?;
    let listener = UnixListener::from_std(listener)?;
    let backend = Kill(
        Command::new(std::env::current_exe()?)
            .arg("serve")
            .arg(data)
            .spawn()?,
    );
    let (mut runner, _) = listener.accept().await?;
    relay_control(
        &mut runner,
        0,
        &json!({"type": "hello", "version": 1, "runner_epoch": 1}),
    )
    .await?;
    let mut decoder = Decoder::new();
    next_attach(&mut runner, &mut decoder).await?;
    while !data.join("address").exists() {
        tokio::task::yield_now().await;
    }
    let host = std::fs::read_to_string(data.join("address"))?;
    let cookie = login(data, &host).await?;

    let mut sockets = Vec::new();
    let mut before = 0.0;
    for n in 0..viewers {
        sockets.push(browse(&host, &cookie).await?);
        let channel = next_attach(&mut runner, &mut decoder).await?;
        subscribe(&mut runner, channel).await?;
        if n == 0 {
            before = backend.resident_kib()?;
        }
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    let each = (backend.resident_kib()? - before) / f64::from(viewers.saturating_sub(1).max(1));
    println!("{viewers} viewers: {each:.1} KiB resident for each further one");

    let events = rate * seconds;
    let start = Instant::now();
    let viewing: Vec<_> = sockets
        .into_iter()
        .map(|socket| tokio::spawn(view(socket, events, start)))
        .collect();
    let cpu = backend.cpu_seconds()?;
    generate(&mut runner, rate, events, start).await?;
    let mut delays = Vec::new();
    for viewer in viewing {
        delays.extend(viewer.await?);
    }
    let cpu = backend.cpu_seconds()? - cpu;
    delays.sort_unstable();
    let at = |share: usize| delays[(delays.len() - 1) * share / 100];
    println!(
        "{} deliveries at {rate} ev/s: {:.2} µs CPU each, p50 {} µs, p99 {} µs, {:.0} KiB resident",
        delays.len(),
        cpu * 1e6 / f64::from(u32::try_from(delays.len())?),
        at(50),
        at(99),
        backend.resident_kib()?
    );
    Ok(())
}

async fn relay_control(runner: &mut UnixStream, channel: u32, control: &Value) -> Outcome<()> {
    let mut bytes = Vec::new();
    let header = Header::new(Kind::Control)
        .channel(channel)
        .session(u64::from(channel > 0))
        .flags(flags::FOR_RELAY);
    frame::encode(&header, control.to_string().as_bytes(), &mut bytes)?;
    Ok(runner.write_all(&bytes).await?)
}

async fn subscribe(runner: &mut UnixStream, channel: u32) -> Outcome<()> {
    relay_control(runner, channel, &json!({"type": "join", "session_id": SESSION})).await
}

/// The channel of the next client that is announced.
async fn next_attach(runner: &mut UnixStream, decoder: &mut Decoder) -> Outcome<u32> {
    loop {
        while let Some((header, payload)) = decoder.next_frame()? {
            if serde_json::from_slice::<Value>(payload)?["type"] == "attach" {
                return Ok(header.channel);
            }
        }
        let mut bytes = vec![0; 4096];
        let count = runner.read(&mut bytes).await?;
        decoder.push(&bytes[..count]);
    }
}

async fn call(
    host: &str,
    method: Method,
    path: &str,
    cookie: &str,
    body: &Value,
) -> Outcome<(String, Value)> {
    let stream = TcpStream::connect(host).await?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let connection = tokio::spawn(connection);
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header(HOST, host)
        .header(ORIGIN, format!("http://{host}"))
        .header(COOKIE, cookie)
        .header(CONTENT_TYPE, "application/json")
        .body(Full::new(Bytes::from(body.to_string())))?;
    let response = sender.send_request(request).await?;
    let set = response
        .headers()
        .get(SET_COOKIE)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    let cookie = set.split(';').next().unwrap_or_default().to_owned();
    let body = serde_json::from_slice(&response.into_body().collect().await?.to_bytes())?;
    connection.abort();
    Ok((cookie, body))
}

async fn login(data: &Path, host: &str) -> Outcome<String> {
    let link = control::login_link(&control_socket(data), None).await?;
    let token = link.url.split_once("#token=").ok_or("no token")?.1.to_owned();
    Ok(call(
        host,
        Method::POST,
        "/api/v1/login",
        "",
        &json!({ "token": token }),
    )
    .await?
    .0)
}

fn control_socket(data: &Path) -> std::path::PathBuf {
    lodge_backend::config::control_socket(data)
}

async fn browse(host: &str, cookie: &str) -> Outcome<WebSocketStream<TcpStream>> {
    let (_, body) = call(host, Method::GET, "/api/v1/page-token", cookie, &json!({})).await?;
    let token = body["token"].as_str().ok_or("no page token")?;
    let mut request = format!("ws://{host}/api/v1/ws").into_client_request()?;
    let headers = request.headers_mut();
    headers.insert(COOKIE, cookie.parse()?);
    headers.insert(ORIGIN, format!("http://{host}").parse()?);
    headers.insert(
        "sec-websocket-protocol",
        format!("lodge.v1, token.{token}").parse()?,
    );
    let stream = TcpStream::connect(host).await?;
    Ok(tokio_tungstenite::client_async(request, stream).await?.0)
}

/// Sends `events` events of about 200 bytes, each with its time since `start`.
async fn generate(runner: &mut UnixStream, rate: u32, events: u32, start: Instant) -> Outcome<()> {
    let mut pace = tokio::time::interval(Duration::from_secs_f64(1.0 / f64::from(rate)));
    let pad = "x".repeat(60);
    for seq in 1..=events {
        pace.tick().await;
        let at = start.elapsed().as_micros();
        let event = format!(
            r#"{{"session_id":"{SESSION}","seq":{seq},"ts":1,"event":"stream.text_delta","at":"{at:012}","delta":"{pad}"}}"#
        );
        let mut bytes = Vec::new();
        frame::encode(&Header::new(Kind::Event).session(1), event.as_bytes(), &mut bytes)?;
        runner.write_all(&bytes).await?;
    }
    Ok(())
}

/// Takes `events` events; their delays in microseconds.
async fn view(mut socket: WebSocketStream<TcpStream>, events: u32, start: Instant) -> Vec<u64> {
    let mut delays = Vec::new();
    while delays.len() < events as usize {
        let Some(Ok(message)) = socket.next().await else {
            break;
        };
        let text = message.into_text().unwrap_or_default();
        let sent = text
            .split_once("\"at\":\"")
            .and_then(|(_, rest)| rest.get(..12)?.parse::<u64>().ok());
        if let Some(sent) = sent {
            let now = u64::try_from(start.elapsed().as_micros()).unwrap_or(u64::MAX);
            delays.push(now.saturating_sub(sent));
        }
    }
    assert_eq!(delays.len(), events as usize, "a viewer lost events");
    delays
}
