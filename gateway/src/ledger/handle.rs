//! The way to the ledger, and what one gets from it.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use tokio::sync::{mpsc, oneshot};

use super::clock::Anchor;
use super::core::{self, Core, Told};
use super::db::{DbError, Group, Totals};
use super::journal::JournalError;
use super::record::{How, Record, Reserve, Settle};
use super::state::{Counter, Exceeded};
use super::task::Owner;
use super::ticker::Ticker;
use super::window::Window;
use crate::clock::{Clock, SystemClock};
use crate::money::Nanos;
use crate::usage::Usage;

/// A ledger that cannot be opened or changed.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    #[error("preparing {}", path.display())]
    Directory { path: PathBuf, source: std::io::Error },
    #[error("another gateway has the ledger {}", path.display())]
    Taken { path: PathBuf },
    #[error("the journal")]
    Journal(#[from] JournalError),
    #[error("the database")]
    Db(#[from] DbError),
    #[error("reading which boot this is")]
    Boot(#[source] std::io::Error),
    #[error("starting the ledger's thread")]
    Thread(#[source] std::io::Error),
    #[error("the ledger has stopped")]
    Stopped,
}

/// What happens to a request that does not fit into a budget.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnLimit {
    #[default]
    Refuse,
    /// Waits until what is reserved by others has settled, where that can help.
    Queue,
    /// As much output as fits.
    Clamp,
}

impl OnLimit {
    /// As commands spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Refuse => "refuse",
            Self::Queue => "queue",
            Self::Clamp => "clamp",
        }
    }

    /// The policy of that name; empty: refuse.
    pub fn parse(name: &str) -> Option<Self> {
        match name {
            "" | "refuse" => Some(Self::Refuse),
            "queue" => Some(Self::Queue),
            "clamp" => Some(Self::Clamp),
            _ => None,
        }
    }
}

/// A request for a reservation.
#[derive(Clone, Debug)]
pub struct Ask {
    /// `at` is filled in by the ledger.
    pub reserve: Reserve,
    /// The amount is no bound: where a budget applies, it is refused for this reason.
    pub boundless: Option<&'static str>,
    /// Waits for room instead of being refused.
    pub queue: bool,
}

/// Why there is no reservation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refused {
    Exceeded(Box<Exceeded>),
    /// A budget applies, and the request has no bound.
    Boundless(&'static str),
    /// The ledger cannot be written.
    Unavailable,
}

pub(super) type Job = Box<dyn FnOnce(&mut Owner) + Send>;

pub(super) enum Message {
    /// What a budget bounds.
    Reserve(Box<Ask>, oneshot::Sender<Result<Ticket, Refused>>),
    Job(Job),
    /// Something is over that others may wait for.
    Room,
    /// Time to fold what came meanwhile.
    Fold,
}

/// The way to the ledger. It ends when the last handle and the last ticket are gone.
#[derive(Clone, Debug)]
pub struct Ledger {
    pub(super) shared: Arc<Shared>,
    anchor: Anchor,
    clock: Arc<dyn Clock>,
}

/// The ledger itself, and the way to its thread.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) core: Arc<Mutex<Core>>,
    sender: mpsc::UnboundedSender<Message>,
    ticker: Ticker,
}

impl Shared {
    /// Has the thread know.
    pub(super) fn tell(&self, told: Told) {
        match told {
            Told::Nothing => {}
            Told::Soon => self.ticker.wake(),
            Told::Now => {
                let _stopping = self.sender.send(Message::Fold);
            }
        }
    }

    /// Enters what is known of a request that is under way. What cannot be written now is written with what comes next.
    fn record(&self, record: Record) {
        let mut core = core::lock(&self.core);
        core.record(record);
        let _logged = core.write();
        let (told, is_awaited) = (core.news(), core.waiting > 0);
        drop(core);
        if is_awaited {
            let _stopping = self.sender.send(Message::Room);
        }
        self.tell(told);
    }
}

/// A reservation. Dropped before it is marked as sent, it is void; after that, it counts in full.
#[derive(Debug)]
pub struct Ticket {
    pub(super) id: u64,
    pub(super) amount: Nanos,
    pub(super) sent: bool,
    /// None when it is closed.
    pub(super) shared: Option<Arc<Shared>>,
}

impl Ticket {
    /// Its number, which no other has.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// What is reserved.
    pub fn amount(&self) -> Nanos {
        self.amount
    }

    /// From now on a provider may bill for it.
    pub fn mark_sent(&mut self) {
        self.sent = true;
    }

    /// What it has certainly cost by now.
    pub fn progress(&self, cost: Nanos) {
        if let Some(shared) = &self.shared {
            shared.record(Record::Progress { id: self.id, cost });
        }
    }

    /// It is over and cost this.
    pub fn settle(mut self, cost: Nanos, usage: Usage, how: How) {
        let id = self.id;
        self.close(Record::Settle(Settle { id, cost, usage, how }));
    }

    /// Nothing was billed.
    pub fn void(mut self) {
        let id = self.id;
        self.close(Record::Void { id });
    }

    fn close(&mut self, record: Record) {
        if let Some(shared) = self.shared.take() {
            shared.record(record);
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let id = self.id;
        let record = if self.sent {
            Record::Settle(Settle {
                id,
                cost: self.amount,
                usage: Usage::default(),
                how: How::Aborted,
            })
        } else {
            Record::Void { id }
        };
        self.close(record);
    }
}

impl Ledger {
    /// The same as [`Self::open_with`] by the clocks of this machine.
    pub fn open(directory: &Path) -> Result<Self, LedgerError> {
        Self::open_with(directory, Arc::new(SystemClock))
    }

