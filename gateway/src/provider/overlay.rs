//! All there is at a moment: what the configuration file says, and what was entered where it says nothing.

use std::collections::BTreeMap;

use zeroize::Zeroizing;

use super::{Account, BaseUrl, DEFAULT_ACCOUNT, Kind, ProviderSpec};
use crate::asked::ProviderTools;
use crate::config::KeySource;
use crate::price::Rates;
use crate::routes::Routes;
use crate::seal::{Seal, SealError};
use crate::secret::Secret;
use crate::setup::{self, Entered};
use crate::store::StoredProvider;

/// The providers of the file and those that were entered, each with its keys, accounts and prices. What cannot be used is
/// logged and left out: it was good when it was entered, and the others must not go down with it.
pub(crate) fn providers(
    configured: &[ProviderSpec],
    entered: &Entered,
    keys: &[StoredProvider],
    seal: &Seal,
) -> BTreeMap<String, ProviderSpec> {
    let of_file = configured
        .iter()
        .map(|provider| (provider.name.clone(), provider.clone()));
    let mut providers: BTreeMap<String, ProviderSpec> = of_file.collect();
    for (name, setup) in &entered.providers {
        if providers.contains_key(name) {
            tracing::info!(
                provider = name,
                "the configuration file has this provider: it holds"
            );
            continue;
        }
        match setup::provider(setup) {
            Ok(provider) => drop(providers.insert(name.clone(), provider)),
            Err(error) => tracing::warn!(provider = name, %error, "an entered provider is left out"),
        }
    }
    for row in keys {
        if let Some(provider) = with_key(seal, row, providers.get(&row.name)) {
            providers.insert(provider.name.clone(), provider);
        }
    }
    for ((provider, _), (account, sealed)) in &entered.accounts {
        if let Some(provider) = providers.get_mut(provider) {
            add_account(seal, provider, account, sealed.as_deref());
        }
    }
    for ((provider, model), price) in &entered.prices {
        if let Some(provider) = providers.get_mut(provider) {
            provider
                .prices
                .insert(model.clone(), Rates::from(setup::stated(price)));
        }
    }
    providers
}

/// The file's aliases and policies, then those that were entered, where the file has none of that name.
pub(super) fn routes(configured: &Routes, entered: &Entered) -> Routes {
    let mut routes = configured.clone();
    for setup in entered.aliases.values() {
        match setup::alias(setup) {
            Ok(alias) if routes.alias(&alias.provider, &alias.name).is_none() => routes.aliases.push(alias),
            Ok(_) => {}
            Err(error) => tracing::warn!(alias = setup.name, %error, "an entered alias is left out"),
        }
    }
    for setup in entered.policies.values() {
        match setup::policy(setup) {
            Ok(policy) if routes.policy(&policy.provider, &policy.model).is_none() => {
                routes.policies.push(policy);
            }
            Ok(_) => {}
            // What it denies must stay denied.
            Err(error) => {
                tracing::error!(model = setup.model, %error, "an entered policy cannot be read");
                routes.policies.push(setup::denial(setup));
            }
        }
    }
    routes
}

/// A provider with its stored key; none where the configuration has a key or the seal does not fit.
fn with_key(seal: &Seal, row: &StoredProvider, defined: Option<&ProviderSpec>) -> Option<ProviderSpec> {
    if defined.is_some_and(|provider| provider.key.is_some()) {
        return None;
    }
    let kind = Kind::parse(&row.kind)?;
    let mut provider = match defined {
        Some(defined) => defined.clone(),
        None => plain(&row.name, kind, BaseUrl::parse(kind, &row.base_url, false).ok()?),
    };
    if row.sealed.is_empty() && defined.is_none() && kind == Kind::OpenaiCompatible {
        return Some(provider);
    }
    // Sealed for name, kind and address: a key entered for one server is never sent to another.
    let Some(key) = opened(seal, &purpose(&provider), &row.sealed) else {
        tracing::warn!(
            provider = row.name,
            "the stored key was entered for another kind or address, or the seal key was replaced; enter it again"
        );
        return defined.is_none().then_some(provider);
    };
    provider.key = Some(key);
    provider.source = KeySource::Sealed;
    Some(provider)
}

