//! `gateway.db`: sealed provider keys, the hashes of the keys of open leases and of people, the people, and what
//! administrators set up.

mod entered;
mod keys;
mod sealed;
mod users;

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

pub use entered::{Edit, StoredEntry, StoredSetup};
pub use keys::StoredKey;
use rusqlite::{Connection, OptionalExtension, params};

const SCHEMA_VERSION: i64 = 5;

const SCHEMA: &str = "
CREATE TABLE provider (
    name     TEXT PRIMARY KEY,
    kind     TEXT NOT NULL,
    base_url TEXT NOT NULL,
    sealed   BLOB NOT NULL
) STRICT;
CREATE TABLE lease (
    id         TEXT PRIMARY KEY,
    owner      INTEGER NOT NULL,
    session_id TEXT NOT NULL,
    harness    TEXT NOT NULL,
    key_hash   BLOB NOT NULL,
    boot_id    TEXT NOT NULL,
    seen       INTEGER NOT NULL, -- seconds of the boot clock
    UNIQUE (owner, session_id)
) STRICT;
PRAGMA user_version = 1;
";

/// From version 1 to 2: keys of people, and what a session is narrowed to.
const TO_2: &str = "
ALTER TABLE lease ADD COLUMN narrow TEXT NOT NULL DEFAULT '{}';
CREATE TABLE virtual_key (
    id       TEXT PRIMARY KEY,
    key_hash BLOB NOT NULL UNIQUE,
    spec     TEXT NOT NULL -- JSON
) STRICT;
PRAGMA user_version = 2;
";

/// From version 2 to 3: the people.
const TO_3: &str = "
CREATE TABLE user (
    name TEXT PRIMARY KEY,
    spec TEXT NOT NULL -- JSON
) STRICT;
PRAGMA user_version = 3;
";

/// From version 3 to 4: what administrators set up beside the configuration file.
const TO_4: &str = "
CREATE TABLE entered (
    kind   TEXT NOT NULL, -- provider, account, alias, policy, price
    name   TEXT NOT NULL,
    value  BLOB NOT NULL, -- a message of control.proto
    sealed BLOB,          -- an account's key
    PRIMARY KEY (kind, name)
) STRICT;
PRAGMA user_version = 4;
";

/// From version 4 to 5: what is sealed and belongs to no provider.
const TO_5: &str = "
CREATE TABLE sealed_value (
    name   TEXT PRIMARY KEY,
    sealed BLOB NOT NULL
) STRICT;
PRAGMA user_version = 5;
";

/// What brings a database of a version to this one; the first is for one that is new.
const STEPS: [&str; 5] = [SCHEMA, TO_2, TO_3, TO_4, TO_5];

/// A database that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("opening {}", path.display())]
    Open { path: PathBuf, source: rusqlite::Error },
    #[error("{} has schema version {found}, this program knows {SCHEMA_VERSION}", path.display())]
    Version { path: PathBuf, found: i64 },
    #[error("{doing}")]
    Query {
        doing: &'static str,
        source: rusqlite::Error,
    },
}

fn query(doing: &'static str) -> impl FnOnce(rusqlite::Error) -> StoreError {
    move |source| StoreError::Query { doing, source }
}

/// A provider key as stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredProvider {
    pub name: String,
    pub kind: String,
    pub base_url: String,
    pub sealed: Vec<u8>,
}

/// An open lease as stored: never the key, only its hash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredLease {
    pub id: String,
    pub owner: u32,
    pub session_id: String,
    pub harness: String,
    pub key_hash: [u8; 32],
    pub boot_id: String,
    /// Seconds of the boot clock.
    pub seen: u64,
    /// What it was narrowed to, JSON.
    pub narrow: String,
}

/// The database. Calls block for a disk write: keep them off the event loop.
#[derive(Debug)]
pub struct Store {
    connection: Mutex<Connection>,
}

