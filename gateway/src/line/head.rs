//! Where in a request a connection is, by a look at the bytes that pass.

use memchr::memmem;

use crate::dialect::{self, Dialect};

/// So much of a head is kept: the first line says which dialect it is in.
const KEPT: usize = 256;

/// What has passed.
#[derive(Debug, Default)]
enum Place {
    /// Between an answer and the next request.
    #[default]
    Between,
    /// Some of the headers are there.
    Within,
    /// All headers are there, and no answer.
    Asked,
    /// Some of the answer is there.
    Answering,
    /// No requests any more: another protocol, or the end.
    Elsewhere,
}

/// What the end of a client's bytes means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AtEnd {
    /// The end of the connection, and of what is under way in it.
    Over,
    /// It may wait for an answer that has not begun.
    Waiting,
}

/// What a piece of bytes has done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// The headers are not complete.
    Open,
    /// They are, or it was nothing of them.
    Whole,
}

/// The head of the request that is under way.
#[derive(Debug, Default)]
pub(super) struct Head {
    place: Place,
    first: Vec<u8>,
    /// The last bytes: the end of the headers may be cut in two.
    tail: [u8; 3],
    /// The client speaks a version that knows interim answers.
    interim: bool,
}

impl Head {
    /// The headers have begun and not ended.
    pub(super) fn is_open(&self) -> bool {
        matches!(self.place, Place::Within)
    }

    /// Where the client closes its side now.
    pub(super) fn at_end(&self) -> AtEnd {
        match self.place {
            Place::Asked if self.interim => AtEnd::Waiting,
            _ => AtEnd::Over,
        }
    }

    pub(super) fn close(&mut self) {
        self.place = Place::Elsewhere;
    }

    /// Takes what the client sent.
    pub(super) fn read(&mut self, bytes: &[u8]) -> Step {
        // An answer may be under way while the next request comes; both together are rare, and no harm is in not timing it.
        match self.place {
            Place::Between | Place::Answering if bytes[0].is_ascii_uppercase() => {
                self.place = Place::Within;
                self.first.clear();
                self.tail = [0; 3];
            }
            Place::Within => {}
            _ => return Step::Whole,
        }
        let kept = bytes.len().min(KEPT - self.first.len());
        self.first.extend_from_slice(&bytes[..kept]);
        let few = bytes.len().min(3);
        let mut joined = [0; 6];
        joined[..3].copy_from_slice(&self.tail);
        joined[3..3 + few].copy_from_slice(&bytes[..few]);
        let ends = |bytes: &[u8]| {
            memmem::find(bytes, b"\r\n\r\n").is_some() || memmem::find(bytes, b"\n\n").is_some()
        };
        if ends(bytes) || ends(&joined[..3 + few]) {
            self.place = Place::Asked;
            let line = self.first.split(|byte| *byte == b'\n').next().unwrap_or_default();
            self.interim = line.len() == KEPT || memmem::find(line, b"HTTP/1.1").is_some();
            return Step::Whole;
        }
        let seen = [&self.tail[..], bytes].concat();
        self.tail.copy_from_slice(&seen[seen.len() - 3..]);
        Step::Open
    }

    /// Takes what the client is sent.
    pub(super) fn wrote(&mut self, bytes: &[u8]) {
        match self.place {
            Place::Asked if bytes.starts_with(b"HTTP/1.1 101") => self.place = Place::Elsewhere,
            // The body that was asked for by this is no head.
            Place::Asked if bytes.starts_with(b"HTTP/1.1 100") => {}
            Place::Asked => self.place = Place::Answering,
            _ => {}
        }
    }

    /// That of the request, as far as its first line says.
    pub(super) fn dialect(&self) -> Dialect {
        let line = self.first.split(|byte| *byte == b'\r').next().unwrap_or_default();
        let path = line.split(|byte| *byte == b' ').nth(1).unwrap_or_default();
        dialect::guess(&hyper::HeaderMap::new(), &String::from_utf8_lossy(path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ASK: &[u8] = b"POST /a/v1/messages HTTP/1.1\r\nhost: x\r\n\r\n";

    #[test]
    fn the_end_of_the_headers_is_found_wherever_they_are_cut() {
        for cut in 1..ASK.len() {
            let mut head = Head::default();
            assert_eq!(head.read(&ASK[..cut]), Step::Open, "{cut}");
            assert!(head.is_open());
            assert_eq!(head.read(&ASK[cut..]), Step::Whole, "{cut}");
            assert_eq!(
                (head.at_end(), head.dialect()),
                (AtEnd::Waiting, Dialect::Messages),
                "{cut}"
            );
        }
        let mut one_by_one = Head::default();
        let steps: Vec<Step> = ASK.chunks(1).map(|byte| one_by_one.read(byte)).collect();
        assert_eq!(steps.iter().filter(|step| **step == Step::Whole).count(), 1);
    }

    #[test]
    fn bodies_interim_answers_and_other_protocols_are_no_heads() {
        let mut head = Head::default();
        head.read(ASK);
        head.read(b"BODY without an end");
        head.wrote(b"HTTP/1.1 100 Continue\r\n\r\n");
        head.read(b"BODY");
        assert_eq!(head.at_end(), AtEnd::Waiting);
        head.wrote(b"HTTP/1.1 200 OK\r\n\r\n");
        assert!(head.at_end() == AtEnd::Over && !head.is_open());
        head.read(b"POST /");
        assert!(head.is_open());
        head.read(&ASK[6..]);
        head.wrote(b"HTTP/1.1 101 Switching Protocols\r\n\r\n");
        head.read(b"A frame");
        assert!(!head.is_open() && head.at_end() == AtEnd::Over);
        let mut old = Head::default();
        old.read(b"GET / HTTP/1.0\r\n\r\n");
        assert_eq!(old.at_end(), AtEnd::Over);
    }
}
