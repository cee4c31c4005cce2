//! The gateway from outside: over its sockets, with a provider of our own.
#![allow(clippy::unwrap_used)]

mod admin;
pub(crate) mod budget;
mod cancel;
mod common;
mod demo;
mod edge;
mod egress;
mod lease;
mod metered;
mod ops;
mod people;
mod proxy;
mod routing;
mod setup;
mod socket;
mod translate;
