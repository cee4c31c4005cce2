//! Records → counters. No clock, no disk: the same records give the same state.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::record::{Record, Reserve};
use super::window::Window;
use crate::money::Nanos;

/// One window of one holder of budgets.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Cell {
    pub(super) scope: Arc<str>,
    pub(super) window: Window,
    pub(super) index: u64,
}

/// What was spent in it and what is reserved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counter {
    pub spent: Nanos,
    pub reserved: Nanos,
}

/// A request that has not settled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Open {
    pub(super) reserve: Arc<Reserve>,
    pub(super) progress: Nanos,
}

/// Limits by holder and window.
pub type Budgets = BTreeMap<(Arc<str>, Window), Nanos>;

/// A budget that a reservation does not fit into.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exceeded {
    pub scope: Arc<str>,
    pub window: Window,
    pub limit: Nanos,
    pub counter: Counter,
    pub asked: Nanos,
    /// Seconds since 1970; none: never.
    pub resets_at: Option<u64>,
    /// It would fit if everything that is reserved now cost nothing.
    pub may_fit_later: bool,
}

/// What all records add up to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    pub(super) counters: BTreeMap<Cell, Counter>,
    pub(super) open: BTreeMap<u64, Open>,
}

/// The windows a reservation counts in. A session has only one.
pub(super) fn cells(scopes: &[Arc<str>], at: u64) -> impl Iterator<Item = Cell> + '_ {
    scopes.iter().flat_map(move |scope| {
        let windows: &[Window] = if scope.starts_with("session:") {
            &[Window::Total]
        } else {
            &Window::ALL
        };
        windows.iter().map(move |&window| Cell {
            scope: Arc::clone(scope),
            window,
            index: window.index(at),
        })
    })
}

impl State {
    /// Takes in a record. One about a request that is not open changes nothing.
    pub fn apply(&mut self, number: u64, record: &Record) {
        match record {
            Record::Reserve(reserve) => {
                self.each(reserve, |counter| {
                    counter.reserved = counter.reserved.plus(reserve.amount);
                });
                let open = Open {
                    reserve: Arc::clone(reserve),
                    progress: Nanos::ZERO,
                };
                self.open.insert(number, open);
            }
            Record::Progress { id, cost } => {
                if let Some(open) = self.open.get_mut(id) {
                    open.progress = open.progress.max(*cost);
                }
            }
            Record::Settle(settle) => self.close(settle.id, settle.cost),
            Record::Void { id } => self.close(*id, Nanos::ZERO),
        }
    }

    /// What a record closes, to be asked before it is applied.
    pub(super) fn closed_by(&self, record: &Record) -> Option<Arc<Reserve>> {
        match record {
            Record::Settle(settle) => Some(Arc::clone(&self.open.get(&settle.id)?.reserve)),
            _ => None,
        }
    }

    fn close(&mut self, id: u64, cost: Nanos) {
        let Some(open) = self.open.remove(&id) else { return };
        let amount = open.reserve.amount;
        self.each(&open.reserve, |counter| {
            counter.reserved = counter.reserved.minus(amount);
            counter.spent = counter.spent.plus(cost);
        });
    }

    fn each(&mut self, reserve: &Reserve, change: impl Fn(&mut Counter)) {
        for cell in cells(&reserve.scopes, reserve.at) {
            change(self.counters.entry(cell).or_default());
        }
    }

    /// Whether one more reservation fits into every budget; the first it does not fit into.
    pub fn check(
        &self,
        budgets: &Budgets,
        scopes: &[Arc<str>],
        amount: Nanos,
        at: u64,
    ) -> Result<(), Exceeded> {
        let mut exceeded = None;
        for cell in cells(scopes, at) {
            let Some(&limit) = budgets.get(&(Arc::clone(&cell.scope), cell.window)) else {
                continue;
            };
            let counter = self.counters.get(&cell).copied().unwrap_or_default();
            if counter.spent.plus(counter.reserved).plus(amount) <= limit {
                continue;
            }
            let found = Exceeded {
                may_fit_later: counter.reserved > Nanos::ZERO && counter.spent.plus(amount) <= limit,
                resets_at: cell.window.resets_at(at),
                scope: cell.scope,
                window: cell.window,
                limit,
                counter,
                asked: amount,
            };
            // What no waiting mends is the reason to give.
            if !found.may_fit_later {
                return Err(found);
            }
            exceeded.get_or_insert(found);
        }
        exceeded.map_or(Ok(()), Err)
    }

    /// What is left in the tightest budget; none where there is no budget.
    pub fn room(&self, budgets: &Budgets, scopes: &[Arc<str>], at: u64) -> Option<Nanos> {
        cells(scopes, at)
            .filter_map(|cell| {
                let limit = budgets.get(&(Arc::clone(&cell.scope), cell.window))?;
                let counter = self.counters.get(&cell).copied().unwrap_or_default();
                Some(limit.minus(counter.spent).minus(counter.reserved))
            })
            .min()
    }

    /// Whether any budget applies.
    pub fn is_bounded(budgets: &Budgets, scopes: &[Arc<str>]) -> bool {
        scopes.iter().any(|scope| {
            Window::ALL
                .iter()
                .any(|&window| budgets.contains_key(&(Arc::clone(scope), window)))
        })
    }

    /// The counter of a window at a moment.
    pub fn counter(&self, scope: &Arc<str>, window: Window, at: u64) -> Counter {
        let cell = Cell {
            scope: Arc::clone(scope),
            window,
            index: window.index(at),
        };
        self.counters.get(&cell).copied().unwrap_or_default()
    }

    /// Forgets windows that are over and in which nothing is open.
    pub(super) fn forget_past(&mut self, at: u64) {
        self.counters
            .retain(|cell, counter| cell.index >= cell.window.index(at) || counter.reserved > Nanos::ZERO);
    }
}
