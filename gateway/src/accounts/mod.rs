//! The accounts of providers: which one a session uses, how each fares, and what is left of its quota.
//!
//! One task owns the state and publishes it; whoever sends a request reads the last published state and decides with
//! pure functions ([`health`], [`order`]). State is kept over restarts, so that a provider that asked for a pause gets it.
//!
//! A 429 is about one model, unless the provider says that it is about the whole account, or two models have one at the same
//! time. Whatever comes out of a pause is asked by one request alone ([`probe`]).

pub mod health;
pub mod order;
pub mod probe;
pub mod quota;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot};

use crate::state::{State, StoredAccount};
use health::{Cause, Health, Outcome};
use probe::{Probe, Probes};
use quota::Quota;

/// Reports that wait at a time.
const WAITING: usize = 1024;
/// Quotas change with every answer; they are written at most this often, in milliseconds.
const QUOTA_EVERY: u64 = 10_000;

/// Models of one account that are remembered as paused; callers choose their names.
const MAX_MODELS: usize = 64;

/// Provider and account.
pub type AccountKey = (String, String);

/// What is known of one account.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Account {
    /// Whatever the model.
    pub health: Health,
    /// Of models that were limited apart.
    pub models: BTreeMap<String, Health>,
    /// As the provider last told, by name of the window.
    pub quotas: Vec<Quota>,
    /// When the quotas were told, milliseconds of Unix time.
    pub quotas_at: u64,
}

impl Account {
    /// How it fares for requests for a model.
    pub fn health_for(&self, model: &str, now: u64) -> Health {
        match self.models.get(model) {
            Some(own) => self.health.worse(*own, now),
            None => self.health,
        }
    }

    /// The models that are paused apart.
    pub fn paused_models(&self, now: u64) -> impl Iterator<Item = &str> {
        let paused = self
            .models
            .iter()
            .filter(move |(_, health)| health.pause(now).is_some());
        paused.map(|(model, _)| model.as_str())
    }

    /// What a probe would be of: the model where it is the model that was paused.
    fn trial(&self, model: &str, now: u64) -> Option<String> {
        if !self.health_for(model, now).is_on_trial() {
            return None;
        }
        let is_its_own =
            self.models.get(model).is_some_and(Health::is_on_trial) && !self.health.is_on_trial();
        Some(if is_its_own {
            model.to_owned()
        } else {
            String::new()
        })
    }

    /// Whether nothing at all is held against it.
    fn is_clean(&self, model: &str) -> bool {
        self.health == Health::default() && !self.models.contains_key(model)
    }
}

/// All accounts that were ever used, by provider and name.
pub type Snapshot = BTreeMap<AccountKey, Account>;

#[derive(Debug)]
struct Report {
    key: AccountKey,
    model: String,
    outcome: Outcome,
    quotas: Vec<Quota>,
    done: Option<oneshot::Sender<()>>,
}

/// The way to the task that owns the state.
#[derive(Debug)]
pub struct Accounts {
    current: Arc<ArcSwap<Snapshot>>,
    reports: mpsc::Sender<Report>,
    probes: Arc<Probes>,
}

