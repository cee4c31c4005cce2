//! The one writer: a thread that drains its queue into one transaction and answers after the commit.

use super::failure::{Class, classify, fatal, request_error};
use super::write::{self, WriteError};
use crate::owners::Owner;
use crate::request::{SessionWrite, TurnWrite};
use crate::store::{Fatal, StoreError};
use lodge_proto::SessionId;
use lodge_proto::history::AppendTurnResponse;
use rusqlite::{Connection, TransactionBehavior};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot, watch};

/// The most requests one transaction takes, and the most that wait.
const MAX_BATCH: usize = 512;
/// The most memory that waiting requests take, in KiB.
const MAX_QUEUED_KIB: u32 = 256 << 10;
/// Quiet for so long counts as idle: time to move the log into the database file.
const IDLE: Duration = Duration::from_millis(250);

/// One write, as it waits in the queue.
#[derive(Debug)]
pub(super) enum Write {
    Session(SessionWrite),
    Turn(Box<TurnWrite>),
    Delete(SessionId),
}

impl Write {
    fn weight_kib(&self) -> u32 {
        let bytes = match self {
            Self::Turn(turn) => turn.weight(),
            Self::Session(_) | Self::Delete(_) => 1024,
        };
        u32::try_from(bytes / 1024 + 1)
            .unwrap_or(u32::MAX)
            .min(MAX_QUEUED_KIB)
    }
}

/// The answer to a write; only a turn has a content.
pub(super) type Answer = Result<AppendTurnResponse, StoreError>;

struct Job {
    owner: Owner,
    write: Write,
    answer: oneshot::Sender<Answer>,
    _place: OwnedSemaphorePermit,
    _memory: OwnedSemaphorePermit,
}

/// The way to the writer thread.
#[derive(Debug)]
pub(super) struct Writer {
    queue: Mutex<Option<Sender<Job>>>,
    places: Arc<Semaphore>,
    memory: Arc<Semaphore>,
    thread: Mutex<Option<JoinHandle<()>>>,
    failed: watch::Receiver<Option<Fatal>>,
    batches: Arc<AtomicU64>,
}

impl Writer {
    /// Starts the thread, which owns `connection` until [`Writer::stop`].
    pub(super) fn start(connection: Connection) -> std::io::Result<Self> {
        let (queue, jobs) = channel();
        let (report, failed) = watch::channel(None);
        let batches = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&batches);
        let thread = std::thread::Builder::new()
            .name("history-writer".into())
            .spawn(move || {
                if let Err(error) = run(connection, &jobs, &counted) {
                    tracing::error!(error = %error, source = %error.source, "the history writer ends");
                    report.send_replace(Some(error));
                }
            })?;
        Ok(Self {
            queue: Mutex::new(Some(queue)),
            places: Arc::new(Semaphore::new(MAX_BATCH)),
            memory: Arc::new(Semaphore::new(MAX_QUEUED_KIB as usize)),
            thread: Mutex::new(Some(thread)),
            failed,
            batches,
        })
    }

    /// Queues a write and waits until it is durable or refused. Waits for a place while the queue is full.
    pub(super) async fn submit(&self, owner: &Owner, write: Write) -> Answer {
        let stopped = |_| StoreError::Stopped;
        let place = Arc::clone(&self.places).acquire_owned().await.map_err(stopped)?;
        let memory = Arc::clone(&self.memory)
            .acquire_many_owned(write.weight_kib())
            .await
            .map_err(stopped)?;
        let (answer, answered) = oneshot::channel();
        let job = Job {
            owner: owner.clone(),
            write,
            answer,
            _place: place,
            _memory: memory,
        };
        self.send(job)?;
        answered.await.map_err(|_| StoreError::Stopped)?
    }

    fn send(&self, job: Job) -> Result<(), StoreError> {
        let queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        queue
            .as_ref()
            .and_then(|queue| queue.send(job).ok())
            .ok_or(StoreError::Stopped)
    }

    /// How many batches were committed since the start.
    pub(super) fn batches(&self) -> u64 {
        self.batches.load(Ordering::Relaxed)
    }

    /// Resolves when the writer ended by a fatal error; never after an orderly stop.
    pub(super) async fn failed(&self) -> Fatal {
        let mut failed = self.failed.clone();
        let report = failed
            .wait_for(Option::is_some)
            .await
            .ok()
            .and_then(|value| value.clone());
        match report {
            Some(error) => error,
            None => std::future::pending().await,
        }
    }

    /// Lets the thread finish what is queued and waits for it. Blocks.
    pub(super) fn stop(&self) {
        drop(self.queue.lock().unwrap_or_else(PoisonError::into_inner).take());
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if thread.is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the history writer panicked");
        }
    }
}

