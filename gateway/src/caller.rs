//! Who a request is from, by the socket it came through and the key it shows; never by what it says of itself.

use std::sync::Arc;

use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::dialect::WireError;
use crate::intake::Room;
use crate::keys::{Access, Gate, Key};
use crate::ledger::OnLimit;
use crate::people::People;

/// What a caller is by itself, whatever is known of its user.
#[derive(Debug, Default)]
pub(crate) struct Base {
    /// Of the runner that holds a session's lease.
    pub(crate) uid: Option<u32>,
    /// The key's user, or the uid in digits.
    pub(crate) user: String,
    /// Budgets of its session, or of its key and that key's ancestors.
    pub(crate) own: Vec<Arc<str>>,
    /// Of its user, team and organisation, as the lease or the key has them.
    pub(crate) holders: [Option<Arc<str>>; 3],
    /// Limits of its session or its keys.
    pub(crate) gates: Vec<Arc<Gate>>,
}

/// A caller that has shown its key.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    /// Of the lease or the key; no secret.
    pub(crate) id: String,
    pub(crate) session: String,
    pub(crate) base: Arc<Base>,
    /// As budgets and usage name it.
    pub(crate) user: String,
    /// See [`Self::owner`].
    pub(crate) owner: String,
    /// Whose budgets it spends from.
    pub(crate) scopes: Vec<Arc<str>>,
    /// How often it may ask.
    pub(crate) gates: Vec<Arc<Gate>>,
    /// Its key and that key's ancestors; none of a session without one.
    pub(crate) line: Vec<Arc<Key>>,
    /// What a session was narrowed to.
    pub(crate) access: Option<Arc<Access>>,
    pub(crate) on_limit: OnLimit,
    /// Cancelled when its right ends: its streams are cut.
    pub(crate) right: CancellationToken,
    /// Cancelled with its right, or when this one request is ended by hand.
    pub(crate) ended: CancellationToken,
    /// Bytes of request bodies that may be in memory at a time.
    pub(crate) bodies: Arc<Semaphore>,
}

impl Caller {
    /// Of a key of a person, with its ancestors.
    pub(crate) fn of_key(line: Vec<Arc<Key>>, room: &Room, people: &People) -> Option<Self> {
        let key = line.first()?;
        let spec = &key.spec;
        let named = |kind: &str, name: &str| (!name.is_empty()).then(|| format!("{kind}:{name}").into());
        let base = Base {
            uid: None,
            user: spec.user.clone(),
            own: line
                .iter()
                .map(|key| format!("key:{}", key.spec.id).into())
                .collect(),
            holders: [
                named("user", &spec.user),
                named("team", &spec.team),
                named("org", &spec.org),
            ],
            gates: line.iter().map(|key| Arc::clone(key.gate())).collect(),
        };
        let mut caller = Self {
            id: spec.id.clone(),
            session: String::new(),
            base: Arc::new(base),
            user: String::new(),
            owner: if spec.user.is_empty() {
                format!("key:{}", spec.id)
            } else {
                format!("user:{}", spec.user)
            },
            scopes: Vec::new(),
            gates: Vec::new(),
            access: None,
            on_limit: OnLimit::parse(&spec.on_limit).unwrap_or_default(),
            right: key.ended.clone(),
            ended: key.ended.clone(),
            bodies: Arc::clone(key.bodies.get_or_init(|| room.of_caller())),
            line,
        };
        caller.look_up(people);
        Some(caller)
    }

    /// Finds out whose it is at this moment, and with that whose budgets it spends from and whose limits hold.
    pub(crate) fn look_up(&mut self, people: &People) {
        let base = &self.base;
        let person = match base.uid {
            Some(uid) => people.of_uid(uid),
            None => people.named(&base.user),
        };
        self.scopes.clear();
        self.scopes.extend(base.own.iter().cloned());
        self.gates.clear();
        self.gates.extend(base.gates.iter().cloned());
        let [user, team, org] = &base.holders;
        let Some(person) = person else {
            self.user.clone_from(&base.user);
            self.scopes
                .extend([user, team, org].into_iter().flatten().cloned());
            return;
        };
        self.user.clone_from(&person.spec.name);
        self.scopes.extend(person.scopes.iter().cloned());
        self.gates.push(Arc::clone(&person.gate));
        // What the directory leaves open is as the key has it; else the directory holds.
        for (own, known) in [(team, &person.spec.team), (org, &person.spec.org)] {
            self.scopes
                .extend(own.iter().filter(|_| known.is_empty()).cloned());
        }
    }

    /// The same for one request, which can be ended without the others.
    #[must_use]
    pub(crate) fn asking(mut self) -> Self {
        self.ended = self.right.child_token();
        self
    }

    /// Why [`Self::ended`] was cancelled.
    pub(crate) fn why_ended(&self) -> WireError {
        if self.right.is_cancelled() {
            WireError::unauthenticated("this key was revoked")
        } else {
            WireError::cancelled()
        }
    }

    /// Whose objects stored at providers it may name: a session's own, or those of the person who holds the key. One uid
    /// may be many people's.
    pub(crate) fn owner(&self) -> &str {
        &self.owner
    }

    /// Requests of one of these stay with one account, whose caches know it.
    pub(crate) fn affinity(&self) -> &str {
        if self.session.is_empty() {
            &self.id
        } else {
            &self.session
        }
    }

    /// Of the key it shows; empty: a session's own.
    pub(crate) fn key_id(&self) -> &str {
        self.line.first().map_or("", |key| &key.spec.id)
    }

    /// Whether whoever made its key wants to see what it asks and is answered.
    pub(crate) fn logs_bodies(&self) -> bool {
        self.line.first().is_some_and(|key| key.spec.log_bodies)
    }

    /// Whether there is anything that it may not use.
    pub(crate) fn is_narrowed(&self) -> bool {
        let keys = self.line.iter().map(|key| &key.spec.access);
        let mut rights = self.access.as_deref().into_iter().chain(keys);
        rights.any(|access| *access != Access::default())
    }

    /// Whether every one of its rights includes that model.
    pub(crate) fn permits(&self, provider: &str, model: &str) -> bool {
        let narrowed = self.access.as_deref();
        let keys = self.line.iter().map(|key| &key.spec.access);
        narrowed
            .into_iter()
            .chain(keys)
            .all(|access| access.permits(provider, model))
    }
}
