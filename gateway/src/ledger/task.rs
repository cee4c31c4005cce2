//! The thread that has the database, and waits for the disk where a budget asks for it.
//!
//! Reservations that no budget bounds are written where they are asked for. The others come here: what waits is taken
//! in together, written together and made durable together; then it is answered.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use tokio::sync::{mpsc, oneshot};

use super::clock::Anchor;
use super::core::{self, Core};
use super::db::{Db, DbError};
use super::handle::{Ask, Budget, LedgerError, Message, Refused, Shared, Ticket};
use super::journal::{self, Journal, JournalError};
use super::record::{How, Record, Settle};
use super::state::State;
use super::trouble::Trouble;
use super::window::Window;
use crate::clock::Clock;
use crate::money::Nanos;
use crate::usage::Usage;

/// Requests that are taken in together.
const BATCH: usize = 256;
/// Records that are folded together: reservations wait no longer than that takes.
const TOGETHER: usize = 1024;
/// Requests that may wait for room in a budget.
const WAITING: usize = 1024;
/// How long an earlier gateway may take to let go of the ledger.
const TAKE_OVER: Duration = Duration::from_secs(10);

type Reply = oneshot::Sender<Result<Ticket, Refused>>;

/// A reservation that was entered and is not answered yet.
struct Granted {
    id: u64,
    amount: Nanos,
    reply: Reply,
}

/// The thread's own.
pub(super) struct Owner {
    core: Arc<Mutex<Core>>,
    pub(super) db: Db,
    waiting: VecDeque<(Box<Ask>, Reply)>,
    /// None while the process ends: there is nobody left to grant anything to.
    shared: Weak<Shared>,
    day: u64,
    folding: Trouble,
    _lock: std::fs::File,
}

impl Owner {
    pub(super) fn open(directory: &Path, clock: Arc<dyn Clock>) -> Result<Self, LedgerError> {
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
        let mut core = Core::new(kept.state, kept.budgets, journal, (anchor, clock));
        for (number, record) in records {
            core.replay(number, record);
        }
        Ok(Self {
            core: Arc::new(Mutex::new(core)),
            db,
            waiting: VecDeque::new(),
            shared: Weak::new(),
            folding: Trouble::new("folding the journal into the database; it is kept until it works again"),
            day: 0,
            _lock: lock,
        })
    }

    /// What requests share with this thread.
    pub(super) fn share(&self) -> Arc<Mutex<Core>> {
        Arc::clone(&self.core)
    }

