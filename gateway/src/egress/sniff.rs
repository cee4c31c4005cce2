//! One socket, three protocols: what the first bytes of a guest's connection are.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::net::UnixStream;

use super::socks;

/// Longest method of a request.
const MAX_METHOD: usize = 32;
/// Where guests find the models; a client that sends even this through its proxy is served all the same.
const OWN_ADDRESSES: [&[u8]; 2] = [b"http://127.0.0.1:8377/", b"http://localhost:8377/"];
/// Bytes read at once.
const READ: usize = 16 << 10;
/// A connection that says nothing is closed after this.
const SILENT: Duration = Duration::from_mins(5);
/// From the first byte until it shows what the connection speaks.
const BEGUN: Duration = Duration::from_secs(10);

/// What a guest speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Spoken {
    /// Requests for models.
    Models,
    /// `CONNECT`, or a request with a whole URL.
    Proxy,
    Socks,
}

/// A guest's connection with what was read of it and not yet used.
#[derive(Debug)]
pub(crate) struct Guest {
    pub(crate) stream: UnixStream,
    pub(crate) buffer: Vec<u8>,
}

impl Guest {
    pub(crate) fn new(stream: UnixStream) -> Self {
        Self {
            stream,
            buffer: Vec::new(),
        }
    }

    /// Reads what is there; 0 at the end.
    pub(crate) async fn fill(&mut self) -> io::Result<usize> {
        self.buffer.reserve(READ);
        self.stream.read_buf(&mut self.buffer).await
    }

    /// What the connection speaks; `None` where it ends, or stays silent, before that shows.
    pub(crate) async fn sniff(&mut self) -> Option<Spoken> {
        let deadline = tokio::time::Instant::now() + SILENT;
        let mut late = None;
        loop {
            if let Some(spoken) = spoken(&self.buffer) {
                return Some(spoken);
            }
            match tokio::time::timeout_at(late.unwrap_or(deadline), self.fill()).await {
                Ok(Ok(1..)) => late = late.or_else(|| Some(tokio::time::Instant::now() + BEGUN)),
                // What trickles is told so by the server for models.
                Err(_) if late.is_some() => return Some(Spoken::Models),
                // What has begun and ends here gets its answer from the server for models.
                Ok(Ok(0)) if !self.buffer.is_empty() => return Some(Spoken::Models),
                _ => return None,
            }
        }
    }
}

/// What begins like this; `None` while it is open.
fn spoken(bytes: &[u8]) -> Option<Spoken> {
    match bytes {
        [] => return None,
        [socks::VERSION, ..] => return Some(Spoken::Socks),
        _ => {}
    }
    let Some(space) = bytes.iter().take(MAX_METHOD + 1).position(|byte| *byte == b' ') else {
        // The server for models says what is wrong with it.
        let is_method = bytes.iter().all(u8::is_ascii_alphabetic) && bytes.len() <= MAX_METHOD;
        return if is_method { None } else { Some(Spoken::Models) };
    };
    let (method, target) = (&bytes[..space], &bytes[space + 1..]);
    if method == b"CONNECT" {
        return Some(Spoken::Proxy);
    }
    match target.first() {
        None => return None,
        Some(b'h' | b'H') => {}
        Some(byte) if byte.is_ascii_alphabetic() => return Some(Spoken::Proxy),
        Some(_) => return Some(Spoken::Models),
    }
    let mut open = false;
    for own in OWN_ADDRESSES {
        let length = target.len().min(own.len());
        let same = target[..length].eq_ignore_ascii_case(&own[..length]);
        if same && length == own.len() {
            return Some(Spoken::Models);
        }
        open |= same;
    }
    if open { None } else { Some(Spoken::Proxy) }
}

/// A stream of which some bytes were read before.
#[derive(Debug)]
pub(crate) struct Rewound {
    stream: UnixStream,
    before: Vec<u8>,
    at: usize,
}

impl Rewound {
    /// What lies below.
    pub(crate) fn stream(&self) -> &UnixStream {
        &self.stream
    }
}

impl From<Guest> for Rewound {
    fn from(guest: Guest) -> Self {
        Self {
            stream: guest.stream,
            before: guest.buffer,
            at: 0,
        }
    }
}

impl AsyncRead for Rewound {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let rest = &self.before[self.at..];
        if rest.is_empty() {
            return Pin::new(&mut self.stream).poll_read(cx, buf);
        }
        let count = rest.len().min(buf.remaining());
        buf.put_slice(&rest[..count]);
        self.at += count;
        if self.at == self.before.len() {
            self.before = Vec::new();
            self.at = 0;
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Rewound {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_bytes_tell() {
        for (bytes, wanted) in [
            (b"".as_slice(), None),
            (b"\x05", Some(Spoken::Socks)),
            (b"CONN", None),
            (b"CONNECT ", Some(Spoken::Proxy)),
            (b"CONNECT a:1", Some(Spoken::Proxy)),
            (b"POST ", None),
            (b"POST /demo/v1", Some(Spoken::Models)),
            (b"OPTIONS *", Some(Spoken::Models)),
            (b"GET http://a.example/", Some(Spoken::Proxy)),
            (b"GET https://a.example/", Some(Spoken::Proxy)),
            (b"GET ftp://a.example/", Some(Spoken::Proxy)),
            (b"GET http://127.0.0.1:83", None),
            (b"GET http://127.0.0.1:8377/demo/v1/models", Some(Spoken::Models)),
            (b"GET HTTP://LOCALHOST:8377/demo", Some(Spoken::Models)),
            (b"GET http://127.0.0.1:8377.evil.com/", Some(Spoken::Proxy)),
            (b"GET http://127.0.0.1:9/", Some(Spoken::Proxy)),
            (b"\x16\x03\x01", Some(Spoken::Models)),
            (b"\r\n", Some(Spoken::Models)),
            (&[b'A'; 40], Some(Spoken::Models)),
        ] {
            assert_eq!(spoken(bytes), wanted, "{:?}", String::from_utf8_lossy(bytes));
        }
    }
}
