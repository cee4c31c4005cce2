//! Mounts by descriptor, with owners mapped: what an engine that runs as root cannot be told by path.
#![allow(unsafe_code)]

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::mount::{MoveMountFlags, OpenTreeFlags, UnmountFlags};

const RDONLY: u64 = 0x1;
const NOSUID: u64 = 0x2;
const NODEV: u64 = 0x4;
const IDMAP: u64 = 0x0010_0000;

/// The kernel's `struct mount_attr`.
#[repr(C)]
struct MountAttr {
    set: u64,
    clear: u64,
    propagation: u64,
    userns_fd: u64,
}

/// A user namespace that stands for a mapping: what belongs to root on disk belongs to `uid` and `gid` in a mount that
/// carries it, and the other way around; nobody else is mapped.
pub(super) fn mapping(uid: u32, gid: u32) -> io::Result<OwnedFd> {
    let (ready, told) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    let (wait, done) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    // SAFETY: until it is gone, the child makes only the async-signal-safe calls in `hold_namespace`.
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        hold_namespace(told.as_raw_fd(), wait.as_raw_fd(), done.as_raw_fd());
    }
    if pid < 0 {
        return Err(io::Error::last_os_error());
    }
    drop((told, wait));
    let namespace = write_maps(pid, ready, uid, gid);
    drop(done);
    // SAFETY: the child is ours and is waited for once.
    unsafe { libc::waitpid(pid, std::ptr::null_mut(), 0) };
    namespace
}

/// In the child: makes the namespace, says so, and waits for the parent to be done with it.
fn hold_namespace(told: i32, wait: i32, done: i32) -> ! {
    // SAFETY: plain system calls on numbers and a byte of our own stack; nothing is allocated.
    unsafe {
        libc::close(done);
        if libc::unshare(libc::CLONE_NEWUSER) == 0 {
            let mut byte = 1u8;
            libc::write(told, (&raw const byte).cast(), 1);
            libc::read(wait, (&raw mut byte).cast(), 1);
        }
        libc::_exit(0)
    }
}

fn write_maps(pid: i32, ready: OwnedFd, uid: u32, gid: u32) -> io::Result<OwnedFd> {
    if File::from(ready).read(&mut [0])? == 0 {
        return Err(io::Error::other("a user namespace cannot be made"));
    }
    let of = Path::new("/proc").join(pid.to_string());
    let map = |name: &str, id: u32| {
        let mut file = File::options().write(true).open(of.join(name))?;
        file.write_all(format!("0 {id} 1").as_bytes())
    };
    map("uid_map", uid)?;
    map("gid_map", gid)?;
    Ok(File::open(of.join("ns/user"))?.into())
}

/// Mounts what `source` refers to at `at`, for this machine to see: without set-user-id and devices, private, and
/// with the owners of `mapping`. What is mounted below `source` is left out.
pub(super) fn mount(
    source: BorrowedFd<'_>,
    at: &Path,
    read_only: bool,
    mapping: BorrowedFd<'_>,
) -> io::Result<()> {
    let flags =
        OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
    let tree = rustix::mount::open_tree(source, "", flags)?;
    let attr = MountAttr {
        set: IDMAP | NOSUID | NODEV | if read_only { RDONLY } else { 0 },
        clear: 0,
        propagation: libc::MS_PRIVATE,
        userns_fd: u64::try_from(mapping.as_raw_fd()).map_err(io::Error::other)?,
    };
    // SAFETY: descriptor, empty path and structure live through the call, and the size is the structure's.
    let set = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            tree.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH,
            &raw const attr,
            size_of::<MountAttr>(),
        )
    };
    if set < 0 {
        return Err(io::Error::last_os_error());
    }
    let into = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    Ok(rustix::mount::move_mount(
        tree.as_fd(),
        "",
        rustix::fs::CWD,
        at,
        into,
    )?)
}

/// Takes a mount away, if there is one.
pub(super) fn unmount(at: &Path) {
    // Several may lie on each other after an interrupted start; the last call fails.
    while rustix::mount::unmount(at, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW).is_ok() {}
}
