//! The people who use the gateway: from a uid or a name to whose budgets a request spends from.
//!
//! The name of a user is for good, so budgets and usage of that name stay whatever else changes. Users are in `lodge.toml`
//! or in the database; where both know a name or a uid, the file holds.
//!
//! - [`spec`]: what is known of a user (pure)
//! - here: the users there are, and the one place that changes them

mod spec;
mod wire;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Instant;

use arc_swap::ArcSwap;

pub use spec::{BadUser, Change, UserSpec};

use crate::keys::{Gate, KeySpec, Limits};
use crate::store::{Store, StoreError};

/// Most users.
const MAX_USERS: usize = 100_000;

/// A change of users that was refused or failed.
#[derive(Debug, thiserror::Error)]
pub enum PeopleError {
    #[error(transparent)]
    Spec(#[from] BadUser),
    #[error("there is a user `{0}` already; change it with `lodgectl user set`")]
    Exists(String),
    #[error("there is no user `{0}`; `lodgectl user list` shows who there is")]
    Unknown(String),
    #[error("the user `{0}` is in lodge.toml: change it there, then `lodgectl gateway reload`")]
    Configured(String),
    #[error("uid: {uid} belongs to the user `{by}`; a uid belongs to one user at most")]
    Uid { uid: u32, by: String },
    #[error(
        "team and org: the user `{user}` belongs to {field} `{theirs}`; leave it out, a key has its user's"
    )]
    Other {
        user: String,
        field: &'static str,
        theirs: String,
    },
    #[error("there are {MAX_USERS} users already")]
    TooMany,
    #[error("storing the user")]
    Store(#[from] StoreError),
    #[error("storing the user was interrupted")]
    Interrupted,
    #[error("reading the user `{name}`")]
    Stored { name: String, source: serde_json::Error },
}

/// A user as it is in use.
#[derive(Debug)]
pub struct Person {
    pub spec: UserSpec,
    /// In the configuration file, where it is changed.
    pub configured: bool,
    /// Whose budgets it spends from: its own, those of its uid (which were there before it had a name), its team's and its
    /// organisation's.
    pub(crate) scopes: Vec<Arc<str>>,
    pub(crate) gate: Arc<Gate>,
}

impl Person {
    fn new(spec: UserSpec, configured: bool, before: Option<&Arc<Self>>) -> Arc<Self> {
        let named = |kind: &str, name: &str| (!name.is_empty()).then(|| format!("{kind}:{name}").into());
        let scopes = [
            named("user", &spec.name),
            spec.uid.map(|uid| format!("user:{uid}").into()),
            named("team", &spec.team),
            named("org", &spec.org),
        ];
        let limits = |spec: &UserSpec| Limits {
            who: "this user",
            rpm: spec.rpm,
            tpm: spec.tpm,
            concurrency: spec.concurrency,
        };
        // Whoever changes a team must not hand out the minute's requests a second time.
        let kept = before.filter(|before| limits(&before.spec) == limits(&spec));
        let gate = kept.map_or_else(
            || Arc::new(Gate::new(limits(&spec), Instant::now())),
            |before| Arc::clone(&before.gate),
        );
        Arc::new(Self {
            scopes: scopes.into_iter().flatten().collect(),
            gate,
            spec,
            configured,
        })
    }
}

#[derive(Debug, Default)]
struct Index {
    by_name: BTreeMap<String, Arc<Person>>,
    by_uid: HashMap<u32, Arc<Person>>,
}

impl Index {
    /// The file's users first: they hold where both know a name or a uid.
    fn new(configured: &[UserSpec], stored: &BTreeMap<String, UserSpec>, before: &Self) -> Self {
        let mut index = Self::default();
        let configured = configured.iter().map(|spec| (spec, true));
        for (spec, configured) in configured.chain(stored.values().map(|spec| (spec, false))) {
            if index.by_name.contains_key(&spec.name) {
                continue;
            }
            let mut spec = spec.clone();
            if let Some(taken) = spec.uid.filter(|uid| index.by_uid.contains_key(uid)) {
                tracing::warn!(
                    user = spec.name,
                    uid = taken,
                    "another user has this uid, in lodge.toml"
                );
                spec.uid = None;
            }
            let before = before.by_name.get(&spec.name);
            index.put(Person::new(spec, configured, before));
        }
        index
    }

    fn put(&mut self, person: Arc<Person>) {
        if let Some(uid) = person.spec.uid {
            self.by_uid.insert(uid, Arc::clone(&person));
        }
        self.by_name.insert(person.spec.name.clone(), person);
    }
}

/// What changes together.
#[derive(Debug)]
struct Known {
    configured: Vec<UserSpec>,
    stored: BTreeMap<String, UserSpec>,
}

/// All users.
#[derive(Debug)]
pub struct People {
    store: Arc<Store>,
    index: ArcSwap<Index>,
    /// Held over a change from reading to publishing.
    known: tokio::sync::Mutex<Known>,
}

