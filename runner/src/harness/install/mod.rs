//! Harness installation: pinned harnesses and their runtimes in the data directory.
//!
//! ```text
//! DATA/harness/<name>/<version>/   lodge-harness.json, package.json, package-lock.json, node_modules/
//! DATA/runtime/<name>/<version>/   the same for a runtime
//! DATA/harness/.lock               held while something is installed or removed
//! DATA/harness/.staging-*          an installation under way; what a killed one left is removed by the next
//! ```
//!
//! What is installed is a function of the embedded lock file: every package is named with its SHA-512, none with a
//! registry. A tree is built aside, checked by running it, made durable and read-only, then renamed into place, so
//! that a name in `DATA/harness` always stands for a whole harness.
//!
//! npm, install scripts and the programs that were installed run in sandboxes of the process tier: npm reaches the
//! registry that the host's npm is set to and nothing else, the others reach nothing.
//!
//! The calls block; from async code use `spawn_blocking`.

mod cache;
mod catalog;
mod check;
mod confine;
mod error;
pub mod in_use;
mod installer;
mod lockfile;
mod npm;
mod redact;
mod registry;
mod resolve;
mod store;
#[doc(hidden)]
pub mod testing;

#[cfg(test)]
mod tests;

pub use catalog::{Catalog, HarnessEntry, RuntimeEntry};
pub use confine::WayOut;
pub use error::InstallError;
pub use installer::{Installer, Source, Updated};
pub use registry::Registry;
pub use resolve::InstalledHarness;

use std::fmt;

/// What an installation is doing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// It is there already and sound.
    Present { name: String, version: String },
    /// Packages are fetched and unpacked.
    Fetching { name: String, version: String },
    /// Packages are checked against their hashes and unpacked from a directory.
    Unpacking { name: String, version: String },
    /// Install scripts of the named packages run.
    Scripts { packages: Vec<String> },
    /// The installed program is asked for its version.
    Checking { name: String },
    /// The tree is made durable and renamed into place.
    Placing { name: String },
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Present { name, version } => write!(f, "{name} {version} is installed"),
            Self::Fetching { name, version } => write!(f, "fetching {name} {version}"),
            Self::Unpacking { name, version } => write!(f, "unpacking {name} {version}"),
            Self::Scripts { packages } => write!(f, "running the install scripts of {}", packages.join(", ")),
            Self::Checking { name } => write!(f, "checking {name}"),
            Self::Placing { name } => write!(f, "putting {name} in place"),
        }
    }
}

/// Hears how an installation goes on, and may stop it.
pub trait Progress {
    /// A new step begins.
    fn step(&mut self, step: &Step);
    /// Of the present step, `done` of `total` packages are done. `done` only rises and stays at or below `total`.
    fn packages(&mut self, done: usize, total: usize);
    /// Asked several times a second: `true` ends the installation with [`InstallError::Cancelled`].
    fn cancelled(&self) -> bool {
        false
    }
}

/// Tells nobody.
impl Progress for () {
    fn step(&mut self, _: &Step) {}
    fn packages(&mut self, _: usize, _: usize) {}
}
