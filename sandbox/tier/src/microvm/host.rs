//! What of this machine goes into a guest's.

use std::fs;
use std::num::NonZeroU32;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use lodge_image::Image;
use lodge_sandbox::host;
use lodge_sandbox::plan::{Access, Mount, Plan, Source};

use super::clock;
use super::error::MicrovmError;
use super::machine::{Engine, Files, Machine, Size};

/// Where programs and libraries are; on most systems all but the first are links into it.
const SYSTEM: &[&str] = &["/usr", "/bin", "/lib", "/lib64"];

/// The machine for `plan`, with the image's files.
pub(super) fn machine(plan: &Plan, state: &Path, image: &Image) -> Result<Machine, MicrovmError> {
    let kernel = image.manifest.kernel.as_ref().ok_or(MicrovmError::NoKernel)?;
    let found = host::emulator()?;
    let qemu = fs::canonicalize(&found).map_err(MicrovmError::file("find", &found))?;
    if !qemu.starts_with("/usr") {
        return Err(MicrovmError::Elsewhere { path: qemu });
    }
    let processors = std::thread::available_parallelism()
        .map_or(1, |count| u32::try_from(count.get()).unwrap_or(u32::MAX));
    let processors = NonZeroU32::new(processors).unwrap_or(NonZeroU32::MIN);
    Ok(Machine {
        system: system()?,
        engine: engine(state, &qemu),
        qemu,
        files: Files {
            rootfs: image.path(&image.manifest.rootfs),
            vmlinux: image.path(&kernel.vmlinux),
            initramfs: image.path(&kernel.initramfs),
        },
        size: Size::of(&plan.limits, processors),
        uid: plan.uid,
        gid: plan.gid,
    })
}

fn system() -> Result<Vec<Mount>, MicrovmError> {
    let mut mounts = Vec::new();
    for path in SYSTEM.iter().map(PathBuf::from) {
        let Ok(meta) = fs::symlink_metadata(&path) else {
            continue;
        };
        mounts.push(if meta.is_symlink() {
            Mount::Symlink {
                to: fs::read_link(&path).map_err(MicrovmError::file("read", &path))?,
                at: path,
            }
        } else {
            Mount::Bind {
                from: path.clone(),
                at: path,
                access: Access::Read,
                source: Source::System,
            }
        });
    }
    Ok(mounts)
}

/// What runs the guest; trying it takes a while, so the answer is kept until this machine or QEMU is another.
fn engine(state: &Path, qemu: &Path) -> Engine {
    let emulated = Engine::Emulated { tsc_khz: 0 };
    let device = fs::OpenOptions::new().read(true).write(true).open("/dev/kvm");
    if device.is_err() {
        return emulated;
    }
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let program = fs::metadata(qemu).map_or((0, 0), |meta| (meta.ino(), meta.mtime()));
    let asked = format!("{} {program:?}", boot.trim());
    let kept = state.join("kvm");
    let known = fs::read_to_string(&kept).unwrap_or_default();
    let usable = match known.strip_prefix(&asked).map(str::trim) {
        Some("usable") => true,
        Some("unusable") => false,
        _ => {
            let usable = host::virtualisation().is_ok();
            let word = if usable { "usable" } else { "unusable" };
            // Where it cannot be kept it is tried again.
            let _ = fs::write(&kept, format!("{asked} {word}\n"));
            usable
        }
    };
    if usable { Engine::Kvm } else { emulated }
}

/// The machine with what only a boot needs.
pub(super) fn measured(machine: &Machine) -> Machine {
    let mut machine = machine.clone();
    if let Engine::Emulated { tsc_khz } = &mut machine.engine {
        *tsc_khz = clock::tsc_khz();
    }
    machine
}