/// Until the queue is closed: batches while there is work, a checkpoint when there is none.
fn run(mut connection: Connection, jobs: &Receiver<Job>, batches: &AtomicU64) -> Result<(), Fatal> {
    let mut checkpoint_due = true;
    loop {
        let first = if checkpoint_due {
            jobs.recv_timeout(IDLE)
        } else {
            jobs.recv().map_err(|_| RecvTimeoutError::Disconnected)
        };
        match first {
            Ok(first) => {
                let batch: Vec<Job> = std::iter::once(first)
                    .chain(jobs.try_iter())
                    .take(MAX_BATCH)
                    .collect();
                tracing::debug!(requests = batch.len(), "committing");
                commit(&mut connection, batch)?;
                batches.fetch_add(1, Ordering::Relaxed);
                checkpoint_due = true;
            }
            Err(RecvTimeoutError::Timeout) => {
                checkpoint(&connection, "PASSIVE")?;
                checkpoint_due = false;
            }
            Err(RecvTimeoutError::Disconnected) => return finish(&connection),
        }
    }
}

fn finish(connection: &Connection) -> Result<(), Fatal> {
    let clean = connection.execute("UPDATE state SET clean = 1", []);
    match clean {
        Err(error) if classify(&error) == Class::Fatal => Err(fatal("marking a clean stop", error)),
        // Without the mark the next start checks the file: slower, and safe.
        _ => checkpoint(connection, "TRUNCATE"),
    }
}

fn checkpoint(connection: &Connection, mode: &str) -> Result<(), Fatal> {
    let outcome = connection.query_row(&format!("PRAGMA wal_checkpoint({mode})"), [], |_| Ok(()));
    match outcome {
        Err(error) if classify(&error) == Class::Fatal => {
            Err(fatal("moving the log into the database", error))
        }
        Err(error) => {
            tracing::warn!(%error, "the log could not be moved into the database now");
            Ok(())
        }
        Ok(()) => Ok(()),
    }
}

/// Commits a batch and answers it. One request that does not fit on the disk does not fail the others: then each
/// gets a transaction of its own.
fn commit(connection: &mut Connection, batch: Vec<Job>) -> Result<(), Fatal> {
    match transact(connection, &batch) {
        Ok(answers) => answer(batch, answers),
        Err((_, error)) if classify(&error) == Class::Full && batch.len() > 1 => {
            for job in batch {
                commit(connection, vec![job])?;
            }
        }
        Err((step, error)) if classify(&error) != Class::Fatal => {
            tracing::warn!(%error, step, "a write was refused");
            answer(batch, vec![Err(request_error(step, error))]);
        }
        // The senders go with the batch: every caller learns that nothing is known of its request.
        Err((step, error)) => return Err(fatal(step, error)),
    }
    Ok(())
}

fn answer(batch: Vec<Job>, answers: Vec<Answer>) {
    for (job, answer) in batch.into_iter().zip(answers) {
        // A caller that has gone finds its turn stored when it asks again.
        let _ = job.answer.send(answer);
    }
}

type TransactionError = (&'static str, rusqlite::Error);

/// Runs the batch in one transaction, each request in a savepoint of its own, and commits.
fn transact(connection: &mut Connection, batch: &[Job]) -> Result<Vec<Answer>, TransactionError> {
    let begin = connection.transaction_with_behavior(TransactionBehavior::Immediate);
    let mut transaction = begin.map_err(|e| ("beginning a transaction", e))?;
    let mut answers = Vec::with_capacity(batch.len());
    for job in batch {
        let savepoint = transaction.savepoint().map_err(|e| ("setting a savepoint", e))?;
        match perform(&savepoint, job) {
            Ok(response) => {
                savepoint.commit().map_err(|e| ("releasing a savepoint", e))?;
                answers.push(Ok(response));
            }
            Err(WriteError::Refused(error)) => {
                savepoint.finish().map_err(|e| ("undoing a request", e))?;
                answers.push(Err(error));
            }
            Err(WriteError::Sqlite(step, error)) if classify(&error) == Class::Statement => {
                savepoint.finish().map_err(|e| ("undoing a request", e))?;
                answers.push(Err(request_error(step, error)));
            }
            Err(WriteError::Sqlite(step, error)) => return Err((step, error)),
        }
    }
    transaction.commit().map_err(|e| ("committing", e))?;
    Ok(answers)
}

fn perform(connection: &Connection, job: &Job) -> Result<AppendTurnResponse, WriteError> {
    let done = |()| AppendTurnResponse::default();
    match &job.write {
        Write::Turn(turn) => write::append_turn(connection, &job.owner, turn),
        Write::Session(session) => write::put_session(connection, &job.owner, session).map(done),
        Write::Delete(session_id) => write::delete_session(connection, &job.owner, *session_id).map(done),
    }
}
