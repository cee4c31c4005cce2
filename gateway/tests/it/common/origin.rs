//! A server somewhere else, which a guest may or may not reach.

use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// Answers `hi` to each request and keeps what it was sent, a connection at a time.
pub(crate) struct Origin {
    pub(crate) port: u16,
    connections: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl Origin {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let connections = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&connections);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let index = {
                    let mut all = kept.lock().unwrap();
                    all.push(Vec::new());
                    all.len() - 1
                };
                tokio::spawn(converse(stream, Arc::clone(&kept), index));
            }
        });
        Self { port, connections }
    }

    /// What each connection brought.
    pub(crate) fn seen(&self) -> Vec<String> {
        let connections = self.connections.lock().unwrap();
        connections
            .iter()
            .map(|bytes| String::from_utf8_lossy(bytes).into_owned())
            .collect()
    }
}

async fn converse(mut stream: TcpStream, kept: Arc<Mutex<Vec<Vec<u8>>>>, index: usize) {
    let mut buffer = [0; 4096];
    let mut answered = 0;
    while let Ok(count @ 1..) = stream.read(&mut buffer).await {
        let requests = {
            let mut all = kept.lock().unwrap();
            all[index].extend_from_slice(&buffer[..count]);
            let text = String::from_utf8_lossy(&all[index]);
            if text.contains("Content-Length: 4") && !text.contains("body") {
                continue;
            }
            all[index]
                .windows(4)
                .filter(|window| window == b"\r\n\r\n")
                .count()
        };
        while answered < requests {
            answered += 1;
            let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi";
            if stream.write_all(answer).await.is_err() {
                return;
            }
        }
        // One request a connection, where it was asked for.
        if answered > 0 && String::from_utf8_lossy(&kept.lock().unwrap()[index]).contains("Connection: close")
        {
            break;
        }
    }
    let _it_may_be_gone = stream.shutdown().await;
}
