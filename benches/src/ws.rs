//! The client's side of a WebSocket, as little of it as a load client needs.

use crate::http::{self, Request};
use anyhow::ensure;
use std::net::{SocketAddr, TcpStream};

/// Opens a WebSocket.
pub fn connect(address: SocketAddr, path: &str, headers: &[(&str, &str)]) -> anyhow::Result<TcpStream> {
    let mut all = vec![
        ("Connection", "Upgrade"),
        ("Upgrade", "websocket"),
        ("Sec-WebSocket-Version", "13"),
        ("Sec-WebSocket-Key", "bG9kZ2UtYmVuY2gtMDAwMQ=="),
    ];
    all.extend_from_slice(headers);
    let mut stream = http::open(address, &Request::get(path).with(&all))?;
    let (status, head) = http::read_head(&mut stream)?;
    ensure!(status == 101, "no WebSocket at {path}: {head:.300}");
    Ok(stream)
}

const TEXT: u8 = 1;
const PING: u8 = 9;
const PONG: u8 = 10;

/// A client's text frame. The mask is zero: it protects proxies, and there is none here.
pub fn text(payload: &[u8]) -> Vec<u8> {
    frame(TEXT, payload)
}

pub fn pong(payload: &[u8]) -> Vec<u8> {
    frame(PONG, payload)
}

fn frame(opcode: u8, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(payload.len() + 14);
    out.push(0x80 | opcode);
    match (u8::try_from(payload.len()), u16::try_from(payload.len())) {
        (Ok(short), _) if short < 126 => out.push(0x80 | short),
        (_, Ok(medium)) => {
            out.push(0x80 | 0x7e);
            out.extend_from_slice(&medium.to_be_bytes());
        }
        _ => {
            out.push(0x80 | 0x7f);
            out.extend_from_slice(&(payload.len() as u64).to_be_bytes());
        }
    }
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(payload);
    out
}

/// What a frame of the server is.
#[derive(Debug, PartialEq, Eq)]
pub enum Frame<'a> {
    /// A whole text, or a part of one (`last` false).
    Text {
        part: &'a [u8],
        last: bool,
    },
    Ping(&'a [u8]),
    Close,
    Other,
}

/// The first frame of `bytes` and its length on the wire; `None` while it is not whole.
pub fn parse(bytes: &[u8]) -> Option<(Frame<'_>, usize)> {
    let (&first, &second) = (bytes.first()?, bytes.get(1)?);
    let (length, start) = match second & 0x7f {
        126 => (
            usize::from(u16::from_be_bytes(*bytes.get(2..)?.first_chunk()?)),
            4,
        ),
        127 => (
            usize::try_from(u64::from_be_bytes(*bytes.get(2..)?.first_chunk()?)).ok()?,
            10,
        ),
        short => (usize::from(short), 2),
    };
    let payload = bytes.get(start..start + length)?;
    let frame = match first & 0x0f {
        0..=2 => Frame::Text {
            part: payload,
            last: first & 0x80 != 0,
        },
        8 => Frame::Close,
        PING => Frame::Ping(payload),
        _ => Frame::Other,
    };
    Some((frame, start + length))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_read_when_they_are_whole() {
        let long = vec![b'x'; 300];
        let mut bytes = vec![0x81, 126, 1, 44];
        bytes.extend_from_slice(&long);
        assert_eq!(parse(&bytes[..303]), None);
        assert_eq!(
            parse(&bytes),
            Some((
                Frame::Text {
                    part: &long,
                    last: true
                },
                304
            ))
        );
        assert_eq!(
            parse(&[0x01, 1, b'a']),
            Some((
                Frame::Text {
                    part: b"a",
                    last: false
                },
                3
            ))
        );
        assert_eq!(parse(&[0x89, 0]), Some((Frame::Ping(b""), 2)));
    }

    #[test]
    fn our_frames_are_masked_and_say_their_length() {
        assert_eq!(text(b"ab"), [0x81, 0x82, 0, 0, 0, 0, b'a', b'b']);
        assert_eq!(text(&[b'x'; 200])[..4], [0x81, 0xfe, 0, 200]);
    }
}
