//! The thread that owns the ledger. Everybody else sends it requests.
//!
//! What waits is taken in together, written together and made durable together; then it is answered.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use tokio::sync::{mpsc, oneshot};

use super::clock::Anchor;
use super::db::{Db, DbError, Entry};
use super::handle::{Ask, Budget, LedgerError, Message, Refused, Ticket};
use super::journal::{Journal, JournalError};
use super::record::{How, Record, Settle};
use super::state::{Budgets, State};
use super::tally::Tally;
use super::ticker::{PACE, Ticker};
use super::window::Window;
use crate::clock::Clock;
use crate::money::Nanos;
use crate::usage::Usage;

/// Requests that are taken in together.
const BATCH: usize = 256;
/// Records that may wait for the database while requests come without a pause.
const UNFOLDED: usize = 4096;
/// Records that may wait for the database while it cannot be written: beyond it nothing more is let in.
const MOST_UNFOLDED: usize = 65_536;
/// Requests that may wait for room in a budget.
const WAITING: usize = 1024;
/// How long an earlier gateway may take to let go of the ledger.
const TAKE_OVER: Duration = Duration::from_secs(10);

type Reply = oneshot::Sender<Result<Ticket, Refused>>;

/// Something that works or does not: said once when it begins to fail and once when it works again.
struct Trouble {
    doing: &'static str,
    is_failing: bool,
}

impl Trouble {
    fn new(doing: &'static str) -> Self {
        let is_failing = false;
        Self { doing, is_failing }
    }

    fn note<E: std::error::Error>(&mut self, done: &Result<(), E>) {
        match done {
            Err(error) if !self.is_failing => {
                tracing::error!(error = crate::causes(error), "the ledger: {}", self.doing);
            }
            Ok(()) if self.is_failing => tracing::info!("the ledger works again: {}", self.doing),
            _ => {}
        }
        self.is_failing = done.is_err();
    }
}

/// The thread's own.
pub(super) struct Owner {
    pub(super) state: State,
    pub(super) budgets: Budgets,
    /// Since the start.
    pub(super) tally: Tally,
    journal: Journal,
    pub(super) db: Db,
    /// In the journal and not in the database yet.
    unfolded: Vec<Entry>,
    /// Not in the journal yet.
    pending: Vec<Entry>,
    waiting: VecDeque<(Box<Ask>, Reply)>,
    pub(super) anchor: Anchor,
    clock: Arc<dyn Clock>,
    /// Says to what is closed while the process ends that there is nobody left.
    sender: mpsc::WeakUnboundedSender<Message>,
    day: u64,
    ticker: Ticker,
    /// A tick is on its way.
    ticking: bool,
    folded: Instant,
    writing: Trouble,
    unfolding: Trouble,
    _lock: std::fs::File,
}

