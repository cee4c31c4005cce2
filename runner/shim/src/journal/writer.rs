//! Appends to a journal; holds its lock.

use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::fs::{FlockOperation, flock};

use super::format::{check, intact_header};
use super::{JournalError, Kind, MAX_BODY, Position, RecordError, SEGMENT_LIMIT, encode_into, segments};

/// Rotated segments that wait for the next sync; above that the oldest is synced at once.
const MAX_UNSYNCED: usize = 4;
/// Capacity the batch buffer keeps between batches, in bytes.
const KEEP_CAPACITY: usize = 1 << 20;

/// Milliseconds since the epoch, UTC.
pub fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// What [`Writer::open`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Recovery {
    /// Bytes of a torn tail that were cut.
    pub cut: u64,
    /// Number of the last intact record, 0 for an empty journal.
    pub head_seq: u64,
    /// Highest shim generation that held the lock, 0 for none.
    pub generation: u64,
}

/// The journal's one writer. Dropping it releases the lock.
#[derive(Debug)]
pub struct Writer {
    dir: PathBuf,
    lock: File,
    file: File,
    segment: u64,
    /// Bytes of whole batches in the open segment.
    length: u64,
    limit: u64,
    next_seq: u64,
    /// Number of the last record on disk.
    head_seq: u64,
    batch: Vec<u8>,
    /// How much of the batch is on disk after a write that failed half way.
    batch_done: usize,
    rotate_to: Option<u64>,
    /// First seq of every segment, ascending; the last one is open.
    segments: VecDeque<u64>,
    /// Rotated segments that were not synced.
    unsynced: Vec<(u64, File)>,
    dir_unsynced: bool,
}

impl Writer {
    /// Takes the lock, cuts a torn tail and stands after the last record. Creates the directory (0700).
    pub fn open(dir: &Path) -> Result<(Self, Recovery), JournalError> {
        Self::open_with_limit(dir, SEGMENT_LIMIT)
    }

    /// [`Writer::open`] with another segment limit, in bytes.
    pub fn open_with_limit(dir: &Path, limit: u64) -> Result<(Self, Recovery), JournalError> {
        let created = fs::DirBuilder::new().recursive(true).mode(0o700).create(dir);
        created.map_err(|source| io_error("create", dir, source))?;
        let mut lock = take_lock(dir)?;
        let generation = read_generation(&mut lock).map_err(|e| io_error("read the lock of", dir, e))?;
        let mut segments = VecDeque::from(segments::list(dir)?);
        let segment = segments.back().copied().unwrap_or(1);
        if segments.is_empty() {
            segments.push_back(segment);
        }
        let path = segments::path(dir, segment);
        let file = open_segment(&path, false)?;
        let tail = recover(&file, segment).map_err(|error| match error {
            TailError::Io(source) => io_error("recover", &path, source),
            TailError::Corrupt { offset, seq, reason } => JournalError::Corrupt {
                segment,
                offset,
                seq,
                reason,
            },
        })?;
        let writer = Self {
            dir: dir.to_owned(),
            lock,
            file,
            segment,
            length: tail.length,
            limit,
            next_seq: tail.next_seq,
            head_seq: tail.next_seq - 1,
            batch: Vec::new(),
            batch_done: 0,
            rotate_to: None,
            segments,
            unsynced: Vec::new(),
            dir_unsynced: true,
        };
        let recovery = Recovery {
            cut: tail.cut,
            head_seq: writer.head_seq,
            generation,
        };
        Ok((writer, recovery))
    }

    /// Number of the last record on disk, 0 for none.
    pub fn head_seq(&self) -> u64 {
        self.head_seq
    }

    /// Bytes staged that [`Writer::commit`] has not written.
    pub fn staged_bytes(&self) -> usize {
        self.batch.len()
    }

    /// Number the next staged record will get.
    pub fn next_seq(&self) -> u64 {
        self.next_seq
    }

