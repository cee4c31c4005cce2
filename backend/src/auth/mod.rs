//! Who is it, and may the browser that asks be believed.
//!
//! - [`accounts`]: what is stored of accounts and logins, behind a trait
//! - [`sqlite`]: the store of a single machine
//! - [`secret`]: tokens and their hashes
//! - `login`: login links, sessions of a browser, page tokens
//! - `cookie`: the session's cookie
//! - `extract`: the logged-in user of a request
//! - `hosts`: which `Host` and `Origin` values are ours
//! - `guard`: holds every request to these rules, and every answer to the strict headers
//! - `routes`: login, logout, who am I, page token
//! - `control`: the control socket, for the owner of the machine

pub mod accounts;
pub(crate) mod control;
pub(crate) mod cookie;
pub(crate) mod extract;
pub(crate) mod guard;
pub(crate) mod hosts;
pub(crate) mod login;
pub(crate) mod routes;
pub mod secret;
pub mod sqlite;

pub use accounts::{Account, Accounts, AuditEntry, Login, StoreError};
pub use sqlite::SqliteAccounts;
