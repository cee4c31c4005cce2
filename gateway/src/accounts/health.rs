//! How an account fares, as a pure function of what happened: when it is left alone, and for how long.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Longest pause a provider can ask for.
const MAX_DICTATED: Duration = Duration::from_hours(1);
/// First and longest pause after a 429 that does not say how long.
const LIMITED: (Duration, Duration) = (Duration::from_secs(1), Duration::from_mins(1));
/// Failures in a row before an account is left alone; one may be chance.
const TOLERATED: u32 = 3;
/// First and longest pause after failures.
const FAILING: (Duration, Duration) = (Duration::from_secs(5), Duration::from_mins(5));
/// After the provider refused the key: others are tried first, and this one again soon in case it was mended.
const REFUSED: Duration = Duration::from_mins(1);

/// How one attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// With anything that is the request's own doing, errors included.
    Answered,
    /// 429, or an overload with a time: come back after this.
    Limited { after: Option<Duration> },
    /// 5xx, no connection, or one that broke before the answer.
    Failed,
    /// 401 or 403: the key is not, or no longer, good.
    Refused,
}

/// Why an account is left alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    Limited,
    Failing,
    Refused,
}

impl Cause {
    /// For people.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Limited => "limited",
            Self::Failing => "failing",
            Self::Refused => "refused",
        }
    }
}

/// A time in which others are used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pause {
    /// Milliseconds of Unix time.
    pub until: u64,
    pub cause: Cause,
    /// The provider said how long; until then not even the last resort is tried.
    pub dictated: bool,
}

/// What is remembered of an account's past.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Health {
    /// In a row.
    pub failures: u32,
    /// Limits without a time, in a row.
    pub limits: u32,
    pause: Option<Pause>,
}

impl Health {
    /// After one more attempt.
    #[must_use]
    pub fn after(self, outcome: Outcome, now: u64) -> Self {
        let pause = |length: Duration, cause, dictated| {
            let length = length.as_millis().try_into().unwrap_or(u64::MAX);
            Some(Pause {
                until: now.saturating_add(length),
                cause,
                dictated,
            })
        };
        match outcome {
            Outcome::Answered => Self::default(),
            Outcome::Limited { after: Some(after) } => Self {
                pause: pause(after.min(MAX_DICTATED), Cause::Limited, true),
                ..self
            },
            Outcome::Limited { after: None } => Self {
                limits: self.limits.saturating_add(1),
                pause: pause(doubled(LIMITED, self.limits), Cause::Limited, false),
                ..self
            },
            Outcome::Failed => {
                let failures = self.failures.saturating_add(1);
                let over = failures.checked_sub(TOLERATED);
                Self {
                    failures,
                    // A failure is no reason to forget a pause that the provider asked for.
                    pause: over.map_or(self.pause, |over| {
                        pause(doubled(FAILING, over), Cause::Failing, false)
                    }),
                    ..self
                }
            }
            Outcome::Refused => Self {
                pause: pause(REFUSED, Cause::Refused, false),
                ..self
            },
        }
    }

    /// The pause that is on.
    pub fn pause(&self, now: u64) -> Option<Pause> {
        self.pause.filter(|pause| pause.until > now)
    }

    /// Whether it was paused and has not answered since: one request goes first, to see how it fares.
    pub fn is_on_trial(&self) -> bool {
        self.pause.is_some()
    }

    /// Of two that both hold for a request: the one that keeps it waiting for longer.
    #[must_use]
    pub fn worse(self, other: Self, now: u64) -> Self {
        let weight = |health: &Self| {
            let pause = health.pause(now).map(|pause| (pause.dictated, pause.until));
            (pause, !health.is_well(now), health.is_on_trial())
        };
        if weight(&other) > weight(&self) {
            other
        } else {
            self
        }
    }

    /// Whether nothing is held against it: those that come out of a pause are tried after these.
    pub fn is_well(&self, now: u64) -> bool {
        self.pause(now).is_none() && self.failures < TOLERATED
    }

    /// The same with no pause longer than any that begins now could be.
    #[must_use]
    pub fn bounded(mut self, now: u64) -> Self {
        let longest = now.saturating_add(MAX_DICTATED.as_millis().try_into().unwrap_or(u64::MAX));
        if let Some(pause) = &mut self.pause {
            pause.until = pause.until.min(longest);
        }
        self
    }
}

fn doubled((first, longest): (Duration, Duration), times: u32) -> Duration {
    first.saturating_mul(1 << times.min(16)).min(longest)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_000_000;

    /// What is left of the pause after these outcomes, milliseconds, why, and whether the provider set it.
    fn after(outcomes: &[Outcome]) -> Option<(u64, Cause, bool)> {
        let health = outcomes
            .iter()
            .fold(Health::default(), |health, outcome| health.after(*outcome, NOW));
        let pause = health.pause(NOW)?;
        Some((pause.until - NOW, pause.cause, pause.dictated))
    }

    #[test]
    fn pauses_as_a_table() {
        use Outcome::{Answered, Failed, Limited, Refused};
        let asked = |seconds| Limited {
            after: Some(Duration::from_secs(seconds)),
        };
        let limited = Limited { after: None };
        for (outcomes, expected) in [
            (&[Answered][..], None),
            (&[Failed], None),
            (&[Failed, Failed], None),
            (&[Failed, Failed, Failed], Some((5_000, Cause::Failing, false))),
            (&[Failed, Answered, Failed, Failed], None),
            (&[Failed; 5], Some((20_000, Cause::Failing, false))),
            (&[Failed; 40], Some((300_000, Cause::Failing, false))),
            (&[limited], Some((1_000, Cause::Limited, false))),
            (&[limited, limited, limited], Some((4_000, Cause::Limited, false))),
            (&[limited; 40], Some((60_000, Cause::Limited, false))),
            (&[asked(7)], Some((7_000, Cause::Limited, true))),
            (&[asked(7), Failed], Some((7_000, Cause::Limited, true))),
            (&[asked(999_999)], Some((3_600_000, Cause::Limited, true))),
            (&[asked(7), Answered], None),
            (&[Refused], Some((60_000, Cause::Refused, false))),
        ] {
            assert_eq!(after(outcomes), expected, "{outcomes:?}");
        }
    }

    #[test]
    fn a_pause_ends_and_the_account_is_on_trial_until_it_answers() {
        let failing = (0..3).fold(Health::default(), |health, _| health.after(Outcome::Failed, NOW));
        assert!(failing.pause(NOW + 4_999).is_some() && failing.pause(NOW + 5_000).is_none());
        assert!(!failing.is_well(NOW + 5_000));
        assert!(failing.after(Outcome::Answered, NOW + 5_000).is_well(NOW + 5_000));
        // One more failure, and the pause is longer.
        let again = failing.after(Outcome::Failed, NOW + 5_000);
        assert_eq!(again.pause(NOW + 5_000).unwrap().until, NOW + 15_000);
    }

    #[test]
    fn a_clock_that_went_back_makes_no_endless_pause() {
        let limited = Outcome::Limited {
            after: Some(Duration::from_mins(1)),
        };
        let health = Health::default().after(limited, NOW * 1_000_000);
        assert_eq!(health.bounded(NOW).pause(NOW).unwrap().until, NOW + 3_600_000);
    }
}
