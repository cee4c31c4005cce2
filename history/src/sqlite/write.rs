//! The statements of each kind of write, inside a transaction that somebody else commits.

use super::schema::create_owner_indexes;
use crate::owners::Owner;
use crate::request::{SessionWrite, TurnWrite};
use crate::store::StoreError;
use lodge_proto::history::{AppendTurnResponse, Message};
use lodge_proto::{MessageId, SessionId};
use rusqlite::{Connection, OptionalExtension, params};
use std::time::{SystemTime, UNIX_EPOCH};

/// Why one write was not done: by the rules of the store, or by SQLite.
#[derive(Debug)]
pub(super) enum WriteError {
    Refused(StoreError),
    Sqlite(&'static str, rusqlite::Error),
}

/// Adds what was being done to an error of SQLite.
trait During<T> {
    fn during(self, step: &'static str) -> Result<T, WriteError>;
}

impl<T> During<T> for rusqlite::Result<T> {
    fn during(self, step: &'static str) -> Result<T, WriteError> {
        self.map_err(|error| WriteError::Sqlite(step, error))
    }
}

/// Values of the proto that were checked to fit, as SQLite stores them.
fn stored(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

fn owner_id(connection: &Connection, owner: &Owner) -> Result<i64, WriteError> {
    let step = "finding the owner";
    let known = connection
        .prepare_cached("SELECT owner_id FROM owners WHERE owner = ?1")
        .and_then(|mut s| s.query_row([owner.as_str()], |row| row.get(0)).optional())
        .during(step)?;
    if let Some(id) = known {
        return Ok(id);
    }
    connection
        .execute("INSERT INTO owners (owner) VALUES (?1)", [owner.as_str()])
        .during(step)?;
    let id = connection.last_insert_rowid();
    create_owner_indexes(connection, id).during("creating the search indexes of an owner")?;
    Ok(id)
}

fn refuse_deleted(connection: &Connection, owner: i64, session_id: SessionId) -> Result<(), WriteError> {
    let deleted = connection
        .prepare_cached("SELECT 1 FROM tombstones WHERE owner_id = ?1 AND session_id = ?2")
        .and_then(|mut s| s.exists(params![owner, session_id.to_string()]))
        .during("looking for a tombstone")?;
    if deleted {
        Err(WriteError::Refused(StoreError::NoSession { session_id }))
    } else {
        Ok(())
    }
}

fn upsert_session(connection: &Connection, owner: i64, session: &SessionWrite) -> Result<(), WriteError> {
    let parent = session
        .parent_session_id
        .map(|id| id.to_string())
        .unwrap_or_default();
    connection
        .prepare_cached(
            "INSERT INTO sessions (owner_id, session_id, title, harness, workspace, model, parent_session_id,
                created_at, updated_at, closed)
            VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)
            ON CONFLICT (owner_id, session_id) DO UPDATE SET
                title = excluded.title, model = excluded.model, closed = excluded.closed,
                updated_at = excluded.updated_at
            WHERE excluded.updated_at >= sessions.updated_at",
        )
        .and_then(|mut statement| {
            statement.execute(params![
                owner,
                session.session_id.to_string(),
                session.title,
                session.harness,
                session.workspace,
                session.model,
                parent,
                session.created_at,
                session.updated_at,
                session.closed,
            ])
        })
        .during("writing a session")?;
    Ok(())
}

pub(super) fn put_session(
    connection: &Connection,
    owner: &Owner,
    session: &SessionWrite,
) -> Result<(), WriteError> {
    let owner = owner_id(connection, owner)?;
    refuse_deleted(connection, owner, session.session_id)?;
    upsert_session(connection, owner, session)
}

pub(super) fn append_turn(
    connection: &Connection,
    owner: &Owner,
    write: &TurnWrite,
) -> Result<AppendTurnResponse, WriteError> {
    let owner = owner_id(connection, owner)?;
    let session_id = write.session.session_id;
    refuse_deleted(connection, owner, session_id)?;
    if let Some(message_version) = stored_turn(connection, owner, write)? {
        return Ok(AppendTurnResponse {
            message_version,
            already_stored: true,
        });
    }
    upsert_session(connection, owner, &write.session)?;
    let (turns, messages) = counts(connection, owner, session_id)?;
    require_continuation(&write.messages, messages)?;
    let message_version = messages + write.messages.len() as u64;
    insert_turn(connection, owner, write, turns, message_version)?;
    for (position, (message_id, message)) in write.messages.iter().enumerate() {
        insert_message(connection, owner, write, *message_id, message).map_err(|error| match error {
            WriteError::Sqlite(_, ref e) if is_unique_violation(e) => {
                WriteError::Refused(StoreError::MessageExists {
                    position,
                    message_id: *message_id,
                })
            }
            other => other,
        })?;
    }
    connection
        .prepare_cached(
            "UPDATE sessions SET message_count = ?3, turn_count = ?4 WHERE owner_id = ?1 AND session_id = ?2",
        )
        .and_then(|mut s| {
            s.execute(params![
                owner,
                session_id.to_string(),
                stored(message_version),
                stored(turns + 1)
            ])
        })
        .during("counting a turn")?;
    Ok(AppendTurnResponse {
        message_version,
        already_stored: false,
    })
}

fn is_unique_violation(error: &rusqlite::Error) -> bool {
    let unique = rusqlite::ffi::SQLITE_CONSTRAINT_UNIQUE;
    matches!(error, rusqlite::Error::SqliteFailure(failure, _) if failure.extended_code == unique)
}

fn stored_turn(connection: &Connection, owner: i64, write: &TurnWrite) -> Result<Option<u64>, WriteError> {
    let session_id = write.session.session_id.to_string();
    let version: Option<i64> = connection
        .prepare_cached(
            "SELECT message_version FROM turns WHERE owner_id = ?1 AND session_id = ?2 AND turn_id = ?3",
        )
        .and_then(|mut s| {
            s.query_row(params![owner, session_id, write.turn_id.to_string()], |row| {
                row.get(0)
            })
            .optional()
        })
        .during("looking for a stored turn")?;
    Ok(version.map(i64::unsigned_abs))
}

fn counts(connection: &Connection, owner: i64, session_id: SessionId) -> Result<(u64, u64), WriteError> {
    connection
        .prepare_cached(
            "SELECT turn_count, message_count FROM sessions WHERE owner_id = ?1 AND session_id = ?2",
        )
        .and_then(|mut statement| {
            statement.query_row(params![owner, session_id.to_string()], |row| {
                Ok((
                    row.get::<_, i64>(0)?.unsigned_abs(),
                    row.get::<_, i64>(1)?.unsigned_abs(),
                ))
            })
        })
        .during("reading a session's counts")
}

fn require_continuation<T>(messages: &[(T, Message)], stored: u64) -> Result<(), WriteError> {
    for ((position, (_, message)), expected) in messages.iter().enumerate().zip(stored..) {
        if message.index != expected {
            let found = message.index;
            return Err(WriteError::Refused(StoreError::Index {
                position,
                found,
                expected,
            }));
        }
    }
    Ok(())
}

fn insert_turn(
    connection: &Connection,
    owner: i64,
    write: &TurnWrite,
    number: u64,
    message_version: u64,
) -> Result<(), WriteError> {
    let turn = &write.turn;
    connection
        .prepare_cached(
            "INSERT INTO turns (owner_id, session_id, number, turn_id, started_at, ended_at, outcome,
                usage_json, error_json, last_seq, message_version)
            VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
        )
        .and_then(|mut statement| {
            statement.execute(params![
                owner,
                write.session.session_id.to_string(),
                stored(number),
                write.turn_id.to_string(),
                turn.started_at,
                turn.ended_at,
                turn.outcome,
                turn.usage_json,
                turn.error_json,
                stored(turn.last_seq),
                stored(message_version),
            ])
        })
        .during("writing a turn")?;
    Ok(())
}

