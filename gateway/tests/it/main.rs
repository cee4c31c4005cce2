//! The gateway from outside: over its sockets, with a provider of our own.
#![allow(clippy::unwrap_used)]

mod admin;
mod bounds;
pub(crate) mod budget;
mod cancel;
mod catalog;
mod common;
mod demo;
mod dialects;
mod edge;
mod egress;
mod faults;
mod lease;
mod metered;
mod ops;
mod people;
mod proxy;
mod routing;
mod sealed;
mod setup;
mod socket;
mod stored;
mod telemetry;
mod translate;
