//! Lines of the bridge, both ways, each a JSON object.

use std::borrow::Cow;
use std::io::{self, BufRead, Write};

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;

use super::sse::Event;

/// The event stream stands.
pub(super) const CONNECTED: &[u8] = b"{\"type\":\"stream\",\"state\":\"connected\"}";
/// The event stream ended; it is opened again.
pub(super) const LOST: &[u8] = b"{\"type\":\"stream\",\"state\":\"lost\"}";

/// What was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Line {
    Whole,
    /// It was longer than allowed, and was skipped.
    Oversize,
    /// Nothing is left.
    End,
}

/// Reads one line of at most `limit` bytes, without its line feed.
pub(super) fn read(reader: &mut impl BufRead, limit: usize, line: &mut Vec<u8>) -> io::Result<Line> {
    line.clear();
    let mut oversize = false;
    let mut some = false;
    loop {
        let chunk = match reader.fill_buf() {
            Ok(chunk) => chunk,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        if chunk.is_empty() && !some {
            return Ok(Line::End);
        }
        some = true;
        let end = chunk.iter().position(|byte| *byte == b'\n');
        let found = &chunk[..end.unwrap_or(chunk.len())];
        if line.len() + found.len() > limit {
            oversize = true;
            line.clear();
        } else if !oversize {
            line.extend_from_slice(found);
        }
        let last = chunk.is_empty() || end.is_some();
        let used = end.map_or(chunk.len(), |end| end + 1);
        reader.consume(used);
        if last {
            return Ok(if oversize { Line::Oversize } else { Line::Whole });
        }
    }
}

/// A request of the other end.
#[derive(Debug, Deserialize)]
pub(super) struct Request {
    pub(super) id: String,
    pub(super) method: String,
    pub(super) path: String,
    pub(super) body: Option<Box<RawValue>>,
}

impl Request {
    /// Reads a line; says what is wrong with one that is none.
    pub(super) fn parse(line: &[u8]) -> Result<Self, String> {
        let request: Self = serde_json::from_slice(line).map_err(|error| error.to_string())?;
        if !["GET", "POST", "PUT", "PATCH", "DELETE"].contains(&request.method.as_str()) {
            return Err("the method is not known".into());
        }
        // Nothing that would end the request's first line.
        if !request.path.starts_with('/') || !request.path.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err("the path is not one".into());
        }
        Ok(request)
    }
}

/// The line of a response.
pub(super) fn response(request: &Request, status: u16, body: &[u8]) -> Vec<u8> {
    let mut line = format!(
        "{{\"type\":\"response\",\"id\":{},\"method\":{},\"path\":{},\"status\":{status},\"body\":",
        quoted(&request.id),
        quoted(&request.method),
        quoted(&request.path),
    )
    .into_bytes();
    line.extend_from_slice(&embedded(body));
    line.push(b'}');
    line
}

/// The line of a request that came to no response.
pub(super) fn failed(id: &str, error: &str) -> Vec<u8> {
    format!(
        "{{\"type\":\"response\",\"id\":{},\"status\":0,\"error\":{}}}",
        quoted(id),
        quoted(error)
    )
    .into_bytes()
}

/// The line of something that is no request.
pub(super) fn refused(reason: &str) -> Vec<u8> {
    format!("{{\"type\":\"refused\",\"error\":{}}}", quoted(reason)).into_bytes()
}

/// The line of an event.
pub(super) fn event(event: &Event) -> Vec<u8> {
    match event {
        Event::Data(data) => {
            let mut line = b"{\"type\":\"event\",\"event\":".to_vec();
            line.extend_from_slice(&embedded(data));
            line.push(b'}');
            line
        }
        Event::Oversize => b"{\"type\":\"oversize\"}".to_vec(),
    }
}

