//! The journal: frames of length, checksum, number and body, only ever appended to.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::record::Record;

/// Length, checksum, number.
const HEAD: usize = 16;
/// A record is a few hundred bytes; scopes and names are bounded long before.
const MAX_BODY: usize = 64 << 10;
/// A segment is replaced after this.
const SEGMENT: u64 = 16 << 20;

/// A journal that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    #[error("{}", path.display())]
    Io { path: PathBuf, source: std::io::Error },
    #[error("{} is damaged at byte {at}, with whole records after it; restore it, or move it away", path.display())]
    Damaged { path: PathBuf, at: usize },
    #[error("{} begins with record {found}, not {wanted}", path.display())]
    Gap { path: PathBuf, found: u64, wanted: u64 },
}

/// The file that is appended to.
#[derive(Debug)]
pub(super) struct Journal {
    directory: PathBuf,
    path: PathBuf,
    file: Arc<File>,
    /// Bytes that are whole records.
    length: u64,
    /// Number of the next record.
    next: u64,
    /// Number of the first record of this segment, where there are segments before it.
    old: Option<u64>,
    /// A write failed and its remains could not be taken back.
    broken: bool,
}

/// Segments before the one that is written to.
#[derive(Debug)]
pub(super) struct Old {
    directory: PathBuf,
    /// Number of the first record that is in none of them.
    pub(super) before: u64,
}

impl Old {
    /// Everything in them must be on the disk elsewhere.
    pub(super) fn remove(&self) -> Result<(), JournalError> {
        let old = segments(&self.directory)?;
        for (_, path) in old.into_iter().filter(|(first, _)| *first < self.before) {
            std::fs::remove_file(&path).map_err(|source| JournalError::Io { path, source })?;
        }
        Ok(())
    }
}

/// Records of a journal, with their numbers.
pub(super) type Numbered = Vec<(u64, Record)>;

impl Journal {
    /// Opens the journal, cuts off a torn tail, and returns the records after `applied`.
    pub(super) fn open(directory: &Path, applied: u64) -> Result<(Self, Numbered), JournalError> {
        let mut found = Vec::new();
        let mut segments = segments(directory)?;
        if segments.is_empty() {
            segments.push((applied + 1, segment_path(directory, applied + 1)));
        }
        let mut next = segments[0].0;
        if next > applied + 1 {
            return Err(JournalError::Gap {
                path: segments[0].1.clone(),
                found: next,
                wanted: applied + 1,
            });
        }
        let mut last = None;
        let old = (segments.len() > 1).then(|| segments.last().map(|(first, _)| *first));
        for (first, path) in segments {
            if first != next {
                return Err(JournalError::Gap {
                    path,
                    found: first,
                    wanted: next,
                });
            }
            let io = |source| JournalError::Io {
                path: path.clone(),
                source,
            };
            let mut options = OpenOptions::new();
            let options = options.read(true).append(true).create(true).mode(0o600);
            let file = options.open(&path).map_err(io)?;
            let bytes = std::fs::read(&path).map_err(io)?;
            let (records, length) = read(&path, &bytes, first)?;
            next = first + records.len() as u64;
            found.extend(records.into_iter().filter(|(number, _)| *number > applied));
            if length < bytes.len() {
                tracing::warn!(path = %path.display(), cut = bytes.len() - length, "the journal ends in a torn record");
                file.set_len(length as u64)
                    .and_then(|()| file.sync_all())
                    .map_err(io)?;
            }
            last = Some((path.clone(), file, length as u64));
        }
        let (path, file, length) = last.expect("there is a segment");
        if next <= applied {
            return Err(JournalError::Gap {
                path,
                found: next,
                wanted: applied + 1,
            });
        }
        let journal = Self {
            directory: directory.to_owned(),
            path,
            file: Arc::new(file),
            length,
            next,
            old: old.flatten(),
            broken: false,
        };
        sync_directory(&journal.directory)?;
        Ok((journal, found))
    }

    /// Number the next record gets.
    pub(super) fn next(&self) -> u64 {
        self.next
    }

