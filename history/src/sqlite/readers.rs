//! A small pool of read-only connections, used on blocking threads.

use super::failure::request_error;
use crate::store::StoreError;
use rusqlite::{Connection, OpenFlags};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;

const CONNECTIONS: usize = 4;
/// How long one reading may take. A search over a huge history ends here instead of holding its connection.
const DEADLINE: Duration = Duration::from_secs(10);
/// How many steps of SQLite's machine pass between two looks at the clock.
const STEPS_BETWEEN_CHECKS: i32 = 10_000;

#[derive(Debug, Clone)]
pub(super) struct Readers {
    idle: Arc<Mutex<Vec<Connection>>>,
    free: Arc<Semaphore>,
}

impl Readers {
    pub(super) fn open(path: &Path) -> rusqlite::Result<Self> {
        let connections = (0..CONNECTIONS)
            .map(|_| open_reader(path))
            .collect::<Result<Vec<_>, _>>()?;
        Ok(Self {
            idle: Arc::new(Mutex::new(connections)),
            free: Arc::new(Semaphore::new(CONNECTIONS)),
        })
    }

    /// Runs `read` in one read transaction: it sees one state of the database from beginning to end.
    pub(super) async fn read<T: Send + 'static>(
        &self,
        step: &'static str,
        read: impl FnOnce(&Connection) -> Result<T, ReadError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let permit = Arc::clone(&self.free)
            .acquire_owned()
            .await
            .map_err(|_| StoreError::Stopped)?;
        let idle = Arc::clone(&self.idle);
        let work = move || {
            let taken = idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
            let mut connection = taken.ok_or(StoreError::Stopped)?;
            let outcome = in_transaction(&mut connection, read);
            idle.lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(connection);
            drop(permit);
            outcome.map_err(|error| match error {
                ReadError::Store(error) => error,
                ReadError::Sqlite(error) => request_error(step, error),
            })
        };
        tokio::task::spawn_blocking(work)
            .await
            .map_err(|_| StoreError::Stopped)?
    }

    /// Closes the connections, once those in use are back.
    pub(super) async fn close(&self) {
        let all = u32::try_from(CONNECTIONS).unwrap_or(u32::MAX);
        if let Ok(permits) = self.free.acquire_many(all).await {
            permits.forget();
        }
        self.free.close();
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

/// Why a reading gave nothing.
#[derive(Debug)]
pub(super) enum ReadError {
    Store(StoreError),
    Sqlite(rusqlite::Error),
}

impl From<rusqlite::Error> for ReadError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

impl From<StoreError> for ReadError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

fn in_transaction<T>(
    connection: &mut Connection,
    read: impl FnOnce(&Connection) -> Result<T, ReadError>,
) -> Result<T, ReadError> {
    let end = Instant::now() + DEADLINE;
    connection.progress_handler(STEPS_BETWEEN_CHECKS, Some(move || Instant::now() > end))?;
    let transaction = connection.transaction()?;
    read(&transaction)
}

pub(super) fn open_reader(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(super::BUSY_TIMEOUT)?;
    connection.pragma_update(None, "query_only", true)?;
    connection.pragma_update(None, "cache_size", -16_384)?;
    connection.pragma_update(None, "mmap_size", 256_i64 << 20)?;
    connection.set_prepared_statement_cache_capacity(64);
    Ok(connection)
}
