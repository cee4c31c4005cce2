//! Which account a session tries first, and which after it.

use super::health::{Health, Pause};

/// An account that could be used, in the order of preference given by the configuration's chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate<'a> {
    /// Position of its target in the chain; a later one is used only where all of an earlier one are left alone.
    pub step: usize,
    pub provider: &'a str,
    pub account: &'a str,
    pub health: Health,
}

/// The order in which to try, by index; where nothing may be tried, the pause that ends first.
///
/// Within a step the accounts that are well come in the session's own order, which stays the same while accounts come
/// and go: its prompt cache is where it was last. Then those that come out of a pause, then as a last resort those that
/// this gateway paused by itself.
pub fn order(session: &str, candidates: &[Candidate<'_>], now: u64) -> Result<Vec<usize>, Option<Pause>> {
    let mut ranked: Vec<_> = candidates
        .iter()
        .enumerate()
        .filter_map(|(index, candidate)| {
            // Of one, no order has to be computed.
            let score = match candidates.len() {
                1 => 0,
                _ => u64::MAX - score(session, candidate.provider, candidate.account),
            };
            Some((rank(candidate, score, now)?, index))
        })
        .collect();
    ranked.sort_unstable();
    if ranked.is_empty() {
        let pauses = candidates
            .iter()
            .filter_map(|candidate| candidate.health.pause(now));
        return Err(pauses.min_by_key(|pause| pause.until));
    }
    Ok(ranked.into_iter().map(|(_, index)| index).collect())
}

/// Less is better: whether it is paused, its step, whether it is on trial, how soon it is back, the session's own order.
type Rank = (bool, usize, bool, u64, u64);

fn rank(candidate: &Candidate<'_>, score: u64, now: u64) -> Option<Rank> {
    let Candidate { step, health, .. } = *candidate;
    match health.pause(now) {
        None => Some((false, step, !health.is_well(now), 0, score)),
        Some(pause) if pause.dictated => None,
        Some(pause) => Some((true, step, true, pause.until, score)),
    }
}

/// Rendezvous: the account of the highest score is the session's own.
fn score(session: &str, provider: &str, account: &str) -> u64 {
    let mut hasher = blake3::Hasher::new();
    for part in [session, provider, account] {
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part.as_bytes());
    }
    let hash = hasher.finalize();
    let (first, _) = hash.as_bytes().split_first_chunk().unwrap_or((&[0; 8], &[]));
    u64::from_le_bytes(*first)
}

#[cfg(test)]
mod tests {
    use super::super::health::Outcome;
    use super::*;
    use std::time::Duration;

    const NOW: u64 = 1_000_000;

    fn candidate(step: usize, account: &'static str, outcomes: &[Outcome], at: u64) -> Candidate<'static> {
        let health = outcomes
            .iter()
            .fold(Health::default(), |health, outcome| health.after(*outcome, at));
        Candidate {
            step,
            provider: "p",
            account,
            health,
        }
    }

    fn names(session: &str, candidates: &[Candidate<'static>]) -> Vec<&'static str> {
        let order = order(session, candidates, NOW).unwrap();
        order.into_iter().map(|index| candidates[index].account).collect()
    }

    #[test]
    fn a_session_stays_and_sessions_spread() {
        let all: Vec<_> = ["a", "b", "c", "d"]
            .map(|name| candidate(0, name, &[], NOW))
            .into();
        let mut firsts = std::collections::BTreeMap::new();
        for session in 0..400 {
            let session = format!("session-{session}");
            let order = names(&session, &all);
            *firsts.entry(order[0]).or_insert(0) += 1;
            // Without its own account it goes to its second, and nobody else moves.
            let without: Vec<_> = all
                .iter()
                .filter(|other| other.account != order[3])
                .copied()
                .collect();
            assert_eq!(names(&session, &without), order[..3]);
        }
        assert!(
            firsts.len() == 4 && firsts.values().all(|count| *count > 50),
            "{firsts:?}"
        );
    }

    #[test]
    fn the_order_as_a_table() {
        let limited = Outcome::Limited { after: None };
        let dictated = Outcome::Limited {
            after: Some(Duration::from_secs(9)),
        };
        let failing = [Outcome::Failed; 3];
        let earlier = NOW - 60_000;
        for (candidates, expected) in [
            // The chain decides before the session does.
            (
                vec![candidate(1, "b", &[], NOW), candidate(0, "a", &[], NOW)],
                vec!["a", "b"],
            ),
            // What is paused comes after a later step that is well.
            (
                vec![candidate(0, "a", &[limited], NOW), candidate(1, "b", &[], NOW)],
                vec!["b", "a"],
            ),
            // What comes out of a pause is tried after its neighbours, and before the next step.
            (
                vec![
                    candidate(0, "trial", &failing, earlier),
                    candidate(0, "a", &[], NOW),
                    candidate(1, "b", &[], NOW),
                ],
                vec!["a", "trial", "b"],
            ),
            // What the provider paused is not tried at all.
            (
                vec![
                    candidate(0, "a", &[dictated], NOW),
                    candidate(0, "b", &failing, NOW),
                ],
                vec!["b"],
            ),
        ] {
            assert_eq!(names("s", &candidates), expected);
        }
        let all = [
            candidate(0, "a", &[dictated], NOW + 5_000),
            candidate(0, "b", &[dictated], NOW),
        ];
        assert_eq!(order("s", &all, NOW).unwrap_err().unwrap().until, NOW + 9_000);
        assert_eq!(order("s", &[], NOW), Err(None));
    }
}