    /// Appends records, all or none. They survive this process; the machine, after a sync of the file.
    pub(super) fn append<'a>(
        &mut self,
        records: impl ExactSizeIterator<Item = &'a Record>,
    ) -> Result<(), JournalError> {
        let count = records.len() as u64;
        let mut bytes = Vec::with_capacity(records.len() * 256);
        for (number, record) in (self.next..).zip(records) {
            encode(&mut bytes, number, record);
        }
        let written = if self.broken {
            Err(std::io::Error::other("an earlier write failed"))
        } else {
            (&*self.file).write_all(&bytes)
        };
        if let Err(source) = written {
            self.broken = self.file.set_len(self.length).is_err() || self.file.sync_data().is_err();
            return Err(JournalError::Io {
                path: self.path.clone(),
                source,
            });
        }
        self.length += bytes.len() as u64;
        self.next += count;
        Ok(())
    }

    /// Whether the segment is long enough to be replaced.
    pub(super) fn is_full(&self) -> bool {
        self.length >= SEGMENT
    }

    /// The segment's file. All before it is on the disk.
    pub(super) fn file(&self) -> Arc<File> {
        Arc::clone(&self.file)
    }

    /// Returns when all of it is on the disk.
    pub(super) fn sync(&self) -> Result<(), JournalError> {
        self.file.sync_data().map_err(|source| JournalError::Io {
            path: self.path.clone(),
            source,
        })
    }

    /// Writes elsewhere from now on.
    #[cfg(test)]
    pub(super) fn redirect(&mut self, file: File) {
        self.file = Arc::new(file);
    }

    /// Nothing is written any more: after a failed sync nobody knows what is on the disk.
    pub(super) fn give_up(&mut self) {
        self.broken = true;
    }

    /// Begins a new segment; its directory is to be synced before anything in it counts as durable. The old segments
    /// stay until they are removed.
    pub(super) fn rotate(&mut self) -> Result<PathBuf, JournalError> {
        // What a power cut tears must be the end of the journal: nothing whole may come after it.
        self.sync()?;
        let path = segment_path(&self.directory, self.next);
        let mut options = OpenOptions::new();
        let options = options.append(true).create_new(true).mode(0o600);
        let file = options.open(&path).map_err(|source| JournalError::Io {
            path: path.clone(),
            source,
        })?;
        self.file = Arc::new(file);
        self.path = path;
        self.length = 0;
        self.old = Some(self.next);
        Ok(self.directory.clone())
    }

    /// The segments before this one, if there are any.
    pub(super) fn old(&self) -> Option<Old> {
        Some(Old {
            directory: self.directory.clone(),
            before: self.old?,
        })
    }

    /// These are gone.
    pub(super) fn forgot(&mut self, old: &Old) {
        self.old = self.old.filter(|first| *first != old.before);
    }
}

/// Makes files that were created or removed in it so on the disk too.
pub(super) fn sync_directory(directory: &Path) -> Result<(), JournalError> {
    let synced = File::open(directory).and_then(|directory| directory.sync_all());
    synced.map_err(|source| JournalError::Io {
        path: directory.to_owned(),
        source,
    })
}

fn segment_path(directory: &Path, first: u64) -> PathBuf {
    directory.join(format!("{first:020}.journal"))
}

fn segments(directory: &Path) -> Result<Vec<(u64, PathBuf)>, JournalError> {
    let io = |source| JournalError::Io {
        path: directory.to_owned(),
        source,
    };
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).map_err(io)? {
        let path = entry.map_err(io)?.path();
        let name = path
            .file_name()
            .and_then(|name| name.to_str())
            .unwrap_or_default();
        if let Some(first) = name.strip_suffix(".journal").and_then(|text| text.parse().ok()) {
            found.push((first, path));
        }
    }
    found.sort();
    Ok(found)
}

fn encode(bytes: &mut Vec<u8>, number: u64, record: &Record) {
    // A record is plain data: it always has a form in JSON.
    let body = serde_json::to_vec(record).unwrap_or_default();
    let length = u32::try_from(body.len()).unwrap_or(u32::MAX);
    let number = number.to_le_bytes();
    let checksum = crc32c::crc32c_append(crc32c::crc32c(&number), &body);
    bytes.extend_from_slice(&length.to_le_bytes());
    bytes.extend_from_slice(&checksum.to_le_bytes());
    bytes.extend_from_slice(&number);
    bytes.extend_from_slice(&body);
}

