//! Everything that is sealed goes over to another key, at a start and before anything is served. Each database in one
//! transaction; cut anywhere, it goes on at the next start, because the key before is kept until the end.

use std::path::Path;

use zeroize::Zeroizing;

use super::{Seal, SealError, place};
use crate::config::Config;
use crate::forward::login;
use crate::provider::{self, account_purpose, key_purpose};
use crate::setup::Entered;
use crate::state::{self, StateError};
use crate::store::{Store, StoreError, StoredEntry, StoredProvider};

/// Name and purpose of the key of virtual keys' hashes, once it is no longer derived from the key in use: hashes cannot be
/// made anew without the keys' texts.
const PEPPER: &str = "pepper of virtual keys";

/// Why not everything has gone over. The key before is still there.
#[derive(Debug, thiserror::Error)]
pub enum ChangeError {
    #[error(transparent)]
    Seal(#[from] SealError),
    #[error("the gateway's database")]
    Store(#[from] StoreError),
    #[error("the gateway's state")]
    State(#[from] StateError),
}

/// What is sealed under `before` is sealed under `seal` afterwards, and `before` is forgotten.
pub(crate) fn change(
    config: &Config,
    (seal, before): (&Seal, &Seal),
    store: &Store,
    directory: &Path,
) -> Result<(), ChangeError> {
    let again = |purpose: &str, sealed: &[u8]| {
        let secret = before.open(purpose, sealed).ok()?;
        seal.seal(purpose, &secret).ok()
    };
    let stored = store.setup()?;
    let entered = Entered::read(&stored);
    let providers = provider::providers(&config.providers, &entered, &stored.keys, before);
    let kept = store.sealed_value(PEPPER)?;
    let has_moved = kept.as_ref().is_some_and(|kept| seal.open(PEPPER, kept).is_ok());
    if !has_moved {
        let pepper = match kept.and_then(|kept| before.open(PEPPER, &kept).ok()) {
            Some(pepper) => pepper,
            None => Zeroizing::new(before.pepper().to_vec()),
        };
        let pepper = seal.seal(PEPPER, &pepper)?;
        let provider =
            |row: &StoredProvider| again(&key_purpose(&row.name, &row.kind, &row.base_url), &row.sealed);
        let account = |entry: &StoredEntry| {
            let (provider, account) = entry.name.split_once('/')?;
            let purpose = account_purpose(providers.get(provider)?, account);
            again(&purpose, entry.sealed.as_deref()?)
        };
        let replaced = store.reseal(provider, account, (PEPPER, &pepper))?;
        tracing::info!(replaced, "provider keys are sealed under another key");
    }
    let mut purposes = Vec::new();
    for provider in providers.values() {
        for account in provider.accounts.iter().chain(&provider.disabled) {
            if let Some(login) = login(provider, account) {
                purposes.push((
                    provider.name.as_str(),
                    account.name.as_str(),
                    crate::oauth::purpose(login),
                ));
            }
        }
    }
    let token = |provider: &str, account: &str, sealed: &[u8]| {
        let of = purposes.iter().find(|of| (of.0, of.1) == (provider, account))?;
        again(&of.2, sealed)
    };
    let replaced = state::reseal(&directory.join("state.db"), token)?;
    tracing::info!(replaced, "logins are sealed under another key");
    place::forget_before(directory)?;
    Ok(())
}

/// The key of virtual keys' hashes: derived from the key in use, or what it was before that was changed.
pub(crate) fn pepper(seal: &Seal, store: &Store) -> Result<Zeroizing<[u8; 32]>, StoreError> {
    let Some(kept) = store.sealed_value(PEPPER)? else {
        return Ok(seal.pepper());
    };
    let opened = seal.open(PEPPER, &kept).ok();
    let pepper = opened.and_then(|bytes| <[u8; 32]>::try_from(bytes.as_slice()).ok());
    if let Some(pepper) = pepper {
        return Ok(Zeroizing::new(pepper));
    }
    tracing::warn!(
        "the seal key was replaced by one that does not open what is stored: no key of a person works"
    );
    Ok(seal.pepper())
}
