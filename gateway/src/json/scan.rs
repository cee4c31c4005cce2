//! Finding the ends of values without reading them.

use std::ops::Range;

use super::NoObject;

/// Walks over bytes; never beyond their end, and never deeper than one level of calls.
pub(super) struct Scanner<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Scanner<'a> {
    pub(super) fn new(bytes: &'a [u8], at: usize) -> Self {
        Self { bytes, at }
    }

    pub(super) fn at(&self) -> usize {
        self.at
    }

    pub(super) fn slice(&self, range: Range<usize>) -> &'a [u8] {
        &self.bytes[range]
    }

    fn skip_space(&mut self) {
        while self
            .bytes
            .get(self.at)
            .is_some_and(|byte| matches!(byte, b' ' | b'\t' | b'\n' | b'\r'))
        {
            self.at += 1;
        }
    }

    /// Takes this byte where it is next, white space before it included.
    pub(super) fn accept(&mut self, byte: u8) -> bool {
        let start = self.at;
        self.skip_space();
        let found = self.bytes.get(self.at) == Some(&byte);
        self.at = if found { self.at + 1 } else { start };
        found
    }

    pub(super) fn expect(&mut self, byte: u8) -> Result<(), NoObject> {
        if self.accept(byte) { Ok(()) } else { Err(NoObject) }
    }

    /// A string with its quotes.
    pub(super) fn string(&mut self) -> Result<Range<usize>, NoObject> {
        self.skip_space();
        let start = self.at;
        self.expect(b'"')?;
        self.skip_string()?;
        Ok(start..self.at)
    }

    /// To the end of a string of which the first quote is behind.
    fn skip_string(&mut self) -> Result<(), NoObject> {
        loop {
            let rest = self.bytes.get(self.at..).ok_or(NoObject)?;
            let next = memchr::memchr2(b'"', b'\\', rest).ok_or(NoObject)?;
            self.at += next + 1;
            if rest[next] == b'"' {
                return Ok(());
            }
            self.at += 1;
        }
    }

    /// Any value, without the white space around it.
    pub(super) fn value(&mut self) -> Result<Range<usize>, NoObject> {
        self.skip_space();
        let start = self.at;
        match self.bytes.get(start).ok_or(NoObject)? {
            b'"' => return self.string(),
            b'{' | b'[' => self.skip_nested()?,
            _ => {
                let ends = |byte: &u8| matches!(byte, b',' | b'}' | b']' | b' ' | b'\t' | b'\n' | b'\r');
                let rest = &self.bytes[start..];
                self.at += rest.iter().position(ends).unwrap_or(rest.len());
            }
        }
        if self.at == start {
            Err(NoObject)
        } else {
            Ok(start..self.at)
        }
    }

    fn skip_nested(&mut self) -> Result<(), NoObject> {
        let mut depth = 0_usize;
        loop {
            let byte = self.bytes.get(self.at).ok_or(NoObject)?;
            self.at += 1;
            match byte {
                b'{' | b'[' => depth += 1,
                b'}' | b']' => depth -= 1,
                b'"' => self.skip_string()?,
                _ => {}
            }
            if depth == 0 {
                return Ok(());
            }
        }
    }
}
