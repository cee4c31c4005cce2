//! The gateway from outside: over its sockets, with a provider of our own.
#![allow(clippy::unwrap_used)]

mod admin;
mod budget;
mod common;
mod demo;
mod edge;
mod egress;
mod lease;
mod proxy;
mod routing;
mod socket;
mod translate;
