//! Properties of the protocol: what is written is read back, what is unknown passes, what is malformed is refused.

#![allow(clippy::unwrap_used)]

mod checker;
mod documentation;
mod events;
mod frames;
mod identifiers;
mod places;
mod roundtrip;
mod sessions;
mod sockets;
mod strategies;
mod trust;
mod unknown;
