//! What init may do before any command runs, and giving it up.
#![allow(unsafe_code)]

use std::fs;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use nix::fcntl::{AT_FDCWD, OFlag, OpenHow, ResolveFlag, openat2};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
use nix::unistd::{Gid, Uid, setgroups, setresgid, setresuid};

/// Number of `CAP_SYS_ADMIN`.
const SYS_ADMIN: u32 = 21;
const CAPABILITY_VERSION_3: u32 = 0x2008_0522;

#[derive(Debug, thiserror::Error)]
pub(crate) enum PrivilegeError {
    #[error("cannot {step}: {source}")]
    Step { step: &'static str, source: io::Error },
    #[error("cannot cover {path}: {source}")]
    Cover { path: String, source: io::Error },
    /// A privilege that could come back through a program with the right file attributes.
    #[error("capability {capability} stays in the bounding set: the sandbox was started without CAP_SETPCAP")]
    Bounding { capability: u32 },
}

fn failed<E: Into<io::Error>>(step: &'static str) -> impl Fn(E) -> PrivilegeError {
    move |source| PrivilegeError::Step {
        step,
        source: source.into(),
    }
}

#[repr(C)]
struct CapabilityHeader {
    version: u32,
    pid: i32,
}

#[repr(C)]
#[derive(Clone, Copy, Default)]
struct CapabilityData {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

/// Whether this process may make namespaces and mounts.
pub(crate) fn administers() -> bool {
    let mut header = CapabilityHeader {
        version: CAPABILITY_VERSION_3,
        pid: 0,
    };
    let mut data = [CapabilityData::default(); 2];
    // SAFETY: both addresses hold what version 3 of the call reads and writes.
    let done = unsafe { libc::syscall(libc::SYS_capget, &raw mut header, data.as_mut_ptr()) };
    done == 0 && data[0].effective & (1 << SYS_ADMIN) != 0
}

/// Moves init into a network namespace of its own, with the loopback device up, where it may bind any port. Needs
/// `CAP_SYS_ADMIN`, `CAP_NET_ADMIN` and `CAP_NET_BIND_SERVICE`.
pub(crate) fn own_network() -> Result<(), PrivilegeError> {
    unshare(CloneFlags::CLONE_NEWNET).map_err(failed("make a network namespace"))?;
    loopback_up().map_err(failed("switch the loopback device on"))
}

/// Whether this user owns a setting of the whole machine, as root does whatever he is called here.
pub(crate) fn settings_writable() -> bool {
    const OF_THE_MACHINE: &str = "/proc/sys/kernel/core_pattern";
    fs::OpenOptions::new().write(true).open(OF_THE_MACHINE).is_ok()
}

/// Moves init into a mount namespace of its own, in which it may mount. Needs `CAP_SYS_ADMIN`.
pub(crate) fn own_mounts() -> Result<(), PrivilegeError> {
    unshare(CloneFlags::CLONE_NEWNS).map_err(failed("make a mount namespace"))
}

/// Puts one empty read-only file system over each of `directories`; a link in one of these paths is an error. Needs
/// `CAP_SYS_ADMIN` and [`own_mounts`].
pub(crate) fn cover(directories: &[String]) -> Result<(), PrivilegeError> {
    let mut empty = None;
    for path in directories {
        let cover = || -> nix::Result<OwnedFd> {
            let target = directory(path)?;
            let (none, on) = (None::<&str>, by_descriptor(&target));
            if let Some(empty) = &empty {
                // What is mounted read-only is so wherever else it is mounted.
                mount(
                    Some(by_descriptor(empty).as_str()),
                    on.as_str(),
                    none,
                    MsFlags::MS_BIND,
                    none,
                )?;
            } else {
                let flags = MsFlags::MS_RDONLY | MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
                mount(
                    Some("tmpfs"),
                    on.as_str(),
                    Some("tmpfs"),
                    flags,
                    Some("size=4096,mode=0755"),
                )?;
            }
            // Now what is mounted there.
            directory(path)
        };
        let mounted = cover().map_err(|errno| PrivilegeError::Cover {
            path: path.clone(),
            source: errno.into(),
        })?;
        empty.get_or_insert(mounted);
    }
    Ok(())
}

fn directory(path: &str) -> nix::Result<OwnedFd> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let how = OpenHow::new()
        .flags(flags)
        .resolve(ResolveFlag::RESOLVE_NO_SYMLINKS);
    openat2(AT_FDCWD, path, how)
}

fn by_descriptor(fd: &OwnedFd) -> String {
    format!("/proc/self/fd/{}", fd.as_raw_fd())
}

/// Covers the kernel's settings with a read-only mount: those of the machine belong to the user who started the
/// sandbox when that is root, whatever he is called inside. Needs `CAP_SYS_ADMIN` and [`own_mounts`].
pub(crate) fn seal_settings() -> Result<(), PrivilegeError> {
    const SETTINGS: &str = "/proc/sys";
    let none = None::<&str>;
    mount(Some(SETTINGS), SETTINGS, none, MsFlags::MS_BIND, none).map_err(failed("bind /proc/sys"))?;
    let read_only = MsFlags::MS_BIND
        | MsFlags::MS_REMOUNT
        | MsFlags::MS_RDONLY
        | MsFlags::MS_NOSUID
        | MsFlags::MS_NODEV
        | MsFlags::MS_NOEXEC;
    mount(none, SETTINGS, none, read_only, none).map_err(failed("make /proc/sys read-only"))?;
    for path in machine_only().map_err(failed("list /proc"))? {
        mount(Some("/dev/null"), &path, none, MsFlags::MS_BIND, none)
            .map_err(failed("cover a file of /proc"))?;
    }
    Ok(())
}

/// What in `/proc` tells of the whole machine: what is for root's eyes only (kernel addresses, timers, pages), and the
/// key rings, which are not namespaced.
fn machine_only() -> io::Result<Vec<PathBuf>> {
    const KEYS: [&str; 2] = ["keys", "key-users"];
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let entry = entry?;
        let meta = entry.metadata()?;
        let keys = KEYS.iter().any(|name| entry.file_name() == *name);
        if meta.is_file() && (keys || meta.mode() & 0o044 == 0) {
            found.push(entry.path());
        }
    }
    Ok(found)
}

