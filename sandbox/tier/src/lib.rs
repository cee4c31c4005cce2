//! Launchers of the container and microVM tiers: one process a sandbox, between the framed stream and the engine.
//!
//! `lodge-tier run --request-fd N` reads a [`TierRequest`](lodge_sandbox::launch::TierRequest) from a descriptor, has
//! the framed stream as descriptor [`MUX_FD`](lodge_sandbox::plan::MUX_FD) and ends when either end of it does. It
//! leaves nothing behind.

pub mod container;
pub mod microvm;
mod request;

pub use request::{Job, RequestError};