impl People {
    /// Those of the file and those that are stored. Blocks on the database.
    pub fn load(configured: &[UserSpec], store: Arc<Store>) -> Result<Self, PeopleError> {
        let mut stored = BTreeMap::new();
        for (name, text) in store.users()? {
            let spec: UserSpec = serde_json::from_str(&text).map_err(|source| PeopleError::Stored {
                name: name.clone(),
                source,
            })?;
            stored.insert(name, spec);
        }
        let index = Index::new(configured, &stored, &Index::default());
        Ok(Self {
            store,
            index: ArcSwap::from_pointee(index),
            known: tokio::sync::Mutex::new(Known {
                configured: configured.to_vec(),
                stored,
            }),
        })
    }

    /// Whose sessions are that uid's.
    pub fn of_uid(&self, uid: u32) -> Option<Arc<Person>> {
        self.index.load().by_uid.get(&uid).cloned()
    }

    /// Whom a key's user means: a name, or the digits of a uid.
    pub fn named(&self, user: &str) -> Option<Arc<Person>> {
        let index = self.index.load();
        let by_uid = || index.by_uid.get(&user.parse().ok()?);
        index.by_name.get(user).or_else(by_uid).cloned()
    }

    /// All, by name.
    pub fn list(&self) -> Vec<Arc<Person>> {
        self.index.load().by_name.values().cloned().collect()
    }

    /// Whether a key of that user may name its team and organisation: none, or those of the user.
    pub fn check_key(&self, key: &KeySpec) -> Result<(), PeopleError> {
        let Some(person) = self.named(&key.user) else {
            return Ok(());
        };
        let spec = &person.spec;
        for (field, asked, theirs) in [("team", &key.team, &spec.team), ("org", &key.org, &spec.org)] {
            if !asked.is_empty() && !theirs.is_empty() && asked != theirs {
                return Err(PeopleError::Other {
                    user: spec.name.clone(),
                    field,
                    theirs: theirs.clone(),
                });
            }
        }
        Ok(())
    }

    /// Adds a user.
    pub async fn create(&self, name: &str, change: Change) -> Result<Arc<Person>, PeopleError> {
        let mut known = self.known.lock().await;
        let spec = change.apply(UserSpec {
            name: name.to_owned(),
            ..UserSpec::default()
        });
        spec.check()?;
        let index = self.index.load_full();
        if index.by_name.contains_key(name) || known.stored.contains_key(name) {
            return Err(PeopleError::Exists(name.to_owned()));
        }
        if index.by_name.len() >= MAX_USERS {
            return Err(PeopleError::TooMany);
        }
        self.keep(&mut known, spec).await
    }

    /// Changes a user. It holds from the next request on.
    pub async fn change(&self, name: &str, change: Change) -> Result<Arc<Person>, PeopleError> {
        let mut known = self.known.lock().await;
        let spec = change.apply(self.changeable(&known, name)?);
        spec.check()?;
        self.keep(&mut known, spec).await
    }

    /// Forgets a user; its budgets and usage stay, and its uid's sessions go on as those of the uid.
    pub async fn remove(&self, name: &str) -> Result<(), PeopleError> {
        let mut known = self.known.lock().await;
        self.changeable(&known, name)?;
        let (store, owned) = (Arc::clone(&self.store), name.to_owned());
        let removed = tokio::task::spawn_blocking(move || store.remove_user(&owned)).await;
        removed.map_err(|_| PeopleError::Interrupted)??;
        known.stored.remove(name);
        self.publish(&known);
        Ok(())
    }

    /// Takes over the users of a configuration that was read again.
    pub async fn reconfigure(&self, configured: &[UserSpec]) {
        let mut known = self.known.lock().await;
        known.configured = configured.to_vec();
        self.publish(&known);
    }

    fn changeable(&self, known: &Known, name: &str) -> Result<UserSpec, PeopleError> {
        let short = || name.chars().take(64).collect();
        if self
            .index
            .load()
            .by_name
            .get(name)
            .is_some_and(|person| person.configured)
        {
            return Err(PeopleError::Configured(short()));
        }
        known
            .stored
            .get(name)
            .cloned()
            .ok_or_else(|| PeopleError::Unknown(short()))
    }

    async fn keep(&self, known: &mut Known, spec: UserSpec) -> Result<Arc<Person>, PeopleError> {
        if let Some(uid) = spec.uid {
            let all = known.configured.iter().chain(known.stored.values());
            let mut others = all.filter(|other| other.name != spec.name);
            if let Some(other) = others.find(|other| other.uid == Some(uid)) {
                let by = other.name.clone();
                return Err(PeopleError::Uid { uid, by });
            }
        }
        let (store, name) = (Arc::clone(&self.store), spec.name.clone());
        let text = serde_json::to_string(&spec).unwrap_or_default();
        let stored = tokio::task::spawn_blocking(move || store.put_user(&name, &text)).await;
        stored.map_err(|_| PeopleError::Interrupted)??;
        let name = spec.name.clone();
        known.stored.insert(name.clone(), spec);
        self.publish(known);
        let published = self.named(&name);
        published.ok_or(PeopleError::Unknown(name))
    }

    fn publish(&self, known: &Known) {
        let before = self.index.load_full();
        let index = Index::new(&known.configured, &known.stored, &before);
        self.index.store(Arc::new(index));
    }
}