/// The whole records, and where they end.
fn read(path: &Path, bytes: &[u8], first: u64) -> Result<(Numbered, usize), JournalError> {
    let mut records = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let wanted = first + records.len() as u64;
        match frame(&bytes[at..]) {
            Some((number, record, length)) if number == wanted => {
                records.push((number, record));
                at += length;
            }
            // A torn write leaves nothing whole after it; a damaged disk does.
            _ if (at + 1..bytes.len())
                .any(|later| frame(&bytes[later..]).is_some_and(|(number, ..)| number > wanted)) =>
            {
                return Err(JournalError::Damaged {
                    path: path.to_owned(),
                    at,
                });
            }
            _ => break,
        }
    }
    Ok((records, at))
}

fn frame(bytes: &[u8]) -> Option<(u64, Record, usize)> {
    let word = |at: usize| Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
    let length = usize::try_from(word(0)?)
        .ok()
        .filter(|length| *length <= MAX_BODY)?;
    let checksum = word(4)?;
    let checked = bytes.get(8..HEAD + length)?;
    if crc32c::crc32c(checked) != checksum {
        return None;
    }
    let number = u64::from_le_bytes(checked[..8].try_into().ok()?);
    let record = serde_json::from_slice(&checked[8..]).ok()?;
    Some((number, record, HEAD + length))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn void(id: u64) -> Record {
        Record::Void { id }
    }

    fn written(records: u64) -> (tempfile::TempDir, PathBuf, Vec<u8>) {
        let directory = tempfile::tempdir().unwrap();
        let (mut journal, found) = Journal::open(directory.path(), 0).unwrap();
        assert!(found.is_empty());
        for id in 0..records {
            journal.append([&void(id)].into_iter()).unwrap();
        }
        let path = segment_path(directory.path(), 1);
        let bytes = std::fs::read(&path).unwrap();
        (directory, path, bytes)
    }

    #[test]
    fn a_tail_torn_at_any_byte_is_cut_and_nothing_else() {
        let (directory, path, bytes) = written(3);
        let mut whole = 0;
        for length in 0..=bytes.len() {
            std::fs::write(&path, &bytes[..length]).unwrap();
            let (mut journal, found) = Journal::open(directory.path(), 0).unwrap();
            assert!(found.len() as u64 >= whole, "{length}");
            whole = found.len() as u64;
            journal.append([&void(77)].into_iter()).unwrap();
            let (_, again) = Journal::open(directory.path(), 0).unwrap();
            assert_eq!(again.last(), Some(&(whole + 1, void(77))), "{length}");
        }
        assert_eq!(whole, 3);
    }

    #[test]
    fn damage_before_whole_records_is_said_not_cut() {
        let (directory, path, bytes) = written(3);
        for at in 0..bytes.len() * 2 / 3 {
            let mut damaged = bytes.clone();
            damaged[at] ^= 0x10;
            std::fs::write(&path, &damaged).unwrap();
            let opened = Journal::open(directory.path(), 0);
            assert!(matches!(opened, Err(JournalError::Damaged { .. })), "{at}");
        }
        assert_eq!(std::fs::read(&path).unwrap().len(), bytes.len());
    }

    #[test]
    fn a_new_segment_goes_on_and_a_lost_one_is_missed() {
        let (directory, ..) = written(3);
        let (mut journal, _) = Journal::open(directory.path(), 3).unwrap();
        journal.rotate().unwrap();
        // Both are there until the first is in the database.
        let (_, found) = Journal::open(directory.path(), 2).unwrap();
        assert_eq!(found, [(3, void(2))]);
        let old = journal.old().unwrap();
        old.remove().unwrap();
        journal.forgot(&old);
        assert!(journal.old().is_none());
        journal.append([&void(9)].into_iter()).unwrap();
        let (journal, found) = Journal::open(directory.path(), 3).unwrap();
        assert_eq!((found, journal.next()), (vec![(4, void(9))], 5));
        assert!(matches!(
            Journal::open(directory.path(), 10),
            Err(JournalError::Gap { .. })
        ));
    }
}
