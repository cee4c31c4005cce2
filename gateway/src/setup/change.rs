//! Changes, each as the steps that make it: whole or refused.

use lodge_proto::control::{AccountSetup, AliasSetup, PolicySetup, PriceSetup, ProviderSetup};
use prost::Message;
use zeroize::Zeroizing;

use super::{ACCOUNT, ALIAS, POLICY, PRICE, PROVIDER, Pair, SetupError, shortened};
use crate::config::{KeySource, is_model};
use crate::price::MAX_RATE;
use crate::provider::{
    DEFAULT_ACCOUNT, Kind, ProviderError, ProviderSpec, View, check_name, seal_account, seal_key,
};
use crate::secret::Secret;
use crate::store::{Edit, StoredEntry, StoredProvider};

/// Of each kind of entry.
const MAX_ENTRIES: usize = 500;
/// Models of one provider, and fields of one policy.
const MAX_LISTED: usize = 500;
/// Longest of everything a policy sets, and longest reason of a denial, bytes.
const MAX_SET: usize = 16 << 10;
const MAX_REASON: usize = 500;

type Steps = Result<Vec<Edit>, SetupError>;

fn put(kind: &str, name: String, value: &impl Message, sealed: Option<Vec<u8>>) -> Edit {
    Edit::Put(StoredEntry {
        kind: kind.to_owned(),
        name,
        value: value.encode_to_vec(),
        sealed,
    })
}

fn remove(kind: &'static str, (provider, name): &Pair) -> Edit {
    Edit::Remove {
        kind,
        name: format!("{provider}/{name}"),
    }
}

fn room(what: &'static str, is_new: bool, count: usize) -> Result<(), SetupError> {
    if is_new && count >= MAX_ENTRIES {
        return Err(SetupError::TooMany {
            what,
            max: MAX_ENTRIES,
        });
    }
    Ok(())
}

impl View<'_> {
    fn in_file(&self, what: String, table: impl Into<String>) -> SetupError {
        SetupError::InFile {
            what,
            file: self.configured.file.clone(),
            table: table.into(),
        }
    }

    /// A provider that there is, other than the demo model.
    fn provider(&self, name: &str) -> Result<&ProviderSpec, SetupError> {
        let found = self
            .registry
            .get(name)
            .filter(|provider| provider.kind != Kind::Demo);
        found.map(AsRef::as_ref).ok_or_else(|| {
            SetupError::Unknown(format!(
                "provider `{}`; `lodgectl provider list` shows those there are",
                shortened(name)
            ))
        })
    }

    fn table_of(&self, provider: &str) -> Option<String> {
        let place = self
            .configured
            .providers
            .iter()
            .position(|known| known.name == provider);
        place.map(|index| format!("[[provider]] number {}", index + 1))
    }
}

/// Adds a provider or replaces its settings.
pub(crate) fn put_provider(view: &View<'_>, mut setup: ProviderSetup, key: &Zeroizing<String>) -> Steps {
    check_name(&setup.name).map_err(ProviderError::from)?;
    if let Some(table) = view.table_of(&setup.name) {
        return Err(view.in_file(format!("the provider `{}`", setup.name), table));
    }
    if setup.models.len() > MAX_LISTED {
        let message = format!("there are at most {MAX_LISTED}");
        return Err(SetupError::value("models", message));
    }
    (setup.origin, setup.shadowed) = (String::new(), false);
    let provider = super::provider(&setup)?;
    let entered = &view.registry.entered().providers;
    room("providers", !entered.contains_key(&setup.name), entered.len())?;
    let before = view.registry.get(&setup.name);
    let is_same = before.is_none_or(|before| before.kind == provider.kind && before.base == provider.base);
    let accounts = &view.registry.entered().accounts;
    if let Some(((_, account), _)) = accounts.iter().find(|((of, _), (account, sealed))| {
        !is_same && *of == setup.name && (sealed.is_some() || account.oauth.is_some())
    }) {
        let message =
            format!("the account `{account}` was entered for another kind or address; remove it first");
        return Err(SetupError::value("base_url", message));
    }
    let mut steps = Vec::new();
    if !key.trim().is_empty() {
        let key = Secret::parse(key).map_err(ProviderError::from)?;
        steps.push(Edit::PutKey(StoredProvider {
            name: setup.name.clone(),
            kind: provider.kind.as_str().to_owned(),
            base_url: provider.base.to_string(),
            sealed: seal_key(view.seal, &provider, &key).map_err(ProviderError::from)?,
        }));
    } else if !is_same && before.is_some_and(|before| before.source == KeySource::Sealed) {
        let message = "is needed again: the one that is stored was entered for another kind or address";
        return Err(SetupError::value("key", message));
    } else if view.is_keyless(&setup.name) {
        // What stands for a server without a key has no place beside its settings.
        steps.push(Edit::RemoveKey(setup.name.clone()));
    }
    steps.push(put(PROVIDER, setup.name.clone(), &setup, None));
    Ok(steps)
}

