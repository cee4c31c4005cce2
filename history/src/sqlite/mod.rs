//! The store of a single machine: SQLite in WAL mode, one writer, a few readers.

mod backup;
mod failure;
mod read;
mod readers;
mod schema;
mod search;
mod write;
mod writer;

pub use backup::{VerifyReport, backup, verify};

use crate::owners::Owner;
use crate::request::{SessionWrite, TurnWrite};
use crate::store::{
    Fatal, MessageQuery, Page, SearchQuery, SessionPosition, SessionQuery, Store, StoreError, TurnQuery,
};
use lodge_proto::SessionId;
use lodge_proto::history::{AppendTurnResponse, Message, SearchHit, Session, Turn};
use readers::Readers;
use rusqlite::Connection;
use std::fs::{File, OpenOptions, TryLockError};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;
use writer::{Write, Writer};

const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// The log is moved into the database when the writer is idle; a commit does it only past this many pages (64 MiB).
const CHECKPOINT_PAGES: i64 = 16_384;
const LOG_BYTES_KEPT: i64 = 64 << 20;

/// A database that was not opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("{path}")]
    File { path: PathBuf, source: std::io::Error },
    #[error("{path}: in use by another history service")]
    Locked { path: PathBuf },
    #[error("{step} {path}")]
    Sqlite {
        step: &'static str,
        path: PathBuf,
        source: rusqlite::Error,
    },
    #[error("{path}: not a history database of Lodge")]
    Foreign { path: PathBuf },
    #[error(
        "{path}: its schema is version {found}, this release knows up to {newest}; use the newer release"
    )]
    NewerSchema {
        path: PathBuf,
        found: i64,
        newest: usize,
    },
    #[error("copying the history database before its migration")]
    Backup { source: VerifyError },
    #[error("migrating {path} to schema version {version}; the old data is unchanged")]
    Migration {
        path: PathBuf,
        version: usize,
        source: rusqlite::Error,
    },
    #[error("checking the history database after an unclean stop")]
    Damaged { source: VerifyError },
    #[error("starting the writer's thread")]
    Thread { source: std::io::Error },
}

/// A database or backup that did not pass, or could not be made.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    #[error("{step} {path}")]
    Sqlite {
        step: &'static str,
        path: PathBuf,
        source: rusqlite::Error,
    },
    #[error("{path}")]
    File { path: PathBuf, source: std::io::Error },
    #[error("{path} exists already")]
    Exists { path: PathBuf },
    #[error(transparent)]
    Schema(Box<OpenError>),
    #[error("{path} is damaged: {}", problems.join("; "))]
    Damaged { path: PathBuf, problems: Vec<String> },
}

/// How a database is opened.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// The database file grows to this many bytes at most; a write beyond fails with [`StoreError::Full`].
    /// `None`: as large as the disk allows.
    pub max_database_bytes: Option<u64>,
}

/// The store of a single machine. Call [`SqliteStore::close`] in the end, or the next start checks the whole file.
#[derive(Debug)]
pub struct SqliteStore {
    path: PathBuf,
    writer: Writer,
    readers: Readers,
    _lock: File,
}

impl SqliteStore {
    /// Opens or creates the database at `path`, migrates it, and checks it after an unclean stop. Blocks.
    pub fn open(path: &Path, options: &Options) -> Result<Self, OpenError> {
        let lock = lock(path)?;
        let fail = |step| {
            move |source| OpenError::Sqlite {
                step,
                path: path.to_owned(),
                source,
            }
        };
        drop(create_private(path).map_err(|source| OpenError::File {
            path: path.to_owned(),
            source,
        })?);
        let mut connection = Connection::open(path).map_err(fail("opening"))?;
        // Before anything is written: a file that is not ours stays as it is.
        connection.busy_timeout(BUSY_TIMEOUT).map_err(fail("opening"))?;
        schema::check_version(&connection, path, schema::current_version())?;
        configure_writer(&connection, options).map_err(fail("configuring"))?;
        check_after_unclean_stop(&connection, path)?;
        schema::migrate(&mut connection, path, schema::MIGRATIONS)?;
        connection
            .execute("UPDATE state SET clean = 0", [])
            .map_err(fail("marking as in use"))?;
        let readers = Readers::open(path).map_err(fail("opening a reader of"))?;
        let writer = Writer::start(connection).map_err(|source| OpenError::Thread { source })?;
        Ok(Self {
            path: path.to_owned(),
            writer,
            readers,
            _lock: lock,
        })
    }

    /// Finishes what is queued, empties the log into the database and closes it. Later calls fail.
    pub async fn close(&self) {
        self.readers.close().await;
        // Joins a thread that has at most one queue of work left, when nobody else is served any more.
        self.writer.stop();
    }

    /// Resolves when an I/O error ended the writer; then the process should end, too.
    pub async fn failed(&self) -> Fatal {
        self.writer.failed().await
    }

