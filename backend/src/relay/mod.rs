//! The relay: browsers on one side, runners on the other. It routes by header and never parses events.
//!
//! - `wrap`: the runner's bytes as a client's text frame
//! - `group`: the shared tail of one session
//! - `fanout`: who gets what, as a state machine without I/O
//! - `signal`: how a client's writer is woken
//! - `hub`: one account's clients and its runner
//! - `internal`: the client that the REST API is
//! - `inbound`: reads, checks and authorises what a client says
//! - `rate`: how much of that there may be
//! - `upgrade`: from an HTTP request to a WebSocket
//! - `socket`, `reader`, `writer`: one client's WebSocket
//! - `terminals`: the bytes of terminals on their way to one client
//! - `counted`: sees whether bytes move

pub(crate) mod counted;
pub(crate) mod fanout;
#[cfg(test)]
mod fanout_tests;
pub(crate) mod group;
pub(crate) mod hub;
pub(crate) mod inbound;
pub(crate) mod internal;
pub(crate) mod rate;
pub(crate) mod reader;
pub(crate) mod signal;
pub(crate) mod socket;
pub(crate) mod terminals;
pub(crate) mod upgrade;
pub(crate) mod wrap;
pub(crate) mod writer;
#[cfg(test)]
mod writer_tests;
