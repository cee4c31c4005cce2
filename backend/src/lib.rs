//! Stateless relay, authentication, REST API and the served UI.
//!
//! "Stateless" means no agent state: whatever a session does lives at its runner. Accounts and logins are behind
//! [`auth::Accounts`], where runners live is behind [`upstream::Placement`].
//!
//! - [`config`] and [`error`]: what the backend is told, and why it refuses
//! - [`serve`]: the whole role, from start to a graceful stop
//! - [`control`]: the client of its control socket (login links)
//! - [`upstream`]: connections to runners, for the relay and for terminal clients
//! - `relay`: WebSockets on one side, runners on the other
//! - [`auth`]: who is it, and may the browser that asks be believed
//! - [`rest`]: the REST API and its OpenAPI description
//! - `ui`: the browser UI, from the binary
//! - `server`: listeners and what requests share
//! - `unix`: connecting to Unix sockets without blocking

pub mod auth;
pub mod config;
pub mod control;
pub mod error;
mod relay;
pub mod rest;
mod server;
mod ui;
mod unix;
pub mod upstream;

pub use config::{Config, Peers, Settings};
pub use error::Error;
pub use server::serve;

/// The account of the person whose machine it is.
pub const LOCAL_ACCOUNT: &str = "local";