/// JSON as it is, anything else as a string, nothing as `null`. Never with a line feed.
fn embedded(bytes: &[u8]) -> Cow<'_, [u8]> {
    if bytes.is_empty() {
        return Cow::Borrowed(b"null");
    }
    if serde_json::from_slice::<IgnoredAny>(bytes).is_err() {
        return Cow::Owned(quoted(&String::from_utf8_lossy(bytes)).into_bytes());
    }
    if !bytes.iter().any(|byte| matches!(byte, b'\n' | b'\r')) {
        return Cow::Borrowed(bytes);
    }
    // Inside of strings they are escaped: these are only space.
    let spaced = bytes.iter().map(|byte| match byte {
        b'\n' | b'\r' => b' ',
        byte => *byte,
    });
    Cow::Owned(spaced.collect())
}

fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// Prints one line, whole. Where nobody reads any more, everything here is over.
pub(super) fn print(line: &[u8]) {
    let mut out = io::stdout().lock();
    let written = out
        .write_all(line)
        .and_then(|()| out.write_all(b"\n"))
        .and_then(|()| out.flush());
    if written.is_err() {
        std::process::exit(1);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)] // A test that panics has failed.

    use super::*;
    use serde_json::{Value, json};

    fn all(text: &[u8], limit: usize) -> Vec<(Line, String)> {
        let mut reader = io::BufReader::with_capacity(3, text);
        let mut line = Vec::new();
        let mut found = Vec::new();
        loop {
            let what = read(&mut reader, limit, &mut line).unwrap();
            if what == Line::End {
                return found;
            }
            found.push((what, String::from_utf8(line.clone()).unwrap()));
        }
    }

    #[test]
    fn lines_are_bounded() {
        let whole = |text: &str| (Line::Whole, text.to_owned());
        let over = (Line::Oversize, String::new());
        assert_eq!(all(b"", 5), []);
        assert_eq!(all(b"12345\n\nab", 5), [whole("12345"), whole(""), whole("ab")]);
        assert_eq!(all(b"123456\nab\n", 5), [over.clone(), whole("ab")]);
        assert_eq!(all(b"12345678901234567890", 5), [over]);
    }

    #[test]
    fn only_requests_are_taken() {
        let good = Request::parse(br#"{"id":"1","method":"POST","path":"/a?b=c","body":{"x": 1}}"#).unwrap();
        assert_eq!(good.body.unwrap().get(), r#"{"x": 1}"#);
        let bad: [&[u8]; 6] = [
            b"null",
            b"{}",
            br#"{"id":"1","method":"CONNECT","path":"/"}"#,
            br#"{"id":"1","method":"GET","path":"a"}"#,
            br#"{"id":"1","method":"GET","path":"/a b"}"#,
            br#"{"id":"1","method":"GET","path":"/a\r\nX: y"}"#,
        ];
        for line in bad {
            assert!(Request::parse(line).is_err(), "{}", String::from_utf8_lossy(line));
        }
    }

    #[test]
    fn every_line_is_one_json_object() {
        let request = Request::parse(br#"{"id":"a\"b","method":"GET","path":"/"}"#).unwrap();
        let bodies: [(&[u8], Value); 4] = [
            (b"{\n \"a\": \"b\\n\"\r\n}", json!({ "a": "b\n" })),
            (b"", Value::Null),
            (b"<html>\n</html>", json!("<html>\n</html>")),
            (b"\"cut", json!("\"cut")),
        ];
        for (body, wanted) in bodies {
            let line = response(&request, 200, body);
            assert!(!line.contains(&b'\n'));
            let line: Value = serde_json::from_slice(&line).unwrap();
            assert_eq!(line["body"], wanted);
            assert_eq!((&line["id"], &line["status"]), (&json!("a\"b"), &json!(200)));
            let line: Value = serde_json::from_slice(&event(&Event::Data(body.to_vec()))).unwrap();
            assert_eq!(line["event"], wanted);
        }
        for line in [
            failed("1", "so\nit is"),
            refused("no"),
            event(&Event::Oversize),
            CONNECTED.to_vec(),
            LOST.to_vec(),
        ] {
            assert!(!line.contains(&b'\n'));
            let line: Value = serde_json::from_slice(&line).unwrap();
            assert!(line["type"].is_string());
        }
    }
}