    /// Whether records are staged that [`Writer::commit`] has not written.
    pub fn has_staged(&self) -> bool {
        !self.batch.is_empty()
    }

    /// Remembers the highest shim generation, so that it is never used again even when its record is pruned.
    pub fn set_generation(&mut self, generation: u64) -> Result<(), JournalError> {
        let text = format!("{generation:020}\n");
        self.lock
            .write_all_at(text.as_bytes(), 0)
            .map_err(|source| io_error("write the lock of", &self.dir, source))
    }

    /// Adds a record to the batch; the body is `parts` one after another. Only [`Writer::commit`] writes it.
    pub fn stage(
        &mut self,
        kind: Kind,
        flags: u8,
        parts: &[&[u8]],
        time_ms: u64,
    ) -> Result<Position, JournalError> {
        let length = parts.iter().map(|part| part.len()).sum();
        if length > MAX_BODY {
            return Err(JournalError::TooLong { length });
        }
        let seq = self.next_seq;
        if self.batch.is_empty() && self.length >= self.limit {
            self.rotate_to = Some(seq);
        }
        let (segment, base) = self
            .rotate_to
            .map_or((self.segment, self.length), |first| (first, 0));
        let offset = base + self.batch.len() as u64;
        encode_into(&mut self.batch, seq, time_ms, kind, flags, parts);
        self.next_seq += 1;
        Ok(Position { seq, segment, offset })
    }

    /// Writes the batch with one `write(2)`. After an error (a full disk) it may be repeated: it goes on where
    /// it stopped, and a crash in between leaves a torn tail that the next writer cuts.
    pub fn commit(&mut self) -> Result<(), JournalError> {
        if let Some(first) = self.rotate_to {
            self.rotate(first)?;
        }
        while self.batch_done < self.batch.len() {
            let at = self.length + self.batch_done as u64;
            match self.file.write_at(&self.batch[self.batch_done..], at) {
                Ok(0) => return Err(self.write_error(io::ErrorKind::WriteZero.into())),
                Ok(count) => self.batch_done += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(source) => return Err(self.write_error(source)),
            }
        }
        self.length += self.batch.len() as u64;
        self.batch.clear();
        self.batch.shrink_to(KEEP_CAPACITY);
        self.batch_done = 0;
        self.head_seq = self.next_seq - 1;
        Ok(())
    }

    /// Stages one record and commits.
    pub fn append(
        &mut self,
        kind: Kind,
        flags: u8,
        body: &[u8],
        time_ms: u64,
    ) -> Result<Position, JournalError> {
        let position = self.stage(kind, flags, &[body], time_ms)?;
        self.commit()?;
        Ok(position)
    }

    /// Makes every committed record survive a loss of power (`fdatasync`).
    pub fn sync(&mut self) -> Result<(), JournalError> {
        for file in self.unsynced.iter().map(|(_, file)| file).chain([&self.file]) {
            file.sync_data()
                .map_err(|source| io_error("sync", &self.dir, source))?;
        }
        self.unsynced.clear();
        if self.dir_unsynced {
            let synced = File::open(&self.dir).and_then(|dir| dir.sync_all());
            synced.map_err(|source| io_error("sync", &self.dir, source))?;
            self.dir_unsynced = false;
        }
        Ok(())
    }

    /// Deletes the segments that hold only records before `before_seq`, never the last one. Answers the first
    /// seq that is left.
    pub fn prune(&mut self, before_seq: u64) -> Result<u64, JournalError> {
        while self.segments.get(1).is_some_and(|&next| next <= before_seq) {
            let path = segments::path(&self.dir, self.segments[0]);
            match fs::remove_file(&path) {
                Err(source) if source.kind() != io::ErrorKind::NotFound => {
                    return Err(io_error("delete", &path, source));
                }
                _ => self.segments.pop_front(),
            };
        }
        let first = self.segments.front().copied().unwrap_or(self.segment);
        // An open descriptor would keep the space of a deleted file.
        self.unsynced.retain(|(segment, _)| *segment >= first);
        Ok(first)
    }

