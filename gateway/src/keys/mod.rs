//! Virtual keys of people: shown once, kept as a keyed hash, narrower than their parents.
//!
//! - [`spec`]: what a key may do (pure)
//! - [`gate`]: how often and how many at a time
//! - [`listen`]: the TCP listener where such keys are accepted
//! - here: the keys there are, and the one place that changes them

mod gate;
mod listen;
mod spec;
mod wire;

use std::collections::HashMap;
use std::sync::{Arc, OnceLock, PoisonError, RwLock};
use std::time::Instant;

use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use zeroize::Zeroizing;

pub use gate::{Busy, Entry};
pub(crate) use gate::{Gate, Limits};
pub(crate) use listen::serve;
pub use spec::{Access, BadSpec, KeySpec, Previous};

use crate::key::{self, KeyHasher};
use crate::seal::{SealError, random};
use crate::store::{Store, StoreError, StoredKey};

/// Longest time in which two texts of a key work, seconds.
const MAX_OVERLAP: u64 = 30 * 86_400;
/// Longest line of ancestors.
const MAX_DEPTH: usize = 8;

/// A change of keys that was refused or failed.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    #[error(transparent)]
    Spec(#[from] BadSpec),
    #[error("there is no key `{0}`")]
    Unknown(String),
    #[error("the key `{0}` was revoked")]
    Revoked(String),
    #[error("overlap: at most {} days", MAX_OVERLAP / 86_400)]
    Overlap,
    #[error("making a key")]
    Random(#[from] SealError),
    #[error("storing the key")]
    Store(#[from] StoreError),
    #[error("storing the key was interrupted")]
    Interrupted,
    #[error("reading the key `{id}`")]
    Stored { id: String, source: serde_json::Error },
}

/// A key as it is in use.
#[derive(Debug)]
pub struct Key {
    pub spec: KeySpec,
    hash: blake3::Hash,
    gate: Arc<Gate>,
    /// How much of its request bodies may be in memory.
    pub(crate) bodies: OnceLock<Arc<Semaphore>>,
    /// Cancelled when it is revoked, rotated or disabled: its streams are cut.
    pub(crate) ended: CancellationToken,
}

impl Key {
    fn new(spec: KeySpec, hash: blake3::Hash) -> Arc<Self> {
        let limits = Limits {
            who: "this key",
            rpm: spec.rpm,
            tpm: spec.tpm,
            concurrency: spec.concurrency,
        };
        let gate = Gate::new(limits, Instant::now());
        Arc::new(Self {
            spec,
            hash,
            gate: Arc::new(gate),
            bodies: OnceLock::new(),
            ended: CancellationToken::new(),
        })
    }

    /// Of every text it may still be asked for with.
    fn hashes(&self) -> impl Iterator<Item = [u8; 32]> {
        let previous = self.spec.previous.as_ref().map(|previous| previous.hash);
        std::iter::once(*self.hash.as_bytes()).chain(previous)
    }

    /// Whether that text works no more.
    fn has_outlived(&self, hash: &blake3::Hash, now: u64) -> bool {
        let until = self.spec.previous.as_ref().map_or(0, |previous| previous.until);
        self.hash != *hash && now >= until
    }

    /// How often it may be used.
    pub(crate) fn gate(&self) -> &Arc<Gate> {
        &self.gate
    }
}

#[derive(Debug, Default)]
struct Index {
    by_id: HashMap<String, Arc<Key>>,
    by_hash: HashMap<[u8; 32], Arc<Key>>,
}

impl Index {
    fn put(&mut self, key: &Arc<Key>) {
        if let Some(old) = self.by_id.insert(key.spec.id.clone(), Arc::clone(key)) {
            for hash in old.hashes() {
                self.by_hash.remove(&hash);
            }
        }
        for hash in key.hashes() {
            self.by_hash.insert(hash, Arc::clone(key));
        }
    }

    /// The key and its ancestors, itself first.
    fn line(&self, key: &Arc<Key>) -> Option<Vec<Arc<Key>>> {
        let mut line = vec![Arc::clone(key)];
        while let Some(parent) = line
            .last()
            .map(|key| &key.spec.parent)
            .filter(|id| !id.is_empty())
        {
            if line.len() == MAX_DEPTH {
                return None;
            }
            line.push(Arc::clone(self.by_id.get(parent)?));
        }
        Some(line)
    }
}

/// All keys.
#[derive(Debug)]
pub struct Keys {
    store: Arc<Store>,
    index: RwLock<Index>,
    /// Held over a change from reading to publishing.
    changing: tokio::sync::Mutex<()>,
}

impl Keys {
    /// The stored keys. Blocks on the database.
    pub fn load(store: Arc<Store>) -> Result<Self, KeyError> {
        let mut index = Index::default();
        for StoredKey { id, key_hash, spec } in store.keys()? {
            let spec = serde_json::from_str(&spec).map_err(|source| KeyError::Stored { id, source })?;
            index.put(&Key::new(spec, key_hash.into()));
        }
        Ok(Self {
            store,
            index: RwLock::new(index),
            changing: tokio::sync::Mutex::new(()),
        })
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, Index> {
        self.index.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// The key with this hash and its ancestors; why it does not work, where one of them does not.
    pub fn find(&self, hash: blake3::Hash, now: u64) -> Result<Vec<Arc<Key>>, &'static str> {
        let index = self.read();
        let unknown = "this key is not known here";
        let key = index.by_hash.get(hash.as_bytes()).ok_or(unknown)?;
        if key.has_outlived(&hash, now) {
            return Err("this key was replaced by a new one");
        }
        let line = index.line(key).ok_or("the parent of this key is gone")?;
        match line.iter().find_map(|key| key.spec.closed(now)) {
            Some(why) => Err(why),
            None => Ok(line),
        }
    }

    /// All, by id.
    pub fn list(&self) -> Vec<KeySpec> {
        let mut specs: Vec<_> = self.read().by_id.values().map(|key| key.spec.clone()).collect();
        specs.sort_by(|a, b| (a.created, &a.id).cmp(&(b.created, &b.id)));
        specs
    }

    /// The key of that id.
    pub fn get(&self, id: &str) -> Result<KeySpec, KeyError> {
        let found = self.read().by_id.get(id).map(|key| key.spec.clone());
        found.ok_or_else(|| KeyError::Unknown(id.chars().take(40).collect()))
    }

    /// The key of that id with its ancestors, itself first, whether it works at the moment or not.
    pub fn line(&self, id: &str) -> Result<Vec<Arc<Key>>, KeyError> {
        let index = self.read();
        let line = index.by_id.get(id).and_then(|key| index.line(key));
        line.ok_or_else(|| KeyError::Unknown(id.chars().take(40).collect()))
    }

    /// Makes a key; the text is shown now and never again.
    pub async fn create(
        &self,
        hasher: &KeyHasher,
        mut spec: KeySpec,
        now: u64,
    ) -> Result<(KeySpec, Zeroizing<String>), KeyError> {
        let _changing = self.changing.lock().await;
        if !spec.parent.is_empty() {
            self.inherit(&mut spec, now)?;
        }
        spec.check(now)?;
        spec.id = new_id()?;
        spec.created = now;
        let text = key::mint()?;
        self.keep(Key::new(spec.clone(), hasher.hash(&text))).await?;
        Ok((spec, text))
    }

    /// A child belongs to whom its parent belongs to.
    fn inherit(&self, spec: &mut KeySpec, now: u64) -> Result<(), BadSpec> {
        let bad = || BadSpec::Parent(spec.parent.chars().take(40).collect());
        let index = self.read();
        let parent = index.by_id.get(&spec.parent).ok_or_else(bad)?;
        let line = index
            .line(parent)
            .filter(|line| line.len() < MAX_DEPTH)
            .ok_or_else(bad)?;
        if line.iter().any(|key| key.spec.closed(now).is_some()) {
            return Err(bad());
        }
        for (field, own, inherited) in [
            ("user", &mut spec.user, &parent.spec.user),
            ("team", &mut spec.team, &parent.spec.team),
            ("org", &mut spec.org, &parent.spec.org),
        ] {
            if !own.is_empty() && own != inherited {
                return Err(BadSpec::Inherited(field));
            }
            own.clone_from(inherited);
        }
        Ok(())
    }

    /// Ends a key for good, and with it its children. Its streams are cut.
    pub async fn revoke(&self, id: &str) -> Result<(), KeyError> {
        let _changing = self.changing.lock().await;
        let old = self.current(id)?;
        let spec = KeySpec {
            revoked: true,
            ..old.spec.clone()
        };
        // Cut first: a full disk must not keep a key alive.
        let revoked = Key::new(spec, old.hash);
        revoked.ended.cancel();
        self.publish(&revoked);
        self.cut(id);
        self.keep(revoked).await
    }

    /// Has a key work, or not. Where it does not, its streams and those of its children are cut.
    pub async fn enable(&self, id: &str, enabled: bool) -> Result<KeySpec, KeyError> {
        let _changing = self.changing.lock().await;
        let old = self.current(id)?;
        if old.spec.revoked {
            return Err(KeyError::Revoked(id.to_owned()));
        }
        if old.spec.disabled != enabled {
            return Ok(old.spec.clone());
        }
        let spec = KeySpec {
            disabled: !enabled,
            ..old.spec.clone()
        };
        let new = Arc::new(Key {
            spec: spec.clone(),
            hash: old.hash,
            gate: Arc::clone(&old.gate),
            bodies: old.bodies.clone(),
            ended: CancellationToken::new(),
        });
        if !enabled {
            // As with a revocation: cut first, whatever the disk says.
            self.publish(&new);
            old.ended.cancel();
            self.cut(id);
        }
        self.keep(new).await?;
        if enabled {
            self.renew_children(id);
        }
        Ok(spec)
    }

    /// Gives a key a new text. The old one works for another `overlap` seconds; without, it ends at once and its streams
    /// are cut. One before that ends in any case.
    pub async fn rotate(
        &self,
        hasher: &KeyHasher,
        id: &str,
        (overlap, now): (u64, u64),
    ) -> Result<Zeroizing<String>, KeyError> {
        if overlap > MAX_OVERLAP {
            return Err(KeyError::Overlap);
        }
        let _changing = self.changing.lock().await;
        let old = self.current(id)?;
        if old.spec.revoked {
            return Err(KeyError::Revoked(id.to_owned()));
        }
        let text = key::mint()?;
        let previous = (overlap > 0).then(|| Previous {
            hash: old.hash.into(),
            until: now.saturating_add(overlap),
        });
        // What ends one text's streams must end those of both.
        let ended = if overlap > 0 {
            old.ended.clone()
        } else {
            CancellationToken::new()
        };
        let new = Key {
            spec: KeySpec {
                previous,
                ..old.spec.clone()
            },
            hash: hasher.hash(&text),
            gate: Arc::clone(&old.gate),
            bodies: old.bodies.clone(),
            ended,
        };
        self.keep(Arc::new(new)).await?;
        if overlap == 0 {
            old.ended.cancel();
        }
        Ok(text)
    }

    fn current(&self, id: &str) -> Result<Arc<Key>, KeyError> {
        let found = self.read().by_id.get(id).cloned();
        found.ok_or_else(|| KeyError::Unknown(id.chars().take(40).collect()))
    }

    /// Cuts the streams of the key and of all that descend from it.
    fn cut(&self, id: &str) {
        let index = self.read();
        for key in index.by_id.values() {
            let line = index.line(key).unwrap_or_default();
            if line.iter().any(|ancestor| ancestor.spec.id == id) {
                key.ended.cancel();
            }
        }
    }

    /// Children were cut with their parent; they may have streams again.
    fn renew_children(&self, id: &str) {
        let mut index = self.index.write().unwrap_or_else(PoisonError::into_inner);
        let is_cut = |key: &&Arc<Key>| {
            let line = index.line(key).unwrap_or_default();
            !key.spec.revoked && key.ended.is_cancelled() && line.iter().any(|of| of.spec.id == id)
        };
        let cut: Vec<Arc<Key>> = index.by_id.values().filter(is_cut).cloned().collect();
        for key in cut {
            index.put(&Arc::new(Key {
                spec: key.spec.clone(),
                hash: key.hash,
                gate: Arc::clone(&key.gate),
                bodies: key.bodies.clone(),
                ended: CancellationToken::new(),
            }));
        }
    }

    fn publish(&self, key: &Arc<Key>) {
        let old = {
            let mut index = self.index.write().unwrap_or_else(PoisonError::into_inner);
            let old = index.by_id.get(&key.spec.id).cloned();
            index.put(key);
            old
        };
        if let Some(old) = old.filter(|_| key.spec.revoked) {
            old.ended.cancel();
        }
    }

    async fn keep(&self, key: Arc<Key>) -> Result<(), KeyError> {
        let row = StoredKey {
            id: key.spec.id.clone(),
            key_hash: key.hash.into(),
            spec: serde_json::to_string(&key.spec).unwrap_or_default(),
        };
        let store = Arc::clone(&self.store);
        let stored = tokio::task::spawn_blocking(move || store.put_key(&row)).await;
        stored.map_err(|_| KeyError::Interrupted)??;
        self.publish(&key);
        Ok(())
    }
}

/// A printable id that is no secret and says nothing.
fn new_id() -> Result<String, SealError> {
    use std::fmt::Write as _;
    let mut id = "key-".to_owned();
    for byte in random::<8>()? {
        let _infallible = write!(id, "{byte:02x}");
    }
    Ok(id)
}
