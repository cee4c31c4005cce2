//! Leases: a session's key and its guest socket, which belong together and die together.
//!
//! A lease lives while its runner renews it. Where renewals stop it lapses: the socket is no longer served, streams
//! are cut. A runner that comes back may resume a lapsed lease in the same boot of the machine; a closed one is
//! gone for good.

mod fd;
mod id;
mod narrow;
mod notices;
mod server;
mod table;

pub use server::serve;
pub use table::{Lease, LeaseError, Leases};
