//! What requests and the ledger's thread share: the counters and the journal, behind one lock that is held for
//! microseconds. Nothing waits for the disk under it.

use std::collections::VecDeque;
use std::fs::File;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::clock::Anchor;
use super::db::Entry;
use super::journal::{Journal, JournalError, Old};
use super::record::{Record, Reserve};
use super::state::{Budgets, State};
use super::tally::Tally;
use super::trouble::Trouble;
use crate::clock::Clock;

/// Records that may wait for the database while requests come without a pause.
const UNFOLDED: usize = 4096;
/// With more than this waiting, requests wait for the thread too, which takes them in as fast as it folds.
const BEHIND: usize = 8 * UNFOLDED;
/// Records that may wait for the database while it cannot be written: beyond it nothing more is let in.
const MOST_UNFOLDED: usize = 2 * BEHIND;

/// The ledger in memory, and the file it is written to.
#[derive(Debug)]
pub(super) struct Core {
    pub(super) state: State,
    pub(super) budgets: Budgets,
    /// Since the start.
    pub(super) tally: Tally,
    pub(super) journal: Journal,
    /// In the journal and not in the database yet.
    unfolded: VecDeque<Entry>,
    /// Not in the journal yet.
    pending: Vec<Entry>,
    pub(super) anchor: Anchor,
    clock: Arc<dyn Clock>,
    writing: Trouble,
    /// The database cannot be written for now: it is asked to only now and then.
    pub(super) cannot_fold: bool,
    /// Requests that wait for room in a budget.
    pub(super) waiting: usize,
    /// The thread knows that there is something to fold.
    told: Told,
}

/// What the thread has been told, so that it is told once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Told {
    #[default]
    Nothing,
    /// To fold what comes together, in a moment.
    Soon,
    /// To fold now.
    Now,
}

/// Takes the lock. A thread that panicked under it has left whole records behind: they are applied after they are made.
pub(super) fn lock(core: &Mutex<Core>) -> MutexGuard<'_, Core> {
    core.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Core {
    pub(super) fn new(
        state: State,
        budgets: Budgets,
        journal: Journal,
        (anchor, clock): (Anchor, Arc<dyn Clock>),
    ) -> Self {
        Self {
            state,
            budgets,
            tally: Tally::default(),
            journal,
            unfolded: VecDeque::new(),
            pending: Vec::new(),
            anchor,
            clock,
            writing: Trouble::new("writing the journal; requests are refused until it works again"),
            cannot_fold: false,
            waiting: 0,
            told: Told::Nothing,
        }
    }

    pub(super) fn now(&self) -> u64 {
        self.anchor.now(self.clock.since_boot())
    }

    /// Takes in a record that an earlier gateway wrote.
    pub(super) fn replay(&mut self, number: u64, record: Record) {
        let entry = enter(&mut self.state, number, record);
        self.unfolded.push_back(entry);
    }

    /// Whether a reservation has to go by the thread: what a budget bounds is on the disk before it is granted.
    pub(super) fn is_for_thread(&self, reserve: &Reserve) -> bool {
        self.unfolded.len() > BEHIND || State::is_bounded(&self.budgets, &reserve.scopes)
    }

    /// Whether so much waits for the database that nothing more is let in.
    pub(super) fn is_overfull(&self) -> bool {
        self.unfolded.len() > MOST_UNFOLDED
    }

    /// Enters a reservation, which is granted once it is written; its number.
    pub(super) fn reserve(&mut self, mut reserve: Reserve) -> u64 {
        reserve.at = self.now();
        self.record(Record::Reserve(Arc::new(reserve)))
    }

    /// Enters a record; its number.
    pub(super) fn record(&mut self, record: Record) -> u64 {
        let number = self.journal.next() + self.pending.len() as u64;
        let entry = enter(&mut self.state, number, record);
        self.tally.note(&entry);
        self.pending.push(entry);
        number
    }

    /// Writes what is pending. Where it cannot be written, reservations in it are forgotten: they were never granted.
    pub(super) fn write(&mut self) -> Result<(), JournalError> {
        if self.pending.is_empty() {
            return Ok(());
        }
        let records = self.pending.iter().map(|entry| &entry.record);
        let written = self.journal.append(records);
        self.writing.note(&written);
        match &written {
            Ok(()) => self.unfolded.extend(self.pending.drain(..)),
            Err(_noted) => self.take_back(),
        }
        written
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

    /// What the thread has to be told after something was written, if it was not told already.
    pub(super) fn news(&mut self) -> Told {
        let wanted = match self.unfolded.len() {
            0 if self.pending.is_empty() => Told::Nothing,
            0..=UNFOLDED => Told::Soon,
            _ if self.cannot_fold => Told::Soon,
            _ => Told::Now,
        };
        if wanted <= self.told {
            return Told::Nothing;
        }
        self.told = wanted;
        wanted
    }

    /// The oldest of what is in the journal and not in the database: the thread's from now on.
    pub(super) fn take_unfolded(&mut self, most: usize) -> Vec<Entry> {
        self.told = Told::Nothing;
        let count = self.unfolded.len().min(most);
        self.unfolded.drain(..count).collect()
    }

    /// Whether every record before this one is in the database.
    pub(super) fn is_folded_to(&self, number: u64) -> bool {
        let unfolded = self.unfolded.front().or(self.pending.first());
        unfolded.is_none_or(|entry| entry.number >= number)
    }

    /// It could not be folded, and waits on.
    pub(super) fn give_back(&mut self, entries: Vec<Entry>) {
        for entry in entries.into_iter().rev() {
            self.unfolded.push_front(entry);
        }
    }

    /// Segments of which every record is in the database.
    pub(super) fn old_segments(&self) -> Option<Old> {
        self.journal.old().filter(|old| self.is_folded_to(old.before))
    }

    /// The file that everything written so far is in, where there is none before it.
    pub(super) fn file(&self) -> Arc<File> {
        self.journal.file()
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