/// Forgets a provider with its key, accounts and prices; of one in the file, the stored key.
pub(crate) fn remove_provider(view: &View<'_>, name: &str) -> Result<Vec<Edit>, SetupError> {
    let entered = view.registry.entered();
    let has_key = view.keys.iter().any(|row| row.name == name);
    let is_configured = view.table_of(name).is_some();
    if !has_key && (is_configured || !entered.providers.contains_key(name)) {
        return Err(ProviderError::Unknown(shortened(name)).into());
    }
    let mut steps = vec![Edit::RemoveKey(name.to_owned())];
    if is_configured {
        return Ok(steps);
    }
    let uses = |setup: &&AliasSetup| {
        let of_it = |target: &String| target.split_once('/').is_some_and(|(of, _)| of == name);
        setup.provider == name || setup.targets.iter().any(of_it)
    };
    if let Some(alias) = entered.aliases.values().find(uses) {
        let message = format!(
            "the alias `{}` of `{}` stands for models of it; remove that first: lodgectl alias remove {} --provider {}",
            alias.name, alias.provider, alias.name, alias.provider
        );
        return Err(SetupError::value("name", message));
    }
    steps.push(Edit::Remove {
        kind: PROVIDER,
        name: name.to_owned(),
    });
    let accounts = entered.accounts.keys().map(|pair| (ACCOUNT, pair));
    let prices = entered.prices.keys().map(|pair| (PRICE, pair));
    let of_it = accounts.chain(prices).filter(|(_, pair)| pair.0 == name);
    steps.extend(of_it.map(|(kind, pair)| remove(kind, pair)));
    Ok(steps)
}

/// Refuses an account that the file has.
fn own_account(view: &View<'_>, provider: &str, name: &str) -> Result<(), SetupError> {
    let configured = view.configured.find(provider);
    let in_file = configured.is_some_and(|configured| {
        let is_own = name == DEFAULT_ACCOUNT && configured.key.is_some();
        is_own || configured.accounts.iter().any(|account| account.name == name)
    });
    if !in_file {
        return Ok(());
    }
    let table = view.table_of(provider).unwrap_or_default();
    let table = if name == DEFAULT_ACCOUNT {
        table
    } else {
        format!("{table}, [[provider.account]]")
    };
    Err(view.in_file(format!("the account `{name}` of `{provider}`"), table))
}

/// Adds an account or gives it another key.
pub(crate) fn put_account(view: &View<'_>, mut setup: AccountSetup, key: &Zeroizing<String>) -> Steps {
    let provider = view.provider(&setup.provider)?;
    check_name(&setup.name).map_err(|error| SetupError::value("account", error))?;
    own_account(view, &setup.provider, &setup.name)?;
    if setup.name == DEFAULT_ACCOUNT {
        let message = "`default` is the provider's own key: lodgectl provider add";
        return Err(SetupError::value("account", message));
    }
    (setup.origin, setup.shadowed, setup.key_source) = Default::default();
    let accounts = &view.registry.entered().accounts;
    let pair = (setup.provider.clone(), setup.name.clone());
    let before = accounts.get(&pair);
    room("accounts", before.is_none(), accounts.len())?;
    let has_key = !key.trim().is_empty();
    let sealed = match (&setup.oauth, has_key) {
        (Some(_), true) => {
            return Err(SetupError::value(
                "oauth",
                "an account has a key or a login, not both",
            ));
        }
        (Some(oauth), false) => super::oauth(oauth).map(|_| None)?,
        (None, true) => {
            let key = Secret::parse(key).map_err(ProviderError::from)?;
            let sealed = seal_account(view.seal, provider, &setup.name, &key);
            Some(sealed.map_err(ProviderError::from)?)
        }
        (None, false) => {
            let message = "is missing: an account needs a key of its own, or a login";
            return Err(SetupError::value("key", message));
        }
    };
    Ok(vec![put(
        ACCOUNT,
        format!("{}/{}", pair.0, pair.1),
        &setup,
        sealed,
    )])
}

fn unknown_account(provider: &str, name: &str) -> SetupError {
    SetupError::Unknown(format!(
        "account `{}` of `{}`; `lodgectl account list` shows those there are",
        shortened(name),
        shortened(provider)
    ))
}

