//! The runner's database: which sessions there are, snapshots of their folds, answers already given.
//!
//! The truth of a session is its journal; what is here makes a start quick and a repeated command harmless. One
//! thread owns the connection; everyone else sends it requests.

pub mod approvals;
pub mod blobs;
mod schema;
pub mod trusted;

use lodge_proto::SessionId;
use lodge_proto::session::SessionInfo;
use rusqlite::{Connection, OptionalExtension, params};
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use tokio::sync::oneshot;

/// Snapshots kept of each session: a client whose cursor lies up to this many turns back misses nothing even when
/// the runner was killed in between.
pub const SNAPSHOTS_KEPT: u32 = 3;
/// Answers are kept for 30 days.
const ANSWERS_KEPT_MS: u64 = 30 * 24 * 3600 * 1000;
/// Requests that may wait before senders are held up.
const QUEUE: usize = 4096;

/// Why the database could not be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("opening {path}")]
    Open { path: PathBuf, source: rusqlite::Error },
    #[error("{path} was written by a newer version of Lodge (schema {found}, this version knows {known})")]
    Newer { path: PathBuf, found: i64, known: i64 },
    #[error("bringing {path} up to date")]
    Migrate { path: PathBuf, source: rusqlite::Error },
    #[error("{what} in the runner's database")]
    Query {
        what: &'static str,
        source: rusqlite::Error,
    },
    #[error("a row of the runner's database cannot be read: {what}")]
    Row { what: &'static str },
    #[error("the thread of the runner's database is gone")]
    Gone,
}

/// A session as stored.
#[derive(Debug, Clone, PartialEq)]
pub struct SessionRow {
    pub info: SessionInfo,
    /// Changes when event numbers could repeat.
    pub epoch: u32,
    pub account: String,
}

/// A fold's state between turns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    pub record_seq: u64,
    pub seq: u64,
    pub bytes: Vec<u8>,
}

/// What is known of a command's client id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Claim {
    /// Never seen: it is now claimed, at this time.
    New { since_ms: u64 },
    /// Claimed before and not answered: its effect may or may not be there.
    Pending { since_ms: u64 },
    /// Answered before.
    Answered(String),
    /// Another payload came under this id.
    Conflict,
}

/// What this start of the runner is to know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Started {
    /// Counts the starts: fences off older runners at the shims.
    pub generation: u64,
    /// The machine was booted anew without a clean end of the runner: records may be lost.
    pub unclean_boot: bool,
}

type Job = Box<dyn FnOnce(&mut Connection) + Send>;

/// A handle to the database's thread.
#[derive(Debug, Clone)]
pub struct Store {
    jobs: mpsc::SyncSender<Job>,
}

impl Store {
    /// Opens the database, brings it up to date and counts this start.
    pub fn open(path: &Path, boot_id: &str) -> Result<(Self, Started), StoreError> {
        let mut connection = schema::open(path)?;
        let started = schema::count_start(&mut connection, boot_id).map_err(|source| StoreError::Query {
            what: "counting the start",
            source,
        })?;
        let (jobs, queue) = mpsc::sync_channel::<Job>(QUEUE);
        std::thread::Builder::new()
            .name("runner-db".to_owned())
            .spawn(move || {
                for job in queue {
                    job(&mut connection);
                }
            })
            .map_err(|_| StoreError::Gone)?;
        Ok((Self { jobs }, started))
    }

    async fn run<T: Send + 'static>(
        &self,
        what: &'static str,
        job: impl FnOnce(&mut Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (reply, answer) = oneshot::channel();
        let job: Job = Box::new(move |connection| drop(reply.send(job(connection))));
        self.jobs.send(job).map_err(|_| StoreError::Gone)?;
        answer
            .await
            .map_err(|_| StoreError::Gone)?
            .map_err(|source| StoreError::Query { what, source })
    }

    /// Does a write whose result nobody waits for; failures are logged.
    fn post(
        &self,
        what: &'static str,
        job: impl FnOnce(&mut Connection) -> rusqlite::Result<()> + Send + 'static,
    ) {
        let job: Job = Box::new(move |connection| {
            if let Err(error) = job(connection) {
                tracing::error!(%error, what, "runner database");
            }
        });
        if self.jobs.send(job).is_err() {
            tracing::error!(what, "the thread of the runner's database is gone");
        }
    }

