//! The egress broker: a guest's only way out, by name.
//!
//! A guest has no route and no resolver. It names a host and a port on its own socket, as `CONNECT`, as a plain
//! request with a whole URL or over SOCKS5; the broker decides by the session's policy, resolves the name itself,
//! refuses addresses that are not public, dials exactly what it checked, and watches that what goes through is for that
//! name. The request needs no key: the socket belongs to one session, and only that session's guest has it.
//!
//! - [`name`], [`policy`], [`address`], [`head`], [`connect`], [`socks`], [`gate`], [`http`], [`sni`]: what is parsed
//!   and decided without I/O, a crate of its own
//! - [`Session`], [`questions`], [`decisions`]: one session's policy, use, and what the user hears of it
//! - [`dial`], [`meter`]: connections, and how much goes through them
//! - [`serve`]: the broker without a gateway

pub(crate) mod broker;
pub mod decisions;
pub mod dial;
mod local;
pub mod meter;
pub mod questions;
mod session;
pub(crate) mod sniff;
mod tunnel;

pub use local::serve;
pub use lodge_egress::{address, connect, gate, head, http, name, policy, sni, socks};
pub use policy::{EgressPolicy, Unlisted};
pub use session::{Session, Settings};
