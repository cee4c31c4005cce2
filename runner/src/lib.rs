//! Per-user daemon: sessions, harness adapters, event log.
//!
//! - [`fold`]: the pure heart: journal records in, canonical events out
//! - [`harness`]: adapters, installation and start of each harness
//! - [`session`]: the task that owns one session, its shim and its journal
//! - [`hub`]: the task that knows all sessions and all relays
//! - [`guest`]: commands inside a session's sandbox; [`files`], [`git`] and [`terminal`] are made of them
//! - [`launcher`]: the sandbox of a session
//! - [`lease`] and [`history`]: the runner's side of the gateway and of the history service
//! - [`blobs`]: images of prompts
//! - [`trust`]: what a workspace brings for an agent as code
//! - [`store`]: the runner's database
//! - [`serve`]: the process
//! - [`translate`]: recorded transcripts through an adapter

pub mod blobs;
pub mod config;
pub mod conns;
pub mod files;
pub mod fold;
pub mod git;
pub mod guest;
pub mod harness;
pub mod history;
pub mod hub;
pub mod launcher;
pub mod lease;
mod serve;
pub mod session;
pub mod shared;
pub mod store;
pub mod terminal;
pub mod translate;
pub mod trust;
mod watched;

pub use config::Config;
pub use serve::{Error, serve};
