//! The segment files of a journal directory.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use super::JournalError;

/// Path of the segment that starts at `first`.
pub(super) fn path(dir: &Path, first: u64) -> PathBuf {
    dir.join(format!("{first:020}.log"))
}

/// First seq of every segment, ascending.
pub(super) fn list(dir: &Path) -> Result<Vec<u64>, JournalError> {
    let failed = |source| JournalError::Io {
        doing: "list",
        path: dir.to_owned(),
        source,
    };
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name();
        let Some(stem) = name.to_str().and_then(|name| name.strip_suffix(".log")) else {
            continue;
        };
        if stem.len() == 20 && stem.bytes().all(|b| b.is_ascii_digit()) {
            found.extend(stem.parse::<u64>().ok());
        }
    }
    found.sort_unstable();
    Ok(found)
}

/// Opens a segment for reading; `None` when there is none that starts at `first`.
pub(super) fn open(dir: &Path, first: u64) -> Result<Option<File>, JournalError> {
    let path = path(dir, first);
    match File::open(&path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(JournalError::Io {
            doing: "open",
            path,
            source,
        }),
    }
}
