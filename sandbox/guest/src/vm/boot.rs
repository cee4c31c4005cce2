//! From the initramfs to the guest image's root: modules, devices, an overlay that takes mount points.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::mount::{MsFlags, mount};
use nix::sys::stat::{Mode, SFlag, makedev, mknod};

use super::{VmError, failed, sys};

/// Where the image's builder puts the modules; their names sort in the order of loading.
const MODULES: &str = "/modules";
/// The guest image.
const IMAGE: &str = "/dev/vda";
/// How long devices may take on a loaded host that emulates the machine.
const PATIENCE: Duration = Duration::from_mins(2);
const LOOK_AGAIN: Duration = Duration::from_millis(1);
/// What mount points and generated files may take.
const OVERLAY_SIZE: &str = "size=4m,mode=0755";

pub(super) fn mounted(what: &'static str, at: &Path, flags: MsFlags, options: &str) -> Result<(), VmError> {
    let options = (!options.is_empty()).then_some(options);
    mount(Some(what), at, Some(what), flags, options).map_err(|source| VmError::Mount {
        what,
        at: at.to_owned(),
        source: source.into(),
    })
}

pub(super) fn directory(path: &Path) -> Result<(), VmError> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true).mode(0o755);
    builder.create(path).map_err(|source| VmError::Make {
        path: path.to_owned(),
        source,
    })
}

/// Everything a module needs was loaded before it: the builder sorted them.
pub(super) fn load_modules() -> Result<(), VmError> {
    let folder = Path::new(MODULES);
    let entries = fs::read_dir(folder).and_then(Iterator::collect::<io::Result<Vec<_>>>);
    let mut paths: Vec<PathBuf> = entries
        .map_err(|source| VmError::Module {
            path: folder.to_owned(),
            source,
        })?
        .iter()
        .map(fs::DirEntry::path)
        .collect();
    paths.sort();
    for path in paths {
        let loaded = File::open(&path).and_then(|file| sys::load_module(&file));
        loaded.map_err(|source| VmError::Module {
            path: path.clone(),
            source,
        })?;
        // Their memory is the snapshot's: nothing reads them again.
        let _ = fs::remove_file(&path);
    }
    Ok(())
}

/// The kernel's device directory, which stays reachable when the root is another.
pub(super) fn kernel_devices() -> Result<File, VmError> {
    File::open("/dev").map_err(failed("open the kernel's devices"))
}

/// The port can be opened once only, and stays open.
pub(super) fn open_port(devices: &File, device: &Path) -> Result<File, VmError> {
    let name = device.strip_prefix("/dev").unwrap_or(device);
    let path = PathBuf::from(format!("/proc/self/fd/{}", devices.as_raw_fd())).join(name);
    appears(&path)?;
    OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_CLOEXEC)
        .open(path)
        .map_err(failed("open the port to the host"))
}

/// Runs what every session runs first, so that a snapshot has it in memory; an image without it works as well.
pub(super) fn warm_up() {
    let script = "command -v cat >/dev/null && cat /proc/self/status >/dev/null && ls / >/dev/null; env true";
    let _ = Command::new("/bin/sh")
        .args(["-c", script])
        .env_clear()
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
}

fn appears(path: &Path) -> Result<(), VmError> {
    let deadline = Instant::now() + PATIENCE;
    while !path.exists() {
        if Instant::now() > deadline {
            return Err(VmError::Device {
                path: path.to_owned(),
            });
        }
        std::thread::sleep(LOOK_AGAIN);
    }
    Ok(())
}

/// Mounts the image below a small layer that takes mount points; still writable.
pub(super) fn mount_root() -> Result<PathBuf, VmError> {
    let [image, layer, root] = ["/image", "/layer", "/root"].map(Path::new);
    mounted("devtmpfs", Path::new("/dev"), MsFlags::MS_NOSUID, "")?;
    appears(Path::new(IMAGE))?;
    for path in [image, layer, root] {
        directory(path)?;
    }
    mount(
        Some(IMAGE),
        image,
        Some("squashfs"),
        MsFlags::MS_RDONLY | MsFlags::MS_NODEV,
        None::<&str>,
    )
    .map_err(|source| VmError::Mount {
        what: "squashfs",
        at: image.to_owned(),
        source: source.into(),
    })?;
    mounted("tmpfs", layer, MsFlags::empty(), OVERLAY_SIZE)?;
    directory(&layer.join("upper"))?;
    directory(&layer.join("work"))?;
    let options = "lowerdir=/image,upperdir=/layer/upper,workdir=/layer/work";
    mounted("overlay", root, MsFlags::MS_NODEV | MsFlags::MS_NOSUID, options)?;
    Ok(root.to_owned())
}

