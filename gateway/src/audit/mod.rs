//! `audit.db`: every administrative change, who asked for it and what became of it. Entries are only ever added, which
//! the database itself holds to, and hold no secret.
//!
//! An entry is on the disk before its change begins: what cannot be noted is not done.

mod actor;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rusqlite::{Connection, params};
use serde_json::Value;

pub use actor::Actor;

const SCHEMA_VERSION: i64 = 1;

/// Two tables, because a row is never touched again: what was asked for, and what became of it.
const SCHEMA: &str = "
CREATE TABLE change (
    serial INTEGER PRIMARY KEY AUTOINCREMENT,
    at     INTEGER NOT NULL, -- milliseconds of Unix time
    uid    INTEGER NOT NULL,
    pid    INTEGER NOT NULL,
    actor  TEXT NOT NULL,
    action TEXT NOT NULL,
    target TEXT NOT NULL,
    detail TEXT NOT NULL -- JSON
) STRICT;
CREATE TABLE outcome (
    serial  INTEGER PRIMARY KEY REFERENCES change (serial),
    at      INTEGER NOT NULL,
    outcome TEXT NOT NULL,
    result  TEXT NOT NULL
) STRICT;
CREATE TRIGGER change_stays BEFORE UPDATE ON change BEGIN SELECT RAISE(ABORT, 'the audit is append-only'); END;
CREATE TRIGGER change_remains BEFORE DELETE ON change BEGIN SELECT RAISE(ABORT, 'the audit is append-only'); END;
CREATE TRIGGER outcome_stays BEFORE UPDATE ON outcome BEGIN SELECT RAISE(ABORT, 'the audit is append-only'); END;
CREATE TRIGGER outcome_remains BEFORE DELETE ON outcome BEGIN SELECT RAISE(ABORT, 'the audit is append-only'); END;
PRAGMA user_version = 1;
";

/// Longest text of one field, bytes.
const MAX_TEXT: usize = 1024;
/// Entries of one listing.
const MAX_LISTED: u32 = 1000;

/// An audit that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    #[error("opening {}", path.display())]
    Open { path: PathBuf, source: rusqlite::Error },
    #[error("{} has schema version {found}, this program knows {SCHEMA_VERSION}", path.display())]
    Version { path: PathBuf, found: i64 },
    #[error("writing to the audit")]
    Write(#[source] rusqlite::Error),
    #[error("reading the audit")]
    Read(#[source] rusqlite::Error),
    #[error("the audit was interrupted")]
    Interrupted,
}

/// A change that is about to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    pub actor: Actor,
    /// Such as `key.create`.
    pub action: &'static str,
    /// What is changed.
    pub target: String,
    /// Without secrets.
    pub detail: Value,
}

/// A change as it was noted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Rises with each one.
    pub serial: u64,
    /// Milliseconds of Unix time.
    pub at: u64,
    pub uid: u32,
    pub pid: i32,
    pub actor: String,
    pub action: String,
    pub target: String,
    /// JSON.
    pub detail: String,
    /// `ok`, or the code of the refusal; none: the gateway stopped before the end.
    pub outcome: Option<String>,
    /// What was made.
    pub result: String,
}

/// The audit. Its calls wait for the disk beside the event loop.
#[derive(Clone, Debug)]
pub struct Audit {
    connection: Arc<Mutex<Connection>>,
}

/// A change that has begun; its outcome is noted by [`Begun::end`].
#[derive(Debug)]
#[must_use]
pub struct Begun {
    audit: Audit,
    serial: i64,
}

impl Audit {
    /// Opens or creates the database. Blocks on the disk.
    pub fn open(path: &Path) -> Result<Self, AuditError> {
        let open = |source| AuditError::Open {
            path: path.to_owned(),
            source,
        };
        let connection = Connection::open(path).map_err(open)?;
        connection
            .execute_batch("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON;")
            .map_err(open)?;
        let version = connection
            .query_row("PRAGMA user_version", [], |row| row.get(0))
            .map_err(open)?;
        match version {
            0 => connection
                .execute_batch(&format!("BEGIN; {SCHEMA} COMMIT;"))
                .map_err(open)?,
            SCHEMA_VERSION => {}
            found => {
                return Err(AuditError::Version {
                    path: path.to_owned(),
                    found,
                });
            }
        }
        Ok(Self {
            connection: Arc::new(Mutex::new(connection)),
        })
    }

