//! Escape probes: a guest-side program and the observer that judges it, the same in every tier.
//!
//! [`table`] says what is tried and which result is wanted; [`attack`] does it, inside and, as the positive control,
//! outside; [`check`] sets up a victim ([`scene`]), runs everything and compares what is seen outside.

pub mod attack;
pub mod broker;
pub mod check;
pub mod facts;
pub mod foreign;
mod judge;
mod launcher;
mod listeners;
pub mod report;
pub mod scene;
mod stage;
pub mod table;
mod upstream;
mod watch;

pub use check::{CheckError, Options, check};
pub use judge::Found;
pub use report::Report;
pub use stage::{StageError, try_start};
