//! The ledger as data and as a thread: whatever the order, nothing is overspent and nothing is lost.

use std::path::Path;
use std::sync::Arc;

use proptest::prelude::*;

use super::record::Reserve;
use super::state::{Budgets, State};
use super::*;
use crate::money::Nanos;
use crate::usage::Usage;

const SCOPES: [&str; 3] = ["key:a", "user:u", "user:v"];

fn reserve(scopes: &[&str], amount: u64, at: u64) -> Reserve {
    Reserve {
        at,
        scopes: scopes.iter().map(|scope| Arc::from(*scope)).collect(),
        amount: Nanos(amount),
        user: "u".into(),
        model: "m".into(),
        price: "test".into(),
        ..Reserve::default()
    }
}

fn settle(id: u64, cost: u64) -> Record {
    Record::Settle(Settle {
        id,
        cost: Nanos(cost),
        usage: Usage::default(),
        how: How::Exact,
    })
}

/// What a run of the ledger does at one step.
#[derive(Clone, Debug)]
enum Step {
    Ask {
        scopes: u8,
        amount: u64,
    },
    /// Of the open ones, and how much of its reservation it did cost.
    End {
        which: usize,
        percent: u64,
    },
    Void {
        which: usize,
    },
    Wait {
        seconds: u64,
    },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (1_u8..8, 0_u64..60).prop_map(|(scopes, amount)| Step::Ask { scopes, amount }),
        3 => (any::<usize>(), 0_u64..101).prop_map(|(which, percent)| Step::End { which, percent }),
        1 => any::<usize>().prop_map(|which| Step::Void { which }),
        1 => (0_u64..200_000).prop_map(|seconds| Step::Wait { seconds }),
    ];
    prop::collection::vec(step, 0..80)
}

proptest! {
    #[test]
    fn no_order_of_things_overspends(steps in steps(), limits in prop::collection::vec(0_u64..200, 6)) {
        let windows = [Window::Day, Window::Total];
        let budgets: Budgets = SCOPES
            .iter()
            .flat_map(|scope| windows.map(|window| (Arc::from(*scope), window)))
            .zip(limits.into_iter().map(Nanos))
            .collect();
        let (mut state, mut number, mut now) = (State::default(), 0, 1_795_000_000);
        let mut records: Vec<(u64, Record)> = Vec::new();
        let mut upstream: Vec<(Reserve, u64)> = Vec::new();
        for step in steps {
            let open: Vec<u64> = state.open.keys().copied().collect();
            let record = match step {
                Step::Ask { scopes, amount } => {
                    let scopes: Vec<&str> =
                        (0..3).filter(|bit| scopes & (1 << bit) != 0).map(|bit| SCOPES[bit]).collect();
                    let asked = reserve(&scopes, amount, now);
                    if state.check(&budgets, &asked.scopes, asked.amount, now).is_err() {
                        continue;
                    }
                    Record::Reserve(Arc::new(asked))
                }
                Step::End { which, percent } if !open.is_empty() => {
                    let id = open[which % open.len()];
                    let reserved = &state.open[&id].reserve;
                    let cost = reserved.amount.0 * percent / 100;
                    upstream.push(((**reserved).clone(), cost));
                    settle(id, cost)
                }
                Step::Void { which } if !open.is_empty() => Record::Void { id: open[which % open.len()] },
                Step::Wait { seconds } => {
                    now += seconds;
                    continue;
                }
                _ => continue,
            };
            number += 1;
            state.apply(number, &record);
            records.push((number, record));
            // Never more than the limit, never less than what was counted elsewhere.
            for ((scope, window), limit) in &budgets {
                let counter = state.counter(scope, *window, now);
                prop_assert!(counter.spent.plus(counter.reserved) <= *limit);
                let counted: u64 = upstream
                    .iter()
                    .filter(|(asked, _)| asked.scopes.contains(scope) && window.index(asked.at) == window.index(now))
                    .map(|(_, cost)| cost)
                    .sum();
                prop_assert_eq!(counter.spent, Nanos(counted));
            }
        }
        let mut again = State::default();
        for (number, record) in &records {
            again.apply(*number, record);
        }
        prop_assert_eq!(again, state);
    }
}