/// Forgets an account with its key.
pub(crate) fn remove_account(view: &View<'_>, provider: &str, name: &str) -> Steps {
    let pair = (provider.to_owned(), name.to_owned());
    if name != DEFAULT_ACCOUNT && view.registry.entered().accounts.contains_key(&pair) {
        return Ok(vec![remove(ACCOUNT, &pair)]);
    }
    own_account(view, provider, name)?;
    if name == DEFAULT_ACCOUNT && view.registry.get(provider).is_some() {
        let message = "`default` is the provider's own key: lodgectl provider remove";
        return Err(SetupError::value("account", message));
    }
    Err(unknown_account(provider, name))
}

/// Has an account take requests again, or not.
pub(crate) fn enable_account(view: &View<'_>, provider: &str, name: &str, enabled: bool) -> Steps {
    let pair = (provider.to_owned(), name.to_owned());
    own_account(view, provider, name)?;
    if name == DEFAULT_ACCOUNT {
        let spec = view.provider(provider)?;
        let of_own = |account: &crate::provider::Account| account.name == DEFAULT_ACCOUNT;
        if !spec.all_accounts().iter().chain(&spec.disabled).any(of_own) {
            return Err(unknown_account(provider, name));
        }
        let setup = AccountSetup {
            provider: provider.to_owned(),
            name: name.to_owned(),
            disabled: true,
            ..AccountSetup::default()
        };
        return Ok(vec![if enabled {
            remove(ACCOUNT, &pair)
        } else {
            put(ACCOUNT, format!("{provider}/{name}"), &setup, None)
        }]);
    }
    let Some((setup, sealed)) = view.registry.entered().accounts.get(&pair) else {
        return Err(unknown_account(provider, name));
    };
    let setup = AccountSetup {
        disabled: !enabled,
        ..setup.clone()
    };
    Ok(vec![put(
        ACCOUNT,
        format!("{provider}/{name}"),
        &setup,
        sealed.clone(),
    )])
}

/// Adds an alias or replaces it.
pub(crate) fn put_alias(view: &View<'_>, mut setup: AliasSetup) -> Steps {
    (setup.origin, setup.shadowed) = (String::new(), false);
    if setup.provider.is_empty() {
        let first = setup.targets.first().and_then(|target| target.split_once('/'));
        setup.provider = first.map_or_else(String::new, |(provider, _)| provider.to_owned());
    }
    let alias = super::alias(&setup)?;
    for target in &alias.targets {
        view.provider(&target.provider)?;
        if !is_model(&target.model) {
            return Err(SetupError::value(
                "targets",
                "each names a model of at most 200 bytes",
            ));
        }
    }
    view.provider(&alias.provider)?;
    let of_file = &view.configured.routes.aliases;
    if let Some(index) = of_file
        .iter()
        .position(|known| known.provider == alias.provider && known.name == alias.name)
    {
        let table = format!("[[alias]] number {}", index + 1);
        return Err(view.in_file(
            format!("the alias `{}` of `{}`", alias.name, alias.provider),
            table,
        ));
    }
    let pair = (alias.provider, alias.name);
    let entered = &view.registry.entered().aliases;
    room("aliases", !entered.contains_key(&pair), entered.len())?;
    Ok(vec![put(ALIAS, format!("{}/{}", pair.0, pair.1), &setup, None)])
}

/// Forgets an alias; without a provider, the only one of that name.
pub(crate) fn remove_alias(view: &View<'_>, provider: &str, name: &str) -> Steps {
    let is_meant = |of: &str, known: &str| known == name && (provider.is_empty() || of == provider);
    let entered = view.registry.entered().aliases.keys();
    let found: Vec<&Pair> = entered.filter(|(of, known)| is_meant(of, known)).collect();
    match found.as_slice() {
        [pair] => return Ok(vec![remove(ALIAS, pair)]),
        [] => {}
        several => {
            let names: Vec<&str> = several.iter().map(|(provider, _)| provider.as_str()).collect();
            let message = format!(
                "several have an alias of this name: {}; say which",
                names.join(", ")
            );
            return Err(SetupError::value("provider", message));
        }
    }
    let mut of_file = view.configured.routes.aliases.iter();
    if let Some(index) = of_file.position(|alias| is_meant(&alias.provider, &alias.name)) {
        let table = format!("[[alias]] number {}", index + 1);
        return Err(view.in_file(format!("the alias `{name}`"), table));
    }
    Err(SetupError::Unknown(format!("alias `{}`", shortened(name))))
}

