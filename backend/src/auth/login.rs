//! Login links, sessions of a browser, page tokens.

use super::accounts::{Account, Accounts, AuditEntry, Login, Purpose, StoreError};
use super::secret::{NoRandomness, Token, TokenHash};
use crate::relay::rate::Bucket;
use lodge_proto::{ErrorBody, ErrorCode};
use serde_json::json;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};
use tokio::time::Instant;
use tracing::error;

/// Life of a login link.
pub(crate) const LINK_LIFE: Duration = Duration::from_mins(5);
/// Life of a browser's session.
pub(crate) const LOGIN_LIFE: Duration = Duration::from_hours(30 * 24);
/// Life of a page token.
pub(crate) const PAGE_LIFE: Duration = Duration::from_mins(1);

/// Failed logins an address may make: 10 at once, then one every 6 s.
const ATTEMPTS: f64 = 10.0;
const ATTEMPTS_A_SECOND: f64 = 1.0 / 6.0;
/// Addresses that are remembered.
const MAX_ADDRESSES: usize = 4096;

/// Why a login did not come about.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LoginError {
    #[error("the accounts do not answer")]
    Store(#[from] StoreError),
    #[error(transparent)]
    Randomness(#[from] NoRandomness),
    #[error("the store's thread ended")]
    Thread(#[from] tokio::task::JoinError),
    #[error("this login link was used before, has expired or was never given out; ask for a new one")]
    BadToken,
    #[error("too many failed logins; try again in {} s", wait.as_secs() + 1)]
    TooMany { wait: Duration },
}

impl From<LoginError> for ErrorBody {
    fn from(error: LoginError) -> Self {
        let code = match &error {
            LoginError::BadToken => ErrorCode::Unauthenticated,
            LoginError::TooMany { .. } => ErrorCode::RateLimited,
            LoginError::Store(StoreError::NoAccount { .. }) => ErrorCode::NotFound,
            _ => ErrorCode::Internal,
        };
        if code == ErrorCode::Internal {
            error!(%error, cause = ?std::error::Error::source(&error), "login store");
        }
        let message = match &error {
            LoginError::Store(store @ StoreError::NoAccount { .. }) => store.to_string(),
            _ => error.to_string(),
        };
        let body = Self::new(code, message);
        match error {
            LoginError::TooMany { wait } => {
                body.with_details(json!({"retry_after_seconds": wait.as_secs() + 1}))
            }
            _ => body,
        }
    }
}

/// Gives out and checks all that proves who somebody is.
#[derive(Debug)]
pub(crate) struct Logins {
    store: Arc<dyn Accounts>,
    attempts: Mutex<HashMap<IpAddr, Bucket>>,
}

impl Logins {
    pub(crate) fn new(store: Arc<dyn Accounts>) -> Self {
        Self {
            store,
            attempts: Mutex::default(),
        }
    }

    /// Runs a blocking store call off the event loop.
    async fn blocking<T: Send + 'static>(
        &self,
        call: impl FnOnce(&dyn Accounts) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, LoginError> {
        let store = Arc::clone(&self.store);
        Ok(tokio::task::spawn_blocking(move || call(&*store)).await??)
    }

    /// A token for a login link.
    pub(crate) async fn issue_link(&self, account: String) -> Result<Token, LoginError> {
        let token = Token::random()?;
        let hash = token.hash();
        self.blocking(move |store| {
            store.put_token(&hash, Purpose::Login, &account, SystemTime::now() + LINK_LIFE)?;
            store.audit(&entry("login_link.create", &account))
        })
        .await?;
        Ok(token)
    }

    /// Trades the token of a link for a browser's session.
    pub(crate) async fn exchange(&self, token: &str, from: IpAddr) -> Result<(Token, Account), LoginError> {
        self.count_attempt(from)?;
        let link = Token::parse(token).ok_or(LoginError::BadToken)?.hash();
        let cookie = Token::random()?;
        let login = cookie.hash();
        let account = self
            .blocking(move |store| {
                let now = SystemTime::now();
                let Some(account) = store.take_token(&link, Purpose::Login, now)? else {
                    store.audit(&AuditEntry {
                        at: now,
                        account: None,
                        action: "login.refused".into(),
                    })?;
                    return Ok(None);
                };
                store.put_login(&login, &account.id, now + LOGIN_LIFE)?;
                store.audit(&entry("login", &account.id))?;
                Ok(Some(account))
            })
            .await?
            .ok_or(LoginError::BadToken)?;
        self.forgive_attempt(from);
        Ok((cookie, account))
    }

    fn count_attempt(&self, from: IpAddr) -> Result<(), LoginError> {
        let now = Instant::now();
        let mut attempts = self.attempts.lock().unwrap_or_else(PoisonError::into_inner);
        if attempts.len() >= MAX_ADDRESSES && !attempts.contains_key(&from) {
            attempts.retain(|_, bucket| !bucket.is_full(now));
            if attempts.len() >= MAX_ADDRESSES {
                return Err(LoginError::TooMany {
                    wait: Duration::from_secs(6),
                });
            }
        }
        let bucket = attempts
            .entry(from)
            .or_insert_with(|| Bucket::new(ATTEMPTS_A_SECOND, ATTEMPTS, now));
        bucket.take(now).map_err(|wait| LoginError::TooMany { wait })
    }

    fn forgive_attempt(&self, from: IpAddr) {
        let mut attempts = self.attempts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(bucket) = attempts.get_mut(&from) {
            bucket.give_back();
        }
    }

    /// The login of a cookie.
    pub(crate) async fn find(&self, cookie: TokenHash) -> Result<Option<Login>, LoginError> {
        self.blocking(move |store| store.login(&cookie, SystemTime::now()))
            .await
    }

    /// Ends a login.
    pub(crate) async fn end(&self, cookie: TokenHash, account: String) -> Result<(), LoginError> {
        self.blocking(move |store| {
            store.remove_login(&cookie)?;
            store.audit(&entry("logout", &account))
        })
        .await
    }

    /// A page token for a login.
    pub(crate) async fn issue_page_token(
        &self,
        login: TokenHash,
        account: String,
    ) -> Result<Token, LoginError> {
        let token = Token::random()?;
        let hash = token.hash();
        self.blocking(move |store| {
            store.put_token(
                &hash,
                Purpose::Page(login),
                &account,
                SystemTime::now() + PAGE_LIFE,
            )
        })
        .await?;
        Ok(token)
    }

    /// Uses a page token up; `false` when it is no good for this login.
    pub(crate) async fn take_page_token(&self, token: &str, login: TokenHash) -> Result<bool, LoginError> {
        let Some(token) = Token::parse(token) else {
            return Ok(false);
        };
        let hash = token.hash();
        let owner = self
            .blocking(move |store| store.take_token(&hash, Purpose::Page(login), SystemTime::now()))
            .await?;
        Ok(owner.is_some())
    }

    /// Writes a line of the audit log.
    pub(crate) async fn audit(&self, action: String, account: String) -> Result<(), LoginError> {
        self.blocking(move |store| store.audit(&entry(&action, &account)))
            .await
    }
}

fn entry(action: &str, account: &str) -> AuditEntry {
    AuditEntry {
        at: SystemTime::now(),
        account: Some(account.to_owned()),
        action: action.to_owned(),
    }
}
