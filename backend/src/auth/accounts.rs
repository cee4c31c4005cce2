//! What is stored of accounts and logins.

use super::secret::TokenHash;
use lodge_proto::relay::Rights;
use std::fmt::Debug;
use std::time::SystemTime;

/// Somebody who may log in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    pub id: String,
    /// Name for people.
    pub name: String,
    pub rights: Rights,
}

/// A browser that is logged in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Login {
    pub account: Account,
    pub expires_at: SystemTime,
}

/// One line of the audit log. It never holds a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditEntry {
    pub at: SystemTime,
    pub account: Option<String>,
    pub action: String,
}

/// What a token used once is good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// To log in.
    Login,
    /// To open a WebSocket, by the login with this hash.
    Page(TokenHash),
}

/// A store that could not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("opening the accounts at {path}")]
    Open {
        path: std::path::PathBuf,
        source: rusqlite::Error,
    },
    #[error("the accounts at {path} are of version {found}, newer than this build knows ({known})")]
    Newer {
        path: std::path::PathBuf,
        found: i64,
        known: i64,
    },
    #[error("saving a copy of the accounts as {path} before changing their tables")]
    Backup {
        path: std::path::PathBuf,
        source: rusqlite::Error,
    },
    #[error("bringing the accounts at {path} to version {to}")]
    Migrate {
        path: std::path::PathBuf,
        to: i64,
        source: rusqlite::Error,
    },
    #[error("{what}")]
    Statement {
        what: &'static str,
        source: rusqlite::Error,
    },
    #[error("account `{id}` does not exist")]
    NoAccount { id: String },
}

/// Accounts, logins, tokens used once and the audit log.
///
/// The methods block: they are called off the event loop. Tokens come as hashes only. Whatever one relay writes
/// another one sees.
pub trait Accounts: Debug + Send + Sync + 'static {
    /// Creates an account, or leaves the one with this id as it is.
    fn ensure_account(&self, account: &Account) -> Result<(), StoreError>;
    /// The account of an id.
    fn account(&self, id: &str) -> Result<Option<Account>, StoreError>;
    /// Stores a token that works once, until `expires_at`.
    fn put_token(
        &self,
        token: &TokenHash,
        purpose: Purpose,
        account: &str,
        expires_at: SystemTime,
    ) -> Result<(), StoreError>;
    /// Uses a token up and says whose it was. `None` where it is unknown, used, expired, or for another purpose.
    fn take_token(
        &self,
        token: &TokenHash,
        purpose: Purpose,
        now: SystemTime,
    ) -> Result<Option<Account>, StoreError>;
    /// Stores a login.
    fn put_login(&self, login: &TokenHash, account: &str, expires_at: SystemTime) -> Result<(), StoreError>;
    /// The login of a cookie, unless it has expired.
    fn login(&self, login: &TokenHash, now: SystemTime) -> Result<Option<Login>, StoreError>;
    /// Ends a login.
    fn remove_login(&self, login: &TokenHash) -> Result<(), StoreError>;
    /// Adds to the audit log, which keeps its newest 100 000 entries.
    fn audit(&self, entry: &AuditEntry) -> Result<(), StoreError>;
    /// The newest entries first, at most `limit`.
    fn audit_log(&self, limit: u32) -> Result<Vec<AuditEntry>, StoreError>;
}
