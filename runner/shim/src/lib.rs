//! One small process per session that owns the harness and keeps the journal.
//!
//! | module | for |
//! |---|---|
//! | [`journal`] | the session's append-only record of truth: format, writer, reader |
//! | [`wire`] | the protocol between runner and shim: a codec without I/O, usable from async code |
//! | [`stream`] | its part for commands and terminals beside the harness |
//! | [`client`] | blocking helpers for the runner: connect, fetch the gateway listener |
//! | [`launch`] | what the runner tells a new shim |
//! | [`shim`] | the process itself |

pub mod client;
pub mod journal;
pub mod launch;
pub mod shim;
pub mod stream;
pub mod wire;

mod sys;
