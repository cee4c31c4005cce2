//! `state.db`: what the gateway has learned and would rather not learn again. One thread writes, in groups.
//!
//! - which stored objects were issued to whom
//! - how each account of a provider fares, and what its quota headers last said
//! - tokens of OAuth accounts, sealed

#[cfg(test)]
mod tests;
mod write;

use std::path::{Path, PathBuf};
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;

use rusqlite::Connection;
use tokio::sync::oneshot;

use write::Write;

const SCHEMA_VERSION: i64 = 2;

const SCHEMA: &str = "
CREATE TABLE object (
    serial   INTEGER PRIMARY KEY,
    provider TEXT NOT NULL,
    account  TEXT NOT NULL,
    owner    TEXT NOT NULL,
    id       TEXT NOT NULL,
    kind     TEXT NOT NULL DEFAULT '',
    UNIQUE (provider, id)
) STRICT;
CREATE TABLE account (
    provider TEXT NOT NULL,
    account  TEXT NOT NULL,
    state    TEXT NOT NULL, -- JSON
    PRIMARY KEY (provider, account)
) STRICT;
CREATE TABLE token (
    provider TEXT NOT NULL,
    account  TEXT NOT NULL,
    sealed   BLOB NOT NULL,
    PRIMARY KEY (provider, account)
) STRICT;
PRAGMA user_version = 2;
";

/// From version 1, which did not tell what an object was.
const TO_2: &str = "
ALTER TABLE object ADD COLUMN kind TEXT NOT NULL DEFAULT '';
PRAGMA user_version = 2;
";

/// Writes that wait at a time; more are dropped where they may be.
const WAITING: usize = 4096;

/// A database that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    #[error("opening {}", path.display())]
    Open { path: PathBuf, source: rusqlite::Error },
    #[error("{} has schema version {found}, this program knows {SCHEMA_VERSION}", path.display())]
    Version { path: PathBuf, found: i64 },
    #[error("starting the thread that writes {}", path.display())]
    Thread { path: PathBuf, source: std::io::Error },
    #[error("writing to the gateway's state")]
    Write,
}

/// A stored object and whose it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredObject {
    /// Rises with each one.
    pub serial: u64,
    pub provider: String,
    pub account: String,
    pub owner: String,
    pub id: String,
    /// What it is, in one word or two; empty where that was not noted.
    pub kind: String,
}

/// The state of one account, as JSON.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredAccount {
    pub provider: String,
    pub account: String,
    pub state: String,
}

/// The sealed tokens of one account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredToken {
    pub provider: String,
    pub account: String,
    pub sealed: Vec<u8>,
}

/// Everything there was at the start.
#[derive(Debug, Default)]
pub struct Loaded {
    /// In the order in which they were issued.
    pub objects: Vec<StoredObject>,
    pub accounts: Vec<StoredAccount>,
    pub tokens: Vec<StoredToken>,
}

/// The database, written behind. Dropped, it writes what waits.
#[derive(Debug)]
pub struct State {
    sender: Option<SyncSender<Write>>,
    thread: Option<JoinHandle<()>>,
}

impl State {
    /// Opens or creates the database, and reads all of it.
    pub fn open(path: &Path) -> Result<(Self, Loaded), StateError> {
        let open = |source| StateError::Open {
            path: path.to_owned(),
            source,
        };
        let connection = Connection::open(path).map_err(open)?;
        connection
            .execute_batch("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA secure_delete = ON;")
            .map_err(open)?;
        let version = connection
            .query_row("PRAGMA user_version", [], |row| row.get(0))
            .map_err(open)?;
        match version {
            0 => connection
                .execute_batch(&format!("BEGIN; {SCHEMA} COMMIT;"))
                .map_err(open)?,
            // Brought up to date when it is read.
            1 | SCHEMA_VERSION => {}
            found => {
                return Err(StateError::Version {
                    path: path.to_owned(),
                    found,
                });
            }
        }
        let loaded = load(&connection).map_err(open)?;
        let (sender, receiver) = sync_channel(WAITING);
        let thread = std::thread::Builder::new()
            .name("gateway-state".to_owned())
            .spawn(move || write::run(connection, &receiver))
            .map_err(|source| StateError::Thread {
                path: path.to_owned(),
                source,
            })?;
        let state = Self {
            sender: Some(sender),
            thread: Some(thread),
        };
        Ok((state, loaded))
    }

    /// Notes that an object was issued.
    pub fn put_object(&self, object: StoredObject) {
        self.behind(Write::Object(object));
    }