fn loopback_up() -> io::Result<()> {
    let any: OwnedFd = socket(
        AddressFamily::Inet,
        SockType::Datagram,
        SockFlag::SOCK_CLOEXEC,
        None,
    )?;
    // SAFETY: an all-zero `ifreq` is a valid one.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(b"lo") {
        *to = from.cast_signed();
    }
    // SAFETY: reads the name from, and writes the flags to, the address given, which lives on this stack.
    if unsafe { libc::ioctl(any.as_raw_fd(), libc::SIOCGIFFLAGS, &raw mut request) } < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call above has filled in the flags.
    unsafe { request.ifr_ifru.ifru_flags |= libc::c_short::try_from(libc::IFF_UP).unwrap_or(1) };
    // SAFETY: reads one `ifreq` from the address given.
    if unsafe { libc::ioctl(any.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Becomes an ordinary user for good. Needs to be root.
pub(crate) fn become_user(uid: u32, gid: u32) -> Result<(), PrivilegeError> {
    let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
    setgroups(&[]).map_err(failed("drop the groups"))?;
    setresgid(gid, gid, gid).map_err(failed("change the group"))?;
    setresuid(uid, uid, uid).map_err(failed("change the user"))
}

/// Gives up what no program may regain: the bounding and the ambient set. To be called before [`become_user`].
pub(crate) fn drop_bounding() -> Result<(), PrivilegeError> {
    for capability in 0..=last_capability() {
        let number = libc::c_ulong::from(capability);
        // SAFETY: takes integers only.
        let held = unsafe { libc::prctl(libc::PR_CAPBSET_READ, number, 0, 0, 0) };
        // SAFETY: takes integers only.
        if held == 1 && unsafe { libc::prctl(libc::PR_CAPBSET_DROP, number, 0, 0, 0) } != 0 {
            return Err(PrivilegeError::Bounding { capability });
        }
    }
    // SAFETY: takes integers only.
    if unsafe { libc::prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) } != 0 {
        let source = io::Error::last_os_error();
        return Err(failed("drop the ambient capabilities")(source));
    }
    Ok(())
}

/// Gives up every capability that is left.
pub(crate) fn drop_capabilities() -> Result<(), PrivilegeError> {
    let header = CapabilityHeader {
        version: CAPABILITY_VERSION_3,
        pid: 0,
    };
    let data = [CapabilityData::default(); 2];
    // SAFETY: both addresses hold what version 3 of the call reads.
    if unsafe { libc::syscall(libc::SYS_capset, &raw const header, data.as_ptr()) } != 0 {
        let source = io::Error::last_os_error();
        return Err(failed("drop the capabilities")(source));
    }
    Ok(())
}

fn last_capability() -> u32 {
    let text = fs::read_to_string("/proc/sys/kernel/cap_last_cap").unwrap_or_default();
    // Numbers beyond the last one are refused by the kernel as unknown, not dropped.
    text.trim().parse().unwrap_or(40)
}
