//! What a role prints, in a file that does not grow without end.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// A log is rotated at this size, in bytes; one older file is kept.
pub const ROTATE_AT: u64 = 10 * 1024 * 1024;

/// A log file that is rotated.
#[derive(Debug)]
pub struct LogFile {
    path: PathBuf,
    file: File,
    size: u64,
    limit: u64,
}

impl LogFile {
    /// Opens `path` to append to.
    pub fn open(path: &Path) -> std::io::Result<Self> {
        Self::with_limit(path, ROTATE_AT)
    }

    fn with_limit(path: &Path, limit: u64) -> std::io::Result<Self> {
        let file = OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o600)
            .open(path)?;
        let size = file.metadata()?.len();
        Ok(Self {
            path: path.to_owned(),
            file,
            size,
            limit,
        })
    }

    /// Appends a line. A full disk costs lines of the log, never the role.
    pub fn line(&mut self, line: &[u8]) {
        if self.size >= self.limit && self.rotate().is_err() {
            return;
        }
        let mut bytes = Vec::with_capacity(line.len() + 1);
        bytes.extend_from_slice(line);
        bytes.push(b'\n');
        if self.file.write_all(&bytes).is_ok() {
            self.size += bytes.len() as u64;
        }
    }

    fn rotate(&mut self) -> std::io::Result<()> {
        std::fs::rename(&self.path, self.path.with_extension("log.1"))?;
        *self = Self::with_limit(&self.path, self.limit)?;
        Ok(())
    }
}

/// The last `lines` lines of a log, of at most 64 KiB.
pub fn tail(path: &Path, lines: usize) -> std::io::Result<String> {
    let mut file = File::open(path)?;
    let size = file.metadata()?.len();
    file.seek(SeekFrom::Start(size.saturating_sub(64 * 1024)))?;
    let mut bytes = Vec::new();
    file.take(64 * 1024).read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    let all: Vec<&str> = text.lines().collect();
    Ok(all[all.len().saturating_sub(lines)..].join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_rotates_and_keeps_one_older_file() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("x.log");
        let mut log = LogFile::with_limit(&path, 100).unwrap();
        for number in 0..100 {
            log.line(format!("line {number}").as_bytes());
        }
        assert!(std::fs::metadata(&path).unwrap().len() <= 110);
        assert!(root.path().join("x.log.1").exists());
        assert_eq!(std::fs::read_dir(root.path()).unwrap().count(), 2);
        assert!(tail(&path, 1).unwrap().ends_with("line 99"));
    }

    #[test]
    fn an_existing_log_is_continued() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("x.log");
        LogFile::open(&path).unwrap().line(b"one");
        LogFile::open(&path).unwrap().line(b"two");
        assert_eq!(tail(&path, 9).unwrap(), "one\ntwo");
    }
}
