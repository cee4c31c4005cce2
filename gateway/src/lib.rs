//! The LLM gateway: holds provider keys, serves guests over their own sockets.
//!
//! Bytes pass as they came, in the caller's dialect; only the key is swapped. A guest reaches the gateway through
//! one socket of its own, with a key that works on no other. Three kinds of listener, never mixed: one a session
//! for inference, one for runners that take leases, one for administration.
//!
//! - [`config`]: the gateway's part of `lodge.toml`; making the process fit to hold keys
//! - [`serve()`]: the process from start to end
//! - [`people`]: users by name, with their teams and organisations
//! - [`lease`]: keys and sockets that live and die with a session
//! - [`guest`]: requests of guests, from authentication to answer; `intake`: their bodies; `line`: their connections
//! - [`egress`]: the way out to other hosts, by name
//! - [`asked`]: what a body asks for beside an answer, and what of it is refused
//! - [`forward`]: one request, from its checks over the choice of an account to the answer
//! - [`proxy`]: pass-through to providers
//! - [`translate`]: between dialects, where the provider lacks the caller's
//! - [`routes`], [`json`]: aliases and policies by model, as byte splices
//! - [`accounts`]: health and quotas of the providers' accounts
//! - [`oauth`]: accounts that are logged into
//! - [`stored`]: whose the objects stored at providers are
//! - [`state`]: what of all this outlives the process
//! - [`provider`]: the providers there are; `setup`: those that administrators entered, with aliases, policies and prices
//! - `reload`: the configuration file read again
//! - [`demo`]: the scripted model
//! - [`dialect`]: the closed list of paths, errors in four dialects
//! - [`admin`]: providers and their keys over gRPC
//! - [`exchange`]: keys sealed in the browser
//! - [`audit`]: who changed what; `metrics`: counters for Prometheus; `bodies`: what a key may have logged
//! - [`clock`]: what time it is
//! - [`telemetry`]: spans for a collector
//! - [`seal`], [`key`], [`secret`], [`store`], [`environment`]: where secrets are and in which form

mod accept;
pub mod accounts;
pub mod admin;
pub mod asked;
pub mod audit;
mod bodies;
pub mod body;
mod caller;
pub mod clock;
pub mod config;
pub mod demo;
pub mod dialect;
pub mod egress;
pub mod environment;
pub mod exchange;
pub mod forward;
pub mod guest;
mod intake;
pub mod json;
pub mod key;
pub mod keys;
pub mod lease;
pub mod ledger;
mod line;
mod meter;
mod metrics;
mod models;
pub mod money;
pub mod oauth;
pub mod people;
pub mod price;
pub mod provider;
pub mod proxy;
mod reload;
pub mod routes;
pub mod seal;
pub mod secret;
mod serve;
mod setup;
pub mod state;
pub mod store;
pub mod stored;
pub mod telemetry;
pub mod translate;
pub mod usage;

pub use config::{Config, ConfigError, Options};
pub use serve::{Error, serve};

/// An error with what caused it, for the log.
fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