/// Adds a policy or replaces it.
pub(crate) fn put_policy(view: &View<'_>, mut setup: PolicySetup) -> Steps {
    (setup.origin, setup.shadowed) = (String::new(), false);
    if setup.provider.is_empty() {
        "*".clone_into(&mut setup.provider);
    }
    if !is_model(&setup.model) {
        let message = "must be 1 to 200 bytes long, without control characters; `*` stands for any text";
        return Err(SetupError::value("model", message));
    }
    if setup.provider.len() > 64
        || setup
            .provider
            .contains(|char: char| char == '/' || char.is_control())
    {
        return Err(SetupError::value("provider", "is a pattern of a provider's name"));
    }
    if !setup.rewrite.is_empty() && !is_model(&setup.rewrite) {
        return Err(SetupError::value(
            "rewrite",
            "must be a model's name of at most 200 bytes",
        ));
    }
    if setup
        .deny
        .as_ref()
        .is_some_and(|reason| reason.len() > MAX_REASON)
    {
        let message = format!("a reason has at most {MAX_REASON} bytes");
        return Err(SetupError::value("deny", message));
    }
    let length: usize = setup.set.iter().map(|(path, json)| path.len() + json.len()).sum();
    if length > MAX_SET {
        let message = format!("all fields together have at most {MAX_SET} bytes");
        return Err(SetupError::value("set", message));
    }
    let policy = super::policy(&setup)?;
    in_file_policy(view, &policy.provider, &policy.model)?;
    let pair = (policy.provider, policy.model);
    let entered = &view.registry.entered().policies;
    room("policies", !entered.contains_key(&pair), entered.len())?;
    Ok(vec![put(POLICY, format!("{}/{}", pair.0, pair.1), &setup, None)])
}

fn in_file_policy(view: &View<'_>, provider: &str, model: &str) -> Result<(), SetupError> {
    let mut of_file = view.configured.routes.policies.iter();
    let place = of_file.position(|known| known.provider == provider && known.model == model);
    place.map_or(Ok(()), |index| {
        let table = format!("[[model_policy]] number {}", index + 1);
        let what = format!(
            "the policy of `{}` at `{}`",
            shortened(model),
            shortened(provider)
        );
        Err(view.in_file(what, table))
    })
}

/// Forgets a policy.
pub(crate) fn remove_policy(view: &View<'_>, provider: &str, model: &str) -> Steps {
    let provider = if provider.is_empty() { "*" } else { provider };
    let pair = (provider.to_owned(), model.to_owned());
    if view.registry.entered().policies.contains_key(&pair) {
        return Ok(vec![remove(POLICY, &pair)]);
    }
    in_file_policy(view, provider, model)?;
    Err(SetupError::Unknown(format!(
        "policy of `{}` at `{}`; `lodgectl policy list` shows those there are",
        shortened(model),
        shortened(provider)
    )))
}

fn in_file_price(view: &View<'_>, provider: &str, model: &str) -> Result<(), SetupError> {
    let configured = view.configured.find(provider);
    let mut listed = configured.into_iter().flat_map(|provider| &provider.models);
    if listed.any(|known| known.id == model && known.price.is_some()) {
        let table = view.table_of(provider).unwrap_or_default();
        let what = format!("the price of `{provider}/{}`", shortened(model));
        return Err(view.in_file(what, format!("{table}, models")));
    }
    Ok(())
}

/// Sets a price.
pub(crate) fn put_price(view: &View<'_>, mut setup: PriceSetup) -> Steps {
    (setup.origin, setup.shadowed) = (String::new(), false);
    let provider = view.provider(&setup.provider)?;
    if !is_model(&setup.model) {
        return Err(SetupError::value(
            "model",
            "must be a model's name of at most 200 bytes",
        ));
    }
    if provider.is_free() {
        let message = format!(
            "requests to `{}` cost nothing: it has no key, or is marked free",
            provider.name
        );
        return Err(SetupError::value("provider", message));
    }
    let rates = [
        Some(setup.input),
        Some(setup.output),
        setup.cache_read,
        setup.cache_write,
        setup.cache_write_1h,
        setup.reasoning,
    ];
    if rates.into_iter().flatten().any(|rate| rate > MAX_RATE) {
        return Err(SetupError::value(
            "price",
            "is at most 100000 dollars per million tokens",
        ));
    }
    in_file_price(view, &setup.provider, &setup.model)?;
    let pair = (setup.provider.clone(), setup.model.clone());
    let entered = &view.registry.entered().prices;
    room("prices", !entered.contains_key(&pair), entered.len())?;
    Ok(vec![put(PRICE, format!("{}/{}", pair.0, pair.1), &setup, None)])
}

/// Forgets a price: that of the file or of the table holds again.
pub(crate) fn remove_price(view: &View<'_>, provider: &str, model: &str) -> Steps {
    let pair = (provider.to_owned(), model.to_owned());
    if view.registry.entered().prices.contains_key(&pair) {
        return Ok(vec![remove(PRICE, &pair)]);
    }
    in_file_price(view, provider, model)?;
    let named = format!("price of `{}/{}` set here", shortened(provider), shortened(model));
    Err(SetupError::Unknown(named))
}