/// Whether a request may go to an account now.
#[derive(Debug)]
pub enum Admission {
    /// With what it holds until it has reported; nothing where the account is well.
    Go(Option<Probe>),
    /// Another request is out to see how the account fares.
    Busy,
    /// The provider asked for a pause.
    Paused,
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
        Self {
            current,
            reports,
            probes: Arc::default(),
        }
    }

    /// The state at this moment.
    pub fn current(&self) -> Arc<Snapshot> {
        self.current.load_full()
    }

    /// Lets a request for a model in, or the one that probes an account that was paused.
    pub fn admit(&self, provider: &str, account: &str, model: &str) -> Admission {
        let key = (provider.to_owned(), account.to_owned());
        let at = now();
        let trial = |current: &Snapshot| current.get(&key).and_then(|known| known.trial(model, at));
        let Some(what) = trial(&self.current.load()) else {
            return Admission::Go(None);
        };
        let Some(probe) = self.probes.take(&(key.0.clone(), key.1.clone(), what)) else {
            return Admission::Busy;
        };
        // The one before may have reported since.
        let current = self.current.load();
        let pause = current
            .get(&key)
            .and_then(|known| known.health_for(model, at).pause(at));
        if pause.is_some_and(|pause| pause.dictated) {
            return Admission::Paused;
        }
        Admission::Go(trial(&current).is_some().then_some(probe))
    }

    /// Those that are out.
    pub fn probes(&self) -> &Probes {
        &self.probes
    }

    /// Tells how a request for a model went; the name is empty where it is about none. Returns at once where all is well; otherwise when the next request will know.
    pub async fn report(
        &self,
        (provider, account, model): (&str, &str, &str),
        outcome: Outcome,
        quotas: Vec<Quota>,
    ) {
        let key = (provider.to_owned(), account.to_owned());
        let model = model.to_owned();
        let is_well = self
            .current
            .load()
            .get(&key)
            .is_none_or(|account| account.is_clean(&model));
        if outcome == Outcome::Answered && is_well {
            if !quotas.is_empty() {
                let report = Report {
                    key,
                    model,
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
            model,
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
    for health in account.models.values_mut() {
        *health = health.bounded(now);
    }
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
            let changed = note(account, &report.model, report.outcome, report.quotas, at);
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
fn note(account: &mut Account, model: &str, outcome: Outcome, quotas: Vec<Quota>, at: u64) -> bool {
    let before = (account.health, account.models.get(model).copied());
    match outcome {
        Outcome::Limited { .. } if !model.is_empty() => limit(account, model, outcome, &quotas, at),
        Outcome::Answered => {
            account.models.remove(model);
            account.health = account.health.after(outcome, at);
        }
        _ => account.health = account.health.after(outcome, at),
    }
    let after = (account.health, account.models.get(model).copied());
    let changed = before != after;
    if changed {
        tracing::info!(?outcome, health = ?account.health, model = ?after.1, "an account's health changed");
    }
    if !quotas.is_empty() {
        account.quotas = quota::merged(&account.quotas, quotas);
        account.quotas_at = at;
    }
    changed
}

/// After a 429 for a model.
fn limit(account: &mut Account, model: &str, outcome: Outcome, quotas: &[Quota], at: u64) {
    let is_limited = |health: &Health| {
        health
            .pause(at)
            .is_some_and(|pause| pause.cause == Cause::Limited)
    };
    let is_second = account
        .models
        .iter()
        .any(|(other, health)| other != model && is_limited(health));
    if is_second || quota::is_account_wide(quotas) {
        account.health = account.health.after(outcome, at);
    }
    let own = account.models.get(model).copied().unwrap_or_default();
    account.models.insert(model.to_owned(), own.after(outcome, at));
    while account.models.len() > MAX_MODELS {
        let until = |health: &Health| health.pause(at).map(|pause| pause.until);
        let soonest = account
            .models
            .iter()
            .filter(|(name, _)| *name != model)
            .min_by_key(|(_, health)| until(health));
        let Some(name) = soonest.map(|(name, _)| name.clone()) else {
            break;
        };
        account.models.remove(&name);
    }
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
        accounts
            .report(("p", "a", "m"), limited, vec![quota.clone()])
            .await;
        let key = ("p".to_owned(), "a".to_owned());
        let before = accounts.current()[&key].clone();
        let pause = |model| before.health_for(model, now()).pause(now());
        assert!(pause("m").is_some_and(|pause| pause.dictated) && pause("n").is_none());
        drop(accounts);
        // The task holds the state until it has seen that nobody reports any more.
        while Arc::strong_count(&state) > 1 {
            tokio::task::yield_now().await;
        }
        drop(state);
        let (accounts, _state) = open();
        assert_eq!(accounts.current()[&key], before);
        assert_eq!(before.quotas, [quota]);
        accounts
            .report(("p", "a", "m"), Outcome::Answered, Vec::new())
            .await;
        assert!(accounts.current()[&key].is_clean("m"));
    }

    #[test]
    fn a_limit_is_a_models_until_it_is_the_accounts() {
        const NOW: u64 = 1_000_000;
        let limited = Outcome::Limited {
            after: Some(Duration::from_mins(1)),
        };
        let paused =
            |account: &Account, model: &str, at: u64| account.health_for(model, at).pause(at).is_some();
        let mut account = Account::default();
        note(&mut account, "a", limited, Vec::new(), NOW);
        assert!(paused(&account, "a", NOW) && !paused(&account, "b", NOW));
        // Not at the same time: no more than two models apart.
        let mut later = account.clone();
        note(&mut later, "b", limited, Vec::new(), NOW + 60_000);
        assert!(paused(&later, "b", NOW + 60_000) && !paused(&later, "c", NOW + 60_000));
        // Two at the same time are the account.
        note(&mut account, "b", limited, Vec::new(), NOW + 1);
        assert!(paused(&account, "c", NOW + 1));
        // As is a provider that says so, and a request that is for no model.
        let unified = Quota {
            name: "unified-5h".into(),
            status: Some("rejected".into()),
            ..Quota::default()
        };
        for (model, quotas) in [("a", vec![unified]), ("", Vec::new())] {
            let mut account = Account::default();
            note(&mut account, model, limited, quotas, NOW);
            assert!(paused(&account, "b", NOW), "{model}");
        }
        // Names that a caller makes up do not fill memory.
        for number in 0..2 * MAX_MODELS {
            note(
                &mut account,
                &format!("made-up-{number}"),
                limited,
                Vec::new(),
                NOW,
            );
        }
        assert!(account.models.len() <= MAX_MODELS);
    }

    #[tokio::test]
    async fn one_request_probes_what_comes_out_of_a_pause() {
        let directory = tempfile::tempdir().unwrap();
        let (state, loaded) = State::open(&directory.path().join("state.db")).unwrap();
        let accounts = Accounts::start(Arc::new(state), loaded.accounts);
        let place = ("p", "a", "m");
        let admit = |model| accounts.admit("p", "a", model);
        assert!(matches!(admit("m"), Admission::Go(None)));
        // Over at once, and not answered since.
        let limited = Outcome::Limited {
            after: Some(Duration::ZERO),
        };
        accounts.report(place, limited, Vec::new()).await;
        let Admission::Go(Some(probe)) = admit("m") else {
            panic!("nobody was on a probe");
        };
        assert!(matches!(admit("m"), Admission::Busy));
        assert!(matches!(admit("n"), Admission::Go(None)));
        // Its client went away: the next one probes.
        drop(probe);
        let Admission::Go(Some(probe)) = admit("m") else {
            panic!("the place was not free");
        };
        accounts.report(place, Outcome::Answered, Vec::new()).await;
        drop(probe);
        assert!(matches!(admit("m"), Admission::Go(None)));
        let long = Outcome::Limited {
            after: Some(Duration::from_mins(1)),
        };
        accounts.report(place, long, Vec::new()).await;
        assert!(matches!(admit("m"), Admission::Paused));
    }
}
