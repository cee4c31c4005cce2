//! Logins that have begun: what this process must remember until the person has answered.

use std::collections::HashMap;
use std::sync::PoisonError;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use zeroize::Zeroizing;

use super::flow::{self, Device, Polled};
use super::{Login, Oauth, OauthError};
use crate::accounts::AccountKey;
use crate::proxy::Upstream;
use crate::seal::random;

/// Logins under way at a time, and how long one may take, in milliseconds.
const MAX_PENDING: usize = 32;
const MAX_TIME: u64 = 15 * 60 * 1000;

/// By the state of the authorisation code, or by account for devices.
#[derive(Default)]
pub(super) struct Pending {
    codes: HashMap<String, Begun<Zeroizing<String>>>,
    devices: HashMap<AccountKey, Begun<Device>>,
}

struct Begun<T> {
    account: AccountKey,
    what: T,
    at: u64,
}

impl Pending {
    fn prune(&mut self) -> Result<(), OauthError> {
        let now = crate::accounts::now();
        let is_young = |at: u64| now.saturating_sub(at) < MAX_TIME;
        self.codes.retain(|_, begun| is_young(begun.at));
        self.devices.retain(|_, begun| is_young(begun.at));
        if self.codes.len() + self.devices.len() >= MAX_PENDING {
            return Err(OauthError::TooMany);
        }
        Ok(())
    }
}

fn word() -> Result<Zeroizing<String>, OauthError> {
    let bytes = Zeroizing::new(random::<32>().map_err(|_| OauthError::Keep)?);
    Ok(Zeroizing::new(URL_SAFE_NO_PAD.encode(*bytes)))
}

impl Oauth {
    /// The address a person opens to log in.
    pub fn begin_code(&self, login: Login<'_>) -> Result<String, OauthError> {
        let (state, verifier) = (word()?, word()?);
        let url = flow::authorize_url(login.spec, &state, &verifier)?;
        let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        pending.prune()?;
        let begun = Begun {
            account: login.key(),
            what: verifier,
            at: crate::accounts::now(),
        };
        pending.codes.insert(state.to_string(), begun);
        Ok(url)
    }

    /// The code that came back, with the state it came with; good once.
    pub async fn finish_code(
        &self,
        upstream: &Upstream,
        login: Login<'_>,
        state: &str,
        code: &str,
    ) -> Result<(), OauthError> {
        let begun = {
            let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
            // Room is not needed here, only that what is too old is gone.
            let _room = pending.prune();
            let is_its_own = pending
                .codes
                .get(state)
                .is_some_and(|begun| begun.account == login.key());
            if !is_its_own {
                return Err(OauthError::Unknown);
            }
            pending.codes.remove(state).ok_or(OauthError::Unknown)?
        };
        let tokens = flow::exchange(upstream, login.spec, code, &begun.what).await?;
        self.store(login, tokens).await
    }

    /// What a person types where; an earlier login of the account by device is void.
    pub async fn begin_device(&self, upstream: &Upstream, login: Login<'_>) -> Result<Device, OauthError> {
        let device = flow::device(upstream, login.spec).await?;
        let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        pending.prune()?;
        let begun = Begun {
            account: login.key(),
            what: device.clone(),
            at: crate::accounts::now(),
        };
        pending.devices.insert(login.key(), begun);
        Ok(device)
    }

    /// Asks once whether the person has answered.
    pub async fn poll_device(&self, upstream: &Upstream, login: Login<'_>) -> Result<Polled, OauthError> {
        let device = {
            let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
            let _room = pending.prune();
            let begun = pending.devices.get(&login.key()).ok_or(OauthError::Unknown)?;
            begun.what.clone()
        };
        match flow::poll(upstream, login.spec, &device).await {
            Ok(Err(after)) => return Ok(Polled::Pending { after }),
            Ok(Ok(tokens)) => self.store(login, tokens).await?,
            // It may be reached the next time.
            Err(error @ OauthError::Unreachable(_)) => return Err(error),
            Err(error) => {
                self.forget_device(login);
                return Err(error);
            }
        }
        self.forget_device(login);
        Ok(Polled::LoggedIn)
    }

    fn forget_device(&self, login: Login<'_>) {
        let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        pending.devices.remove(&login.key());
    }
}
