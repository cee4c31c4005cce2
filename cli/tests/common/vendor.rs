//! A provider of our own on loopback: it answers like each vendor, sends headers that theirs send, cuts its streams
//! where no vendor would, and keeps every byte that it got and sent.

use super::http::{Body, Exchange, Message};
use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::{HeaderMap, Method};
use lodge_gateway::demo::Demo;
use lodge_gateway::dialect::{Dialect, Route};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// Headers as vendors send them; the last three are for the gateway only.
const HEADERS: &str = "Date: Thu, 01 Jan 2026 00:00:00 GMT\r\n\
    Request-Id: req_011CQx\r\n\
    x-request-id: 7f5c\r\n\
    anthropic-ratelimit-unified-status: allowed\r\n\
    X-RateLimit-Remaining-Tokens: 149984\r\n\
    openai-processing-ms: 12\r\n\
    Via-Doubled: one\r\n\
    Via-Doubled: two\r\n\
    CF-RAY: 9a-FRA\r\n\
    Server: cloudflare\r\n\
    Connection: keep-alive\r\n\
    Set-Cookie: __cf_bm=cookie-of-the-provider; path=/\r\n\
    Alt-Svc: h3=\":443\"\r\n\
    Strict-Transport-Security: max-age=31536000\r\n";

/// A running one; it ends with the test.
pub struct Vendor {
    pub address: SocketAddr,
    record: Arc<Mutex<Vec<Exchange>>>,
}

impl Vendor {
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let record = Arc::new(Mutex::new(Vec::new()));
        let (kept, demo) = (Arc::clone(&record), Arc::new(Demo::default()));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (record, demo) = (Arc::clone(&kept), Arc::clone(&demo));
                // A client that goes away in the middle is its own affair.
                std::thread::spawn(move || converse(stream, &record, &demo));
            }
        });
        Self { address, record }
    }

    /// What it got and sent so far, by the end of the answer.
    pub fn exchanges(&self) -> Vec<Exchange> {
        self.record.lock().unwrap().clone()
    }

    /// Providers of the configuration file that lead here, one for each dialect; the key comes from a file.
    pub fn configuration(&self, key_file: &std::path::Path) -> String {
        let kinds = [
            ("chat", "openai_compatible"),
            ("openai", "openai"),
            ("anthropic", "anthropic"),
            ("gemini", "gemini"),
        ];
        let provider = |(name, kind): (&str, &str)| {
            let (address, key) = (self.address, key_file.display());
            format!(
                "[[provider]]\nname = \"{name}\"\nkind = \"{kind}\"\nbase_url = \"http://{address}\"\n\
                 key_file = \"{key}\"\n[[provider.models]]\nid = \"demo\"\ncontext_window = 128000\n\
                 max_output = 32000\n\n"
            )
        };
        kinds.map(provider).concat()
    }
}

fn converse(mut stream: TcpStream, record: &Mutex<Vec<Exchange>>, demo: &Demo) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut bytes = Vec::new();
    let mut piece = vec![0; 64 << 10];
    loop {
        let mut rest = &bytes[..];
        let Some(request) = Message::take(&mut rest, Body::None, false) else {
            let read = stream.read(&mut piece)?;
            if read == 0 {
                return Ok(());
            }
            bytes.extend_from_slice(&piece[..read]);
            continue;
        };
        bytes = rest.to_vec();
        let sent = answer(&request, demo);
        let mut whole = &sent.concat()[..];
        let response = Message::take(&mut whole, Body::None, true);
        record.lock().unwrap().push(Exchange { request, response });
        for piece in sent {
            stream.write_all(&piece)?;
        }
    }
}

/// The answer, in the pieces in which it is written.
fn answer(request: &Message, demo: &Demo) -> Vec<Vec<u8>> {
    let (method, target) = request.request();
    let method: Method = method.parse().unwrap();
    let (path, query) = target
        .split_once('?')
        .map_or((target, None), |(path, query)| (path, Some(query)));
    let dialects = [
        Dialect::Chat,
        Dialect::Responses,
        Dialect::Messages,
        Dialect::Gemini,
    ];
    let mut headers = HeaderMap::new();
    for (name, value) in &request.headers {
        headers.append(
            name.parse::<hyper::header::HeaderName>().unwrap(),
            value.parse().unwrap(),
        );
    }
    let path = match path
        .split_once("/models/")
        .map(|(before, after)| (before, after.split_once(':')))
    {
        Some((before, Some((_, operation)))) => format!("{before}/models/demo:{operation}"),
        _ => path.to_owned(),
    };
    let Ok(route) = Route::find(&dialects, &headers, &method, &path, query) else {
        return vec![format!("HTTP/1.1 404 Not Found\r\n{HEADERS}Content-Length: 2\r\n\r\n{{}}").into()];
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let body = Bytes::from(as_demo(&request.body));
    let (status, kind, body) = runtime.block_on(async {
        let (head, body) = demo.handle("vendor", &route, &body).await.into_parts();
        let kind = head.headers.get("content-type").cloned();
        let body = body.collect().await.unwrap().to_bytes();
        (head.status, kind, body)
    });
    let kind = kind.map_or_else(String::new, |kind| kind.to_str().unwrap().to_owned());
    let head = format!("HTTP/1.1 {status}\r\n{HEADERS}Content-Type: {kind}\r\n");
    if !kind.contains("event-stream") {
        let length = body.len();
        return vec![
            format!("{head}Content-Length: {length}\r\n\r\n").into(),
            body.to_vec(),
        ];
    }
    let mut pieces = vec![format!("{head}Transfer-Encoding: chunked\r\n\r\n").into_bytes()];
    pieces.extend(chunks(&body));
    pieces
}

/// Whatever model is asked for, the demo model answers.
fn as_demo(body: &[u8]) -> Vec<u8> {
    let Ok(mut value) = serde_json::from_slice::<serde_json::Value>(body) else {
        return body.to_vec();
    };
    if let Some(model) = value.get_mut("model") {
        *model = "demo".into();
    }
    value.to_string().into_bytes()
}

/// Chunks of odd sizes: through lines, events and the bytes of one character.
fn chunks(body: &[u8]) -> Vec<Vec<u8>> {
    let mut sizes = [1, 7, 64, 3, 200, 2, 1500].into_iter().cycle();
    let mut chunks = Vec::new();
    let mut rest = body;
    while !rest.is_empty() {
        let (now, later) = rest.split_at(sizes.next().unwrap_or(1).min(rest.len()));
        let size = format!("{:x}\r\n", now.len());
        chunks.push([size.as_bytes(), now, b"\r\n"].concat());
        rest = later;
    }
    chunks.push(b"0\r\n\r\n".to_vec());
    chunks
}
