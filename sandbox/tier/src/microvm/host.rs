//! What of this machine goes into a guest's.

use std::fs;
use std::num::NonZeroU32;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use lodge_image::Image;
use lodge_sandbox::host::{self, Bwrap};
use lodge_sandbox::plan::{Access, Mount, Plan, Source};
use serde::{Deserialize, Serialize};

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

/// The wall around QEMU. Trying it takes some 40 ms, so what was found is kept until this machine has been started
/// again or bwrap is another; a wall that goes meanwhile shows when it is built.
pub(super) fn wall(state: &Path) -> Result<Bwrap, MicrovmError> {
    let kept = state.join("wall");
    let known = fs::read(&kept).ok();
    let known = known.and_then(|text| serde_json::from_slice::<Known>(&text).ok());
    if let Some(Known {
        asked,
        path,
        version,
        bind_fd,
    }) = known
        && asked == epoch(&path)
    {
        return Ok(Bwrap {
            path,
            version,
            bind_fd,
        });
    }
    let wall = host::require_process_tier()?;
    let known = Known {
        asked: epoch(&wall.path),
        path: wall.path.clone(),
        version: wall.version.clone(),
        bind_fd: wall.bind_fd,
    };
    if let Ok(text) = serde_json::to_vec(&known) {
        // Where it cannot be kept it is tried again.
        let _ = fs::write(&kept, text);
    }
    Ok(wall)
}

/// What was found of a wall, and when.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Known {
    asked: String,
    path: PathBuf,
    version: String,
    bind_fd: bool,
}

/// Differs when this machine has been started again, its limit of namespaces was changed, or the program is another.
fn epoch(program: &Path) -> String {
    let settings = [
        "kernel/random/boot_id",
        "user/max_user_namespaces",
        "kernel/unprivileged_userns_clone",
        "kernel/apparmor_restrict_unprivileged_userns",
    ];
    let values =
        settings.map(|name| fs::read_to_string(Path::new("/proc/sys").join(name)).unwrap_or_default());
    let file = fs::metadata(program).map_or((0, 0, 0), |meta| (meta.ino(), meta.mtime(), meta.ctime()));
    let user = rustix::process::geteuid().as_raw();
    format!(
        "{} {file:?} {user}",
        values.map(|value| value.trim().to_owned()).join(" ")
    )
}

/// What runs the guest; trying it takes a while, so the answer is kept until this machine or QEMU is another.
fn engine(state: &Path, qemu: &Path) -> Engine {
    let emulated = Engine::Emulated { tsc_khz: 0 };
    let device = fs::OpenOptions::new().read(true).write(true).open("/dev/kvm");
    if device.is_err() {
        return emulated;
    }
    let asked = epoch(qemu);
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
