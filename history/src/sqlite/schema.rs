//! The tables, and the numbered migrations that lead to them. Migrations go forward only; each one that a
//! release has shipped stays as it is.

use super::backup::copy_verified;
use super::{OpenError, VerifyError};
use rusqlite::{Connection, Transaction, TransactionBehavior};
use std::path::{Path, PathBuf};

/// Marks the file as a history database of Lodge.
const APPLICATION_ID: i64 = 0x4C6F_4869;

/// One step of the schema: from version `index` to `index + 1`.
pub(super) type Migration = fn(&Transaction<'_>) -> rusqlite::Result<()>;

pub(super) const MIGRATIONS: &[Migration] = &[first_tables];

/// The schema version this release reads and writes.
pub(super) fn current_version() -> usize {
    MIGRATIONS.len()
}

fn first_tables(transaction: &Transaction<'_>) -> rusqlite::Result<()> {
    transaction.execute_batch(
        "CREATE TABLE owners (
            owner_id INTEGER PRIMARY KEY,
            owner TEXT NOT NULL UNIQUE
        ) STRICT;
        CREATE TABLE sessions (
            owner_id INTEGER NOT NULL REFERENCES owners,
            session_id TEXT NOT NULL,
            title TEXT NOT NULL,
            harness TEXT NOT NULL,
            workspace TEXT NOT NULL,
            model TEXT NOT NULL,
            parent_session_id TEXT NOT NULL,
            created_at INTEGER NOT NULL,
            updated_at INTEGER NOT NULL,
            closed INTEGER NOT NULL,
            message_count INTEGER NOT NULL DEFAULT 0,
            turn_count INTEGER NOT NULL DEFAULT 0,
            PRIMARY KEY (owner_id, session_id)
        ) STRICT, WITHOUT ROWID;
        CREATE INDEX sessions_by_update ON sessions (owner_id, updated_at, session_id);
        CREATE TABLE turns (
            owner_id INTEGER NOT NULL,
            session_id TEXT NOT NULL,
            number INTEGER NOT NULL,
            turn_id TEXT NOT NULL,
            started_at INTEGER NOT NULL,
            ended_at INTEGER NOT NULL,
            outcome TEXT NOT NULL,
            usage_json BLOB NOT NULL,
            error_json BLOB NOT NULL,
            last_seq INTEGER NOT NULL,
            message_version INTEGER NOT NULL,
            PRIMARY KEY (owner_id, session_id, number),
            UNIQUE (owner_id, session_id, turn_id),
            FOREIGN KEY (owner_id, session_id) REFERENCES sessions
        ) STRICT, WITHOUT ROWID;
        CREATE TABLE messages (
            id INTEGER PRIMARY KEY,
            owner_id INTEGER NOT NULL,
            session_id TEXT NOT NULL,
            idx INTEGER NOT NULL,
            message_id TEXT NOT NULL,
            turn_id TEXT NOT NULL,
            role TEXT NOT NULL,
            created_at INTEGER NOT NULL,
            json BLOB NOT NULL,
            text TEXT NOT NULL,
            UNIQUE (owner_id, session_id, idx),
            UNIQUE (owner_id, session_id, message_id),
            FOREIGN KEY (owner_id, session_id) REFERENCES sessions,
            FOREIGN KEY (owner_id, session_id, turn_id) REFERENCES turns (owner_id, session_id, turn_id)
        ) STRICT;
        CREATE TABLE tombstones (
            owner_id INTEGER NOT NULL REFERENCES owners,
            session_id TEXT NOT NULL,
            deleted_at INTEGER NOT NULL,
            PRIMARY KEY (owner_id, session_id)
        ) STRICT, WITHOUT ROWID;
        CREATE TABLE state (
            one INTEGER PRIMARY KEY CHECK (one = 1),
            clean INTEGER NOT NULL
        ) STRICT;
        INSERT INTO state VALUES (1, 1);",
    )
}

/// The two search indexes of one owner. They are apart from everybody else's, so that a search neither passes
/// over foreign rows nor ranks by the frequency of foreign words.
pub(super) fn create_owner_indexes(connection: &Connection, owner_id: i64) -> rusqlite::Result<()> {
    connection.execute_batch(&format!(
        "CREATE VIEW text_{owner_id} AS SELECT id, text FROM messages WHERE owner_id = {owner_id};
        CREATE VIRTUAL TABLE prose_{owner_id} USING fts5(
            text, content='text_{owner_id}', content_rowid='id',
            tokenize='porter unicode61 remove_diacritics 2');
        CREATE VIRTUAL TABLE code_{owner_id} USING fts5(
            text, content='text_{owner_id}', content_rowid='id', tokenize='trigram');"
    ))
}

fn pragma(connection: &Connection, name: &str) -> rusqlite::Result<i64> {
    connection.pragma_query_value(None, name, |row| row.get(0))
}

