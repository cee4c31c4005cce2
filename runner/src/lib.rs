//! Per-user daemon: sessions, harness adapters, event log.
//!
//! - [`fold`]: the pure heart: journal records in, canonical events out
//! - [`harness`]: adapters, installation and start of each harness
//! - [`translate`]: recorded transcripts through an adapter

pub mod fold;
pub mod harness;
pub mod translate;
