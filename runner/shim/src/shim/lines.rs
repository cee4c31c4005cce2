//! Splits a stream into lines.

use memchr::memchr;

/// Longest line that is kept whole, in bytes without the newline.
pub const MAX_LINE: usize = 16 << 20;
/// What is kept of a longer one, in bytes.
pub const HEAD: usize = 4096;

/// One line, without its newline; a carriage return stays.
#[derive(Debug, PartialEq, Eq)]
pub enum Line<'a> {
    Whole(&'a [u8]),
    /// The stream ended without a newline after these bytes.
    Unterminated(&'a [u8]),
    /// Longer than [`MAX_LINE`]: its beginning and its length.
    Oversize {
        head: &'a [u8],
        length: u64,
    },
}

/// A stream cut into lines, whatever chunks it arrives in. Keeps at most [`MAX_LINE`] bytes.
#[derive(Debug)]
pub struct Lines {
    pending: Vec<u8>,
    /// Length of the current line once it is too long; only its head is kept then.
    oversize: Option<u64>,
    max: usize,
}

impl Default for Lines {
    fn default() -> Self {
        Self::with_max(MAX_LINE)
    }
}

impl Lines {
    /// With another limit than [`MAX_LINE`].
    pub fn with_max(max: usize) -> Self {
        Self {
            pending: Vec::new(),
            oversize: None,
            max,
        }
    }

    /// Takes a chunk and hands out every line that it completes.
    pub fn push<E>(
        &mut self,
        mut chunk: &[u8],
        mut emit: impl FnMut(Line<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        while let Some(end) = memchr(b'\n', chunk) {
            let (line, rest) = (&chunk[..end], &chunk[end + 1..]);
            if self.pending.is_empty() && self.oversize.is_none() && line.len() <= self.max {
                // The usual case costs no copy.
                emit(Line::Whole(line))?;
            } else {
                self.keep(line);
                self.emit_pending(false, &mut emit)?;
            }
            chunk = rest;
        }
        self.keep(chunk);
        Ok(())
    }

    /// The stream ended: hands out what has no newline, if anything.
    pub fn finish<E>(&mut self, mut emit: impl FnMut(Line<'_>) -> Result<(), E>) -> Result<(), E> {
        if self.pending.is_empty() && self.oversize.is_none() {
            return Ok(());
        }
        self.emit_pending(true, &mut emit)
    }

    fn keep(&mut self, bytes: &[u8]) {
        let length = self.oversize.unwrap_or(self.pending.len() as u64) + bytes.len() as u64;
        if self.oversize.is_none() && length <= self.max as u64 {
            self.pending.extend_from_slice(bytes);
            return;
        }
        let room = HEAD.saturating_sub(self.pending.len()).min(bytes.len());
        self.pending.extend_from_slice(&bytes[..room]);
        self.pending.truncate(HEAD);
        self.pending.shrink_to(HEAD);
        self.oversize = Some(length);
    }

    fn emit_pending<E>(
        &mut self,
        ended: bool,
        emit: &mut impl FnMut(Line<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let result = emit(match self.oversize.take() {
            Some(length) => Line::Oversize {
                head: &self.pending,
                length,
            },
            None if ended => Line::Unterminated(&self.pending),
            None => Line::Whole(&self.pending),
        });
        self.pending.clear();
        self.pending.shrink_to(1 << 20);
        result
    }
}
