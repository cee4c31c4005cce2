//! What was decided, for whoever shows it to the user.

use std::collections::HashMap;
use std::fmt;
use std::time::{Duration, Instant};

/// Equal decisions within this time are told together.
const WINDOW: Duration = Duration::from_secs(1);
/// Places that are told apart; what is more is told as one.
const MAX_PLACES: usize = 256;

/// What became of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    Allowed,
    Denied,
    Asked,
}

impl Outcome {
    /// As in events.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Allowed => "allowed",
            Self::Denied => "denied",
            Self::Asked => "asked",
        }
    }
}

/// A decision, or several equal ones.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Access {
    pub host: String,
    pub port: u16,
    pub outcome: Outcome,
    pub rule: String,
    pub reason: String,
    /// Connections that began.
    pub connections: u32,
    /// Bytes from the guest, of connections that ended.
    pub sent: u64,
    /// Bytes to the guest, of connections that ended.
    pub received: u64,
}

/// A connection that waits for the user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    pub id: String,
    pub host: String,
    pub port: u16,
    /// After which it is refused.
    pub patience: Duration,
}

/// The user's word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    Once,
    /// For as long as the lease lives.
    Session,
    Deny,
    /// As good as a denial, but the next connection may ask again.
    Cancel,
}

impl std::str::FromStr for Answer {
    type Err = UnknownAnswer;

    fn from_str(text: &str) -> Result<Self, UnknownAnswer> {
        match text {
            "once" => Ok(Self::Once),
            "session" => Ok(Self::Session),
            "deny" => Ok(Self::Deny),
            "cancel" => Ok(Self::Cancel),
            _ => Err(UnknownAnswer),
        }
    }
}

/// A word that is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an answer is `once`, `session`, `deny` or `cancel`")]
pub struct UnknownAnswer;

/// Where decisions go. Never blocks.
pub trait Decisions: fmt::Debug + Send + Sync {
    /// Something was decided, or a connection ended.
    fn access(&self, access: Access);
    /// Puts a question to the user; `false` where nobody is there to be asked.
    fn ask(&self, question: &Question) -> bool;
    /// A question needs no answer any more.
    fn closed(&self, question: &str);
}

/// Decisions nobody wants to hear of, and no one to be asked.
#[derive(Debug)]
pub struct Unheard;

impl Decisions for Unheard {
    fn access(&self, _: Access) {}

    fn ask(&self, _: &Question) -> bool {
        false
    }

    fn closed(&self, _: &str) {}
}

type Place = (String, u16, Outcome, String, String);

/// Brings many decisions down to a few: the first of its kind at once, then at most one a second.
#[derive(Debug, Default)]
pub struct Coalescer {
    places: HashMap<Place, Entry>,
}

#[derive(Debug)]
struct Entry {
    told: Option<Instant>,
    pending: Option<Access>,
}

impl Coalescer {
    /// Adds a decision.
    pub fn push(&mut self, mut access: Access) {
        if access.outcome != Outcome::Asked {
            self.answered(&access.host, access.port);
        }
        let known = self.places.contains_key(&place(&access));
        if !known && self.places.len() >= MAX_PLACES {
            access = Access {
                host: "(others)".to_owned(),
                port: 0,
                rule: String::new(),
                reason: "more places than are told apart".to_owned(),
                ..access
            };
        }
        let entry = self.places.entry(place(&access)).or_insert(Entry {
            told: None,
            pending: None,
        });
        match &mut entry.pending {
            None => entry.pending = Some(access),
            Some(pending) => {
                pending.connections = pending.connections.saturating_add(access.connections);
                pending.sent = pending.sent.saturating_add(access.sent);
                pending.received = pending.received.saturating_add(access.received);
            }
        }
    }

    /// A question that was answered before it was told of is told by its answer.
    fn answered(&mut self, host: &str, port: u16) {
        for ((of, at, outcome, ..), entry) in &mut self.places {
            if *outcome == Outcome::Asked && *at == port && of == host {
                entry.pending = None;
            }
        }
    }

    /// What may be told now.
    pub fn due(&mut self, now: Instant) -> Vec<Access> {
        let mut due = Vec::new();
        self.places.retain(|_, entry| {
            let quiet = entry
                .told
                .is_none_or(|told| now.saturating_duration_since(told) >= WINDOW);
            if !quiet {
                return true;
            }
            match entry.pending.take() {
                Some(access) => {
                    due.push(access);
                    entry.told = Some(now);
                    true
                }
                None => false,
            }
        });
        due
    }
}

fn place(access: &Access) -> Place {
    (
        access.host.clone(),
        access.port,
        access.outcome,
        access.rule.clone(),
        access.reason.clone(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_is_not_told_behind_its_answer() {
        let (mut coalescer, start) = (Coalescer::default(), Instant::now());
        coalescer.push(access("a.example", Outcome::Asked));
        assert_eq!(coalescer.due(start).len(), 1);
        coalescer.push(access("a.example", Outcome::Asked));
        coalescer.push(access("b.example", Outcome::Asked));
        coalescer.push(access("a.example", Outcome::Denied));
        let told: Vec<_> = [start, start + WINDOW]
            .into_iter()
            .flat_map(|now| coalescer.due(now))
            .map(|access| (access.host, access.outcome))
            .collect();
        assert_eq!(told.len(), 2, "{told:?}");
        assert!(told.contains(&("a.example".to_owned(), Outcome::Denied)));
        assert!(told.contains(&("b.example".to_owned(), Outcome::Asked)));
    }

    fn access(host: &str, outcome: Outcome) -> Access {
        Access {
            host: host.to_owned(),
            port: 443,
            outcome,
            rule: "unlisted".to_owned(),
            reason: String::new(),
            connections: 1,
            sent: 10,
            received: 20,
        }
    }

    #[test]
    fn the_first_at_once_then_one_a_second() {
        let mut coalescer = Coalescer::default();
        let start = Instant::now();
        coalescer.push(access("a", Outcome::Denied));
        assert_eq!(coalescer.due(start), [access("a", Outcome::Denied)]);
        for _ in 0..1000 {
            coalescer.push(access("a", Outcome::Denied));
        }
        assert!(coalescer.due(start + WINDOW / 2).is_empty());
        let due = coalescer.due(start + WINDOW);
        assert_eq!((due.len(), due[0].connections, due[0].sent), (1, 1000, 10_000));
        coalescer.push(access("a", Outcome::Allowed));
        assert_eq!(
            coalescer.due(start + WINDOW).len(),
            1,
            "another outcome is another thing"
        );
        assert!(coalescer.due(start + WINDOW * 5).is_empty() && coalescer.places.is_empty());
    }

    #[test]
    fn places_are_bounded() {
        let mut coalescer = Coalescer::default();
        for number in 0..10_000 {
            coalescer.push(access(&format!("host-{number}"), Outcome::Denied));
        }
        let due = coalescer.due(Instant::now());
        assert_eq!(due.len(), MAX_PLACES + 1);
        assert_eq!(due.iter().map(|access| access.connections).sum::<u32>(), 10_000);
    }
}
