//! Objects stored at providers: an id is good for the owner it was issued to and for nobody else.
//!
//! Ids are learned from answers as they pass. What was not seen being issued is refused, whoever asks: the accounts are
//! shared, and an id that leaks would open another person's conversation.

mod ids;
mod tap;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

pub(crate) use tap::{Tap, Tapped};

use crate::asked::{Kind, Object};
use crate::dialect::WireError;
use crate::state::{State, StoredObject};

/// Ids that are remembered; the oldest of their owner, or of all, are forgotten beyond it.
const MAX_OWNED: usize = 20_000;
const MAX_ALL: usize = 200_000;
/// Longer ones are not remembered.
const MAX_ID: usize = 256;

/// Whose every known object is.
#[derive(Debug)]
pub struct Objects {
    table: Mutex<Table>,
    state: Arc<State>,
}

#[derive(Debug, Default)]
struct Table {
    /// By provider and id.
    known: HashMap<(String, String), Known>,
    by_serial: BTreeMap<u64, (String, String)>,
    by_owner: HashMap<String, BTreeSet<u64>>,
    next: u64,
}

#[derive(Debug)]
struct Known {
    serial: u64,
    owner: String,
    account: String,
    kind: String,
}

impl Table {
    /// Whether it was not known before; an id never changes hands.
    fn insert(&mut self, object: &StoredObject) -> bool {
        let key = (object.provider.clone(), object.id.clone());
        if self.known.contains_key(&key) {
            return false;
        }
        let known = Known {
            serial: object.serial,
            owner: object.owner.clone(),
            account: object.account.clone(),
            kind: object.kind.clone(),
        };
        self.next = self.next.max(object.serial + 1);
        self.by_serial.insert(object.serial, key.clone());
        self.by_owner
            .entry(object.owner.clone())
            .or_default()
            .insert(object.serial);
        self.known.insert(key, known);
        true
    }

    /// What has to go to make room after an insertion for this owner.
    fn surplus(&mut self, owner: &str) -> Option<u64> {
        let owned = self.by_owner.get(owner)?;
        let serial = if owned.len() > MAX_OWNED {
            *owned.first()?
        } else if self.by_serial.len() > MAX_ALL {
            *self.by_serial.first_key_value()?.0
        } else {
            return None;
        };
        let key = self.by_serial.get(&serial)?.clone();
        self.remove(&key)
    }

    /// Its serial, if it was known.
    fn remove(&mut self, key: &(String, String)) -> Option<u64> {
        let known = self.known.remove(key)?;
        self.by_serial.remove(&known.serial);
        if let Some(owned) = self.by_owner.get_mut(&known.owner) {
            owned.remove(&known.serial);
            if owned.is_empty() {
                self.by_owner.remove(&known.owner);
            }
        }
        Some(known.serial)
    }

    fn owned(&self, provider: &str, owner: &str, kind: Kind) -> impl Iterator<Item = (&str, &Known)> {
        let serials = self.by_owner.get(owner).into_iter().flatten().rev();
        serials.filter_map(move |serial| {
            let key = self.by_serial.get(serial)?;
            let known = self.known.get(key)?;
            (key.0 == provider && known.kind == kind.as_str()).then_some((key.1.as_str(), known))
        })
    }
}

impl Objects {
    /// Those that were known when the gateway last ran.
    pub fn new(state: Arc<State>, loaded: &[StoredObject]) -> Self {
        let mut table = Table::default();
        for object in loaded {
            table.insert(object);
        }
        Self {
            table: Mutex::new(table),
            state,
        }
    }

    /// Remembers whose an object is, from now on and over a restart.
    pub fn issue(&self, issuer: &Issuer, kind: Kind, id: &str) {
        if id.is_empty() || id.len() > MAX_ID {
            return;
        }
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        let object = StoredObject {
            serial: table.next,
            provider: issuer.provider.clone(),
            account: issuer.account.clone(),
            owner: issuer.owner.clone(),
            id: id.to_owned(),
            kind: kind.as_str().to_owned(),
        };
        if !table.insert(&object) {
            return;
        }
        let surplus = table.surplus(&issuer.owner);
        drop(table);
        self.state.put_object(object);
        if let Some(serial) = surplus {
            self.state.remove_object(serial);
        }
    }

    /// The account that has an object of this owner's.
    pub fn account(&self, provider: &str, owner: &str, id: &str) -> Option<String> {
        let table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        let known = table.known.get(&(provider.to_owned(), id.to_owned()))?;
        (known.owner == owner).then(|| known.account.clone())
    }

    /// Those of an owner's that are of this kind, the newest first, each with its account.
    pub fn owned(&self, provider: &str, owner: &str, kind: Kind) -> Vec<(String, String)> {
        let table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        let owned = table.owned(provider, owner, kind);
        owned
            .map(|(id, known)| (id.to_owned(), known.account.clone()))
            .collect()
    }

    /// Forgets an object that is no more. Where its id may come again, the next one it is issued to has it.
    pub fn forget(&self, provider: &str, id: &str) {
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        let serial = table.remove(&(provider.to_owned(), id.to_owned()));
        drop(table);
        if let Some(serial) = serial {
            self.state.remove_object(serial);
        }
    }

    /// The one account that has all of these; none where there are none of them.
    pub fn pinned(
        &self,
        provider: &str,
        owner: &str,
        objects: &[Object],
    ) -> Result<Option<String>, WireError> {
        let mut pinned: Option<String> = None;
        for Object { kind, id } in objects {
            let Some(account) = self.account(provider, owner, id) else {
                let id: String = id.chars().filter(|char| !char.is_control()).take(80).collect();
                // The same words whether it exists or not.
                return Err(WireError::not_found(format!(
                    "the {} `{id}` was not issued to you through this gateway",
                    kind.as_str()
                )));
            };
            if pinned.as_ref().is_some_and(|pinned| *pinned != account) {
                return Err(WireError::invalid(
                    "the request refers to objects that are stored in different accounts".to_owned(),
                ));
            }
            pinned = Some(account);
        }
        Ok(pinned)
    }
}

/// To whom, and by whom, whatever an answer names is issued.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issuer {
    pub provider: String,
    pub account: String,
    pub owner: String,
}
