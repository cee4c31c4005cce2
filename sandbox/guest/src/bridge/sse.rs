//! Server-sent events: the data of one event after another.

use std::io::{self, BufRead};

use super::lines::{self, Line};

/// The data of an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Event {
    Data(Vec<u8>),
    /// It had more bytes than are taken, and was skipped.
    Oversize,
}

/// Reads events from a body.
#[derive(Debug)]
pub(super) struct Events<R> {
    reader: R,
    limit: usize,
}

impl<R: BufRead> Events<R> {
    /// Events with more than `limit` bytes of data are skipped.
    pub(super) const fn new(reader: R, limit: usize) -> Self {
        Self { reader, limit }
    }

    /// The next event; `None` at the end of the stream. One that breaks off is none.
    pub(super) fn next(&mut self) -> io::Result<Option<Event>> {
        let mut data: Option<Vec<u8>> = None;
        let mut oversize = false;
        let mut line = Vec::new();
        loop {
            // Some room for the name of the field.
            match lines::read(&mut self.reader, self.limit + 16, &mut line)? {
                Line::End => return Ok(None),
                Line::Oversize => {
                    oversize = true;
                    continue;
                }
                Line::Whole => {}
            }
            if line.last() == Some(&b'\r') {
                line.pop();
            }
            if line.is_empty() {
                match (oversize, data.take()) {
                    (true, _) => return Ok(Some(Event::Oversize)),
                    (false, Some(data)) => return Ok(Some(Event::Data(data))),
                    (false, None) => continue,
                }
            }
            // Comments, names and ids of events mean nothing here.
            let Some(value) = line.strip_prefix(b"data:") else {
                continue;
            };
            let value = value.strip_prefix(b" ").unwrap_or(value);
            let joined = data.get_or_insert_default();
            if !joined.is_empty() {
                joined.push(b'\n');
            }
            if joined.len() + value.len() > self.limit {
                oversize = true;
            } else {
                joined.extend_from_slice(value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)] // A test that panics has failed.

    use super::*;

    fn events(text: &str, limit: usize) -> Vec<Event> {
        let mut events = Events::new(text.as_bytes(), limit);
        std::iter::from_fn(|| events.next().unwrap()).collect()
    }

    fn data(text: &str) -> Event {
        Event::Data(text.as_bytes().to_vec())
    }

    #[test]
    fn events_are_what_empty_lines_part() {
        let text =
            ": hello\n\nid: 7\nevent: x\ndata: {\"a\":1}\n\ndata:{\r\ndata: }\r\n\r\nretry: 5\n\ndata: \n\n";
        assert_eq!(events(text, 100), [data("{\"a\":1}"), data("{\n}"), data("")]);
        assert_eq!(events("data: whole\n\ndata: cut", 100), [data("whole")]);
        assert_eq!(events("", 100), []);
    }

    #[test]
    fn what_is_too_long_is_skipped_and_said() {
        let long = "x".repeat(200);
        let text = format!("data: a\n\ndata: {long}\n\ndata: 123456\ndata: 789012\n\ndata: b\n\n");
        assert_eq!(
            events(&text, 10),
            [data("a"), Event::Oversize, Event::Oversize, data("b")]
        );
    }
}
