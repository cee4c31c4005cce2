//! The one HTTP request of the command line: is the backend ready?

use crate::failure::Failure;
use lodge_proto::ErrorCode;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Longest answer that is read, bytes.
const MAX_ANSWER: u64 = 1024 * 1024;

/// The address in a URL that Lodge printed: `http://127.0.0.1:8080/…`.
pub fn address(url: &str) -> Option<SocketAddr> {
    url.strip_prefix("http://")?
        .split(['/', '#', '?'])
        .next()?
        .parse()
        .ok()
}

/// The status of a GET.
pub async fn get(address: SocketAddr, path: &str, within: Duration) -> anyhow::Result<u16> {
    let exchange = async {
        let mut stream = TcpStream::connect(address).await?;
        // HTTP/1.0: the end of the connection is the end of the answer.
        stream
            .write_all(format!("GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n").as_bytes())
            .await?;
        let mut answer = Vec::new();
        stream.take(MAX_ANSWER).read_to_end(&mut answer).await?;
        std::io::Result::Ok(answer)
    };
    let answer = tokio::time::timeout(within, exchange).await??;
    status(&answer).ok_or_else(|| Failure::new(ErrorCode::Unavailable, "the answer is no HTTP").into())
}

fn status(answer: &[u8]) -> Option<u16> {
    let line = answer.split(|byte| *byte == b'\r').next()?;
    std::str::from_utf8(line)
        .ok()?
        .strip_prefix("HTTP/1.")?
        .split(' ')
        .nth(1)?
        .parse()
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_of_a_printed_url() {
        assert_eq!(address("http://127.0.0.1:8080/#login=x").unwrap().port(), 8080);
        assert_eq!(address("http://[::1]:9").unwrap().port(), 9);
        assert_eq!(address("https://x"), None);
    }

    #[test]
    fn the_status_of_an_answer() {
        assert_eq!(status(b"HTTP/1.0 204 No Content\r\na: b\r\n\r\nxy"), Some(204));
        assert_eq!(status(b"garbage"), None);
    }
}
