//! The guest image: one recipe for the container image and the microVM's root, kernel and initramfs.
//!
//! [`build()`] makes it from Debian packages, with no image registry: apt's sources are the host's own. Equal packages
//! give equal bytes. [`current`] finds what was built last.
//!
//! ```text
//! STATE/images/current -> DIGEST
//! STATE/images/DIGEST/manifest.json     what is in it, see `Manifest`
//!                     container.tar     for `docker load`
//!                     rootfs.squashfs   root of the microVM
//! ```

mod archive;
mod build;
mod digest;
mod error;
pub mod kernel;
pub mod manifest;
mod packages;
mod process;
pub mod recipe;
mod rootfs;
pub mod sources;
mod squashfs;
mod store;

pub use build::{Options, Step, build};
pub use error::ImageError;
pub use manifest::Manifest;
pub use store::{Image, current};
