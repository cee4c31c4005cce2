//! What an image consists of.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::kernel::Kernel;

/// Version of this file's format.
pub const FORMAT: u32 = 1;

/// A file of an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Artifact {
    /// Relative to the image's directory.
    pub file: String,
    /// Hexadecimal.
    pub sha256: String,
    /// Bytes.
    pub size: u64,
}

/// The image for Docker and Podman.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Container {
    pub archive: Artifact,
    /// Digest of the image's configuration: its id in engines that go by it. `sha256:…`
    pub image_id: String,
    /// Digest of its only layer, `sha256:…`
    pub layer: String,
    /// Name it gets in an engine.
    pub tag: String,
}

/// A harness that was put into the image.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Baked {
    pub name: String,
    pub version: String,
    /// Where it is in the image.
    pub path: String,
}

/// Everything about one image. It says nothing about where or when it was built.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    pub format: u32,
    /// Over all artifacts: the name of the image's directory.
    pub digest: String,
    /// Of what its root was built from; package versions are the archive's choice and not part of it.
    pub recipe: String,
    /// Of what its kernel part was built from.
    pub kernel_recipe: Option<String>,
    pub suite: String,
    /// Debian's name of the architecture.
    pub architecture: String,
    /// Every package with its version.
    pub packages: BTreeMap<String, String>,
    pub harnesses: Vec<Baked>,
    pub container: Container,
    pub rootfs: Artifact,
    /// Absent when the image was built for containers only.
    pub kernel: Option<Kernel>,
}
