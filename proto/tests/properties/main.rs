//! Properties of the protocol: what is written is read back, what is unknown passes, what is malformed is refused.

mod checker;
mod documentation;
mod events;
mod frames;
mod identifiers;
mod roundtrip;
mod sessions;
mod sockets;
mod strategies;
mod unknown;
