//! The ledger: what was reserved and what was used, in order, on disk before it counts.
//!
//! Every request reserves the most it can cost before its first byte goes to a provider, and settles what it did cost.
//! Both are records of a journal; SQLite holds what they add up to, with the number of the last record it has taken in.
//!
//! - [`record`], [`journal`]: records and the file they are appended to
//! - [`state`]: records → counters, and whether one more reservation fits (pure)
//! - [`window`]: days, weeks and months; [`clock`]: a time that never goes back
//! - [`db`]: the counters, the requests and the budgets at rest; [`fold`], [`ticker`]: how and when the journal goes there
//! - [`core`]: counters and journal, behind one lock; [`handle`]: the way to them
//! - [`task`]: the one thread that waits for the disk: for reservations that a budget bounds, and for the database

mod clock;
mod core;
mod db;
mod fold;
mod handle;
mod journal;
mod record;
mod state;
mod tally;
mod task;
#[cfg(test)]
mod tests;
mod ticker;
mod trouble;
mod window;

pub use db::{DbError, Group, Totals};
pub use handle::{Ask, Budget, Ledger, LedgerError, OnLimit, Refused, Ticket};
pub use journal::JournalError;
pub use record::{How, Record, Reserve, Settle};
pub use state::{Budgets, Exceeded, State};
pub use tally::{Live, Tally};
pub use window::Window;
