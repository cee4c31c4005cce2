//! A small blocking HTTP/1.1 client: one request a connection, bounded in time.

use anyhow::{Context, bail, ensure};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// Longest head of an answer.
const MAX_HEAD: usize = 64 * 1024;

/// An answer with its whole body.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn json(&self) -> anyhow::Result<serde_json::Value> {
        serde_json::from_slice(&self.body).with_context(|| {
            format!(
                "status {}: {:.300}",
                self.status,
                String::from_utf8_lossy(&self.body)
            )
        })
    }

    /// The value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        header(&self.head, name)
    }
}

fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines().skip(1).find_map(|line| {
        let (key, value) = line.split_once(':')?;
        key.eq_ignore_ascii_case(name).then(|| value.trim())
    })
}

/// A request.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    pub method: &'a str,
    pub path: &'a str,
    pub headers: &'a [(&'a str, &'a str)],
    /// JSON.
    pub body: Option<&'a str>,
    pub timeout: Duration,
}

impl<'a> Request<'a> {
    pub fn get(path: &'a str) -> Self {
        Self {
            method: "GET",
            path,
            headers: &[],
            body: None,
            timeout: Duration::from_mins(1),
        }
    }

    pub fn post(path: &'a str, body: &'a str) -> Self {
        Self {
            method: "POST",
            body: Some(body),
            ..Self::get(path)
        }
    }

    #[must_use]
    pub fn with(self, headers: &'a [(&'a str, &'a str)]) -> Self {
        Self { headers, ..self }
    }

    #[must_use]
    pub fn timeout(self, timeout: Duration) -> Self {
        Self { timeout, ..self }
    }
}

/// Opens a connection and sends a request; the answer is still to be read.
pub fn open(address: SocketAddr, request: &Request<'_>) -> anyhow::Result<TcpStream> {
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(5))?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(request.timeout))?;
    stream.set_write_timeout(Some(request.timeout))?;
    let mut text = format!(
        "{} {} HTTP/1.1\r\nHost: {address}\r\n",
        request.method, request.path
    );
    for (name, value) in request.headers {
        text.extend([name, ": ", value, "\r\n"]);
    }
    if let Some(body) = request.body {
        let length = body.len().to_string();
        text.extend([
            "Content-Type: application/json\r\nContent-Length: ",
            &length,
            "\r\n",
        ]);
    }
    text.push_str("\r\n");
    text.push_str(request.body.unwrap_or_default());
    stream.write_all(text.as_bytes())?;
    Ok(stream)
}

/// Reads the head of an answer and not a byte more.
pub fn read_head(stream: &mut TcpStream) -> anyhow::Result<(u16, String)> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        ensure!(
            stream.read(&mut byte)? == 1,
            "the connection ended inside an answer's head"
        );
        head.push(byte[0]);
        ensure!(head.len() <= MAX_HEAD, "an answer's head is too long");
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    Ok((
        status.with_context(|| format!("no HTTP answer: {head:.100}"))?,
        head,
    ))
}

/// Sends a request and reads the whole answer.
pub fn call(address: SocketAddr, request: &Request<'_>) -> anyhow::Result<Answer> {
    let mut stream = open(address, request)?;
    let (status, head) = read_head(&mut stream)?;
    let chunked =
        header(&head, "transfer-encoding").is_some_and(|value| value.eq_ignore_ascii_case("chunked"));
    let length = header(&head, "content-length").and_then(|value| value.parse().ok());
    let mut body = Vec::new();
    match length {
        Some(length) => {
            body.resize(length, 0);
            stream.read_exact(&mut body)?;
        }
        None if chunked => read_chunks(&mut stream, &mut body)?,
        None => bail!("an answer without a length: {head:.200}"),
    }
    Ok(Answer { status, head, body })
}

fn read_chunks(stream: &mut TcpStream, body: &mut Vec<u8>) -> anyhow::Result<()> {
    let mut dechunk = Dechunk::default();
    let mut buffer = vec![0; 64 * 1024];
    while !dechunk.done {
        let count = stream.read(&mut buffer)?;
        ensure!(count > 0, "the connection ended inside an answer");
        dechunk.push(&buffer[..count], body);
    }
    Ok(())
}

/// Takes the chunks of HTTP/1.1 apart, as they come.
#[derive(Debug, Default)]
pub struct Dechunk {
    /// Bytes of this chunk that are still to come.
    left: usize,
    /// The size line so far.
    line: Vec<u8>,
    pub done: bool,
}

impl Dechunk {
    /// Appends the content of `input` to `out`.
    pub fn push(&mut self, mut input: &[u8], out: &mut Vec<u8>) {
        while !input.is_empty() && !self.done {
            if self.left > 0 {
                let count = self.left.min(input.len());
                out.extend_from_slice(&input[..count]);
                input = &input[count..];
                self.left -= count;
                continue;
            }
            let (byte, rest) = (input[0], &input[1..]);
            input = rest;
            match byte {
                b'\n' if self.line.is_empty() => {}
                b'\n' => self.size_line(),
                b'\r' => {}
                other => self.line.push(other),
            }
        }
    }

    fn size_line(&mut self) {
        let line = std::mem::take(&mut self.line);
        let digits = line.split(|byte| *byte == b';').next().unwrap_or_default();
        let size = std::str::from_utf8(digits)
            .ok()
            .and_then(|text| usize::from_str_radix(text.trim(), 16).ok());
        self.left = size.unwrap_or(0);
        self.done = self.left == 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_are_joined_however_they_are_cut() {
        let whole = b"4\r\nabcd\r\n2;x=y\r\nef\r\n0\r\n\r\n";
        for cut in 1..whole.len() {
            let (mut dechunk, mut out) = (Dechunk::default(), Vec::new());
            for part in whole.chunks(cut) {
                dechunk.push(part, &mut out);
            }
            assert_eq!(out, b"abcdef");
            assert!(dechunk.done);
        }
    }
}
