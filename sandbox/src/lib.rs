//! Sandbox policy, its lattice, the plan it compiles to, and the launchers that execute a plan.
//!
//! [`policy`] says what a guest may do, [`plan`] turns it into data, [`bwrap`] turns that data into a
//! command for the process tier, [`spawn`] runs it; [`host`] tells what this machine offers, [`workspace`]
//! what may be opened.

mod alias;
pub mod bwrap;
pub mod cgroup;
mod control;
mod error;
pub mod explain;
pub mod files;
pub mod findings;
mod home;
pub mod host;
mod lattice;
pub mod launch;
mod layer;
pub mod limits;
mod names;
pub mod placeholder;
pub mod plan;
pub mod policy;
mod profiles;
mod removal;
pub mod size;
mod spare;
pub mod spawn;
mod sys;
pub mod view;
pub mod workspace;

pub use error::SandboxError;
pub use removal::remove_tree;
