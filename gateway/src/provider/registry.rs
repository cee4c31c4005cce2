//! The providers as they are now: configured, entered, and the demo model where it has a place.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError};

use arc_swap::ArcSwap;
use lodge_proto::control::ProviderSetup;
use tokio::sync::Mutex;
use zeroize::Zeroizing;

use super::{BadBaseUrl, BadName, BaseUrl, Kind, Model, ProviderSpec, check_name, overlay};
use crate::config::{Config, DemoWhen, KeySource, kind_names};
use crate::routes::Routes;
use crate::seal::{Seal, SealError};
use crate::secret::{BadKey, Secret};
use crate::setup::{self, Entered, SetupError};
use crate::store::{Edit, Store, StoreError, StoredProvider, StoredSetup};

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

/// An immutable view of all providers, by name, and of what their models' names lead to.
#[derive(Debug, Default)]
pub struct Registry {
    providers: BTreeMap<String, Arc<ProviderSpec>>,
    routes: Arc<Routes>,
    entered: Arc<Entered>,
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

    /// What aliases stand for, and what is done to requests by model.
    pub fn routes(&self) -> &Routes {
        &self.routes
    }

    /// What administrators entered.
    pub(crate) fn entered(&self) -> &Entered {
        &self.entered
    }
}

/// What the configuration says.
#[derive(Debug)]
pub(crate) struct Configured {
    pub(crate) providers: Vec<ProviderSpec>,
    pub(crate) routes: Routes,
    pub(crate) file: PathBuf,
    demo: DemoWhen,
}

impl Configured {
    fn new(config: &Config) -> Self {
        Self {
            providers: config.providers.clone(),
            routes: config.routes.clone(),
            file: config.file().to_owned(),
            demo: config.demo,
        }
    }

    pub(crate) fn find(&self, name: &str) -> Option<&ProviderSpec> {
        self.providers.iter().find(|provider| provider.name == name)
    }
}

/// What a change begins from. Nothing else changes while there is one.
pub(crate) struct View<'a> {
    pub(crate) configured: &'a Configured,
    pub(crate) registry: &'a Registry,
    pub(crate) keys: &'a [StoredProvider],
    pub(crate) seal: &'a Seal,
}