fn insert_message(
    connection: &Connection,
    owner: i64,
    write: &TurnWrite,
    message_id: MessageId,
    message: &Message,
) -> Result<(), WriteError> {
    connection
        .prepare_cached(
            "INSERT INTO messages (owner_id, session_id, idx, message_id, turn_id, role, created_at, json, text)
            VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
        )
        .and_then(|mut statement| {
            statement.execute(params![
                owner,
                write.session.session_id.to_string(),
                stored(message.index),
                message_id.to_string(),
                write.turn_id.to_string(),
                message.role,
                message.created_at,
                message.json,
                message.text,
            ])
        })
        .during("writing a message")?;
    if message.text.is_empty() {
        return Ok(());
    }
    let id = connection.last_insert_rowid();
    for index in ["prose", "code"] {
        connection
            .prepare_cached(&format!(
                "INSERT INTO {index}_{owner} (rowid, text) VALUES (?1, ?2)"
            ))
            .and_then(|mut s| s.execute(params![id, message.text]))
            .during("indexing a message")?;
    }
    Ok(())
}

pub(super) fn delete_session(
    connection: &Connection,
    owner: &Owner,
    session_id: SessionId,
) -> Result<(), WriteError> {
    let owner = owner_id(connection, owner)?;
    let of_session = params![owner, session_id.to_string()];
    for index in ["prose", "code"] {
        // An index with external content needs the old text to find what to remove.
        let forget = format!(
            "INSERT INTO {index}_{owner} ({index}_{owner}, rowid, text) SELECT 'delete', id, text FROM messages
            WHERE owner_id = ?1 AND session_id = ?2 AND text <> ''"
        );
        connection
            .execute(&forget, of_session)
            .during("removing messages from a search index")?;
    }
    for table in ["messages", "turns", "sessions"] {
        let delete = format!("DELETE FROM {table} WHERE owner_id = ?1 AND session_id = ?2");
        connection
            .execute(&delete, of_session)
            .during("deleting a session")?;
    }
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_millis();
    connection
        .execute(
            "INSERT INTO tombstones VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING",
            params![
                owner,
                session_id.to_string(),
                i64::try_from(now).unwrap_or(i64::MAX)
            ],
        )
        .during("leaving a tombstone")?;
    Ok(())
}
