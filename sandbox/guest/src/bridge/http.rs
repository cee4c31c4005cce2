//! The little of HTTP/1.1 that the client of one server on the loopback needs. No I/O but through `Read` and `Write`.

use std::io::{self, BufRead, Read, Write};

use super::lines::{self, Line};
use super::server::Address;

/// Longest line of a head, in bytes.
const MAX_LINE: usize = 16 << 10;
/// Lines of a head.
const MAX_LINES: usize = 128;

/// Writes one request, after whose response the connection closes.
pub(super) fn request(
    stream: &mut impl Write,
    address: &Address,
    method: &str,
    path: &str,
    body: Option<&[u8]>,
) -> io::Result<()> {
    let mut bytes = format!(
        "{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{}\r\nAuthorization: {}\r\nConnection: close\r\n",
        address.port, address.authorization,
    )
    .into_bytes();
    match body {
        Some(body) => {
            bytes.extend_from_slice(
                format!(
                    "Content-Type: application/json\r\nContent-Length: {}\r\n\r\n",
                    body.len()
                )
                .as_bytes(),
            );
            bytes.extend_from_slice(body);
        }
        // Without a length some servers wait for a body of a POST.
        None if method != "GET" => bytes.extend_from_slice(b"Content-Length: 0\r\n\r\n"),
        None => bytes.extend_from_slice(b"\r\n"),
    }
    stream.write_all(&bytes)?;
    stream.flush()
}

/// A response whose body is still to be read.
#[derive(Debug)]
pub(super) struct Response<R> {
    pub(super) status: u16,
    pub(super) body: Body<R>,
}

impl<R: BufRead> Response<R> {
    /// Reads the head.
    pub(super) fn read(mut reader: R) -> io::Result<Self> {
        loop {
            let (status, framing) = head(&mut reader)?;
            // 1xx only announces the response.
            if !(100..200).contains(&status) {
                let framing = if matches!(status, 204 | 304) {
                    Framing::Length(0)
                } else {
                    framing
                };
                let body = Body { reader, framing };
                return Ok(Self { status, body });
            }
        }
    }
}

fn head(reader: &mut impl BufRead) -> io::Result<(u16, Framing)> {
    let status = head_line(reader)?;
    let status = status
        .strip_prefix("HTTP/1.")
        .and_then(|rest| rest.split(' ').nth(1))
        .and_then(|code| code.parse::<u16>().ok())
        .filter(|code| (100..600).contains(code))
        .ok_or_else(|| invalid("no status line"))?;
    let mut framing = Framing::Close;
    for _ in 0..MAX_LINES {
        let line = head_line(reader)?;
        if line.is_empty() {
            return Ok((status, framing));
        }
        let (name, value) = line
            .split_once(':')
            .ok_or_else(|| invalid("a header without a colon"))?;
        let value = value.trim();
        if name.eq_ignore_ascii_case("transfer-encoding") {
            if !value.eq_ignore_ascii_case("chunked") {
                return Err(invalid("an unknown transfer encoding"));
            }
            framing = Framing::Chunk(0, Chunk::First);
        } else if name.eq_ignore_ascii_case("content-length") && matches!(framing, Framing::Close) {
            let length = value.parse().map_err(|_| invalid("no number as length"))?;
            framing = Framing::Length(length);
        }
    }
    Err(invalid("too many headers"))
}

fn head_line(reader: &mut impl BufRead) -> io::Result<String> {
    let mut line = Vec::new();
    match lines::read(reader, MAX_LINE, &mut line)? {
        Line::Whole => {}
        Line::Oversize => return Err(invalid("a header is too long")),
        Line::End => return Err(io::ErrorKind::UnexpectedEof.into()),
    }
    if line.last() == Some(&b'\r') {
        line.pop();
    }
    String::from_utf8(line).map_err(|_| invalid("a header is not UTF-8"))
}