    fn rotate(&mut self, first: u64) -> Result<(), JournalError> {
        let file = open_segment(&segments::path(&self.dir, first), true)?;
        let old = std::mem::replace(&mut self.file, file);
        self.unsynced.push((self.segment, old));
        self.segment = first;
        self.segments.push_back(first);
        self.length = 0;
        self.rotate_to = None;
        self.dir_unsynced = true;
        if self.unsynced.len() > MAX_UNSYNCED {
            let (_, oldest) = self.unsynced.remove(0);
            oldest
                .sync_data()
                .map_err(|source| io_error("sync", &self.dir, source))?;
        }
        Ok(())
    }

    fn write_error(&self, source: io::Error) -> JournalError {
        io_error("append to", &segments::path(&self.dir, self.segment), source)
    }
}

fn io_error(doing: &'static str, path: &Path, source: io::Error) -> JournalError {
    JournalError::Io {
        doing,
        path: path.to_owned(),
        source,
    }
}

fn take_lock(dir: &Path) -> Result<File, JournalError> {
    let path = dir.join("lock");
    let mut options = OpenOptions::new();
    let opened = options
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path);
    let lock = opened.map_err(|source| io_error("open", &path, source))?;
    match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(lock),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(JournalError::Locked { dir: dir.to_owned() }),
        Err(error) => Err(io_error("lock", &path, error.into())),
    }
}

fn read_generation(lock: &mut File) -> io::Result<u64> {
    let mut text = String::new();
    lock.take(32).read_to_string(&mut text)?;
    Ok(text.trim().parse().unwrap_or(0))
}

fn open_segment(path: &Path, new: bool) -> Result<File, JournalError> {
    let mut options = OpenOptions::new();
    options
        .read(true)
        .write(true)
        .create(true)
        .create_new(new)
        .truncate(false)
        .mode(0o600);
    options
        .open(path)
        .map_err(|source| io_error("open", path, source))
}

struct Tail {
    length: u64,
    next_seq: u64,
    cut: u64,
}

enum TailError {
    Io(io::Error),
    Corrupt {
        offset: u64,
        seq: u64,
        reason: &'static str,
    },
}

/// Walks the last segment and cuts its torn tail.
fn recover(file: &File, first: u64) -> Result<Tail, TailError> {
    let mut bytes = Vec::new();
    (&mut &*file).read_to_end(&mut bytes).map_err(TailError::Io)?;
    let (mut offset, mut seq) = (0, first);
    while offset < bytes.len() {
        let rest = &bytes[offset..];
        match check(rest) {
            Ok((length, found)) if found == seq => {
                offset += length;
                seq += 1;
                continue;
            }
            Err(RecordError::Incomplete { .. }) => {}
            Err(RecordError::Damaged(_)) if !followed_by_record(rest, seq) => {}
            Err(RecordError::Damaged(reason)) => {
                return Err(TailError::Corrupt {
                    offset: offset as u64,
                    seq,
                    reason,
                });
            }
            Ok(_) => {
                let reason = "its number does not follow";
                return Err(TailError::Corrupt {
                    offset: offset as u64,
                    seq,
                    reason,
                });
            }
        }
        file.set_len(offset as u64).map_err(TailError::Io)?;
        break;
    }
    let cut = (bytes.len() - offset) as u64;
    Ok(Tail {
        length: offset as u64,
        next_seq: seq,
        cut,
    })
}

/// Whether an intact record comes after the damaged record `seq` that `bytes` start with.
fn followed_by_record(bytes: &[u8], seq: u64) -> bool {
    let later = |rest: &[u8]| check(rest).is_ok_and(|(_, found)| found > seq);
    if let Some((_, length)) = intact_header(bytes) {
        // The header is sound, so the place of the next record is known: the body is not searched.
        return bytes.get(length..).is_some_and(later);
    }
    (1..bytes.len()).any(|at| intact_header(&bytes[at..]).is_some() && later(&bytes[at..]))
}