/// Fills `root` with what does not come from the image.
pub(super) fn prepare(root: &Path) -> Result<(), VmError> {
    for name in ["proc", "dev", "run"] {
        directory(&root.join(name))?;
    }
    let strict = MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC | MsFlags::MS_NODEV;
    mounted("proc", &root.join("proc"), strict, "")?;
    devices(&root.join("dev"))?;
    own_program(&root.join("run/lodge"))?;
    sys::loopback_up().map_err(failed("bring the loopback interface up"))
}

/// Makes `root` the root. The initramfs is covered for good.
pub(super) fn change_root(root: &Path) -> Result<(), VmError> {
    std::env::set_current_dir(root).map_err(failed("enter the image's root"))?;
    mount(Some("."), "/", None::<&str>, MsFlags::MS_MOVE, None::<&str>)
        .map_err(|e| failed("move the root")(e.into()))?;
    nix::unistd::chroot(".").map_err(|e| failed("change the root")(e.into()))?;
    std::env::set_current_dir("/").map_err(failed("enter the root"))
}

/// Commands run init's own program for file operations, so it is where it is in the other tiers.
fn own_program(folder: &Path) -> Result<(), VmError> {
    directory(folder)?;
    let at = folder.join("init");
    File::create(&at).map_err(|source| VmError::Make {
        path: at.clone(),
        source,
    })?;
    let bound = |source, flags| {
        mount(source, &at, None::<&str>, flags, None::<&str>).map_err(|source| VmError::Mount {
            what: "init's program",
            at: at.clone(),
            source: source.into(),
        })
    };
    bound(Some("/init"), MsFlags::MS_BIND)?;
    bound(
        None,
        MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY | MsFlags::MS_NOSUID,
    )
}

/// The devices that the other tiers have, and no more.
fn devices(dev: &Path) -> Result<(), VmError> {
    let made = |path: PathBuf| move |source: io::Error| VmError::Make { path, source };
    let strict = MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC;
    mounted("tmpfs", dev, strict, "size=64k,mode=0755")?;
    for (name, major, minor) in [
        ("null", 1, 3),
        ("zero", 1, 5),
        ("full", 1, 7),
        ("random", 1, 8),
        ("urandom", 1, 9),
        ("tty", 5, 0),
    ] {
        let path = dev.join(name);
        let mode = Mode::from_bits_truncate(0o666);
        mknod(&path, SFlag::S_IFCHR, mode, makedev(major, minor))
            .map_err(|e| made(path.clone())(e.into()))?;
        fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o666))
            .map_err(made(path.clone()))?;
    }
    let links = [
        ("fd", "/proc/self/fd"),
        ("stdin", "/proc/self/fd/0"),
        ("stdout", "/proc/self/fd/1"),
        ("stderr", "/proc/self/fd/2"),
        ("ptmx", "pts/ptmx"),
    ];
    for (name, to) in links {
        symlink(to, dev.join(name)).map_err(made(dev.join(name)))?;
    }
    for name in ["pts", "shm"] {
        directory(&dev.join(name))?;
    }
    mounted(
        "devpts",
        &dev.join("pts"),
        strict,
        "newinstance,ptmxmode=0666,mode=0620",
    )
}

/// Reads only from here on: called when every mount point is there.
pub(super) fn seal() -> Result<(), VmError> {
    let flags = MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY | MsFlags::MS_NODEV | MsFlags::MS_NOSUID;
    for at in ["/", "/dev"] {
        let what = if at == "/" { "overlay" } else { "tmpfs" };
        let flags = if at == "/dev" {
            flags & !MsFlags::MS_NODEV
        } else {
            flags
        };
        mounted(what, Path::new(at), flags, "")?;
    }
    Ok(())
}
