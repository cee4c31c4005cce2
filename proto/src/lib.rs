//! The canonical protocol of Lodge: one vocabulary for every harness and every client.
//!
//! The Rust types here are the source; the TypeScript types of the browser are generated from them. The crate
//! does no I/O except [`sock`], the few system calls with which every part makes and checks its Unix sockets.
//!
//! - [`event`]: what a session does, as a log of numbered events
//! - [`command`]: what a client may ask, and the one response each command gets
//! - [`message`] and [`part`]: what is durable
//! - [`input`]: what an agent may ask its user
//! - [`workspace`] and [`sandbox`]: files, Git, terminals and findings of a workspace; tiers and profiles
//! - [`trust`]: what a workspace brings for an agent as code
//! - [`limits`]: what a session may use of what its user may
//! - [`session`]: descriptions of sessions, their state and capabilities
//! - [`error`]: the closed list of error codes and their mapping to HTTP, gRPC and exit codes
//! - [`frame`]: the binary frames between backend and runner
//! - [`relay`]: what relay, runner and client say to each other besides events and commands
//! - [`invariants`]: the rules every session's log obeys, as a checker
//! - [`history`] and [`control`]: the gRPC services

pub mod blob;
pub mod command;
pub mod cursor;
pub mod error;
pub mod event;
pub mod frame;
pub mod ids;
pub mod input;
pub mod invariants;
pub mod limits;
pub mod message;
mod opaque;
pub mod part;
pub mod relay;
pub mod sandbox;
pub mod session;
pub mod sock;
pub mod trust;
pub mod typescript;
mod unprinted;
pub mod workspace;

/// The history service, generated from `history.proto`.
#[allow(clippy::all, clippy::pedantic, missing_debug_implementations, unreachable_pub)]
pub mod history {
    tonic::include_proto!("lodge.history.v1");
}

/// Gateway administration and leases, generated from `control.proto`.
#[allow(clippy::all, clippy::pedantic, missing_debug_implementations, unreachable_pub)]
pub mod control {
    tonic::include_proto!("lodge.control.v1");
}

pub use command::{Command, CommandBody, Outcome, Response};
pub use cursor::Cursor;
pub use error::{ErrorBody, ErrorCode};
pub use event::{Event, EventBody};
pub use ids::{MessageId, RequestId, SessionId, ToolCallId, TurnId};
pub use message::{Message, Role};
pub use opaque::Opaque;
pub use part::Part;
