//! What has settled since the ledger was opened, and what is open: for counters and for those who look.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::db::Entry;
use super::handle::{Ledger, LedgerError};
use super::record::{How, Record, Reserve};
use crate::money::Nanos;
use crate::usage::Usage;

/// Sums since the start. There is one line for each provider that there was.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    pub providers: BTreeMap<String, OfProvider>,
    /// Requests by provider and how sure their cost is.
    pub settled: BTreeMap<(String, How), u64>,
    /// Under way now.
    pub open: u64,
    /// By what is under way now.
    pub reserved: Nanos,
}

/// Sums of one provider.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OfProvider {
    pub usage: Usage,
    pub cost: Nanos,
}

/// A request that has not settled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Live {
    pub id: u64,
    pub reserve: Arc<Reserve>,
    /// What it has certainly cost by now.
    pub cost: Nanos,
}

impl Tally {
    /// Takes in what was entered into the journal.
    pub(super) fn note(&mut self, entry: &Entry) {
        let (Record::Settle(settle), Some(reserve)) = (&entry.record, &entry.closes) else {
            return;
        };
        let of = self.providers.entry(reserve.provider.clone()).or_default();
        of.cost = of.cost.plus(settle.cost);
        for (sum, count) in [
            (&mut of.usage.input, settle.usage.input),
            (&mut of.usage.cache_read, settle.usage.cache_read),
            (&mut of.usage.cache_write, settle.usage.cache_write),
            (&mut of.usage.output, settle.usage.output),
            (&mut of.usage.reasoning, settle.usage.reasoning),
        ] {
            *sum = sum.saturating_add(count);
        }
        let key = (reserve.provider.clone(), settle.how);
        *self.settled.entry(key).or_default() += 1;
    }
}

impl Ledger {
    /// The sums as they are.
    pub async fn tally(&self) -> Result<Tally, LedgerError> {
        self.call(|owner| {
            let core = owner.core();
            let open = core.state.open.values();
            let reserved = open.fold(Nanos::ZERO, |sum, open| sum.plus(open.reserve.amount));
            Tally {
                open: core.state.open.len() as u64,
                reserved,
                ..core.tally.clone()
            }
        })
        .await
    }

    /// At most `limit` requests that have not settled, the oldest first.
    pub async fn live(&self, limit: usize) -> Result<Vec<Live>, LedgerError> {
        self.call(move |owner| {
            let core = owner.core();
            let open = core.state.open.iter().take(limit);
            let live = open.map(|(&id, open)| Live {
                id,
                reserve: Arc::clone(&open.reserve),
                cost: open.progress,
            });
            live.collect()
        })
        .await
    }

    /// A request that has not settled.
    pub async fn find(&self, id: u64) -> Result<Option<Live>, LedgerError> {
        self.call(move |owner| {
            let core = owner.core();
            let open = core.state.open.get(&id);
            open.map(|open| Live {
                id,
                reserve: Arc::clone(&open.reserve),
                cost: open.progress,
            })
        })
        .await
    }

    /// Returns when everything before it is in the database.
    pub async fn flush(&self) -> Result<(), LedgerError> {
        self.call(super::task::Owner::settle_down).await?
    }
}
