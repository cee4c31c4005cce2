//! Measures Lodge beside a plain relay and beside the peers that install from npm. Started by `benches/run`.
//!
//! - [`cli`]: the command line
//! - [`lodge`], [`baseline`], [`peers`]: the systems
//! - [`floor`]: what the machine takes for one hop
//! - [`load`]: clients that count, over [`ws`] and server-sent events ([`http`])
//! - [`marker`], [`mock`]: what is streamed, and the agents and models that stream it
//! - [`mod@proc`], [`clock`]: processes, their time and memory
//! - [`report`]: the table
//! - [`sandbox`]: the same for sandboxes, started by `benches/sandbox`
//! - [`gateway`]: the same for gateways to models, started by `benches/gateway`
//! - [`harnesses`]: the same for harnesses, started by `benches/harnesses`

pub mod baseline;
pub mod cli;
pub mod clock;
pub mod floor;
pub mod gateway;
pub mod harnesses;
pub mod http;
pub mod load;
pub mod lodge;
pub mod marker;
pub mod mock;
pub mod peers;
pub mod proc;
pub mod report;
pub mod sandbox;
pub mod ws;
