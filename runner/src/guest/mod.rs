//! Commands inside a session's sandbox, beside its harness.
//!
//! They run through guest init, in the same walls as the harness, and never on the host: a workspace is hostile, and
//! so is whatever a tool does because of a file in it.

mod run;
mod streams;

pub use run::{Finished, Limits, run};
pub use streams::{Stream, StreamEvent, StreamInput, Streams};
