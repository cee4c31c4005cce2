//! What a provider wants back with its calls of tools, and the caller's dialect cannot carry: signed thinking, encrypted
//! reasoning, signatures of calls. Kept in memory by session, provider, model and the id of the call; when it is gone, the
//! conversation goes on without.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::Value;

/// Bytes of one session.
const MAX_SESSION: usize = 4 << 20;
/// Calls of one session.
const MAX_CALLS: usize = 2000;
/// Bytes of all sessions.
const MAX_ALL: usize = 128 << 20;
/// What a record takes besides its text.
const OVERHEAD: usize = 256;

/// Of all sessions.
#[derive(Debug, Default)]
pub(crate) struct Kept(Mutex<Table>);

#[derive(Debug, Default)]
struct Table {
    sessions: HashMap<String, Session>,
    bytes: usize,
    /// Counts uses, so that the session that was not used for longest is forgotten first.
    clock: u64,
}

#[derive(Debug, Default)]
struct Session {
    records: HashMap<String, Record>,
    /// Ids of calls, oldest first.
    order: VecDeque<String>,
    bytes: usize,
    used: u64,
}

#[derive(Debug)]
struct Record {
    /// Provider and model.
    by: Arc<(String, String)>,
    items: Vec<Value>,
    bytes: usize,
}

impl Table {
    fn forget_oldest(&mut self, session: &str) {
        if let Some(session) = self.sessions.get_mut(session)
            && let Some(id) = session.order.pop_front()
            && let Some(record) = session.records.remove(&id)
        {
            session.bytes -= record.bytes;
            self.bytes -= record.bytes;
        }
    }

    fn forget_session(&mut self) {
        let oldest = self.sessions.iter().min_by_key(|(_, session)| session.used);
        if let Some(name) = oldest.map(|(name, _)| name.clone())
            && let Some(session) = self.sessions.remove(&name)
        {
            self.bytes -= session.bytes;
        }
    }

    fn add(&mut self, name: &str, id: &str, record: Record) {
        self.clock += 1;
        let (clock, bytes) = (self.clock, record.bytes);
        let session = self.sessions.entry(name.to_owned()).or_default();
        session.used = clock;
        match session.records.insert(id.to_owned(), record) {
            Some(old) => {
                session.bytes -= old.bytes;
                self.bytes -= old.bytes;
            }
            None => session.order.push_back(id.to_owned()),
        }
        session.bytes += bytes;
        self.bytes += bytes;
        while self
            .sessions
            .get(name)
            .is_some_and(|session| session.bytes > MAX_SESSION || session.order.len() > MAX_CALLS)
        {
            self.forget_oldest(name);
        }
        while self.bytes > MAX_ALL {
            self.forget_session();
        }
    }
}

/// Of one session, with one model of a provider.
#[derive(Clone, Debug)]
pub(crate) struct Keeper {
    kept: Arc<Kept>,
    session: String,
    by: Arc<(String, String)>,
}

impl Keeper {
    pub(crate) fn new(kept: &Arc<Kept>, session: &str, provider: &str, model: &str) -> Self {
        Self {
            kept: Arc::clone(kept),
            session: session.to_owned(),
            by: Arc::new((provider.to_owned(), model.to_owned())),
        }
    }

    /// For the next request; more than a session may keep is not kept at all.
    pub(super) fn keep(&self, call: &str, items: Vec<Value>) {
        let bytes: usize = items.iter().map(size).sum::<usize>() + call.len() * 2 + OVERHEAD;
        if bytes > MAX_SESSION {
            return;
        }
        let record = Record {
            by: Arc::clone(&self.by),
            items,
            bytes,
        };
        let mut table = self.kept.0.lock().unwrap_or_else(PoisonError::into_inner);
        table.add(&self.session, call, record);
    }

    /// What this model wants back with that call; nothing where another one made it.
    pub(super) fn of(&self, call: &str) -> Vec<Value> {
        let mut table = self.kept.0.lock().unwrap_or_else(PoisonError::into_inner);
        table.clock += 1;
        let clock = table.clock;
        let Some(session) = table.sessions.get_mut(&self.session) else {
            return Vec::new();
        };
        session.used = clock;
        let record = session.records.get(call).filter(|record| record.by == self.by);
        record.map(|record| record.items.clone()).unwrap_or_default()
    }
}

fn size(value: &Value) -> usize {
    match value {
        Value::String(text) => text.len() + 32,
        Value::Array(items) => items.iter().map(size).sum::<usize>() + 32,
        Value::Object(fields) => fields
            .iter()
            .map(|(name, value)| name.len() + size(value) + 32)
            .sum(),
        Value::Null | Value::Bool(_) | Value::Number(_) => 32,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn only_the_session_and_the_model_that_it_is_from_get_it_back() {
        let kept = Arc::new(Kept::default());
        let keeper = Keeper::new(&kept, "s", "p", "m");
        keeper.keep("a", vec![json!("signed")]);
        assert_eq!(keeper.of("a"), [json!("signed")]);
        keeper.keep("a", vec![json!("again")]);
        assert_eq!(keeper.of("a"), [json!("again")]);
        for other in [
            Keeper::new(&kept, "t", "p", "m"),
            Keeper::new(&kept, "s", "q", "m"),
            Keeper::new(&kept, "s", "p", "n"),
        ] {
            assert!(other.of("a").is_empty());
        }
        assert!(keeper.of("b").is_empty());
    }

    #[test]
    fn a_session_forgets_its_own_oldest_and_no_other_sessions() {
        let kept = Arc::new(Kept::default());
        let (one, two) = (
            Keeper::new(&kept, "1", "p", "m"),
            Keeper::new(&kept, "2", "p", "m"),
        );
        one.keep("mine", vec![json!("x")]);
        for call in 0..=MAX_CALLS {
            two.keep(&call.to_string(), vec![json!("x")]);
        }
        assert!(two.of("0").is_empty() && !two.of("1").is_empty());
        let large = "x".repeat(MAX_SESSION / 2);
        for call in ["a", "b", "c"] {
            two.keep(call, vec![json!(large)]);
        }
        assert!(two.of("a").is_empty() && !two.of("c").is_empty());
        two.keep("d", vec![json!("x".repeat(MAX_SESSION))]);
        assert!(two.of("d").is_empty() && !one.of("mine").is_empty());
        let table = kept.0.lock().unwrap();
        let bytes: usize = table.sessions.values().map(|session| session.bytes).sum();
        assert!(bytes == table.bytes && bytes <= MAX_ALL);
    }

    #[test]
    fn what_all_keep_is_bounded_too() {
        let kept = Arc::new(Kept::default());
        let large = json!("x".repeat(MAX_SESSION - 1000));
        let keeper = |number: usize| Keeper::new(&kept, &number.to_string(), "p", "m");
        let sessions = MAX_ALL / MAX_SESSION + 2;
        for number in 0..sessions {
            keeper(number).keep("c", vec![large.clone()]);
            // The first is in use all the time.
            assert!(!keeper(0).of("c").is_empty());
        }
        assert!(keeper(1).of("c").is_empty() && !keeper(sessions - 1).of("c").is_empty());
        assert!(kept.0.lock().unwrap().bytes <= MAX_ALL);
    }
}
