//! Connections to runners.
//!
//! - [`placement`]: where an account's runner lives; the only place that knows a runner may be on this host
//! - [`connection`]: one connection, usable by any client of a runner
//! - [`transfer`]: images, each on a connection of its own
//! - `encode`: the frames a relay sends
//! - `outbox`: bounded bytes on their way to a runner
//! - `link`: keeps a connection up, with backoff

pub mod connection;
pub(crate) mod encode;
pub(crate) mod link;
pub(crate) mod outbox;
pub mod placement;
pub mod transfer;

pub use connection::{RunnerConnection, RunnerFrame, UpstreamError};
pub use placement::{Placement, PlacementError, RunnerAddress, SingleMachine};