/// The version the file has; refuses a file of another application or of a newer release.
pub(super) fn check_version(connection: &Connection, path: &Path, newest: usize) -> Result<usize, OpenError> {
    let read = |source| OpenError::Sqlite {
        step: "reading the schema version",
        path: path.to_owned(),
        source,
    };
    let version = pragma(connection, "user_version").map_err(read)?;
    let application = pragma(connection, "application_id").map_err(read)?;
    let tables = "SELECT count(*) FROM sqlite_schema";
    let tables: i64 = connection.query_row(tables, [], |row| row.get(0)).map_err(read)?;
    let empty = tables == 0 && version == 0;
    if application != APPLICATION_ID && !empty {
        return Err(OpenError::Foreign {
            path: path.to_owned(),
        });
    }
    match usize::try_from(version) {
        Ok(version) if version <= newest => Ok(version),
        _ => Err(OpenError::NewerSchema {
            path: path.to_owned(),
            found: version,
            newest,
        }),
    }
}

/// Where the copy of `path` at schema `version` is kept before it is migrated.
pub(super) fn backup_path(path: &Path, version: usize) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".before-migration-{version}"));
    name.into()
}

/// Brings the file to the last of `migrations`. A file that holds data is copied first; the copy stays.
pub(super) fn migrate(
    connection: &mut Connection,
    path: &Path,
    migrations: &[Migration],
) -> Result<(), OpenError> {
    let from = check_version(connection, path, migrations.len())?;
    if from == migrations.len() {
        return Ok(());
    }
    if from > 0 {
        let copy = backup_path(path, from);
        copy_verified(connection, &copy, true).map_err(|e: VerifyError| OpenError::Backup { source: e })?;
        tracing::info!(copy = %copy.display(), from, to = migrations.len(), "migrating the history database");
    }
    for (version, migration) in migrations.iter().enumerate().skip(from) {
        apply(connection, version + 1, *migration).map_err(|source| OpenError::Migration {
            path: path.to_owned(),
            version: version + 1,
            source,
        })?;
    }
    Ok(())
}

fn apply(connection: &mut Connection, version: usize, migration: Migration) -> rusqlite::Result<()> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    migration(&transaction)?;
    transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
    transaction.pragma_update(None, "user_version", i64::try_from(version).unwrap_or(i64::MAX))?;
    transaction.commit()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn add_colour(transaction: &Transaction<'_>) -> rusqlite::Result<()> {
        transaction.execute_batch("ALTER TABLE sessions ADD COLUMN colour TEXT NOT NULL DEFAULT 'none'")
    }

    fn breaks_half_way(transaction: &Transaction<'_>) -> rusqlite::Result<()> {
        transaction.execute_batch("CREATE TABLE half (x) STRICT; nonsense")
    }

    fn database() -> (tempfile::TempDir, PathBuf, Connection) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("history.db");
        let mut connection = Connection::open(&path).unwrap();
        connection.pragma_update(None, "journal_mode", "wal").unwrap();
        migrate(&mut connection, &path, &[first_tables]).unwrap();
        connection
            .execute("INSERT INTO owners VALUES (1, 'ada')", [])
            .unwrap();
        (directory, path, connection)
    }

    #[test]
    fn a_migration_keeps_the_data_and_a_copy_of_the_old_file() {
        let (_directory, path, mut connection) = database();
        migrate(&mut connection, &path, &[first_tables, add_colour]).unwrap();
        connection.prepare("SELECT colour FROM sessions").unwrap();
        assert_eq!(pragma(&connection, "user_version").unwrap(), 2);
        let copy = Connection::open(backup_path(&path, 1)).unwrap();
        assert_eq!(pragma(&copy, "user_version").unwrap(), 1);
        let owner: String = copy
            .query_row("SELECT owner FROM owners", [], |row| row.get(0))
            .unwrap();
        assert_eq!(owner, "ada");
        assert!(copy.prepare("SELECT colour FROM sessions").is_err());
    }

    #[test]
    fn a_failed_migration_leaves_the_old_schema() {
        let (_directory, path, mut connection) = database();
        let error = migrate(&mut connection, &path, &[first_tables, breaks_half_way]).unwrap_err();
        assert!(
            matches!(error, OpenError::Migration { version: 2, .. }),
            "{error}"
        );
        assert_eq!(pragma(&connection, "user_version").unwrap(), 1);
        assert!(connection.prepare("SELECT * FROM half").is_err());
        migrate(&mut connection, &path, &[first_tables, add_colour]).unwrap();
    }

    #[test]
    fn a_newer_schema_and_a_foreign_file_are_refused() {
        let (_directory, path, mut connection) = database();
        migrate(&mut connection, &path, &[first_tables, add_colour]).unwrap();
        let error = migrate(&mut connection, &path, &[first_tables]).unwrap_err();
        assert!(
            matches!(
                error,
                OpenError::NewerSchema {
                    found: 2,
                    newest: 1,
                    ..
                }
            ),
            "{error}"
        );
        let foreign = path.with_file_name("foreign.db");
        let mut connection = Connection::open(&foreign).unwrap();
        connection.execute_batch("CREATE TABLE mine (x)").unwrap();
        assert!(matches!(
            migrate(&mut connection, &foreign, &[first_tables]),
            Err(OpenError::Foreign { .. })
        ));
    }
}
