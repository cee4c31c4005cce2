//! Accounts that are logged into instead of having a key: authorisation code with PKCE (RFC 7636), device flow (RFC 8628)
//! and refresh, one at a time for each account. Tokens are sealed at rest, bound to where they came from.

mod flow;
mod login;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::{Arc, Mutex as StdMutex, PoisonError};

use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::accounts::AccountKey;
use crate::provider::BaseUrl;
use crate::proxy::Upstream;
use crate::seal::Seal;
use crate::secret::Secret;
use crate::state::{State, StoredToken};

pub use flow::{Device, Polled};
use login::Pending;

/// A token is renewed this long before it ends, in milliseconds, and a little earlier by chance, so that many gateways do
/// not renew at once.
const EARLY: u64 = 120_000;
const JITTER: u64 = 60_000;

/// How an account is logged into.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spec {
    pub client_id: String,
    /// For the authorisation code.
    pub authorize_url: Option<String>,
    /// Where the code comes back; shown to the person where nothing listens there.
    pub redirect_uri: String,
    /// For the device flow.
    pub device_url: Option<String>,
    pub token_url: String,
    pub scopes: Vec<String>,
    /// Word of `anthropic-beta` that goes with these tokens, beside those of the caller.
    pub beta: Option<String>,
}

/// Why there is no token.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OauthError {
    #[error("nobody is logged into the account")]
    LoggedOut,
    #[error("the account has no {0}")]
    NoFlow(&'static str),
    #[error("this login was not begun here, was finished already or took too long")]
    Unknown,
    #[error("too many logins are under way")]
    TooMany,
    #[error("the login server cannot be reached: {0}")]
    Unreachable(String),
    #[error("the login server refused: {0}")]
    Refused(String),
    #[error("the login server's answer cannot be read")]
    Answer,
    #[error("keeping the tokens failed")]
    Keep,
}

/// What a login server gives. Wiped when dropped.
#[derive(Serialize, Deserialize, Zeroize, ZeroizeOnDrop)]
struct Tokens {
    access: String,
    refresh: Option<String>,
    /// Milliseconds of Unix time; none: it does not end.
    expires: Option<u64>,
}

impl Tokens {
    fn is_fresh(&self, now: u64, early: u64) -> bool {
        self.expires
            .is_none_or(|expires| expires > now.saturating_add(early))
    }
}

type Slot = Arc<Mutex<Option<Tokens>>>;

/// The tokens of every account that is logged in.
pub struct Oauth {
    slots: StdMutex<HashMap<AccountKey, Slot>>,
    pending: StdMutex<Pending>,
    sealed: HashMap<AccountKey, Vec<u8>>,
    state: Arc<State>,
    seal: Arc<Seal>,
}

impl std::fmt::Debug for Oauth {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Oauth")
    }
}

/// An account and how it is logged into.
#[derive(Clone, Copy, Debug)]
pub struct Login<'a> {
    pub provider: &'a str,
    pub account: &'a str,
    /// Of the provider: tokens are bound to the address they are sent to.
    pub base: &'a BaseUrl,
    pub spec: &'a Spec,
}

impl Login<'_> {
    fn key(&self) -> AccountKey {
        (self.provider.to_owned(), self.account.to_owned())
    }

    /// Tokens open only for the servers they came from and go to.
    fn purpose(&self) -> String {
        let Self {
            provider,
            account,
            base,
            spec,
        } = self;
        format!("oauth tokens\n{provider}\n{account}\n{base}\n{}", spec.token_url)
    }
}

/// What the tokens of an account are sealed for.
pub(crate) fn purpose(login: Login<'_>) -> String {
    login.purpose()
}

impl Oauth {
    /// With the tokens that were kept.
    pub fn new(state: Arc<State>, seal: Arc<Seal>, loaded: Vec<StoredToken>) -> Self {
        let sealed = loaded
            .into_iter()
            .map(|row| ((row.provider, row.account), row.sealed))
            .collect();
        Self {
            slots: StdMutex::default(),
            pending: StdMutex::default(),
            sealed,
            state,
            seal,
        }
    }

    /// The one place of an account's tokens; opened from the sealed ones the first time.
    fn slot(&self, login: Login<'_>) -> Slot {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        let key = login.key();
        let slot = slots.entry(key.clone()).or_insert_with(|| {
            let opened = self.sealed.get(&key).and_then(|sealed| {
                let bytes = self.seal.open(&login.purpose(), sealed).ok()?;
                serde_json::from_slice(&bytes).ok()
            });
            Arc::new(Mutex::new(opened))
        });
        Arc::clone(slot)
    }

    /// A token that is good now. Whoever comes while it is being renewed waits for that one renewal.
    pub async fn access(&self, upstream: &Upstream, login: Login<'_>) -> Result<Secret, OauthError> {
        let slot = self.slot(login);
        let mut tokens = slot.lock().await;
        let now = crate::accounts::now();
        let current = tokens.as_ref().ok_or(OauthError::LoggedOut)?;
        if current.is_fresh(now, EARLY + jitter()) || current.refresh.is_none() && current.is_fresh(now, 0) {
            return secret(current);
        }
        let refreshed = match &current.refresh {
            Some(refresh) => flow::refresh(upstream, login.spec, refresh).await,
            None => Err(OauthError::LoggedOut),
        };
        match refreshed {
            Ok(mut renewed) => {
                if renewed.refresh.is_none() {
                    renewed.refresh.clone_from(&current.refresh);
                }
                // On disk first: a refresh token that was used up and whose successor is lost locks everybody out.
                self.keep(login, &renewed).await?;
                let secret = secret(&renewed);
                *tokens = Some(renewed);
                secret
            }
            // Not lost yet: the server may be back before the token ends.
            Err(OauthError::Unreachable(_) | OauthError::Answer) if current.is_fresh(now, 0) => {
                secret(current)
            }
            Err(error) => {
                if matches!(error, OauthError::Refused(_)) {
                    tracing::warn!(provider = login.provider, account = login.account, %error, "an account is logged out");
                    *tokens = None;
                }
                Err(error)
            }
        }
    }

    /// The provider refused a token before its time: it is renewed before it is used again.
    pub async fn expire(&self, login: Login<'_>, refused: &Secret) {
        let slot = self.slot(login);
        let mut tokens = slot.lock().await;
        if let Some(tokens) = tokens.as_mut().filter(|tokens| tokens.access == refused.expose()) {
            tokens.expires = Some(0);
        }
    }

    async fn store(&self, login: Login<'_>, tokens: Tokens) -> Result<(), OauthError> {
        let slot = self.slot(login);
        let mut current = slot.lock().await;
        self.keep(login, &tokens).await?;
        *current = Some(tokens);
        Ok(())
    }

    async fn keep(&self, login: Login<'_>, tokens: &Tokens) -> Result<(), OauthError> {
        let plain = Zeroizing::new(serde_json::to_vec(tokens).map_err(|_| OauthError::Keep)?);
        let sealed = self
            .seal
            .seal(&login.purpose(), &plain)
            .map_err(|_| OauthError::Keep)?;
        let (provider, account) = login.key();
        let row = StoredToken {
            provider,
            account,
            sealed,
        };
        self.state.put_token(row).await.map_err(|_| OauthError::Keep)
    }
}

fn secret(tokens: &Tokens) -> Result<Secret, OauthError> {
    Secret::parse(&Zeroizing::new(tokens.access.clone())).map_err(|_| OauthError::Answer)
}

fn jitter() -> u64 {
    crate::seal::random::<8>().map_or(0, |bytes| u64::from_le_bytes(bytes) % JITTER)
}
