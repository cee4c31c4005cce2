//! The accounts of providers: which one a session uses, how each fares, and what is left of its quota.
//!
//! One task owns the state and publishes it; whoever sends a request reads the last published state and decides with
//! pure functions ([`health`], [`order`]). State is kept over restarts, so that a provider that asked for a pause gets it.

pub mod health;
pub mod order;
pub mod quota;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot};

use crate::state::{State, StoredAccount};
use health::{Health, Outcome};
use quota::Quota;

/// Reports that wait at a time.
const WAITING: usize = 1024;
/// Quotas change with every answer; they are written at most this often, in milliseconds.
const QUOTA_EVERY: u64 = 10_000;

/// Provider and account.
pub type AccountKey = (String, String);

/// What is known of one account.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Account {
    pub health: Health,
    /// As the provider last told, by name of the window.
    pub quotas: Vec<Quota>,
    /// When the quotas were told, milliseconds of Unix time.
    pub quotas_at: u64,
}

/// All accounts that were ever used, by provider and name.
pub type Snapshot = BTreeMap<AccountKey, Account>;

#[derive(Debug)]
struct Report {
    key: AccountKey,
    outcome: Outcome,
    quotas: Vec<Quota>,
    done: Option<oneshot::Sender<()>>,
}

/// The way to the task that owns the state.
#[derive(Debug)]
pub struct Accounts {
    current: Arc<ArcSwap<Snapshot>>,
    reports: mpsc::Sender<Report>,
}

/// Milliseconds of Unix time.
pub fn now() -> u64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or(Duration::ZERO);
    since.as_millis().try_into().unwrap_or(u64::MAX)
}

impl Accounts {
    /// Starts the task, which ends when the last handle is dropped. Needs a runtime.
    pub fn start(state: Arc<State>, loaded: Vec<StoredAccount>) -> Self {
        let snapshot: Snapshot = loaded
            .into_iter()
            .filter_map(|row| restored(row, now()))
            .collect();
        let current = Arc::new(ArcSwap::from_pointee(snapshot));
        let (reports, receiver) = mpsc::channel(WAITING);
        tokio::spawn(own(state, Arc::clone(&current), receiver));
        Self { current, reports }
    }

    /// The state at this moment.
    pub fn current(&self) -> Arc<Snapshot> {
        self.current.load_full()
    }

    /// Tells how a request went. Returns at once where all is well; otherwise when the next request will know.
    pub async fn report(&self, provider: &str, account: &str, outcome: Outcome, quotas: Vec<Quota>) {
        let key = (provider.to_owned(), account.to_owned());
        let is_well = self
            .current
            .load()
            .get(&key)
            .is_none_or(|account| account.health == Health::default());
        if outcome == Outcome::Answered && is_well {
            if !quotas.is_empty() {
                let report = Report {
                    key,
                    outcome,
                    quotas,
                    done: None,
                };
                // Under more load than the task can note, the next answer tells the same quotas again.
                let _or_dropped = self.reports.try_send(report);
            }
            return;
        }
        let (done, noted) = oneshot::channel();
        let report = Report {
            key,
            outcome,
            quotas,
            done: Some(done),
        };
        if self.reports.send(report).await.is_ok() {
            let _or_stopping = noted.await;
        }
    }
}

/// An account as it was; a pause never outlasts what could have been asked for, whatever the clock did meanwhile.
fn restored(row: StoredAccount, now: u64) -> Option<(AccountKey, Account)> {
    let mut account: Account = serde_json::from_str(&row.state).ok()?;
    account.health = account.health.bounded(now);
    Some(((row.provider, row.account), account))
}

async fn own(state: Arc<State>, current: Arc<ArcSwap<Snapshot>>, mut reports: mpsc::Receiver<Report>) {
    let mut snapshot = Snapshot::clone(&current.load());
    let mut written: BTreeMap<AccountKey, u64> = BTreeMap::new();
    while let Some(first) = reports.recv().await {
        let mut waiting = Vec::new();
        let mut next = Some(first);
        let at = now();
        while let Some(report) = next {
            let account = snapshot.entry(report.key.clone()).or_default();
            let changed = note(account, report.outcome, report.quotas, at);
            let is_due = written
                .get(&report.key)
                .is_none_or(|then| at.saturating_sub(*then) >= QUOTA_EVERY);
            if changed || is_due {
                written.insert(report.key.clone(), at);
                state.put_account(stored(&report.key, account));
            }
            waiting.extend(report.done);
            next = reports.try_recv().ok();
        }
        current.store(Arc::new(snapshot.clone()));
        for done in waiting {
            let _nobody_waits = done.send(());
        }
    }
}

/// Takes a report in; whether the health is another than before.
fn note(account: &mut Account, outcome: Outcome, quotas: Vec<Quota>, at: u64) -> bool {
    let health = account.health.after(outcome, at);
    let changed = health != account.health;
    if changed {
        tracing::info!(?outcome, ?health, "an account's health changed");
    }
    account.health = health;
    if !quotas.is_empty() {
        account.quotas = quota::merged(&account.quotas, quotas);
        account.quotas_at = at;
    }
    changed
}

fn stored(key: &AccountKey, account: &Account) -> StoredAccount {
    StoredAccount {
        provider: key.0.clone(),
        account: key.1.clone(),
        state: serde_json::to_string(account).unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_pause_and_quotas_are_kept_over_a_restart() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("state.db");
        let open = || {
            let (state, loaded) = State::open(&path).unwrap();
            let state = Arc::new(state);
            (Accounts::start(Arc::clone(&state), loaded.accounts), state)
        };
        let (accounts, state) = open();
        let quota = Quota {
            name: "requests".into(),
            limit: Some(10),
            ..Quota::default()
        };
        let limited = Outcome::Limited {
            after: Some(Duration::from_mins(2)),
        };
        accounts.report("p", "a", limited, vec![quota.clone()]).await;
        let key = ("p".to_owned(), "a".to_owned());
        let before = accounts.current()[&key].clone();
        assert!(before.health.pause(now()).is_some_and(|pause| pause.dictated));
        drop(accounts);
        // The task holds the state until it has seen that nobody reports any more.
        while Arc::strong_count(&state) > 1 {
            tokio::task::yield_now().await;
        }
        drop(state);
        let (accounts, _state) = open();
        assert_eq!(accounts.current()[&key], before);
        assert_eq!(before.quotas, [quota]);
        accounts.report("p", "a", Outcome::Answered, Vec::new()).await;
        assert_eq!(accounts.current()[&key].health, Health::default());
    }
}
