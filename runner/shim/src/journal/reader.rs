//! Reads a journal in order, also while it is being written.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::format::check;
use super::{JournalError, Position, Record, RecordError, segments};

/// How much is read at once: little enough that clearing it first costs nothing beside the read.
const CHUNK: usize = 32 << 10;

/// What the buffer holds of the next record.
enum Buffered {
    /// All of it, this many bytes.
    Whole(usize),
    /// Less than this many bytes.
    Needs(usize),
}

/// A cursor into a journal. It needs no lock: records never change once they are whole.
///
/// [`Reader::next`] answers `None` at the end and may be called again when the journal has grown.
#[derive(Debug)]
pub struct Reader {
    dir: PathBuf,
    /// The open segment; `None` when the first record of the journal was not written yet.
    file: Option<File>,
    segment: u64,
    /// Offset in the segment of `buffer[start]`.
    offset: u64,
    buffer: Vec<u8>,
    start: usize,
    next_seq: u64,
}

impl Reader {
    /// Starts at record `seq` (0 counts as 1), which must exist or be the next one to be written.
    pub fn from_seq(dir: &Path, seq: u64) -> Result<Self, JournalError> {
        let seq = seq.max(1);
        let segments = segments::list(dir)?;
        let Some(&segment) = segments.iter().rev().find(|&&first| first <= seq) else {
            return match segments.first() {
                Some(&first) => Err(JournalError::Pruned { wanted: seq, first }),
                None if seq == 1 => Ok(Self::at_segment(dir, None, 1)),
                None => Err(JournalError::Ahead { wanted: seq, next: 1 }),
            };
        };
        let mut reader = Self::at_segment(dir, segments::open(dir, segment)?, segment);
        while reader.next_seq < seq {
            if reader.next()?.is_none() {
                return Err(JournalError::Ahead {
                    wanted: seq,
                    next: reader.next_seq,
                });
            }
        }
        Ok(reader)
    }

    /// Starts at the oldest record that was not pruned.
    pub fn oldest(dir: &Path) -> Result<Self, JournalError> {
        let first = segments::list(dir)?.first().copied().unwrap_or(1);
        Self::from_seq(dir, first)
    }

    /// Starts at a position that a writer or reader gave out.
    pub fn from_position(dir: &Path, position: Position) -> Result<Self, JournalError> {
        let Position { seq, segment, offset } = position;
        let Some(file) = segments::open(dir, segment)? else {
            let first = segments::list(dir)?.first().copied().unwrap_or(1);
            return Err(JournalError::Pruned { wanted: seq, first });
        };
        Ok(Self {
            offset,
            next_seq: seq,
            ..Self::at_segment(dir, Some(file), segment)
        })
    }

    fn at_segment(dir: &Path, file: Option<File>, segment: u64) -> Self {
        let dir = dir.to_owned();
        Self {
            dir,
            file,
            segment,
            offset: 0,
            buffer: Vec::new(),
            start: 0,
            next_seq: segment,
        }
    }

    /// Number of the record that [`Reader::next`] will answer.
    pub fn next_seq(&self) -> u64 {
        self.next_seq
    }

    /// Where the next record starts.
    pub fn position(&self) -> Position {
        Position {
            seq: self.next_seq,
            segment: self.segment,
            offset: self.offset,
        }
    }

    /// The next record; `None` at the end, for now. An incomplete record at the end counts as not written.
    #[expect(clippy::should_implement_trait, reason = "a record borrows from the reader")]
    pub fn next(&mut self) -> Result<Option<Record<'_>>, JournalError> {
        loop {
            match self.buffered()? {
                Buffered::Whole(length) => return Ok(self.take(length)),
                Buffered::Needs(need) => {
                    if !self.fill(need)? && !self.advance()? {
                        return Ok(None);
                    }
                }
            }
        }
    }

    fn buffered(&self) -> Result<Buffered, JournalError> {
        let bytes = &self.buffer[self.start..];
        match check(bytes) {
            Ok((length, seq)) if seq == self.next_seq => Ok(Buffered::Whole(length)),
            Ok(_) => Err(self.corrupt("its number does not follow")),
            Err(RecordError::Incomplete { need }) => Ok(Buffered::Needs(need)),
            Err(RecordError::Damaged(reason)) => Err(self.corrupt(reason)),
        }
    }

    fn take(&mut self, length: usize) -> Option<Record<'_>> {
        let from = self.start;
        self.start += length;
        self.offset += length as u64;
        self.next_seq += 1;
        Record::trusted(&self.buffer[from..from + length])
    }

    /// Reads on until `need` bytes are buffered; false when the segment ends before.
    fn fill(&mut self, need: usize) -> Result<bool, JournalError> {
        if self.file.is_none() {
            self.file = segments::open(&self.dir, self.segment)?;
        }
        let Some(file) = &self.file else { return Ok(false) };
        self.buffer.drain(..self.start);
        self.start = 0;
        let mut have = self.buffer.len();
        self.buffer.resize(need.max(CHUNK), 0);
        let result = loop {
            match file.read_at(&mut self.buffer[have..], self.offset + have as u64) {
                Ok(0) => break Ok(false),
                Ok(count) => have += count,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(source) => break Err(source),
            }
            if have >= need {
                break Ok(true);
            }
        };
        self.buffer.truncate(have);
        result.map_err(|source| JournalError::Io {
            doing: "read",
            path: segments::path(&self.dir, self.segment),
            source,
        })
    }

    /// Goes to the next segment; false when this one is the last, or has grown meanwhile.
    fn advance(&mut self) -> Result<bool, JournalError> {
        if self.buffer.is_empty()
            && self.next_seq != self.segment
            && let Some(file) = segments::open(&self.dir, self.next_seq)?
        {
            self.file = Some(file);
            self.segment = self.next_seq;
            self.offset = 0;
            return Ok(true);
        }
        // A later segment than the one that should follow: something is missing, unless the writer went on
        // in this segment and rotated since it was read.
        let later = segments::list(&self.dir)?
            .last()
            .is_some_and(|&last| last > self.next_seq);
        if later && !self.grew()? {
            return Err(self.corrupt("records are missing here"));
        }
        Ok(false)
    }

    fn grew(&self) -> Result<bool, JournalError> {
        let Some(file) = &self.file else { return Ok(false) };
        let size = file.metadata().map(|meta| meta.len());
        let size = size.map_err(|source| JournalError::Io {
            doing: "inspect",
            path: segments::path(&self.dir, self.segment),
            source,
        })?;
        Ok(size > self.offset + self.buffer.len() as u64)
    }

    fn corrupt(&self, reason: &'static str) -> JournalError {
        JournalError::Corrupt {
            segment: self.segment,
            offset: self.offset,
            seq: self.next_seq,
            reason,
        }
    }
}
