//! Who a request is from, by the socket it came through and the key it shows; never by what it says of itself.

use std::sync::Arc;

use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::intake::Room;
use crate::keys::{Access, Key};
use crate::ledger::OnLimit;

/// A caller that has shown its key.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    /// Of the lease or the key; no secret.
    pub(crate) id: String,
    pub(crate) session: String,
    pub(crate) user: String,
    /// See [`Self::owner`].
    pub(crate) owner: String,
    /// Whose budgets it spends from.
    pub(crate) scopes: Vec<Arc<str>>,
    /// Its key and that key's ancestors; none of a session without one.
    pub(crate) line: Vec<Arc<Key>>,
    /// What a session was narrowed to.
    pub(crate) access: Option<Arc<Access>>,
    pub(crate) on_limit: OnLimit,
    /// Cancelled when its right ends: its streams are cut.
    pub(crate) ended: CancellationToken,
    /// Bytes of request bodies that may be in memory at a time.
    pub(crate) bodies: Arc<Semaphore>,
}

impl Caller {
    /// Of a key of a person, with its ancestors.
    pub(crate) fn of_key(line: Vec<Arc<Key>>, room: &Room) -> Option<Self> {
        let key = line.first()?;
        let spec = &key.spec;
        let mut scopes: Vec<Arc<str>> = line
            .iter()
            .map(|key| format!("key:{}", key.spec.id).into())
            .collect();
        for (kind, name) in [("user", &spec.user), ("team", &spec.team), ("org", &spec.org)] {
            if !name.is_empty() {
                scopes.push(format!("{kind}:{name}").into());
            }
        }
        Some(Self {
            id: spec.id.clone(),
            session: String::new(),
            user: spec.user.clone(),
            owner: if spec.user.is_empty() {
                format!("key:{}", spec.id)
            } else {
                format!("user:{}", spec.user)
            },
            scopes,
            access: None,
            on_limit: OnLimit::parse(&spec.on_limit).unwrap_or_default(),
            ended: key.ended.clone(),
            bodies: Arc::clone(key.bodies.get_or_init(|| room.of_caller())),
            line,
        })
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
