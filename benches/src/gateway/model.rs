//! The model behind every gateway: OpenAI's chat completions, whole or as a stream of markers on the directive
//! `stamp N MICROSECONDS`. Written by hand on sockets, so that it takes as little as can be from the core it shares
//! with the clients.

use crate::marker;
use anyhow::Context;
use serde_json::json;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;

/// Where in a body the directive is looked for: not in all of 500 kB.
const TAIL: usize = 4096;
const ANSWER: &str = r#"{"id":"chatcmpl-1","object":"chat.completion","created":1,"model":"gpt-4o-mini","choices":[{"index":0,"message":{"role":"assistant","content":"ok"},"finish_reason":"stop"}],"usage":{"prompt_tokens":20,"completion_tokens":1,"total_tokens":21}}"#;

/// Serves until killed; says its address when it is ready.
pub(super) async fn serve() -> anyhow::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("ready {}", listener.local_addr()?);
    loop {
        let (stream, _) = listener.accept().await?;
        tokio::spawn(async move {
            // A gateway that goes away in the middle is its own affair.
            let _ = converse(stream).await;
        });
    }
}

async fn converse(mut stream: TcpStream) -> anyhow::Result<()> {
    stream.set_nodelay(true)?;
    let whole = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{ANSWER}",
        ANSWER.len()
    );
    let mut bytes = Vec::with_capacity(64 << 10);
    loop {
        let end = loop {
            if let Some(end) = request_end(&bytes)? {
                break end;
            }
            if stream.read_buf(&mut bytes).await? == 0 {
                return Ok(());
            }
        };
        let request = &bytes[..end];
        let tail = String::from_utf8_lossy(&request[request.len().saturating_sub(TAIL)..]).into_owned();
        let is_list = request.starts_with(b"GET");
        bytes.drain(..end);
        match directive(&tail) {
            Some((count, micros)) => {
                stream_markers(&mut stream, count, Duration::from_micros(micros)).await?;
            }
            None if is_list => {
                let body = json!({ "object": "list", "data": [{ "id": "gpt-4o-mini", "object": "model" }] });
                let body = body.to_string();
                let length = body.len();
                let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length:";
                stream
                    .write_all(format!("{head} {length}\r\n\r\n{body}").as_bytes())
                    .await?;
            }
            None => stream.write_all(whole.as_bytes()).await?,
        }
    }
}

/// Bytes of the first request, once all of it is there.
fn request_end(bytes: &[u8]) -> anyhow::Result<Option<usize>> {
    let Some(head) = memchr::memmem::find(bytes, b"\r\n\r\n") else {
        return Ok(None);
    };
    let text = std::str::from_utf8(&bytes[..head])?;
    let mut length = 0;
    for line in text.split("\r\n").skip(1) {
        let (name, value) = line.split_once(':').context("a header")?;
        if name.eq_ignore_ascii_case("content-length") {
            length = value.trim().parse()?;
        } else if name.eq_ignore_ascii_case("transfer-encoding") {
            // The clients here send one request at a time.
            return Ok(bytes.ends_with(b"0\r\n\r\n").then_some(bytes.len()));
        }
    }
    let end = head + 4 + length;
    Ok((bytes.len() >= end).then_some(end))
}

/// The last directive in a text.
fn directive(text: &str) -> Option<(u64, u64)> {
    let at = text.rfind("stamp ")?;
    let mut words = text[at + 6..].split(|c: char| !c.is_ascii_digit());
    Some((words.next()?.parse().ok()?, words.next()?.parse().ok()?))
}

async fn stream_markers(stream: &mut TcpStream, count: u64, period: Duration) -> anyhow::Result<()> {
    stream
        .write_all(
            b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n",
        )
        .await?;
    let begun = Instant::now();
    let mut text = String::new();
    for index in 0..count {
        // The first one is not for the timer, whose steps are a millisecond.
        if index > 0 && !period.is_zero() {
            tokio::time::sleep_until(begun + period * u32::try_from(index)?).await;
        }
        marker::write(&mut text, index);
        let event = format!(
            "{{\"id\":\"chatcmpl-1\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"gpt-4o-mini\",\
             \"choices\":[{{\"index\":0,\"delta\":{{\"role\":\"assistant\",\"content\":\"{text}\"}},\
             \"finish_reason\":null}}]}}"
        );
        stream.write_all(frame(&event).as_bytes()).await?;
    }
    let end = r#"{"id":"chatcmpl-1","object":"chat.completion.chunk","created":1,"model":"gpt-4o-mini","choices":[{"index":0,"delta":{},"finish_reason":"stop"}],"usage":{"prompt_tokens":20,"completion_tokens":9,"total_tokens":29}}"#;
    let end = frame(end) + &frame("[DONE]") + "0\r\n\r\n";
    stream.write_all(end.as_bytes()).await?;
    Ok(())
}

/// One event in a chunk of its own.
fn frame(data: &str) -> String {
    let length = data.len() + "data: \n\n".len();
    format!("{length:x}\r\ndata: {data}\n\n\r\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_ends_where_its_length_says() {
        let request = b"POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\nabcGET";
        assert_eq!(request_end(request).unwrap(), Some(request.len() - 3));
        assert_eq!(request_end(&request[..request.len() - 4]).unwrap(), None);
        assert_eq!(request_end(b"GET / HTTP/1.1\r\n\r\n").unwrap(), Some(18));
        assert_eq!(directive("x stamp 5 2000\"}]"), Some((5, 2000)));
    }
}