    /// Opens the ledger in a directory and starts its thread. What an earlier gateway left open is settled first.
    pub fn open_with(directory: &Path, clock: Arc<dyn Clock>) -> Result<Self, LedgerError> {
        let (sender, receiver) = mpsc::unbounded_channel();
        let mut owner = Owner::open(directory, Arc::clone(&clock))?;
        owner.settle_crashed()?;
        let anchor = owner.core().anchor.clone();
        let shared = Arc::new(Shared {
            core: owner.share(),
            ticker: Ticker::start(sender.downgrade()).map_err(LedgerError::Thread)?,
            sender,
        });
        let weak = Arc::downgrade(&shared);
        std::thread::Builder::new()
            .name("ledger".to_owned())
            .spawn(move || owner.run(weak, receiver))
            .map_err(LedgerError::Thread)?;
        Ok(Self {
            shared,
            anchor,
            clock,
        })
    }

    /// The ledger's time, seconds since 1970: it never goes back, and a clock that is set ahead does not move it.
    pub fn now(&self) -> u64 {
        self.anchor.now(self.clock.since_boot())
    }

    /// Reserves; the answer comes when the reservation is as durable as its budgets ask for: on the disk where one
    /// applies, else in the journal, which survives this process.
    pub async fn reserve(&self, ask: Ask) -> Result<Ticket, Refused> {
        let mut ask = ask;
        match self.reserve_here(&mut ask) {
            Some(reserved) => reserved,
            None => self.reserve_by_thread(ask).await,
        }
    }

    /// Without the thread; none where that must decide.
    fn reserve_here(&self, ask: &mut Ask) -> Option<Result<Ticket, Refused>> {
        let mut core = core::lock(&self.shared.core);
        if core.is_for_thread(&ask.reserve) {
            return None;
        }
        let amount = ask.reserve.amount;
        let id = core.reserve(std::mem::take(&mut ask.reserve));
        let written = core.write();
        let told = core.news();
        drop(core);
        self.shared.tell(told);
        let ticket = || Ticket {
            id,
            amount,
            sent: false,
            shared: Some(Arc::clone(&self.shared)),
        };
        Some(written.map(|()| ticket()).map_err(|_logged| Refused::Unavailable))
    }

    async fn reserve_by_thread(&self, ask: Ask) -> Result<Ticket, Refused> {
        let (reply, answer) = oneshot::channel();
        let message = Message::Reserve(Box::new(ask), reply);
        let sent = self.shared.sender.send(message);
        sent.map_err(|_| Refused::Unavailable)?;
        answer.await.unwrap_or(Err(Refused::Unavailable))
    }

    /// Sets or removes the budget of a holder; it holds from the next reservation on.
    pub async fn set_budget(
        &self,
        scope: &str,
        window: Window,
        limit: Option<Nanos>,
    ) -> Result<(), LedgerError> {
        let scope: Arc<str> = scope.into();
        self.call(move |owner| owner.set_budget(scope, window, limit))
            .await?
    }

    /// Sets the budget of a holder, unless there is a smaller one.
    pub async fn narrow_budget(&self, scope: &str, window: Window, limit: Nanos) -> Result<(), LedgerError> {
        let scope: Arc<str> = scope.into();
        self.call(move |owner| {
            let known = owner.core().budgets.get(&(Arc::clone(&scope), window)).copied();
            if known.is_some_and(|known| known <= limit) {
                return Ok(());
            }
            owner.set_budget(scope, window, Some(limit))
        })
        .await?
    }

    /// The budgets of a holder, or of all, with what is spent and reserved in the window of now.
    pub async fn budgets(&self, scope: Option<String>) -> Result<Vec<Budget>, LedgerError> {
        self.call(move |owner| owner.budgets(scope.as_deref())).await
    }

    /// What is left in the tightest budget of these holders.
    pub async fn room(&self, scopes: Vec<Arc<str>>) -> Result<Option<Nanos>, LedgerError> {
        self.call(move |owner| {
            let core = owner.core();
            core.state.room(&core.budgets, &scopes, core.now())
        })
        .await
    }

    /// Usage since a moment (seconds since 1970), everything that has settled by now included; of these users, or of all.
    pub async fn usage(
        &self,
        group: Group,
        since: u64,
        users: Vec<String>,
    ) -> Result<Vec<Totals>, LedgerError> {
        let listed = self.call(move |owner| {
            owner.fold()?;
            owner.db.usage(group, since, &users)
        });
        Ok(listed.await??)
    }

    pub(super) async fn call<T: Send + 'static>(
        &self,
        job: impl FnOnce(&mut Owner) -> T + Send + 'static,
    ) -> Result<T, LedgerError> {
        let (reply, answer) = oneshot::channel();
        let job: Job = Box::new(move |owner| {
            let _nobody_waits = reply.send(job(owner));
        });
        let sent = self.shared.sender.send(Message::Job(job));
        sent.map_err(|_| LedgerError::Stopped)?;
        answer.await.map_err(|_| LedgerError::Stopped)
    }
}

/// A budget as it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Budget {
    pub scope: Arc<str>,
    pub window: Window,
    pub limit: Nanos,
    pub counter: Counter,
    /// Seconds since 1970.
    pub resets_at: Option<u64>,
}
