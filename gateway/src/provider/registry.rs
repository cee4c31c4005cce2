//! The providers as they are now: configured, entered, and the demo model where it has a place.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};

use arc_swap::ArcSwap;
use tokio::sync::Mutex;
use zeroize::Zeroizing;

use super::{BadBaseUrl, BadName, BaseUrl, Kind, Model, ProviderSpec, check_name};
use crate::asked::ProviderTools;
use crate::config::{Config, DemoWhen, KeySource, kind_names};
use crate::seal::{Seal, SealError};
use crate::secret::{BadKey, Secret};
use crate::store::{Store, StoreError, StoredProvider};

/// A change of providers that was refused or failed.
#[derive(Debug, thiserror::Error)]
pub enum ProviderError {
    #[error("name: {0}")]
    Name(#[from] BadName),
    #[error("key: {0}")]
    Key(#[from] BadKey),
    #[error("base_url: {0}")]
    BaseUrl(#[from] BadBaseUrl),
    #[error("base_url: is needed for kind `openai_compatible`")]
    NoBaseUrl,
    #[error("kind: `{0}` is none of {names}", names = kind_names())]
    Kind(String),
    #[error("kind: the demo model has no key")]
    Demo,
    #[error("`{name}` is configured with another {field}; change it in the configuration file")]
    Differs { name: String, field: &'static str },
    #[error("the key of `{name}` comes from the configuration ({source_name}); change it there")]
    Configured { name: String, source_name: &'static str },
    #[error("no key is stored for a provider `{0}`")]
    Unknown(String),
    #[error("sealing the key")]
    Seal(#[from] SealError),
    #[error("storing the key")]
    Store(#[from] StoreError),
    #[error("storing the key was interrupted")]
    Interrupted,
}

/// An immutable view of all providers, by name.
#[derive(Debug, Default)]
pub struct Registry {
    providers: BTreeMap<String, Arc<ProviderSpec>>,
}

impl Registry {
    /// The provider of that name.
    pub fn get(&self, name: &str) -> Option<&Arc<ProviderSpec>> {
        self.providers.get(name)
    }

    /// All, by name.
    pub fn iter(&self) -> impl Iterator<Item = &ProviderSpec> {
        self.providers.values().map(AsRef::as_ref)
    }
}

/// What the configuration says.
#[derive(Debug)]
struct Configured {
    providers: Vec<ProviderSpec>,
    demo: DemoWhen,
}

impl Configured {
    fn new(config: &Config) -> Self {
        Self {
            providers: config.providers.clone(),
            demo: config.demo,
        }
    }

    fn find(&self, name: &str) -> Option<&ProviderSpec> {
        self.providers.iter().find(|provider| provider.name == name)
    }
}

/// What one provider said of its models.
#[derive(Debug)]
struct Listing {
    models: Vec<Model>,
    /// Milliseconds of Unix time.
    at: u64,
    /// The models of one address are not those of another.
    base: BaseUrl,
}

/// By name of the provider.
type Learned = BTreeMap<String, Listing>;

/// The providers and the one place that changes them.
#[derive(Debug)]
pub struct Providers {
    configured: ArcSwap<Configured>,
    store: Arc<Store>,
    seal: Arc<Seal>,
    current: ArcSwap<Registry>,
    /// What providers that list their own models said last.
    learned: std::sync::Mutex<Learned>,
    /// Held over a change from reading to publishing.
    changing: Mutex<()>,
    /// Held while providers are asked for their models: twice at a time would be once too often.
    pub(super) asking: Mutex<()>,
}

impl Providers {
    /// The providers of a configuration and those entered earlier. Blocks on the database.
    pub fn load(config: &Config, store: Arc<Store>, seal: Arc<Seal>) -> Result<Self, ProviderError> {
        let providers = Self {
            configured: ArcSwap::from_pointee(Configured::new(config)),
            store,
            seal,
            current: ArcSwap::default(),
            learned: std::sync::Mutex::default(),
            changing: Mutex::new(()),
            asking: Mutex::new(()),
        };
        providers.publish(&providers.store.providers()?);
        Ok(providers)
    }

    /// Takes another configuration; keys that were entered stay.
    pub async fn reconfigure(self: &Arc<Self>, config: &Config) -> Result<(), ProviderError> {
        let _changing = self.changing.lock().await;
        let before = self.configured.swap(Arc::new(Configured::new(config)));
        let changed = self.change(|_| Ok(())).await;
        if changed.is_err() {
            self.configured.store(before);
        }
        changed
    }

    /// The providers at this moment.
    pub fn current(&self) -> Arc<Registry> {
        self.current.load_full()
    }

    /// Notes which models a provider lists now, where the configuration lists none; whether they are others than before.
    /// `asked` is the provider as it was when it was asked: one that is elsewhere by now has other models.
    pub fn learn(&self, asked: &ProviderSpec, models: Vec<Model>, at: u64) -> bool {
        let mut learned = self.learned.lock().unwrap_or_else(PoisonError::into_inner);
        let mut providers = self.current().providers.clone();
        let is_same = |now: &&Arc<ProviderSpec>| now.lists_its_models() && now.base == asked.base;
        let Some(now) = providers.get(&asked.name).filter(is_same) else {
            return false;
        };
        let differs = now.models != models;
        let listing = Listing {
            models,
            at: at.max(1),
            base: asked.base.clone(),
        };
        learned.insert(asked.name.clone(), listing);
        apply(&learned, &mut providers);
        self.current.store(Arc::new(Registry { providers }));
        differs
    }

    /// The models of one address are not those of another.
    fn unlearn(&self, name: &str) {
        self.learned
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(name);
    }

    /// Stores a key, sealed; creates the provider where none of that name is configured. An empty key: a server that asks
    /// for none, which only `openai_compatible` ones may do.
    pub async fn set_key(
        self: &Arc<Self>,
        name: String,
        kind: &str,
        base_url: &str,
        key: &Zeroizing<String>,
    ) -> Result<Arc<ProviderSpec>, ProviderError> {
        let _changing = self.changing.lock().await;
        let (kind, base) = match self.configured.load().find(&name) {
            Some(configured) => same_as_configured(configured, kind, base_url)?,
            None => self.entered(&name, kind, base_url)?,
        };
        let is_configured = self.configured.load().find(&name).is_some();
        let sealed = if key.trim().is_empty() && kind == Kind::OpenaiCompatible && !is_configured {
            Vec::new()
        } else {
            let key = Secret::parse(key)?;
            self.seal.seal(
                &purpose(&name, kind.as_str(), &base.to_string()),
                key.expose().as_bytes(),
            )?
        };
        let row = StoredProvider {
            name: name.clone(),
            kind: kind.as_str().to_owned(),
            base_url: base.to_string(),
            sealed,
        };
        self.unlearn(&name);
        self.change(move |store| store.put_provider(&row)).await?;
        self.current()
            .get(&name)
            .cloned()
            .ok_or(ProviderError::Unknown(name))
    }

    /// Forgets a stored key, and the provider with it where it is not configured.
    pub async fn remove_key(self: &Arc<Self>, name: &str) -> Result<(), ProviderError> {
        let _changing = self.changing.lock().await;
        if let Some(configured) = self.configured.load().find(name) {
            without_configured_key(configured)?;
        }
        let owned = name.to_owned();
        self.unlearn(name);
        if self.change(move |store| store.remove_provider(&owned)).await? {
            return Ok(());
        }
        Err(ProviderError::Unknown(name.to_owned()))
    }

    /// What a provider that is not in the configuration is made of.
    fn entered(&self, name: &str, kind: &str, base_url: &str) -> Result<(Kind, BaseUrl), ProviderError> {
        check_name(name)?;
        let known = self
            .current()
            .get(name)
            .map(|provider| (provider.kind, provider.base.to_string()));
        let kind = match (&known, kind) {
            (Some((kind, _)), "") => *kind,
            _ => Kind::parse(kind).ok_or_else(|| ProviderError::Kind(kind.to_owned()))?,
        };
        if kind == Kind::Demo {
            return Err(ProviderError::Demo);
        }
        let url = match (base_url, known) {
            ("", Some((known, base))) if known == kind => base,
            ("", _) => kind.default_base().ok_or(ProviderError::NoBaseUrl)?.to_owned(),
            (url, _) => url.to_owned(),
        };
        Ok((kind, BaseUrl::parse(kind, &url, false)?))
    }

    async fn change<T: Send + 'static>(
        self: &Arc<Self>,
        change: impl FnOnce(&Store) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, ProviderError> {
        let store = Arc::clone(&self.store);
        let work = move || change(&store).and_then(|result| Ok((result, store.providers()?)));
        let done = tokio::task::spawn_blocking(work)
            .await
            .map_err(|_| ProviderError::Interrupted)?;
        let (result, stored) = done?;
        self.publish(&stored);
        Ok(result)
    }

    fn publish(&self, stored: &[StoredProvider]) {
        let mut providers: BTreeMap<String, Arc<ProviderSpec>> = BTreeMap::new();
        let current = self.configured.load();
        for configured in &current.providers {
            providers.insert(configured.name.clone(), Arc::new(configured.clone()));
        }
        for row in stored {
            if let Some(provider) = self.unsealed(row) {
                providers.insert(provider.name.clone(), Arc::new(provider));
            }
        }
        let learned = self.learned.lock().unwrap_or_else(PoisonError::into_inner);
        apply(&learned, &mut providers);
        let any_usable = providers.values().any(|provider| provider.is_usable());
        if current.demo == DemoWhen::Always || current.demo == DemoWhen::WithoutProvider && !any_usable {
            providers.insert(Kind::Demo.as_str().to_owned(), Arc::new(demo()));
        }
        self.current.store(Arc::new(Registry { providers }));
    }

    /// A stored provider with its key; none where the configuration has a key or the seal does not fit.
    fn unsealed(&self, row: &StoredProvider) -> Option<ProviderSpec> {
        let current = self.configured.load();
        let configured = current.find(&row.name);
        if configured.is_some_and(|provider| provider.key.is_some()) {
            return None;
        }
        let kind = Kind::parse(&row.kind)?;
        let mut provider = match configured {
            Some(configured) => configured.clone(),
            None => ProviderSpec {
                name: row.name.clone(),
                kind,
                base: BaseUrl::parse(kind, &row.base_url, false).ok()?,
                source: KeySource::None,
                key: None,
                models: kind.default_models(),
                listed_at: 0,
                provider_tools: ProviderTools::default(),
                accounts: Vec::new(),
                responses: false,
                free: false,
                add_usage: false,
            },
        };
        if row.sealed.is_empty() && configured.is_none() && kind == Kind::OpenaiCompatible {
            return Some(provider);
        }
        // Sealed for name, kind and address: a key entered for one server is never sent to another.
        let purpose = purpose(&row.name, provider.kind.as_str(), &provider.base.to_string());
        let opened = self.seal.open(&purpose, &row.sealed);
        let text = opened
            .ok()
            .and_then(|bytes| Some(Zeroizing::new(std::str::from_utf8(&bytes).ok()?.to_owned())));
        let Some(key) = text.and_then(|text| Secret::parse(&text).ok()) else {
            tracing::warn!(
                provider = row.name,
                "the stored key was entered for another kind or address, or the seal key was replaced; enter it again"
            );
            return configured.is_none().then_some(provider);
        };
        provider.key = Some(key);
        provider.source = KeySource::Sealed;
        Some(provider)
    }
}

fn apply(learned: &Learned, providers: &mut BTreeMap<String, Arc<ProviderSpec>>) {
    for (name, Listing { models, at, base }) in learned {
        if let Some(provider) = providers
            .get_mut(name)
            .filter(|provider| provider.lists_its_models() && provider.base == *base)
        {
            *provider = Arc::new(ProviderSpec {
                models: models.clone(),
                listed_at: *at,
                ..ProviderSpec::clone(provider)
            });
        }
    }
}

/// What a key is sealed for.
pub(crate) fn purpose(name: &str, kind: &str, base: &str) -> String {
    format!("provider key\n{name}\n{kind}\n{base}")
}

fn same_as_configured(
    configured: &ProviderSpec,
    kind: &str,
    base_url: &str,
) -> Result<(Kind, BaseUrl), ProviderError> {
    let differs = |field| ProviderError::Differs {
        name: configured.name.clone(),
        field,
    };
    without_configured_key(configured)?;
    if !kind.is_empty() && kind != configured.kind.as_str() {
        return Err(differs("kind"));
    }
    if !base_url.is_empty()
        && BaseUrl::parse(configured.kind, base_url, true).ok().as_ref() != Some(&configured.base)
    {
        return Err(differs("base_url"));
    }
    Ok((configured.kind, configured.base.clone()))
}

fn without_configured_key(configured: &ProviderSpec) -> Result<(), ProviderError> {
    match configured.source {
        KeySource::Environment | KeySource::File => Err(ProviderError::Configured {
            name: configured.name.clone(),
            source_name: configured.source.as_str(),
        }),
        KeySource::Sealed | KeySource::None => Ok(()),
    }
}

fn demo() -> ProviderSpec {
    ProviderSpec {
        name: Kind::Demo.as_str().to_owned(),
        kind: Kind::Demo,
        base: BaseUrl::nowhere(),
        source: KeySource::None,
        key: None,
        models: Kind::Demo.default_models(),
        listed_at: 0,
        provider_tools: ProviderTools::default(),
        accounts: Vec::new(),
        responses: true,
        free: true,
        add_usage: false,
    }
}