    pub(super) fn core(&self) -> MutexGuard<'_, Core> {
        core::lock(&self.core)
    }

    /// What was under way when the process ended may have been billed in full.
    pub(super) fn settle_crashed(&mut self) -> Result<(), LedgerError> {
        let mut core = self.core();
        let crashed: Vec<Record> = core
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
        if !crashed.is_empty() {
            for record in crashed {
                core.record(record);
            }
            core.write()?;
            core.journal.sync()?;
        }
        drop(core);
        self.fold()?;
        Ok(())
    }

    pub(super) fn run(mut self, shared: Weak<Shared>, mut receiver: mpsc::UnboundedReceiver<Message>) {
        self.shared = shared;
        while let Some(first) = receiver.blocking_recv() {
            let mut batch = vec![first];
            while batch.len() < BATCH
                && let Ok(message) = receiver.try_recv()
            {
                batch.push(message);
            }
            self.work(batch);
        }
        // The last one is gone: nothing is open, or it is settled at the next start.
        if let Err(error) = self.settle_down() {
            tracing::error!(error = crate::causes(&error), "closing the ledger");
        }
    }

    /// Writes and folds all that there is.
    pub(super) fn settle_down(&mut self) -> Result<(), LedgerError> {
        let mut core = self.core();
        core.write()?;
        core.journal.sync()?;
        drop(core);
        Ok(self.fold()?)
    }

    pub(super) fn now(&self) -> u64 {
        self.core().now()
    }

    fn work(&mut self, batch: Vec<Message>) {
        // Who waited comes before who comes now.
        let mut asks = std::mem::take(&mut self.waiting);
        let (mut jobs, mut folds) = (Vec::new(), false);
        for message in batch {
            match message {
                Message::Reserve(ask, reply) => asks.push_back((ask, reply)),
                Message::Job(job) => jobs.push(job),
                Message::Fold => folds = true,
                Message::Room => {}
            }
        }
        if !asks.is_empty() {
            self.decide(asks);
        }
        for job in jobs {
            job(self);
        }
        if folds {
            self.fold_and_rotate();
        }
    }

    /// Decides on reservations, makes those that are granted durable, and answers.
    fn decide(&mut self, asks: VecDeque<(Box<Ask>, Reply)>) {
        let (mut granted, mut sync) = (Vec::new(), false);
        let shared = self.share();
        let mut core = core::lock(&shared);
        for (ask, reply) in asks {
            self.ask(&mut core, ask, reply, &mut granted, &mut sync);
        }
        core.waiting = self.waiting.len();
        let written = core.write();
        let file = core.file();
        drop(core);
        // Requests that no budget bounds go on meanwhile.
        let durable = match written {
            Ok(()) if sync => self.sync(&file, &granted),
            written => written.is_ok(),
        };
        for Granted { id, amount, reply } in granted {
            let ticket = || Ticket {
                id,
                amount,
                sent: false,
                shared: self.shared.upgrade(),
            };
            let answer = if durable {
                Ok(ticket())
            } else {
                Err(Refused::Unavailable)
            };
            // Nobody there any more: the ticket comes back and is void when it drops.
            let _gone = reply.send(answer);
        }
        self.tell();
    }

    /// Whether what was written is on the disk; else it is void. Nobody knows then what of the file is on the disk, and
    /// nothing more is granted until a new start can tell.
    fn sync(&self, file: &std::fs::File, granted: &[Granted]) -> bool {
        let Err(error) = file.sync_data() else {
            return true;
        };
        tracing::error!(
            %error,
            "the ledger's journal cannot be made durable; requests are refused until the gateway is started again"
        );
        let mut core = self.core();
        core.journal.give_up();
        for Granted { id, .. } in granted {
            core.record(Record::Void { id: *id });
        }
        false
    }

    /// Has what was written folded in a while.
    fn tell(&self) {
        if let Some(shared) = self.shared.upgrade() {
            let told = self.core().news();
            shared.tell(told);
        }
    }

    /// Decides on a reservation; what is granted is answered when it is written.
    fn ask(
        &mut self,
        core: &mut Core,
        mut ask: Box<Ask>,
        reply: Reply,
        granted: &mut Vec<Granted>,
        sync: &mut bool,
    ) {
        if reply.is_closed() {
            return;
        }
        let is_bounded = State::is_bounded(&core.budgets, &ask.reserve.scopes);
        if let (true, Some(why)) = (is_bounded, ask.boundless) {
            let _gone = reply.send(Err(Refused::Boundless(why)));
            return;
        }
        if core.is_overfull() {
            let _gone = reply.send(Err(Refused::Unavailable));
            return;
        }
        let (amount, now) = (ask.reserve.amount, core.now());
        let checked = core.state.check(&core.budgets, &ask.reserve.scopes, amount, now);
        match checked {
            Ok(()) => {
                *sync |= is_bounded;
                let id = core.reserve(std::mem::take(&mut ask.reserve));
                granted.push(Granted { id, amount, reply });
            }
            Err(exceeded) if ask.queue && exceeded.may_fit_later && self.waiting.len() < WAITING => {
                self.waiting.push_back((ask, reply));
            }
            Err(exceeded) => {
                let _gone = reply.send(Err(Refused::Exceeded(Box::new(exceeded))));
            }
        }
    }

    /// Folds everything that is written by now.
    pub(super) fn fold(&mut self) -> Result<(), DbError> {
        let written = self.core().journal.next();
        while !self.core().is_folded_to(written) && self.fold_some()? {}
        Ok(())
    }

    /// Folds what was written first; whether there was any. The journal grows on meanwhile.
    fn fold_some(&mut self) -> Result<bool, DbError> {
        let entries = self.core().take_unfolded(TOGETHER);
        if entries.is_empty() {
            return Ok(false);
        }
        if let Err(error) = self.db.fold(&entries) {
            self.core().give_back(entries);
            return Err(error);
        }
        let now = self.now();
        if Window::Day.index(now) > self.day {
            self.day = Window::Day.index(now);
            self.core().state.forget_past(now);
        }
        Ok(true)
    }

    fn fold_and_rotate(&mut self) {
        // What could not be written when it came is tried again, also where nobody asks for anything.
        let _noted = self.core().write();
        let done = self
            .rotate()
            .map_err(LedgerError::from)
            .and_then(|()| Ok(self.fold_some()?))
            .and_then(|_any| self.forget_segments());
        self.folding.note(&done);
        self.core().cannot_fold = done.is_err();
        // Reservations that came meanwhile go before the rest.
        self.tell();
    }

    /// Goes on in a new segment where this one is full.
    fn rotate(&mut self) -> Result<(), JournalError> {
        if !self.core().journal.is_full() {
            return Ok(());
        }
        // Most of it, before anybody has to wait for the rest.
        let synced = self.core().file();
        let _again_below = synced.sync_data();
        let directory = self.core().journal.rotate()?;
        journal::sync_directory(&directory)
    }

    /// Removes segments of which everything is on the disk elsewhere.
    fn forget_segments(&mut self) -> Result<(), LedgerError> {
        let Some(old) = self.core().old_segments() else {
            return Ok(());
        };
        self.db.checkpoint()?;
        old.remove()?;
        self.core().journal.forgot(&old);
        Ok(())
    }

    pub(super) fn set_budget(
        &mut self,
        scope: Arc<str>,
        window: Window,
        limit: Option<Nanos>,
    ) -> Result<(), LedgerError> {
        self.db.set_budget(&scope, window, limit)?;
        let mut core = self.core();
        match limit {
            Some(limit) => core.budgets.insert((scope, window), limit),
            None => core.budgets.remove(&(scope, window)),
        };
        Ok(())
    }

    pub(super) fn budgets(&self, scope: Option<&str>) -> Vec<Budget> {
        let core = self.core();
        let now = core.now();
        core.budgets
            .iter()
            .filter(|((holder, _), _)| scope.is_none_or(|scope| **holder == *scope))
            .map(|((holder, window), limit)| Budget {
                scope: Arc::clone(holder),
                window: *window,
                limit: *limit,
                counter: core.state.counter(holder, *window, now),
                resets_at: window.resets_at(now),
            })
            .collect()
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
