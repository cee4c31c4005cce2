//! Copies of the database that were checked, and the check itself.

use super::readers::open_reader;
use super::schema::{check_version, current_version};
use super::{OpenError, VerifyError};
use rusqlite::Connection;
use rusqlite::backup::{Backup, StepResult};
use std::fs::File;
use std::path::{Path, PathBuf};

/// What [`verify`] found in a database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifyReport {
    pub schema_version: usize,
    pub owners: u64,
    pub sessions: u64,
    pub turns: u64,
    pub messages: u64,
}

/// Checks a database or a backup from end to end: pages, indexes, foreign keys, and that no session has a gap.
///
/// The file may be in use. Reads all of it: about 30 s for 1 GB.
pub fn verify(path: &Path) -> Result<VerifyReport, VerifyError> {
    let connection = open_reader(path).map_err(|source| sqlite("opening", path, source))?;
    let schema_version =
        check_version(&connection, path, current_version()).map_err(|e| VerifyError::Schema(Box::new(e)))?;
    check_integrity(&connection, path, "integrity_check")?;
    let count = |what: &'static str| {
        let select = format!("SELECT count(*) FROM {what}");
        let count = connection.query_row(&select, [], |row| row.get::<_, i64>(0));
        count
            .map(i64::unsigned_abs)
            .map_err(|source| sqlite("counting", path, source))
    };
    let gaps = count(
        "sessions s WHERE message_count IS NOT
            (SELECT count(*) FROM messages m WHERE m.owner_id = s.owner_id AND m.session_id = s.session_id)
        OR message_count IS NOT (SELECT ifnull(max(idx) + 1, 0) FROM messages m
            WHERE m.owner_id = s.owner_id AND m.session_id = s.session_id)",
    )?;
    let orphans = count("pragma_foreign_key_check")?;
    let problems = [
        (gaps, "sessions whose messages have a gap"),
        (orphans, "rows without their parent"),
    ];
    let problems: Vec<String> = problems
        .iter()
        .filter(|(n, _)| *n > 0)
        .map(|(n, what)| format!("{n} {what}"))
        .collect();
    if !problems.is_empty() {
        return Err(VerifyError::Damaged {
            path: path.to_owned(),
            problems,
        });
    }
    Ok(VerifyReport {
        schema_version,
        owners: count("owners")?,
        sessions: count("sessions")?,
        turns: count("turns")?,
        messages: count("messages")?,
    })
}

/// Copies the database at `path`, which may be in use, to the new file `to` and verifies the copy.
///
/// `to` must not exist; it appears only when it is whole. Blocks; writes go on meanwhile.
pub fn backup(path: &Path, to: &Path) -> Result<VerifyReport, VerifyError> {
    let connection = open_reader(path).map_err(|source| sqlite("opening", path, source))?;
    copy_verified(&connection, to, false)?;
    verify(to)
}

/// Runs `PRAGMA quick_check` or `integrity_check`.
pub(super) fn check_integrity(connection: &Connection, path: &Path, check: &str) -> Result<(), VerifyError> {
    let failed = |source| sqlite("checking", path, source);
    let mut statement = connection
        .prepare(&format!("PRAGMA {check}(20)"))
        .map_err(failed)?;
    let rows = statement
        .query_map([], |row| row.get::<_, String>(0))
        .map_err(failed)?;
    let mut problems = rows.collect::<Result<Vec<_>, _>>().map_err(failed)?;
    problems.retain(|line| line != "ok");
    if problems.is_empty() {
        Ok(())
    } else {
        Err(VerifyError::Damaged {
            path: path.to_owned(),
            problems,
        })
    }
}

fn sqlite(step: &'static str, path: &Path, source: rusqlite::Error) -> VerifyError {
    VerifyError::Sqlite {
        step,
        path: path.to_owned(),
        source,
    }
}

/// Copies the whole database into `to` (replacing it only if `replace`), checks and syncs the copy.
pub(super) fn copy_verified(from: &Connection, to: &Path, replace: bool) -> Result<(), VerifyError> {
    if !replace && to.exists() {
        return Err(VerifyError::Exists { path: to.to_owned() });
    }
    let mut partial = to.as_os_str().to_owned();
    partial.push(".partial");
    let partial = PathBuf::from(partial);
    let outcome = copy_into(from, &partial).and_then(|()| publish(&partial, to));
    if outcome.is_err() {
        let _ = std::fs::remove_file(&partial);
    }
    outcome
}

fn copy_into(from: &Connection, partial: &Path) -> Result<(), VerifyError> {
    let failed = |source| sqlite("copying to", partial, source);
    let file_error = |source| VerifyError::File {
        path: partial.to_owned(),
        source,
    };
    match std::fs::remove_file(partial) {
        Err(source) if source.kind() != std::io::ErrorKind::NotFound => return Err(file_error(source)),
        _ => {}
    }
    drop(super::create_private(partial).map_err(file_error)?);
    let mut copy = Connection::open(partial).map_err(failed)?;
    let backup = Backup::new(from, &mut copy).map_err(failed)?;
    // One step: it sees one state and is not started again by a writer.
    while backup.step(-1).map_err(failed)? != StepResult::Done {
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    drop(backup);
    // A backup is one file, without a log beside it.
    copy.pragma_update_and_check(None, "journal_mode", "delete", |_| Ok(()))
        .map_err(failed)?;
    copy.execute("UPDATE state SET clean = 1", []).map_err(failed)?;
    check_integrity(&copy, partial, "integrity_check")?;
    copy.close().map_err(|(_, source)| failed(source))
}

fn publish(partial: &Path, to: &Path) -> Result<(), VerifyError> {
    let failed = |source| VerifyError::File {
        path: to.to_owned(),
        source,
    };
    File::open(partial)
        .and_then(|file| file.sync_all())
        .map_err(failed)?;
    std::fs::rename(partial, to).map_err(failed)?;
    let directory = to
        .parent()
        .filter(|p| !p.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    File::open(directory)
        .and_then(|directory| directory.sync_all())
        .map_err(failed)
}

impl From<VerifyError> for OpenError {
    fn from(source: VerifyError) -> Self {
        Self::Damaged { source }
    }
}