fn invalid(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("not HTTP: {why}"))
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Framing {
    /// Bytes that are left.
    Length(u64),
    /// Bytes that are left of a chunk.
    Chunk(u64, Chunk),
    Close,
    Done,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Chunk {
    First,
    Later,
}

/// The body of a response. Its early end is an error, never a short body.
#[derive(Debug)]
pub(super) struct Body<R> {
    reader: R,
    framing: Framing,
}

impl<R: BufRead> Body<R> {
    /// Reads the size of the next chunk; the last has none.
    fn next_chunk(&mut self, which: Chunk) -> io::Result<u64> {
        if which == Chunk::Later && !head_line(&mut self.reader)?.is_empty() {
            return Err(invalid("a chunk is longer than it says"));
        }
        let line = head_line(&mut self.reader)?;
        let size = line.split(';').next().unwrap_or_default().trim();
        let size = u64::from_str_radix(size, 16).map_err(|_| invalid("a chunk without a size"))?;
        if size == 0 {
            for _ in 0..MAX_LINES {
                if head_line(&mut self.reader)?.is_empty() {
                    break;
                }
            }
        }
        Ok(size)
    }

    fn some(&mut self, buffer: &mut [u8], left: u64) -> io::Result<usize> {
        let limit = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
        match self.reader.read(&mut buffer[..limit])? {
            0 if limit > 0 => Err(io::ErrorKind::UnexpectedEof.into()),
            got => Ok(got),
        }
    }
}

impl<R: BufRead> Read for Body<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        match self.framing {
            Framing::Done | Framing::Length(0) => Ok(0),
            Framing::Close => self.reader.read(buffer),
            Framing::Length(left) => {
                let got = self.some(buffer, left)?;
                self.framing = Framing::Length(left - got as u64);
                Ok(got)
            }
            Framing::Chunk(0, which) => {
                self.framing = match self.next_chunk(which)? {
                    0 => Framing::Done,
                    size => Framing::Chunk(size, Chunk::Later),
                };
                self.read(buffer)
            }
            Framing::Chunk(left, which) => {
                let got = self.some(buffer, left)?;
                self.framing = Framing::Chunk(left - got as u64, which);
                Ok(got)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)] // A test that panics has failed.

    use super::*;

    fn response(bytes: &[u8]) -> io::Result<(u16, Vec<u8>)> {
        let response = Response::read(bytes)?;
        let mut body = Vec::new();
        let (status, mut reader) = (response.status, response.body);
        reader.read_to_end(&mut body)?;
        Ok((status, body))
    }

    #[test]
    fn a_body_ends_where_its_framing_says() {
        let good: [(&[u8], u16, &[u8]); 6] = [
            (b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ntruemore", 200, b"true"),
            (b"HTTP/1.1 204 No Content\r\n\r\nrest", 204, b""),
            (b"HTTP/1.1 404 Not Found\r\n\r\nto the end", 404, b"to the end"),
            (
                b"HTTP/1.1 200 OK\r\ntransfer-encoding: Chunked\r\n\r\n3\r\nabc\r\n0A;x=y\r\n0123456789\r\n0\r\nT: 1\r\n\r\nrest",
                200,
                b"abc0123456789",
            ),
            (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx", 200, b"x"),
            (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 99\r\n\r\n0\r\n\r\n", 200, b""),
        ];
        for (bytes, status, body) in good {
            let (found, read) = response(bytes).unwrap();
            assert_eq!((found, read.as_slice()), (status, body));
        }
    }

    #[test]
    fn what_breaks_off_or_is_not_http_is_an_error() {
        let bad: [&[u8]; 8] = [
            b"",
            b"hello\r\n\r\n",
            b"HTTP/1.1 xyz\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\ntrue",
            b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nabc\r\n0\r\n\r\n",
        ];
        for bytes in bad {
            assert!(response(bytes).is_err(), "{}", String::from_utf8_lossy(bytes));
        }
        let long = format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\n", "x".repeat(MAX_LINE));
        assert!(response(long.as_bytes()).is_err());
        let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "X: y\r\n".repeat(MAX_LINES + 1));
        assert!(response(many.as_bytes()).is_err());
    }

    #[test]
    fn a_request_has_its_length_and_its_credentials() {
        let address = Address {
            port: 4096,
            authorization: "Basic abc".into(),
        };
        let written = |method: &str, body: Option<&[u8]>| {
            let mut bytes = Vec::new();
            request(&mut bytes, &address, method, "/session", body).unwrap();
            String::from_utf8(bytes).unwrap()
        };
        let head =
            "/session HTTP/1.1\r\nHost: 127.0.0.1:4096\r\nAuthorization: Basic abc\r\nConnection: close\r\n";
        assert_eq!(written("GET", None), format!("GET {head}\r\n"));
        assert_eq!(
            written("POST", None),
            format!("POST {head}Content-Length: 0\r\n\r\n")
        );
        assert_eq!(
            written("POST", Some(b"{}")),
            format!("POST {head}Content-Type: application/json\r\nContent-Length: 2\r\n\r\n{{}}")
        );
    }
}
