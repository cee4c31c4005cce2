//! From the journal into the database: many records in one transaction, each figure written once.

use std::collections::{BTreeMap, HashSet};

use rusqlite::{Transaction, params};

use super::db::Entry;
use super::record::{Record, Reserve, Settle};
use super::state::{Cell, cells};
use crate::money::Nanos;

/// Takes in records, in their order.
pub(super) fn all(transaction: &Transaction<'_>, entries: &[Entry]) -> rusqlite::Result<()> {
    let together = Together::of(entries);
    for entry in entries {
        fold_entry(transaction, entry, &together)?;
    }
    add(transaction, &together.spent)
}

/// What of some records can be written once instead of many times.
#[derive(Default)]
struct Together {
    /// Begun and over within them: these are never listed as open.
    passed: HashSet<u64>,
    /// By window: what was spent, and when last.
    spent: BTreeMap<Cell, (Nanos, u64)>,
}

impl Together {
    fn of(entries: &[Entry]) -> Self {
        let mut together = Self::default();
        let mut begun = HashSet::new();
        for entry in entries {
            match &entry.record {
                Record::Reserve(_) => {
                    begun.insert(entry.number);
                }
                Record::Progress { .. } => {}
                Record::Void { id } => {
                    together.passed.extend(begun.get(id));
                }
                Record::Settle(Settle { id, cost, .. }) => {
                    together.passed.extend(begun.get(id));
                    let Some(reserve) = &entry.closes else { continue };
                    for cell in cells(&reserve.scopes, reserve.at) {
                        let (spent, seen) = together.spent.entry(cell).or_default();
                        *spent = spent.plus(*cost);
                        *seen = reserve.at.max(*seen);
                    }
                }
            }
        }
        together
    }
}

fn fold_entry(transaction: &Transaction<'_>, entry: &Entry, together: &Together) -> rusqlite::Result<()> {
    let has_passed = |id: &u64| together.passed.contains(id);
    let close = |id: u64| {
        if has_passed(&id) {
            return Ok(());
        }
        transaction
            .prepare_cached("DELETE FROM open WHERE id = ?")?
            .execute([id.cast_signed()])
            .map(drop)
    };
    match &entry.record {
        Record::Reserve(_) if has_passed(&entry.number) => Ok(()),
        Record::Reserve(reserve) => transaction
            .prepare_cached("INSERT INTO open (id, reserve, progress) VALUES (?, ?, 0)")?
            .execute(params![
                entry.number.cast_signed(),
                serde_json::to_string(&**reserve).unwrap_or_default()
            ])
            .map(drop),
        Record::Progress { id, .. } if has_passed(id) => Ok(()),
        Record::Progress { id, cost } => transaction
            .prepare_cached("UPDATE open SET progress = max(progress, ?) WHERE id = ?")?
            .execute(params![cost.0.cast_signed(), id.cast_signed()])
            .map(drop),
        Record::Void { id } => close(*id),
        Record::Settle(settle) => {
            let Some(reserve) = &entry.closes else {
                return Ok(());
            };
            close(settle.id)?;
            insert_request(transaction, reserve, settle)
        }
    }
}

fn insert_request(transaction: &Transaction<'_>, reserve: &Reserve, settle: &Settle) -> rusqlite::Result<()> {
    let usage = &settle.usage;
    let number = u64::cast_signed;
    transaction
        .prepare_cached(
            "INSERT INTO request (id, at, user, key, session, provider, model, price, reserved, cost, input, cache_read,
                                  cache_write, cache_write_1h, output, reasoning, web_searches, how, team, org)
             VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        )?
        .execute(params![
            number(settle.id),
            number(reserve.at),
            reserve.user,
            reserve.key,
            reserve.session,
            reserve.provider,
            reserve.model,
            reserve.price,
            number(reserve.amount.0),
            number(settle.cost.0),
            number(usage.input),
            number(usage.cache_read),
            number(usage.cache_write),
            number(usage.cache_write_1h),
            number(usage.output),
            number(usage.reasoning),
            number(usage.web_searches),
            settle.how.as_str(),
            holder(reserve, "team:"),
            holder(reserve, "org:")
        ])
        .map(drop)
}

/// Whose budget of a kind it was reserved in; empty: nobody's.
fn holder<'a>(reserve: &'a Reserve, kind: &str) -> &'a str {
    let mut named = reserve.scopes.iter().filter_map(|scope| scope.strip_prefix(kind));
    named.next().unwrap_or_default()
}

fn add(transaction: &Transaction<'_>, spent: &BTreeMap<Cell, (Nanos, u64)>) -> rusqlite::Result<()> {
    let mut statement = transaction.prepare_cached(
        "INSERT INTO counter (scope, window, place, spent, seen) VALUES (?1, ?2, ?3, ?4, ?5)
         ON CONFLICT DO UPDATE SET spent = spent + ?4, seen = max(seen, ?5)",
    )?;
    for (cell, (spent, seen)) in spent {
        statement.execute(params![
            &*cell.scope,
            cell.window.as_str(),
            cell.index.cast_signed(),
            spent.0.min(i64::MAX.cast_unsigned()).cast_signed(),
            seen.cast_signed()
        ])?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::db::Db;
    use crate::ledger::record::How;
    use crate::ledger::state::State;
    use crate::usage::Usage;

    fn records() -> Vec<Record> {
        let reserve = |user: &str, at| {
            Record::Reserve(std::sync::Arc::new(Reserve {
                at,
                scopes: vec![format!("user:{user}").into(), "account:a".into()],
                amount: Nanos(100),
                user: user.into(),
                ..Reserve::default()
            }))
        };
        let settle = |id, cost| {
            Record::Settle(Settle {
                id,
                cost: Nanos(cost),
                usage: Usage::default(),
                how: How::Exact,
            })
        };
        let progress = |id, cost| Record::Progress {
            id,
            cost: Nanos(cost),
        };
        vec![
            reserve("ann", 1_795_000_000),
            progress(1, 5),
            reserve("bob", 1_795_000_001),
            settle(1, 30),
            reserve("ann", 1_795_000_002),
            progress(5, 40),
            Record::Void { id: 3 },
            reserve("ann", 1_795_000_003),
            settle(8, 12),
            // Of a request that nobody knows.
            settle(77, 1000),
        ]
    }

    #[test]
    fn together_or_one_by_one_it_is_the_same() {
        let mut state = State::default();
        let entries: Vec<Entry> = (1..)
            .zip(records())
            .map(|(number, record)| {
                let closes = state.closed_by(&record);
                state.apply(number, &record);
                Entry {
                    number,
                    record,
                    closes,
                }
            })
            .collect();
        let folded = |size: usize| {
            let directory = tempfile::tempdir().unwrap();
            let mut db = Db::open(&directory.path().join("usage.db")).unwrap();
            entries.chunks(size).for_each(|part| db.fold(part).unwrap());
            let kept = db.load().unwrap();
            (kept.state, kept.applied, kept.last)
        };
        let one_by_one = folded(1);
        assert_eq!(one_by_one.0.open.len(), 1);
        assert_eq!(one_by_one.2, 1_795_000_003);
        let spent = one_by_one.0.counters.values().map(|counter| counter.spent);
        assert_eq!(spent.max(), Some(Nanos(42)));
        for size in [2, 3, 4, 100] {
            assert_eq!(folded(size), one_by_one, "{size}");
        }
    }
}
