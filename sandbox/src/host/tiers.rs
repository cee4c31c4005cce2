//! Whether a tier can be run here, and what to know about it.

use std::path::Path;

use serde::Serialize;

use super::engine::Reach;
use super::{container_engine, kvm, qemu, require_process_tier};
use crate::error::SandboxError;
use crate::policy::Tier;

/// Something true of a tier on this machine that does not keep it from being used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Notice(pub String);

/// Whether `tier` can be run here; `state` is Lodge's state of sandboxes, where the guest image lies. An error names
/// the first wall that is missing and what mends it.
pub fn usable(tier: Tier, state: &Path) -> Result<Option<Notice>, SandboxError> {
    let missing = |wall| move |(problem, mend)| SandboxError::MissingWall { wall, problem, mend };
    match tier {
        Tier::Process => require_process_tier().map(|_| None),
        Tier::Container => {
            let engine = container_engine().map_err(missing("container engine"))?;
            image(state, "container.tar")?;
            let rootful = "its engine runs as root, so whoever reaches the engine's socket is root on this machine; \
                           use a rootless engine where several people use Lodge";
            Ok((engine.reach == Reach::Rootful).then(|| Notice(rootful.to_owned())))
        }
        Tier::Microvm => {
            require_process_tier()?;
            qemu().map_err(missing("QEMU"))?;
            image(state, "rootfs.squashfs")?;
            let notice = |(problem, _)| Notice(format!("emulated, not virtualised: {problem}"));
            Ok(kvm().err().map(notice))
        }
    }
}

/// The guest image that was built last.
fn image(state: &Path, part: &str) -> Result<(), SandboxError> {
    let current = state.join("images/current");
    let complete = ["manifest.json", part]
        .iter()
        .all(|name| current.join(name).is_file());
    if complete {
        return Ok(());
    }
    Err(SandboxError::MissingWall {
        wall: "guest image",
        problem: format!("there is none in {}", current.display()),
        mend: state
            .parent()
            .filter(|data| !data.as_os_str().is_empty())
            .map_or_else(|| "lodge image build".to_owned(), build_for),
    })
}

/// The command that builds the image for the Lodge with this data directory.
fn build_for(data: &Path) -> String {
    let path = data.display().to_string();
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-".contains(c);
    if path.chars().all(is_plain) {
        return format!("lodge image build --data {path}");
    }
    format!("lodge image build --data '{}'", path.replace('\'', r"'\''"))
}
