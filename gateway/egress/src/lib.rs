//! What the egress broker parses and decides, as functions of bytes: no connection is made and no clock is read here,
//! so that each part can be tested and fuzzed alone.
//!
//! - [`name`], [`policy`], [`address`]: what may be named, reached and dialled
//! - [`head`], [`connect`], [`socks`]: requests to the broker
//! - [`gate`], [`http`], [`sni`]: what a tunnel carries

pub mod address;
pub mod connect;
pub mod gate;
pub mod head;
pub mod http;
pub mod name;
pub mod policy;
pub mod sni;
pub mod socks;
