//! A provider of our own on loopback, which records what it gets byte by byte.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

use super::soon;

/// A request as it came.
#[derive(Debug)]
pub(crate) struct Received {
    /// `POST /path HTTP/1.1`
    pub(crate) line: String,
    /// Names in lower case, in order.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Received {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    }
}

/// One request and the connection to answer it on.
pub(crate) struct Exchange {
    pub(crate) request: Received,
    stream: TcpStream,
    /// Of a chunk that was offered.
    unsent: Vec<u8>,
}

impl Exchange {
    /// Bytes of HTTP, as they are.
    pub(crate) async fn write(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).await.unwrap();
        self.stream.flush().await.unwrap();
    }

    pub(crate) async fn answer(&mut self, status: &str, headers: &str, body: &str) {
        let length = body.len();
        self.write(format!(
            "HTTP/1.1 {status}\r\n{headers}content-length: {length}\r\n\r\n{body}"
        ))
        .await;
    }

    pub(crate) async fn begin_stream(&mut self) {
        self.write(
            "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n",
        )
        .await;
    }

    pub(crate) async fn chunk(&mut self, data: &str) {
        self.chunk_of(data.as_bytes()).await;
    }

    /// The same of any bytes.
    pub(crate) async fn chunk_of(&mut self, data: &[u8]) {
        let head = format!("{:x}\r\n", data.len());
        self.write([head.as_bytes(), data, b"\r\n"].concat()).await;
    }

    /// A chunk that may be given up in the middle: [`Self::finish`] writes the rest of it.
    pub(crate) async fn offer(&mut self, data: &str) {
        self.unsent = format!("{:x}\r\n{data}\r\n", data.len()).into_bytes();
        self.finish().await;
    }

    pub(crate) async fn finish(&mut self) {
        while !self.unsent.is_empty() {
            let written = self.stream.write(&self.unsent).await.unwrap();
            self.unsent.drain(..written);
        }
    }

    /// Waits until the gateway gives up the connection.
    pub(crate) async fn cancelled(mut self) {
        let mut byte = [0];
        let read = soon(
            "the request to the provider is cancelled",
            self.stream.read(&mut byte),
        )
        .await;
        assert!(matches!(read, Ok(0) | Err(_)), "the gateway sent more");
    }
}

/// Listens, and hands each request to the test.
pub(crate) struct Upstream {
    pub(crate) port: u16,
    exchanges: mpsc::Receiver<Exchange>,
}

impl Upstream {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (sender, exchanges) = mpsc::channel(16);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let sender = sender.clone();
                tokio::spawn(async move {
                    if let Some(exchange) = receive(stream).await {
                        let _test_is_over = sender.send(exchange).await;
                    }
                });
            }
        });
        Self { port, exchanges }
    }

    pub(crate) async fn next(&mut self) -> Exchange {
        soon("a request reaches the provider", self.exchanges.recv())
            .await
            .unwrap()
    }

    /// Whether nothing has arrived.
    pub(crate) fn is_untouched(&mut self) -> bool {
        self.exchanges.try_recv().is_err()
    }
}

async fn receive(mut stream: TcpStream) -> Option<Exchange> {
    let mut bytes = Vec::new();
    let head = loop {
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break end;
        }
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    };
    let text = String::from_utf8(bytes[..head].to_vec()).unwrap();
    let mut lines = text.split("\r\n");
    let line = lines.next()?.to_owned();
    let headers: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_lowercase(), value.to_owned()))
        .collect();
    let length = headers
        .iter()
        .find(|(name, _)| name == "content-length")
        .map_or(0, |(_, value)| value.parse().unwrap());
    let mut body = bytes.split_off(head + 4);
    while body.len() < length {
        if stream.read_buf(&mut body).await.ok()? == 0 {
            return None;
        }
    }
    Some(Exchange {
        request: Received { line, headers, body },
        stream,
        unsent: Vec::new(),
    })
}
