//! The kernel and initramfs of the microVM: Debian's own kernel, unpacked so that nothing has to be decompressed at
//! boot, and the modules that guest init needs to reach its root.
//!
//! Debian's generic kernel, because it can be entered without firmware (PVH) and has 9p; what it lacks built in comes
//! as modules, in an initramfs whose only program is guest init.

mod cpio;
mod elf;
mod modules;
mod package;

use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::digest;
use crate::error::ImageError;
use crate::manifest::Artifact;

/// Names of the files in the image's directory.
const VMLINUX: &str = "vmlinux";
const INITRAMFS: &str = "initramfs.cpio";
/// Changes when the same packages should give other files.
const FORMAT: u32 = 1;

/// What the kernel part is built from.
#[derive(Debug)]
pub struct KernelRequest<'a> {
    /// Static guest init.
    pub init_binary: &'a Path,
    /// apt's sources (deb822) of the recipe's suite.
    pub apt_sources: &'a Path,
    /// Scratch directory; removed by the caller.
    pub work: &'a Path,
    /// Where the artifacts go.
    pub out: &'a Path,
    /// Seconds since 1970 that every time stamp gets.
    pub epoch: u64,
}

/// The kernel part of the manifest; files are relative to the image's directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Kernel {
    pub package: String,
    pub version: String,
    pub vmlinux: Artifact,
    pub initramfs: Artifact,
}

/// What is wrong with a kernel package.
#[derive(Debug, thiserror::Error)]
pub enum KernelError {
    #[error("the package {package} names no kernel image it depends on")]
    Unresolved { package: &'static str },
    #[error("the package {package} was not downloaded")]
    NotDownloaded { package: String },
    #[error("the kernel package holds no {what}")]
    Missing { what: String },
    #[error("the kernel image is malformed: {0}")]
    Image(&'static str),
    #[error("the kernel module {name} depends on {wants}, which is neither built in nor there")]
    Dependency { name: String, wants: String },
    #[error("the modules depend on each other in a circle at {name}")]
    Circle { name: String },
    #[error("{} is too large for an initramfs", path.display())]
    TooLarge { path: PathBuf },
}

/// What goes into the digest of the recipe, besides `dependencies.toml`.
pub fn inputs(init_binary: &Path) -> Result<Vec<u8>, ImageError> {
    let (init, _) = digest::of_file(init_binary)?;
    let modules = modules::WANTED.join(",");
    Ok(format!("{FORMAT} {} {modules} {init}", package::META).into_bytes())
}

/// Builds it; `None` where there is no microVM tier (it needs QEMU's x86 machine).
pub fn build(request: &KernelRequest<'_>) -> Result<Option<Kernel>, ImageError> {
    if std::env::consts::ARCH != "x86_64" {
        return Ok(None);
    }
    let work = request.work.join("kernel");
    fs::create_dir(&work).map_err(ImageError::file("make", &work))?;
    let package = package::fetch(request.apt_sources, &work)?;
    let unpacked = package::unpack(&package, &work)?;
    let vmlinux = request.out.join(VMLINUX);
    elf::extract(&unpacked.vmlinuz, &work, &vmlinux)?;
    let modules = modules::ordered(unpacked.modules, &unpacked.builtin)?;
    initramfs(request, &modules)?;
    Ok(Some(Kernel {
        package: package.name,
        version: package.version,
        vmlinux: digest::artifact(request.out, VMLINUX)?,
        initramfs: digest::artifact(request.out, INITRAMFS)?,
    }))
}

fn initramfs(request: &KernelRequest<'_>, modules: &[modules::Module]) -> Result<(), ImageError> {
    let init = fs::read(request.init_binary).map_err(ImageError::file("read", request.init_binary))?;
    let mut archive = cpio::Archive::new(request.epoch);
    // The console is what init's standard streams are opened on.
    archive.directory("dev");
    archive.console("dev/console");
    archive.file("init", 0o755, &init)?;
    archive.directory("modules");
    for (at, module) in modules.iter().enumerate() {
        archive.file(
            &format!("modules/{at:02}-{}.ko", module.name),
            0o644,
            &module.content,
        )?;
    }
    let path = request.out.join(INITRAMFS);
    fs::write(&path, archive.finish()).map_err(ImageError::file("write", &path))
}