impl Store {
    /// Opens or creates the database.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let open = |source| StoreError::Open {
            path: path.to_owned(),
            source,
        };
        let connection = Connection::open(path).map_err(open)?;
        connection
            .execute_batch("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA secure_delete = ON;")
            .map_err(open)?;
        connection
            .busy_timeout(std::time::Duration::from_secs(5))
            .map_err(open)?;
        let version: i64 = connection
            .query_row("PRAGMA user_version", [], |row| row.get(0))
            .map_err(open)?;
        let steps = usize::try_from(version)
            .ok()
            .and_then(|version| STEPS.get(version..));
        let Some(steps) = steps else {
            return Err(StoreError::Version {
                path: path.to_owned(),
                found: version,
            });
        };
        if (1..SCHEMA_VERSION).contains(&version) {
            // As it was, beside it: the older program can go on with that.
            let backup = path.with_extension(format!("db.v{version}"));
            let _earlier_try = std::fs::remove_file(&backup);
            connection
                .execute("VACUUM INTO ?", [backup.to_string_lossy()])
                .map_err(open)?;
        }
        if !steps.is_empty() {
            connection
                .execute_batch(&format!("BEGIN; {} COMMIT;", steps.concat()))
                .map_err(open)?;
        }
        Ok(Self {
            connection: Mutex::new(connection),
        })
    }

    fn connection(&self) -> MutexGuard<'_, Connection> {
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Stores a lease, in place of an earlier one of the same session.
    pub fn put_lease(&self, lease: &StoredLease) -> Result<(), StoreError> {
        let StoredLease {
            id,
            owner,
            session_id,
            harness,
            key_hash,
            boot_id,
            seen,
            narrow,
        } = lease;
        let sql = "INSERT OR REPLACE INTO lease (id, owner, session_id, harness, key_hash, boot_id, seen, narrow) \
                   VALUES (?, ?, ?, ?, ?, ?, ?, ?)";
        self.connection()
            .execute(
                sql,
                params![
                    id,
                    owner,
                    session_id,
                    harness,
                    key_hash,
                    boot_id,
                    seen.cast_signed(),
                    narrow
                ],
            )
            .map(drop)
            .map_err(query("storing a lease"))
    }

    /// The lease of that id.
    pub fn lease(&self, id: &str) -> Result<Option<StoredLease>, StoreError> {
        let sql =
            "SELECT id, owner, session_id, harness, key_hash, boot_id, seen, narrow FROM lease WHERE id = ?";
        let row = self.connection().query_row(sql, [id], |row| {
            Ok(StoredLease {
                id: row.get(0)?,
                owner: row.get(1)?,
                session_id: row.get(2)?,
                harness: row.get(3)?,
                key_hash: row.get(4)?,
                boot_id: row.get(5)?,
                seen: row.get::<_, i64>(6)?.cast_unsigned(),
                narrow: row.get(7)?,
            })
        });
        row.optional().map_err(query("reading a lease"))
    }

    /// Notes that these leases are alive.
    pub fn touch_leases(&self, ids: &[String], seen: u64) -> Result<(), StoreError> {
        let mut connection = self.connection();
        let transaction = connection.transaction().map_err(query("noting live leases"))?;
        for id in ids {
            transaction
                .execute(
                    "UPDATE lease SET seen = ? WHERE id = ?",
                    params![seen.cast_signed(), id],
                )
                .map_err(query("noting live leases"))?;
        }
        transaction.commit().map_err(query("noting live leases"))
    }

    /// Forgets a lease for good.
    pub fn remove_lease(&self, id: &str) -> Result<(), StoreError> {
        self.connection()
            .execute("DELETE FROM lease WHERE id = ?", [id])
            .map(drop)
            .map_err(query("removing a lease"))
    }

    /// Forgets leases of earlier boots of the machine, and those not seen since.
    pub fn prune_leases(&self, boot_id: &str, since: u64) -> Result<(), StoreError> {
        let sql = "DELETE FROM lease WHERE boot_id <> ? OR seen < ?";
        let pruned = self
            .connection()
            .execute(sql, params![boot_id, since.cast_signed()]);
        pruned.map(drop).map_err(query("pruning leases"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lease(id: &str, session: &str) -> StoredLease {
        StoredLease {
            id: id.into(),
            owner: 1000,
            session_id: session.into(),
            harness: "pi".into(),
            key_hash: [7; 32],
            boot_id: "boot".into(),
            seen: 100,
            narrow: "{}".into(),
        }
    }

    #[test]
    fn a_session_has_one_lease_and_old_boots_have_none() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(&directory.path().join("g.db")).unwrap();
        store.put_lease(&lease("a", "s")).unwrap();
        store.put_lease(&lease("b", "s")).unwrap();
        assert_eq!(store.lease("a").unwrap(), None);
        assert_eq!(store.lease("b").unwrap(), Some(lease("b", "s")));
        store.touch_leases(&["b".into()], 200).unwrap();
        store.prune_leases("boot", 150).unwrap();
        assert_eq!(store.lease("b").unwrap().unwrap().seen, 200);
        store.prune_leases("other", 0).unwrap();
        assert_eq!(store.lease("b").unwrap(), None);
    }

    #[test]
    fn an_older_schema_goes_on_with_all_it_has_and_a_backup() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("g.db");
        let old = Connection::open(&path).unwrap();
        old.execute_batch(SCHEMA).unwrap();
        drop(old);
        let backup = directory.path().join("g.db.v1");
        std::fs::write(&backup, "an earlier try").unwrap();
        let store = Store::open(&path).unwrap();
        store.put_lease(&lease("a", "s")).unwrap();
        assert_eq!(store.keys().unwrap(), []);
        assert_eq!(store.users().unwrap(), []);
        let version = Connection::open(&backup)
            .unwrap()
            .query_row("PRAGMA user_version", [], |row| row.get::<_, i64>(0));
        assert_eq!(version.unwrap(), 1);
    }

    #[test]
    fn a_newer_schema_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("g.db");
        drop(Store::open(&path).unwrap());
        Connection::open(&path)
            .unwrap()
            .execute_batch("PRAGMA user_version = 9")
            .unwrap();
        assert!(matches!(
            Store::open(&path),
            Err(StoreError::Version { found: 9, .. })
        ));
    }
}
