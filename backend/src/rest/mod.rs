//! REST under `/api/v1`: the same commands as over the WebSocket, one request each.
//!
//! - `error`, `body`: how requests fail, and how bodies are read
//! - `command`: a request as a command on the relay's internal channel
//! - `sessions`, `harnesses`, `workspaces`: what the runner answers
//! - `blobs`: images of prompts, as raw bytes
//! - `providers`: models and providers, which the gateway answers
//! - `usage`, `keys`, `budgets`, `requests`: what was used, is being used, and may be; of whom, says `reach`
//! - `users`: the people whom the gateway knows by name
//! - `setup`: providers, accounts, aliases, policies and prices beside the configuration file
//! - `operations`, `audit`: running the gateway, and who changed what
//! - `once`: requests that must not be done twice
//! - `nanos`: money in JSON
//! - `gateway`: the client of the gateway's administration
//! - `health`: is the backend there, and are the others
//! - `schema`: the protocol's types as OpenAPI
//! - [`openapi`]: the description of it all

pub(crate) mod audit;
pub(crate) mod blobs;
pub(crate) mod body;
pub(crate) mod budgets;
pub(crate) mod command;
pub(crate) mod error;
pub(crate) mod gateway;
pub(crate) mod harnesses;
pub(crate) mod health;
pub(crate) mod keys;
pub(crate) mod nanos;
pub(crate) mod once;
pub mod openapi;
pub(crate) mod operations;
pub(crate) mod providers;
pub(crate) mod reach;
pub(crate) mod requests;
pub(crate) mod schema;
pub(crate) mod sessions;
pub(crate) mod setup;
pub(crate) mod usage;
pub(crate) mod users;
pub(crate) mod workspaces;

use crate::server::Shared;
use axum::Router;

/// All REST routes.
pub(crate) fn routes() -> Router<Shared> {
    Router::new()
        .merge(sessions::routes())
        .merge(harnesses::routes())
        .merge(workspaces::routes())
        .merge(blobs::routes())
        .merge(providers::routes())
        .merge(usage::routes())
        .merge(keys::routes())
        .merge(budgets::routes())
        .merge(requests::routes())
        .merge(audit::routes())
        .merge(operations::routes())
        .merge(setup::routes())
        .merge(users::routes())
        .merge(health::routes())
        .merge(openapi::routes())
}