impl View<'_> {
    /// Whether a row stands for a server without a key.
    pub(crate) fn is_keyless(&self, name: &str) -> bool {
        self.keys
            .iter()
            .any(|row| row.name == name && row.sealed.is_empty())
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
        providers.publish(&providers.store.setup()?);
        Ok(providers)
    }

    /// Takes another configuration; what was entered stays.
    pub async fn reconfigure(self: &Arc<Self>, config: &Config) -> Result<(), ProviderError> {
        let _changing = self.changing.lock().await;
        let before = self.configured.swap(Arc::new(Configured::new(config)));
        let changed = self.change(Vec::new()).await;
        if changed.is_err() {
            self.configured.store(before);
        }
        changed
    }

    /// Makes a change of what administrators set up: planned from what there is, on the disk, then swapped. Changes come one
    /// after the other.
    pub(crate) async fn set_up(
        self: &Arc<Self>,
        plan: impl FnOnce(&View<'_>) -> Result<Vec<Edit>, SetupError> + Send + 'static,
    ) -> Result<(), SetupError> {
        let _changing = self.changing.lock().await;
        let this = Arc::clone(self);
        let planned = tokio::task::spawn_blocking(move || {
            let stored = this.store.setup().map_err(ProviderError::from)?;
            plan(&View {
                configured: &this.configured.load(),
                registry: &this.current(),
                keys: &stored.keys,
                seal: &this.seal,
            })
        });
        let steps = planned.await.map_err(|_| ProviderError::Interrupted)??;
        for step in &steps {
            if let Edit::PutKey(row) = step {
                self.unlearn(&row.name);
            }
        }
        Ok(self.change(steps).await?)
    }

    /// What the configuration says.
    pub(crate) fn configured(&self) -> Arc<Configured> {
        self.configured.load_full()
    }

    /// The providers at this moment.
    pub fn current(&self) -> Arc<Registry> {
        self.current.load_full()
    }

    /// Notes which models a provider lists now, where the configuration lists none; whether they are others than before.
    /// `asked` is the provider as it was when it was asked: one that is elsewhere by now has other models.
    pub fn learn(&self, asked: &ProviderSpec, models: Vec<Model>, at: u64) -> bool {
        let mut learned = self.learned.lock().unwrap_or_else(PoisonError::into_inner);
        let current = self.current();
        let mut providers = current.providers.clone();
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
        self.current.store(Arc::new(Registry {
            providers,
            routes: Arc::clone(&current.routes),
            entered: Arc::clone(&current.entered),
        }));
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
    ) -> Result<Arc<ProviderSpec>, SetupError> {
        if let Some(setup) = self.settings(&name, kind, base_url) {
            if key.trim().is_empty() && setup.kind != Kind::OpenaiCompatible.as_str() {
                return Err(ProviderError::from(BadKey::Empty).into());
            }
            let key = key.clone();
            self.set_up(move |view| setup::put_provider(view, setup, &key))
                .await?;
        } else {
            self.set_plain(&name, kind, base_url, key).await?;
        }
        let provider = self.current().get(&name).cloned();
        Ok(provider.ok_or(ProviderError::Unknown(name))?)
    }

    async fn set_plain(
        self: &Arc<Self>,
        name: &str,
        kind: &str,
        base_url: &str,
        key: &Zeroizing<String>,
    ) -> Result<(), ProviderError> {
        let _changing = self.changing.lock().await;
        let configured = self.configured.load_full();
        let (kind, base) = match configured.find(name) {
            Some(configured) => same_as_configured(configured, kind, base_url)?,
            None => self.entered(name, kind, base_url)?,
        };
        let is_configured = configured.find(name).is_some();
        let sealed = if key.trim().is_empty() && kind == Kind::OpenaiCompatible && !is_configured {
            Vec::new()
        } else {
            let key = Secret::parse(key)?;
            let provider = overlay::plain(name, kind, base.clone());
            overlay::seal_key(&self.seal, &provider, &key)?
        };
        let row = StoredProvider {
            name: name.to_owned(),
            kind: kind.as_str().to_owned(),
            base_url: base.to_string(),
            sealed,
        };
        self.unlearn(name);
        self.change(vec![Edit::PutKey(row)]).await
    }

    /// Forgets a stored key, and the provider with it where it is not configured.
    pub async fn remove_key(self: &Arc<Self>, name: &str) -> Result<(), SetupError> {
        if let Some(configured) = self.configured.load().find(name) {
            without_configured_key(configured)?;
        }
        self.unlearn(name);
        let name = name.to_owned();
        self.set_up(move |view| setup::remove_provider(view, &name)).await
    }

    /// The settings of a provider that was set up with more than a key, with another kind or address where one is named.
    fn settings(&self, name: &str, kind: &str, base_url: &str) -> Option<ProviderSetup> {
        if self.configured.load().find(name).is_some() {
            return None;
        }
        let mut setup = self.current().entered().providers.get(name)?.clone();
        if !kind.is_empty() {
            kind.clone_into(&mut setup.kind);
        }
        if !base_url.is_empty() {
            base_url.clone_into(&mut setup.base_url);
        }
        Some(setup)
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

    async fn change(self: &Arc<Self>, steps: Vec<Edit>) -> Result<(), ProviderError> {
        let store = Arc::clone(&self.store);
        let done = tokio::task::spawn_blocking(move || store.edit(&steps)).await;
        let stored = done.map_err(|_| ProviderError::Interrupted)??;
        self.publish(&stored);
        Ok(())
    }

    /// Swaps in everything at once.
    fn publish(&self, stored: &StoredSetup) {
        let configured = self.configured.load();
        let entered = Entered::read(stored);
        let providers = overlay::providers(&configured.providers, &entered, &stored.keys, &self.seal);
        let mut providers: BTreeMap<String, Arc<ProviderSpec>> = providers
            .into_iter()
            .map(|(name, provider)| (name, Arc::new(provider)))
            .collect();
        let learned = self.learned.lock().unwrap_or_else(PoisonError::into_inner);
        apply(&learned, &mut providers);
        let any_usable = providers.values().any(|provider| provider.is_usable());
        let wants_demo = configured.demo == DemoWhen::WithoutProvider && !any_usable;
        if configured.demo == DemoWhen::Always || wants_demo {
            providers.insert(Kind::Demo.as_str().to_owned(), Arc::new(demo()));
        }
        self.current.store(Arc::new(Registry {
            providers,
            routes: Arc::new(overlay::routes(&configured.routes, &entered)),
            entered: Arc::new(entered),
        }));
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
        responses: true,
        free: true,
        ..overlay::plain(Kind::Demo.as_str(), Kind::Demo, BaseUrl::nowhere())
    }
}