    /// All sessions that were not deleted, newest first.
    pub async fn sessions(&self) -> Result<Vec<SessionRow>, StoreError> {
        let rows = self
            .run("listing sessions", |connection| {
                let mut statement = connection.prepare_cached(
                    "SELECT info, epoch, account FROM sessions WHERE deleted = 0 ORDER BY id DESC",
                )?;
                statement
                    .query_map([], |row| Ok((row.get::<_, String>(0)?, row.get(1)?, row.get(2)?)))?
                    .collect::<rusqlite::Result<Vec<(String, u32, String)>>>()
            })
            .await?;
        rows.into_iter()
            .map(|(info, epoch, account)| {
                let info = serde_json::from_str(&info).map_err(|_| StoreError::Row { what: "a session" })?;
                Ok(SessionRow { info, epoch, account })
            })
            .collect()
    }

    /// Stores a new session. One that is there already (a repeated command) stays as it is.
    pub async fn create(&self, row: &SessionRow) -> Result<(), StoreError> {
        let (id, info, epoch, account) = (
            row.info.id.to_string(),
            encode(&row.info),
            row.epoch,
            row.account.clone(),
        );
        self.run("storing a session", move |connection| {
            connection.execute(
                "INSERT INTO sessions (id, info, epoch, account) VALUES (?1, ?2, ?3, ?4) ON CONFLICT DO NOTHING",
                params![id, info, epoch, account],
            )?;
            Ok(())
        })
        .await
    }

    /// Stores the row of a session as it now is.
    pub fn update(&self, info: &SessionInfo) {
        let (id, info) = (info.id.to_string(), encode(info));
        self.post("updating a session", move |connection| {
            connection
                .prepare_cached("UPDATE sessions SET info = ?2 WHERE id = ?1")?
                .execute(params![id, info])?;
            Ok(())
        });
    }

    /// A new epoch: the numbers of this session's events could repeat.
    pub async fn set_epoch(&self, id: SessionId, epoch: u32) -> Result<(), StoreError> {
        self.run("changing an epoch", move |connection| {
            connection.execute(
                "UPDATE sessions SET epoch = ?2 WHERE id = ?1",
                params![id.to_string(), epoch],
            )?;
            Ok(())
        })
        .await
    }

    /// Marks a session as deleted; its id is never used again.
    pub async fn delete(&self, id: SessionId) -> Result<(), StoreError> {
        self.run("deleting a session", move |connection| {
            let id = id.to_string();
            let change = connection.transaction()?;
            change.execute(
                "UPDATE sessions SET deleted = 1, info = '{}' WHERE id = ?1",
                [&id],
            )?;
            change.execute("DELETE FROM snapshots WHERE session = ?1", [&id])?;
            change.execute("DELETE FROM blob_uses WHERE session = ?1", [&id])?;
            change.commit()
        })
        .await
    }

    /// Stores a snapshot and forgets the oldest; answers from which record on the journal is still needed.
    pub async fn save_snapshot(&self, id: SessionId, snapshot: Snapshot) -> Result<u64, StoreError> {
        self.run("storing a snapshot", move |connection| {
            let id = id.to_string();
            let change = connection.transaction()?;
            change
                .prepare_cached("INSERT OR REPLACE INTO snapshots VALUES (?1, ?2, ?3, ?4)")?
                .execute(params![id, snapshot.record_seq, snapshot.seq, snapshot.bytes])?;
            change
                .prepare_cached(
                    "DELETE FROM snapshots WHERE session = ?1 AND record_seq NOT IN
                     (SELECT record_seq FROM snapshots WHERE session = ?1 ORDER BY record_seq DESC LIMIT ?2)",
                )?
                .execute(params![id, SNAPSHOTS_KEPT])?;
            let oldest = change.query_row(
                "SELECT CASE WHEN count(*) < ?2 THEN 0 ELSE min(record_seq) END FROM snapshots WHERE session = ?1",
                params![id, SNAPSHOTS_KEPT],
                |row| row.get(0),
            )?;
            change.commit()?;
            Ok(oldest)
        })
        .await
    }