    /// Forgets an object.
    pub fn remove_object(&self, serial: u64) {
        self.behind(Write::NoObject(serial));
    }

    /// Notes how an account fares.
    pub fn put_account(&self, account: StoredAccount) {
        self.behind(Write::Account(account));
    }

    /// Keeps tokens; returns when they are on disk.
    pub async fn put_token(&self, token: StoredToken) -> Result<(), StateError> {
        self.through(|done| Write::Token(token, done)).await
    }

    /// Returns when everything before it is on disk.
    pub async fn flush(&self) -> Result<(), StateError> {
        self.through(Write::Flush).await
    }

    async fn through(&self, write: impl FnOnce(oneshot::Sender<bool>) -> Write) -> Result<(), StateError> {
        let (done, written) = oneshot::channel();
        let Some(sender) = self.sender.clone() else {
            return Err(StateError::Write);
        };
        let write = write(done);
        // The queue may be full, and waiting for it would hold up the event loop.
        let sent = tokio::task::spawn_blocking(move || sender.send(write).is_ok());
        if !sent.await.unwrap_or(false) {
            return Err(StateError::Write);
        }
        match written.await {
            Ok(true) => Ok(()),
            _ => Err(StateError::Write),
        }
    }

    /// Losing one of these is safe: an object that is not known is refused, an account is tried again.
    fn behind(&self, write: Write) {
        let Some(sender) = &self.sender else { return };
        if let Err(TrySendError::Full(_)) = sender.try_send(write) {
            tracing::warn!("the gateway's state cannot be written as fast as it changes");
        }
    }
}

impl Drop for State {
    fn drop(&mut self) {
        drop(self.sender.take());
        if let Some(thread) = self.thread.take() {
            let _a_panic_was_reported = thread.join();
        }
    }
}

/// Replaces sealed tokens where `again` (provider, account, sealed) has something in their place, in one transaction. How
/// many were replaced. For the time before the database is opened.
pub(crate) fn reseal(
    path: &Path,
    again: impl Fn(&str, &str, &[u8]) -> Option<Vec<u8>>,
) -> Result<usize, StateError> {
    if !path.exists() {
        return Ok(0);
    }
    let open = |source| StateError::Open {
        path: path.to_owned(),
        source,
    };
    let mut connection = Connection::open(path).map_err(open)?;
    connection
        .execute_batch("PRAGMA synchronous = FULL; PRAGMA secure_delete = ON;")
        .map_err(open)?;
    let tokens = load(&connection).map_err(open)?.tokens;
    let transaction = connection.transaction().map_err(open)?;
    let mut replaced = 0;
    for token in tokens {
        let Some(sealed) = again(&token.provider, &token.account, &token.sealed) else {
            continue;
        };
        transaction
            .execute(
                "UPDATE token SET sealed = ? WHERE provider = ? AND account = ?",
                rusqlite::params![sealed, token.provider, token.account],
            )
            .map_err(open)?;
        replaced += 1;
    }
    transaction.commit().map_err(open)?;
    Ok(replaced)
}

/// Reads everything, of an older schema too.
fn load(connection: &Connection) -> rusqlite::Result<Loaded> {
    let version: i64 = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    if version == 1 {
        connection.execute_batch(&format!("BEGIN; {TO_2} COMMIT;"))?;
    }
    let mut objects = connection
        .prepare("SELECT serial, provider, account, owner, id, kind FROM object ORDER BY serial")?;
    let objects = objects.query_map([], |row| {
        Ok(StoredObject {
            serial: row.get::<_, i64>(0)?.cast_unsigned(),
            provider: row.get(1)?,
            account: row.get(2)?,
            owner: row.get(3)?,
            id: row.get(4)?,
            kind: row.get(5)?,
        })
    })?;
    let mut accounts = connection.prepare("SELECT provider, account, state FROM account")?;
    let accounts = accounts.query_map([], |row| {
        Ok(StoredAccount {
            provider: row.get(0)?,
            account: row.get(1)?,
            state: row.get(2)?,
        })
    })?;
    let mut tokens = connection.prepare("SELECT provider, account, sealed FROM token")?;
    let tokens = tokens.query_map([], |row| {
        Ok(StoredToken {
            provider: row.get(0)?,
            account: row.get(1)?,
            sealed: row.get(2)?,
        })
    })?;
    Ok(Loaded {
        objects: objects.collect::<Result<_, _>>()?,
        accounts: accounts.collect::<Result<_, _>>()?,
        tokens: tokens.collect::<Result<_, _>>()?,
    })
}
