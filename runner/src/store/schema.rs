//! Schema and its migrations. Forward only, with a backup before each.

use super::{Started, StoreError};
use rusqlite::{Connection, OptionalExtension};
use std::path::Path;

/// One step per version; a step is never changed once released.
const MIGRATIONS: &[&str] = &[
    "
    CREATE TABLE runner (generation INTEGER NOT NULL, boot_id TEXT NOT NULL, clean INTEGER NOT NULL) STRICT;
    CREATE TABLE sessions (
        id TEXT PRIMARY KEY,
        info TEXT NOT NULL,
        epoch INTEGER NOT NULL,
        account TEXT NOT NULL,
        deleted INTEGER NOT NULL DEFAULT 0
    ) STRICT;
    CREATE TABLE snapshots (
        session TEXT NOT NULL REFERENCES sessions (id),
        record_seq INTEGER NOT NULL,
        seq INTEGER NOT NULL,
        fold BLOB NOT NULL,
        PRIMARY KEY (session, record_seq)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE answers (
        account TEXT NOT NULL,
        client_id TEXT NOT NULL,
        hash BLOB NOT NULL,
        since INTEGER NOT NULL,
        answer TEXT,
        PRIMARY KEY (account, client_id)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX answers_since ON answers (since);
",
    // The subject is JSON with its keys in order: equal subjects are equal texts.
    "
    CREATE TABLE approvals (
        id TEXT PRIMARY KEY,
        account TEXT NOT NULL,
        harness TEXT NOT NULL,
        workspace TEXT NOT NULL,
        tool TEXT NOT NULL,
        subject TEXT NOT NULL,
        since INTEGER NOT NULL,
        forgotten INTEGER NOT NULL DEFAULT 0
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX approvals_place ON approvals (account, harness, workspace, tool);
",
    // Which images there are, and which sessions need them; the bytes are files.
    "
    CREATE TABLE blobs (
        account TEXT NOT NULL,
        hash TEXT NOT NULL,
        media_type TEXT NOT NULL,
        size INTEGER NOT NULL,
        since INTEGER NOT NULL,
        PRIMARY KEY (account, hash)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE blob_uses (
        session TEXT NOT NULL,
        hash TEXT NOT NULL,
        account TEXT NOT NULL,
        PRIMARY KEY (session, hash)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX blob_uses_hash ON blob_uses (account, hash);
",
    // What a workspace brings for a harness as code, and its user trusts. The files are JSON.
    "
    CREATE TABLE trusted (
        account TEXT NOT NULL,
        harness TEXT NOT NULL,
        workspace TEXT NOT NULL,
        identity TEXT NOT NULL,
        digest TEXT NOT NULL,
        files TEXT NOT NULL,
        since INTEGER NOT NULL,
        PRIMARY KEY (account, harness, workspace, identity, digest)
    ) STRICT, WITHOUT ROWID;
",
];

pub(super) fn open(path: &Path) -> Result<Connection, StoreError> {
    let opened = |source| StoreError::Open {
        path: path.to_owned(),
        source,
    };
    let mut connection = Connection::open(path).map_err(opened)?;
    connection
        .execute_batch(
            "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON;
             PRAGMA busy_timeout = 5000;",
        )
        .map_err(opened)?;
    let found: i64 = connection
        .query_row("PRAGMA user_version", [], |row| row.get(0))
        .map_err(opened)?;
    let known = i64::try_from(MIGRATIONS.len()).unwrap_or(i64::MAX);
    if found > known {
        return Err(StoreError::Newer {
            path: path.to_owned(),
            found,
            known,
        });
    }
    migrate(&mut connection, path, found).map_err(|source| StoreError::Migrate {
        path: path.to_owned(),
        source,
    })?;
    Ok(connection)
}

fn migrate(connection: &mut Connection, path: &Path, found: i64) -> rusqlite::Result<()> {
    for (version, step) in (1i64..).zip(MIGRATIONS) {
        if version <= found {
            continue;
        }
        if found > 0 {
            let backup = path.with_extension(format!("before-{version}.db"));
            connection.backup("main", &backup, None::<fn(rusqlite::backup::Progress)>)?;
        }
        let change = connection.transaction()?;
        change.execute_batch(step)?;
        change.pragma_update(None, "user_version", version)?;
        change.commit()?;
    }
    Ok(())
}

pub(super) fn count_start(connection: &mut Connection, boot_id: &str) -> rusqlite::Result<Started> {
    let change = connection.transaction()?;
    let before: Option<(u64, String, bool)> = change
        .query_row("SELECT generation, boot_id, clean FROM runner", [], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?))
        })
        .optional()?;
    let generation = before.as_ref().map_or(0, |(generation, ..)| *generation) + 1;
    change.execute("DELETE FROM runner", [])?;
    change.execute(
        "INSERT INTO runner VALUES (?1, ?2, 0)",
        rusqlite::params![generation, boot_id],
    )?;
    change.commit()?;
    let unclean_boot = before.is_some_and(|(_, boot, clean)| boot != boot_id && !clean);
    Ok(Started {
        generation,
        unclean_boot,
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)] // A test that panics has failed.
mod tests {
    use super::*;

    #[test]
    fn a_database_of_the_first_release_is_brought_up_to_date() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("runner.db");
        let first = Connection::open(&path).unwrap();
        first.execute_batch(MIGRATIONS[0]).unwrap();
        first.pragma_update(None, "user_version", 1).unwrap();
        first
            .execute(
                "INSERT INTO sessions (id, info, epoch, account) VALUES ('s', '{}', 1, 'a')",
                [],
            )
            .unwrap();
        drop(first);
        let now = open(&path).unwrap();
        let count = |table: &str| {
            now.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| {
                row.get::<_, i64>(0)
            })
            .unwrap()
        };
        assert_eq!((count("sessions"), count("approvals"), count("blobs")), (1, 0, 0));
        assert!(path.with_extension("before-2.db").exists());
    }
}