    /// The snapshots of a session, oldest first.
    pub async fn snapshots(&self, id: SessionId) -> Result<Vec<Snapshot>, StoreError> {
        self.run("reading snapshots", move |connection| {
            let mut statement = connection.prepare_cached(
                "SELECT record_seq, seq, fold FROM snapshots WHERE session = ?1 ORDER BY record_seq",
            )?;
            statement
                .query_map([id.to_string()], |row| {
                    Ok(Snapshot {
                        record_seq: row.get(0)?,
                        seq: row.get(1)?,
                        bytes: row.get(2)?,
                    })
                })?
                .collect()
        })
        .await
    }

    /// Forgets the snapshots of a session: they belong to another state of its journal.
    pub async fn drop_snapshots(&self, id: SessionId) -> Result<(), StoreError> {
        self.run("dropping snapshots", move |connection| {
            connection.execute("DELETE FROM snapshots WHERE session = ?1", [id.to_string()])?;
            Ok(())
        })
        .await
    }

    /// Claims a client id for a payload.
    pub async fn claim(
        &self,
        account: &str,
        client_id: &str,
        hash: [u8; 32],
        now: u64,
    ) -> Result<Claim, StoreError> {
        let (account, client_id) = (account.to_owned(), client_id.to_owned());
        self.run("claiming a client id", move |connection| {
            let known: Option<(Vec<u8>, Option<String>, u64)> = connection
                .prepare_cached(
                    "SELECT hash, answer, since FROM answers WHERE account = ?1 AND client_id = ?2",
                )?
                .query_row(params![account, client_id], |row| {
                    Ok((row.get(0)?, row.get(1)?, row.get(2)?))
                })
                .optional()?;
            Ok(match known {
                Some((known, _, _)) if known != hash => Claim::Conflict,
                Some((_, Some(answer), _)) => Claim::Answered(answer),
                Some((_, None, since_ms)) => Claim::Pending { since_ms },
                None => {
                    connection
                        .prepare_cached(
                            "INSERT INTO answers (account, client_id, hash, since) VALUES (?1, ?2, ?3, ?4)",
                        )?
                        .execute(params![account, client_id, hash.as_slice(), now])?;
                    Claim::New { since_ms: now }
                }
            })
        })
        .await
    }

    /// Keeps the answer to a claimed client id.
    pub fn answer(&self, account: &str, client_id: &str, answer: String) {
        let (account, client_id) = (account.to_owned(), client_id.to_owned());
        self.post("keeping an answer", move |connection| {
            connection
                .prepare_cached("UPDATE answers SET answer = ?3 WHERE account = ?1 AND client_id = ?2")?
                .execute(params![account, client_id, answer])?;
            Ok(())
        });
    }

    /// Gives a claim back: nothing was done, the same id may try again.
    pub fn unclaim(&self, account: &str, client_id: &str) {
        let (account, client_id) = (account.to_owned(), client_id.to_owned());
        self.post("giving a claim back", move |connection| {
            connection
                .prepare_cached(
                    "DELETE FROM answers WHERE account = ?1 AND client_id = ?2 AND answer IS NULL",
                )?
                .execute(params![account, client_id])?;
            Ok(())
        });
    }

    /// Forgets answers older than 30 days.
    pub fn forget_old_answers(&self, now: u64) {
        self.post("forgetting old answers", move |connection| {
            connection.execute(
                "DELETE FROM answers WHERE since < ?1",
                [now.saturating_sub(ANSWERS_KEPT_MS)],
            )?;
            Ok(())
        });
    }

    /// Waits until everything that was posted is done, and notes the clean end.
    pub async fn close(&self) -> Result<(), StoreError> {
        self.run("closing", |connection| {
            connection.execute("UPDATE runner SET clean = 1", [])?;
            Ok(())
        })
        .await
    }
}

fn encode(info: &SessionInfo) -> String {
    serde_json::to_string(info).unwrap_or_default()
}
