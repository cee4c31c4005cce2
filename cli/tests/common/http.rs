//! HTTP/1.1 as bytes: what went over a connection, cut into messages. Header values and bodies stay as they are.

use std::collections::VecDeque;

/// A request or a response.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Message {
    /// The first line.
    pub line: String,
    /// Names in lower case (their case means nothing), in the order in which they came.
    pub headers: Vec<(String, String)>,
    /// Without the frames of a chunked one.
    pub body: Vec<u8>,
}

/// What ends a message without a length.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Body {
    /// Nothing: there is none.
    None,
    /// The end of the connection.
    UntilClose,
}

impl Message {
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(key, _)| key == name);
        found.map(|(_, value)| value.as_str())
    }

    /// The method and the target of a request.
    pub fn request(&self) -> (&str, &str) {
        let mut words = self.line.split(' ');
        (words.next().unwrap_or_default(), words.next().unwrap_or_default())
    }

    /// Takes one message from the front of the bytes; none where it is not whole.
    pub fn take(bytes: &mut &[u8], body: Body, closed: bool) -> Option<Self> {
        let head = find(bytes, b"\r\n\r\n")?;
        let text = String::from_utf8_lossy(&bytes[..head]).into_owned();
        let mut lines = text.split("\r\n");
        let line = lines.next()?.to_owned();
        let header = |line: &str| {
            let (name, value) = line.split_once(':')?;
            Some((name.to_lowercase(), value.trim().to_owned()))
        };
        let mut message = Self {
            line,
            headers: lines.filter_map(header).collect(),
            body: Vec::new(),
        };
        let mut rest = &bytes[head + 4..];
        let is_chunked = |value: &str| value.eq_ignore_ascii_case("chunked");
        if message.header("transfer-encoding").is_some_and(is_chunked) {
            message.body = unchunk(&mut rest)?;
        } else if let Some(length) = message.header("content-length") {
            let length = length.parse().expect("a length");
            message.body = rest.get(..length)?.to_vec();
            rest = &rest[length..];
        } else if body == Body::UntilClose {
            if !closed {
                return None;
            }
            message.body = rest.to_vec();
            rest = &[];
        }
        *bytes = rest;
        Some(message)
    }
}

/// A request with its answer, where that came whole.
#[derive(Clone, Debug)]
pub struct Exchange {
    pub request: Message,
    pub response: Option<Message>,
}

/// The exchanges of one connection.
pub fn exchanges(mut sent: &[u8], mut answered: &[u8]) -> Vec<Exchange> {
    let mut requests = VecDeque::new();
    while let Some(request) = Message::take(&mut sent, Body::None, true) {
        requests.push_back(request);
    }
    let pair = |request: Message| {
        let response = loop {
            let response = answer_to(&request, &mut answered);
            // `100 Continue` and its like come before the answer.
            if !response
                .as_ref()
                .is_some_and(|found| found.line.contains(" 100 "))
            {
                break response;
            }
        };
        Exchange { request, response }
    };
    requests.into_iter().map(pair).collect()
}

fn answer_to(request: &Message, answered: &mut &[u8]) -> Option<Message> {
    if request.request().0 == "HEAD" {
        // Whatever its headers say of a body.
        let head = find(answered, b"\r\n\r\n")?;
        let mut only = &b"HTTP/1.1 200 OK\r\n\r\n"[..];
        *answered = &answered[head + 4..];
        return Message::take(&mut only, Body::None, true);
    }
    Message::take(answered, Body::UntilClose, true)
}

fn unchunk(bytes: &mut &[u8]) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let line = find(bytes, b"\r\n")?;
        let size = std::str::from_utf8(&bytes[..line]).expect("a chunk's size");
        let size = usize::from_str_radix(size.split(';').next().unwrap_or_default().trim(), 16);
        let size = size.expect("a chunk's size");
        let rest = &bytes[line + 2..];
        body.extend_from_slice(rest.get(..size)?);
        *bytes = rest.get(size + 2..)?;
        if size == 0 {
            return Some(body);
        }
    }
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}