#[test]
fn a_request_stays_in_the_window_it_was_sent_in() {
    let day = 86_400;
    let mut state = State::default();
    state.apply(1, &Record::Reserve(Arc::new(reserve(&["user:u"], 50, 10 * day))));
    state.apply(2, &settle(1, 40));
    state.apply(3, &settle(1, 40));
    state.apply(4, &Record::Void { id: 77 });
    let user: Arc<str> = "user:u".into();
    assert_eq!(state.counter(&user, Window::Day, 10 * day).spent, Nanos(40));
    assert_eq!(state.counter(&user, Window::Day, 11 * day).spent, Nanos(0));
    assert_eq!(state.counter(&user, Window::Total, 11 * day).spent, Nanos(40));
}

fn ask(amount: u64) -> Ask {
    Ask {
        reserve: reserve(&["user:u", "session:1/s"], amount, 0),
        boundless: None,
        queue: false,
    }
}

async fn spent(ledger: &Ledger) -> (Nanos, Nanos) {
    let counter = ledger.budgets(Some("user:u".into())).await.unwrap()[0].counter;
    (counter.spent, counter.reserved)
}

async fn bounded(directory: &Path, limit: u64) -> Ledger {
    let ledger = Ledger::open(directory).unwrap();
    let limit = Some(Nanos(limit));
    ledger.set_budget("user:u", Window::Month, limit).await.unwrap();
    ledger
}

#[tokio::test]
async fn two_hundred_at_the_edge_of_a_budget() {
    let directory = tempfile::tempdir().unwrap();
    let ledger = bounded(directory.path(), 1000).await;
    let asks = (0..200).map(|_| ledger.reserve(ask(30)));
    let answers = futures_util::future::join_all(asks).await;
    let (granted, refused): (Vec<_>, Vec<_>) = answers.into_iter().partition(Result::is_ok);
    assert_eq!((granted.len(), refused.len()), (33, 167));
    assert_eq!(spent(&ledger).await, (Nanos(0), Nanos(990)));
    for ticket in granted.into_iter().flatten() {
        ticket.settle(Nanos(10), Usage::default(), How::Exact);
    }
    assert_eq!(spent(&ledger).await, (Nanos(330), Nanos(0)));
    let Err(Refused::Exceeded(exceeded)) = ledger.reserve(ask(671)).await else {
        panic!("not refused");
    };
    assert_eq!(
        (exceeded.limit, exceeded.counter.spent),
        (Nanos(1000), Nanos(330))
    );
    assert!(!exceeded.may_fit_later && exceeded.resets_at.is_some());
}

#[tokio::test]
async fn who_waits_gets_the_room_that_others_leave() {
    let directory = tempfile::tempdir().unwrap();
    let ledger = bounded(directory.path(), 100).await;
    let first = ledger.reserve(ask(80)).await.unwrap();
    let waiting = Ask {
        queue: true,
        ..ask(80)
    };
    let mut second = Box::pin(ledger.reserve(waiting.clone()));
    assert!(futures_util::poll!(&mut second).is_pending());
    assert_eq!(spent(&ledger).await, (Nanos(0), Nanos(80)));
    assert!(futures_util::poll!(&mut second).is_pending());
    first.settle(Nanos(15), Usage::default(), How::Exact);
    let second = second.await.unwrap();
    assert_eq!(spent(&ledger).await, (Nanos(15), Nanos(80)));
    // What can never fit does not wait.
    let never = Ask {
        reserve: reserve(&["user:u"], 101, 0),
        ..waiting
    };
    assert!(matches!(ledger.reserve(never).await, Err(Refused::Exceeded(_))));
    drop(second);
    assert_eq!(spent(&ledger).await, (Nanos(15), Nanos(0)));
}

#[tokio::test]
async fn without_a_bound_only_without_a_budget() {
    let directory = tempfile::tempdir().unwrap();
    let ledger = Ledger::open(directory.path()).unwrap();
    let endless = Ask {
        boundless: Some("why"),
        ..ask(0)
    };
    ledger.reserve(endless.clone()).await.unwrap().void();
    ledger
        .set_budget("session:1/s", Window::Total, Some(Nanos(5)))
        .await
        .unwrap();
    assert_eq!(
        ledger.reserve(endless.clone()).await.unwrap_err(),
        Refused::Boundless("why")
    );
    ledger
        .set_budget("session:1/s", Window::Total, None)
        .await
        .unwrap();
    assert!(ledger.reserve(endless).await.is_ok());
}

