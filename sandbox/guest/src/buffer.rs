//! A byte queue between a reader and a writer that may both stop at any byte.

use std::io::{self, ErrorKind, Read, Write};

#[derive(Debug, Default)]
pub(crate) struct Buffer {
    data: Vec<u8>,
    start: usize,
}

/// What a read found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fill {
    Some,
    Nothing,
    End,
}

impl Buffer {
    pub(crate) fn len(&self) -> usize {
        self.data.len() - self.start
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.tail().extend_from_slice(bytes);
    }

    /// What waits.
    pub(crate) fn waiting(&self) -> &[u8] {
        &self.data[self.start..]
    }

    /// Drops the first `count` bytes.
    pub(crate) fn consume(&mut self, count: usize) {
        self.start += count.min(self.len());
    }

    pub(crate) fn clear(&mut self) {
        self.data = Vec::new();
        self.start = 0;
    }

    /// The vector to append to, after what was consumed has been dropped.
    pub(crate) fn tail(&mut self) -> &mut Vec<u8> {
        self.data.drain(..self.start);
        self.start = 0;
        &mut self.data
    }

    /// Writes until empty or until the writer would block.
    pub(crate) fn write_to(&mut self, writer: &mut impl Write) -> io::Result<()> {
        while !self.is_empty() {
            match writer.write(&self.data[self.start..]) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(written) => self.start += written,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        self.data.clear();
        self.start = 0;
        Ok(())
    }

    /// Reads once, at most `limit` bytes.
    pub(crate) fn read_from(&mut self, reader: &mut impl Read, limit: usize) -> io::Result<Fill> {
        let tail = self.tail();
        let before = tail.len();
        tail.resize(before + limit, 0);
        let read = read_once(reader, &mut tail[before..]);
        let got = read.as_ref().map_or(0, |got| got.unwrap_or(0));
        tail.truncate(before + got);
        Ok(match read? {
            None => Fill::Nothing,
            Some(0) => Fill::End,
            Some(_) => Fill::Some,
        })
    }
}

/// Reads once from a non-blocking reader; `None` when it has nothing now.
pub(crate) fn read_once(reader: &mut impl Read, into: &mut [u8]) -> io::Result<Option<usize>> {
    loop {
        match reader.read(into) {
            Ok(got) => return Ok(Some(got)),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
            Err(error) => return Err(error),
        }
    }
}