    /// Notes a change; it may be made when this returns.
    pub async fn begin(&self, change: Change) -> Result<Begun, AuditError> {
        let Change {
            actor,
            action,
            target,
            detail,
        } = change;
        let insert = move |connection: &Connection| {
            let sql = "INSERT INTO change (at, uid, pid, actor, action, target, detail) VALUES (?, ?, ?, ?, ?, ?, ?)";
            let detail = detail.to_string();
            let row = params![
                crate::accounts::now(),
                actor.uid,
                actor.pid,
                actor.name,
                action,
                shortened(&target),
                // Cut JSON would be none.
                if detail.len() > 8 * MAX_TEXT {
                    "{}"
                } else {
                    &detail
                },
            ];
            connection.execute(sql, row)?;
            Ok(connection.last_insert_rowid())
        };
        let serial = self.with(insert).await?.map_err(AuditError::Write)?;
        Ok(Begun {
            audit: self.clone(),
            serial,
        })
    }

    /// At most `limit` entries (0: 100) from before a serial (0: from the end), the latest first; those that have `search`
    /// in a text of theirs, whatever its case.
    pub async fn list(&self, before: u64, limit: u32, search: &str) -> Result<Vec<Entry>, AuditError> {
        let before = i64::try_from(before)
            .ok()
            .filter(|before| *before > 0)
            .unwrap_or(i64::MAX);
        let search = shortened(search);
        let limit = if limit == 0 { 100 } else { limit.min(MAX_LISTED) };
        let select = move |connection: &Connection| {
            let mut statement = connection.prepare(
                "SELECT change.serial, change.at, uid, pid, actor, action, target, detail, outcome, result \
                 FROM change LEFT JOIN outcome USING (serial) WHERE change.serial < ?1 AND (?3 = '' \
                 OR instr(lower(concat_ws(char(10), actor, 'uid ' || uid, action, target, detail, outcome, result)), lower(?3))) \
                 ORDER BY change.serial DESC LIMIT ?2",
            )?;
            let rows = statement.query_map(params![before, limit, search], |row| {
                Ok(Entry {
                    serial: row.get(0)?,
                    at: row.get(1)?,
                    uid: row.get(2)?,
                    pid: row.get(3)?,
                    actor: row.get(4)?,
                    action: row.get(5)?,
                    target: row.get(6)?,
                    detail: row.get(7)?,
                    outcome: row.get(8)?,
                    result: row.get::<_, Option<String>>(9)?.unwrap_or_default(),
                })
            })?;
            rows.collect()
        };
        self.with(select).await?.map_err(AuditError::Read)
    }

    fn connection(&self) -> MutexGuard<'_, Connection> {
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn with<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<rusqlite::Result<T>, AuditError> {
        let audit = self.clone();
        let done = tokio::task::spawn_blocking(move || work(&audit.connection())).await;
        done.map_err(|_| AuditError::Interrupted)
    }
}

impl Begun {
    /// Notes what became of it. A disk that fails now is logged: the change is made, and its entry says that it began.
    pub async fn end(self, outcome: &str, result: &str) {
        let (serial, outcome, result) = (self.serial, shortened(outcome), shortened(result));
        let insert = move |connection: &Connection| {
            let sql = "INSERT INTO outcome (serial, at, outcome, result) VALUES (?, ?, ?, ?)";
            connection.execute(sql, params![serial, crate::accounts::now(), outcome, result])
        };
        let noted = self.audit.with(insert).await;
        if let Err(error) = noted.and_then(|noted| noted.map_err(AuditError::Write)) {
            tracing::error!(
                error = crate::causes(&error),
                "the outcome of a change is not noted"
            );
        }
    }
}

/// A text of bounded length without control characters.
fn shortened(text: &str) -> String {
    let mut shortened: String = text.chars().filter(|char| !char.is_control()).collect();
    let mut end = shortened.len().min(MAX_TEXT);
    while !shortened.is_char_boundary(end) {
        end -= 1;
    }
    shortened.truncate(end);
    shortened
}