/// A provider of which nothing is known but what it is and where.
pub(crate) fn plain(name: &str, kind: Kind, base: BaseUrl) -> ProviderSpec {
    ProviderSpec {
        name: name.to_owned(),
        kind,
        base,
        source: KeySource::None,
        key: None,
        models: kind.default_models(),
        listed_at: 0,
        provider_tools: ProviderTools::default(),
        accounts: Vec::new(),
        disabled: Vec::new(),
        prices: BTreeMap::new(),
        responses: false,
        free: false,
        add_usage: false,
    }
}

fn opened(seal: &Seal, purpose: &str, sealed: &[u8]) -> Option<Secret> {
    let bytes = seal.open(purpose, sealed).ok()?;
    let text = Zeroizing::new(std::str::from_utf8(&bytes).ok()?.to_owned());
    Secret::parse(&text).ok()
}

fn add_account(
    seal: &Seal,
    provider: &mut ProviderSpec,
    setup: &lodge_proto::control::AccountSetup,
    sealed: Option<&[u8]>,
) {
    if setup.name == DEFAULT_ACCOUNT {
        // The key of a file is not taken out of use from here.
        if setup.disabled && matches!(provider.source, KeySource::Sealed | KeySource::None) {
            let key = provider.key.take();
            provider.disabled.push(Account {
                name: setup.name.clone(),
                key,
                oauth: None,
            });
        }
        return;
    }
    if provider.accounts.iter().any(|account| account.name == setup.name) {
        return;
    }
    let account = match (&setup.oauth, sealed) {
        (Some(oauth), _) => setup::oauth(oauth).ok().map(|oauth| (None, Some(oauth))),
        (None, Some(sealed)) => {
            opened(seal, &account_purpose(provider, &setup.name), sealed).map(|key| (Some(key), None))
        }
        (None, None) => None,
    };
    let Some((key, oauth)) = account else {
        tracing::warn!(
            provider = provider.name,
            account = setup.name,
            "the account's key was entered for another kind or address, or the seal key was replaced; enter it again"
        );
        return;
    };
    let account = Account {
        name: setup.name.clone(),
        key,
        oauth: oauth.map(std::sync::Arc::new),
    };
    let accounts = if setup.disabled {
        &mut provider.disabled
    } else {
        &mut provider.accounts
    };
    accounts.push(account);
}

fn purpose(provider: &ProviderSpec) -> String {
    key_purpose(&provider.name, provider.kind.as_str(), &provider.base.to_string())
}

/// What a provider's own key is sealed for.
pub(crate) fn key_purpose(name: &str, kind: &str, base: &str) -> String {
    format!("provider key\n{name}\n{kind}\n{base}")
}

/// What the key of one of its accounts is sealed for.
pub(crate) fn account_purpose(provider: &ProviderSpec, account: &str) -> String {
    let ProviderSpec { name, kind, base, .. } = provider;
    format!(
        "provider account key\n{name}\n{account}\n{}\n{base}",
        kind.as_str()
    )
}

/// Seals a provider's own key.
pub(crate) fn seal_key(seal: &Seal, provider: &ProviderSpec, key: &Secret) -> Result<Vec<u8>, SealError> {
    seal.seal(&purpose(provider), key.expose().as_bytes())
}

/// Seals the key of one of its accounts.
pub(crate) fn seal_account(
    seal: &Seal,
    provider: &ProviderSpec,
    account: &str,
    key: &Secret,
) -> Result<Vec<u8>, SealError> {
    seal.seal(&account_purpose(provider, account), key.expose().as_bytes())
}