/// The directory as a kill leaves it at this moment.
fn killed(directory: &Path) -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, copy.path().join(path.file_name().unwrap())).unwrap();
    }
    copy
}

#[tokio::test]
async fn what_was_open_at_a_kill_counts_in_full_once() {
    let directory = tempfile::tempdir().unwrap();
    let ledger = bounded(directory.path(), 1000).await;
    let mut open = ledger.reserve(ask(100)).await.unwrap();
    open.mark_sent();
    let grown = ledger.reserve(ask(10)).await.unwrap();
    grown.progress(Nanos(25));
    let done = ledger.reserve(ask(200)).await.unwrap();
    done.settle(
        Nanos(7),
        Usage {
            input: 3,
            ..Usage::default()
        },
        How::Exact,
    );
    assert_eq!(spent(&ledger).await, (Nanos(7), Nanos(110)));

    let copy = killed(directory.path());
    for _ in 0..2 {
        let again = Ledger::open(copy.path()).unwrap();
        assert_eq!(spent(&again).await, (Nanos(132), Nanos(0)));
        let users = again.usage(Group::User, 0, Vec::new()).await.unwrap();
        assert_eq!(
            (users.len(), users[0].requests, users[0].inexact, users[0].cost),
            (1, 3, 2, Nanos(132))
        );
        assert_eq!((users[0].name.as_str(), users[0].input), ("u", 3));
        for (user, rows) in [("u", 1), ("eve", 0)] {
            let theirs = again.usage(Group::Model, 0, vec![user.into()]).await.unwrap();
            assert_eq!(theirs.len(), rows, "{user}");
        }
    }
}

#[tokio::test]
async fn dropped_before_it_was_sent_it_costs_nothing_and_after_that_all() {
    let directory = tempfile::tempdir().unwrap();
    let ledger = bounded(directory.path(), 1000).await;
    drop(ledger.reserve(ask(100)).await.unwrap());
    assert_eq!(spent(&ledger).await, (Nanos(0), Nanos(0)));
    let mut sent = ledger.reserve(ask(100)).await.unwrap();
    sent.mark_sent();
    drop(sent);
    assert_eq!(spent(&ledger).await, (Nanos(100), Nanos(0)));
    let closed = ledger.reserve(ask(100));
    drop(closed);
    assert_eq!(spent(&ledger).await, (Nanos(100), Nanos(0)));
}

#[tokio::test]
async fn what_cannot_be_made_durable_is_not_granted_and_nothing_after_it() {
    let directory = tempfile::tempdir().unwrap();
    let ledger = bounded(directory.path(), 1000).await;
    let unbounded = || Ask {
        reserve: reserve(&["user:v"], 1, 0),
        ..ask(1)
    };
    drop(ledger.reserve(unbounded()).await.unwrap());
    // A pipe takes what is written to it, and cannot be synced.
    let (_reader, writer) = std::io::pipe().unwrap();
    let writer = std::os::fd::OwnedFd::from(writer);
    super::core::lock(&ledger.shared.core)
        .journal
        .redirect(writer.into());
    drop(ledger.reserve(unbounded()).await.unwrap());
    for ask in [ask(10), unbounded()] {
        assert_eq!(ledger.reserve(ask).await.unwrap_err(), Refused::Unavailable);
    }
    assert_eq!(spent(&ledger).await, (Nanos(0), Nanos(0)));
}

#[tokio::test]
async fn only_one_gateway_has_the_ledger() {
    let directory = tempfile::tempdir().unwrap();
    let first = Ledger::open(directory.path()).unwrap();
    let path = directory.path().to_owned();
    let second = tokio::task::spawn_blocking(move || Ledger::open(&path));
    first.budgets(None).await.unwrap();
    // Let go of, it is taken over.
    drop(first);
    second.await.unwrap().unwrap();
}