impl Owner {
    pub(super) fn open(
        directory: &Path,
        sender: mpsc::WeakUnboundedSender<Message>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, LedgerError> {
        let at = |source| LedgerError::Directory {
            path: directory.to_owned(),
            source,
        };
        std::fs::create_dir_all(directory).map_err(at)?;
        let lock = lock(directory)?;
        let db = Db::open(&directory.join("usage.db"))?;
        let boot_id = clock.boot_id().map_err(LedgerError::Boot)?;
        let mut kept = db.load()?;
        let (journal, records) = Journal::open(directory, kept.applied)?;
        let last = records.iter().map(|(_, record)| match record {
            Record::Reserve(reserve) => reserve.at,
            _ => 0,
        });
        let last = last.fold(kept.last, u64::max);
        let anchor = Anchor::new(
            kept.anchor.take(),
            &boot_id,
            clock.since_boot(),
            clock.wall(),
            last,
        );
        db.set_anchor(&anchor)?;
        let mut state = kept.state;
        let unfolded = records
            .into_iter()
            .map(|(number, record)| enter(&mut state, number, record))
            .collect();
        Ok(Self {
            state,
            budgets: kept.budgets,
            tally: Tally::default(),
            journal,
            db,
            unfolded,
            pending: Vec::new(),
            waiting: VecDeque::new(),
            anchor,
            clock,
            ticker: Ticker::start(sender.clone()).map_err(LedgerError::Thread)?,
            ticking: false,
            folded: Instant::now(),
            writing: Trouble::new("writing the journal; requests are refused until it works again"),
            unfolding: Trouble::new("folding the journal into the database; it is kept until it works again"),
            sender,
            day: 0,
            _lock: lock,
        })
    }

    /// What was under way when the process ended may have been billed in full.
    pub(super) fn settle_crashed(&mut self) -> Result<(), LedgerError> {
        let crashed: Vec<Record> = self
            .state
            .open
            .iter()
            .map(|(&id, open)| {
                Record::Settle(Settle {
                    id,
                    cost: open.reserve.amount.max(open.progress),
                    usage: Usage::default(),
                    how: How::Crashed,
                })
            })
            .collect();
        if !crashed.is_empty() {
            tracing::warn!(
                requests = crashed.len(),
                "settling what an earlier gateway left open"
            );
        }
        for record in crashed {
            self.record(record);
        }
        self.settle_down()
    }

    pub(super) fn run(mut self, mut receiver: mpsc::UnboundedReceiver<Message>) {
        while let Some(first) = receiver.blocking_recv() {
            let mut batch = vec![first];
            while batch.len() < BATCH
                && let Ok(message) = receiver.try_recv()
            {
                batch.push(message);
            }
            self.work(batch);
            self.fold_if_due();
        }
        // The last one is gone: nothing is open, or it is settled at the next start.
        if let Err(error) = self.settle_down() {
            tracing::error!(error = crate::causes(&error), "closing the ledger");
        }
    }

    /// Folds what is written, not more often than need be: a transaction takes longer than a request.
    fn fold_if_due(&mut self) {
        let is_due = self.unfolded.len() > UNFOLDED && !self.unfolding.is_failing;
        if is_due || self.folded.elapsed() >= PACE {
            self.folded = Instant::now();
            let folded = self.fold().map_err(LedgerError::from);
            let folded = folded.and_then(|()| self.rotate());
            self.unfolding.note(&folded);
        }
        // What could not be written is tried again.
        let waits = !self.unfolded.is_empty() || !self.pending.is_empty();
        if waits && !self.ticking {
            self.ticking = true;
            self.ticker.wake();
        }
    }

    pub(super) fn now(&self) -> u64 {
        self.anchor.now(self.clock.since_boot())
    }

    fn work(&mut self, batch: Vec<Message>) {
        let mut granted = Vec::new();
        let mut sync = false;
        let mut jobs = Vec::new();
        // Who waited comes before who comes now, and what is over makes room first.
        let mut asks = std::mem::take(&mut self.waiting);
        for message in batch {
            match message {
                Message::Reserve(ask, reply) => asks.push_back((ask, reply)),
                Message::Record(record) => self.record(record),
                Message::Job(job) => jobs.push(job),
                Message::Tick => self.ticking = false,
            }
        }
        for (ask, reply) in asks {
            self.ask(ask, reply, &mut granted, &mut sync);
        }
        self.commit(granted, sync);
        for job in jobs {
            job(self);
        }
    }

    /// Decides on a reservation; what is granted is answered when it is written.
    fn ask(
        &mut self,
        mut ask: Box<Ask>,
        reply: Reply,
        granted: &mut Vec<(u64, Nanos, Reply)>,
        sync: &mut bool,
    ) {
        if reply.is_closed() {
            return;
        }
        let now = self.now();
        let reserve = &mut ask.reserve;
        reserve.at = now;
        let is_bounded = State::is_bounded(&self.budgets, &reserve.scopes);
        if let (true, Some(why)) = (is_bounded, ask.boundless) {
            let _gone = reply.send(Err(Refused::Boundless(why)));
            return;
        }
        if self.unfolded.len() > MOST_UNFOLDED {
            let _gone = reply.send(Err(Refused::Unavailable));
            return;
        }
        let checked = self
            .state
            .check(&self.budgets, &reserve.scopes, reserve.amount, now);
        match checked {
            Ok(()) => {
                *sync |= is_bounded;
                let (id, amount) = (self.next_number(), reserve.amount);
                self.record(Record::Reserve(std::mem::take(reserve)));
                granted.push((id, amount, reply));
            }
            Err(exceeded) if ask.queue && exceeded.may_fit_later && self.waiting.len() < WAITING => {
                self.waiting.push_back((ask, reply));
            }
            Err(exceeded) => {
                let _gone = reply.send(Err(Refused::Exceeded(Box::new(exceeded))));
            }
        }
    }

    fn next_number(&self) -> u64 {
        self.journal.next() + self.pending.len() as u64
    }

    fn record(&mut self, record: Record) {
        let number = self.next_number();
        let entry = enter(&mut self.state, number, record);
        self.tally.note(&entry);
        self.pending.push(entry);
    }

    /// Writes what is pending, then answers. What cannot be written was never granted.
    fn commit(&mut self, granted: Vec<(u64, Nanos, Reply)>, sync: bool) {
        let has_something = !self.pending.is_empty();
        let written = self.write(sync);
        if written.is_err() {
            self.take_back();
        }
        if has_something {
            self.writing.note(&written);
        }
        for (id, amount, reply) in granted {
            let ticket = || Ticket {
                id,
                amount,
                sent: false,
                sender: self.sender.upgrade(),
            };
            let answer = match &written {
                Ok(()) => Ok(ticket()),
                Err(_) => Err(Refused::Unavailable),
            };
            // Nobody there any more: the ticket comes back and is void when it drops.
            let _gone = reply.send(answer);
        }
    }

    fn write(&mut self, sync: bool) -> Result<(), JournalError> {
        if self.pending.is_empty() {
            return Ok(());
        }
        let records = self.pending.iter().map(|entry| &entry.record);
        self.journal.append(records, sync)?;
        self.unfolded.append(&mut self.pending);
        Ok(())
    }

    /// Forgets reservations that could not be written; settlements wait for the next write.
    fn take_back(&mut self) {
        let (state, mut number) = (&mut self.state, self.journal.next());
        self.pending.retain_mut(|entry| {
            if let Record::Reserve(_) = entry.record {
                state.apply(entry.number, &Record::Void { id: entry.number });
                return false;
            }
            entry.number = number;
            number += 1;
            true
        });
    }

    /// Writes and folds all that there is.
    pub(super) fn settle_down(&mut self) -> Result<(), LedgerError> {
        self.write(true)?;
        Ok(self.fold()?)
    }

    pub(super) fn fold(&mut self) -> Result<(), DbError> {
        if self.unfolded.is_empty() {
            return Ok(());
        }
        self.db.fold(&self.unfolded)?;
        self.unfolded.clear();
        let now = self.now();
        if Window::Day.index(now) > self.day {
            self.day = Window::Day.index(now);
            self.state.forget_past(now);
        }
        Ok(())
    }

    fn rotate(&mut self) -> Result<(), LedgerError> {
        if self.journal.is_full() && self.unfolded.is_empty() && self.pending.is_empty() {
            self.db.checkpoint()?;
            self.journal.rotate()?;
        }
        Ok(())
    }

    pub(super) fn set_budget(
        &mut self,
        scope: Arc<str>,
        window: Window,
        limit: Option<Nanos>,
    ) -> Result<(), LedgerError> {
        self.db.set_budget(&scope, window, limit)?;
        match limit {
            Some(limit) => self.budgets.insert((scope, window), limit),
            None => self.budgets.remove(&(scope, window)),
        };
        Ok(())
    }

    pub(super) fn budgets(&self, scope: Option<&str>) -> Vec<Budget> {
        let now = self.now();
        self.budgets
            .iter()
            .filter(|((holder, _), _)| scope.is_none_or(|scope| **holder == *scope))
            .map(|((holder, window), limit)| Budget {
                scope: Arc::clone(holder),
                window: *window,
                limit: *limit,
                counter: self.state.counter(holder, *window, now),
                resets_at: window.resets_at(now),
            })
            .collect()
    }
}

fn enter(state: &mut State, number: u64, record: Record) -> Entry {
    let closes = state.closed_by(&record);
    state.apply(number, &record);
    Entry {
        number,
        record,
        closes,
    }
}

/// One gateway at a time; one that is about to end may take a moment.
fn lock(directory: &Path) -> Result<std::fs::File, LedgerError> {
    let at = |source| LedgerError::Directory {
        path: directory.to_owned(),
        source,
    };
    let file = std::fs::File::create(directory.join("lock")).map_err(at)?;
    let deadline = Instant::now() + TAKE_OVER;
    while flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
        if Instant::now() > deadline {
            return Err(LedgerError::Taken {
                path: directory.to_owned(),
            });
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(file)
}