    /// How many times the writer has committed a batch since the store was opened.
    pub fn batches(&self) -> u64 {
        self.writer.batches()
    }

    /// Copies the database to the new file `to` while it is in use, and verifies the copy. Blocks.
    pub fn backup(&self, to: &Path) -> Result<VerifyReport, VerifyError> {
        backup(&self.path, to)
    }
}

/// Creates the file with mode 0600 unless it exists.
fn create_private(path: &Path) -> std::io::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
}

fn lock(path: &Path) -> Result<File, OpenError> {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    let lock_path = PathBuf::from(name);
    let failed = |source| OpenError::File {
        path: lock_path.clone(),
        source,
    };
    let file = create_private(&lock_path).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(OpenError::Locked {
            path: path.to_owned(),
        }),
        Err(TryLockError::Error(source)) => Err(failed(source)),
    }
}

fn configure_writer(connection: &Connection, options: &Options) -> rusqlite::Result<()> {
    connection.pragma_update_and_check(None, "journal_mode", "wal", |_| Ok(()))?;
    connection.pragma_update(None, "synchronous", "full")?;
    connection.pragma_update(None, "foreign_keys", true)?;
    connection.pragma_update(None, "cache_size", -65_536)?;
    connection.pragma_update_and_check(None, "wal_autocheckpoint", CHECKPOINT_PAGES, |_| Ok(()))?;
    connection.pragma_update_and_check(None, "journal_size_limit", LOG_BYTES_KEPT, |_| Ok(()))?;
    connection.set_prepared_statement_cache_capacity(64);
    if let Some(bytes) = options.max_database_bytes {
        let page: i64 = connection.pragma_query_value(None, "page_size", |row| row.get(0))?;
        let pages = i64::try_from(bytes).unwrap_or(i64::MAX) / page;
        connection.pragma_update_and_check(None, "max_page_count", pages.max(1), |_| Ok(()))?;
    }
    Ok(())
}

/// A process that did not close the database may have died with its machine: the file is checked first.
fn check_after_unclean_stop(connection: &Connection, path: &Path) -> Result<(), OpenError> {
    let fail = |source| OpenError::Sqlite {
        step: "reading the state of",
        path: path.to_owned(),
        source,
    };
    let tables = "SELECT count(*) FROM sqlite_schema WHERE name = 'state'";
    let tables: i64 = connection.query_row(tables, [], |row| row.get(0)).map_err(fail)?;
    if tables == 0 {
        return Ok(());
    }
    let clean: bool = connection
        .query_row("SELECT clean FROM state", [], |row| row.get(0))
        .map_err(fail)?;
    if !clean {
        tracing::info!("the history database was not closed: checking it");
        backup::check_integrity(connection, path, "quick_check")?;
    }
    Ok(())
}

impl Store for SqliteStore {
    async fn put_session(&self, owner: &Owner, session: SessionWrite) -> Result<(), StoreError> {
        self.writer
            .submit(owner, Write::Session(session))
            .await
            .map(|_| ())
    }

    async fn append_turn(&self, owner: &Owner, turn: TurnWrite) -> Result<AppendTurnResponse, StoreError> {
        self.writer.submit(owner, Write::Turn(Box::new(turn))).await
    }

    async fn delete_session(&self, owner: &Owner, session_id: SessionId) -> Result<(), StoreError> {
        self.writer
            .submit(owner, Write::Delete(session_id))
            .await
            .map(|_| ())
    }

    async fn get_session(&self, owner: &Owner, session_id: SessionId) -> Result<Session, StoreError> {
        let owner = owner.clone();
        let read = move |connection: &Connection| read::get_session(connection, &owner, session_id);
        self.readers.read("reading a session", read).await
    }

    async fn list_sessions(
        &self,
        owner: &Owner,
        query: SessionQuery,
    ) -> Result<Page<Session, SessionPosition>, StoreError> {
        let owner = owner.clone();
        let read = move |connection: &Connection| read::list_sessions(connection, &owner, &query);
        self.readers.read("listing sessions", read).await
    }

    async fn list_messages(
        &self,
        owner: &Owner,
        query: MessageQuery,
    ) -> Result<Page<Message, u64>, StoreError> {
        let owner = owner.clone();
        let read = move |connection: &Connection| read::list_messages(connection, &owner, &query);
        self.readers.read("listing messages", read).await
    }

    async fn list_turns(&self, owner: &Owner, query: TurnQuery) -> Result<Page<Turn, u64>, StoreError> {
        let owner = owner.clone();
        let read = move |connection: &Connection| read::list_turns(connection, &owner, &query);
        self.readers.read("listing turns", read).await
    }

    async fn search(&self, owner: &Owner, query: SearchQuery) -> Result<Vec<SearchHit>, StoreError> {
        let owner = owner.clone();
        let read = move |connection: &Connection| search::search(connection, &owner, &query);
        self.readers.read("searching", read).await
    }
}
