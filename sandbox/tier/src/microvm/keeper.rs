//! The memory of a snapshot, kept ready: one copy for all machines that start from it.
//!
//! The first start copies a snapshot's memory, seals the copy and leaves it with a process of its own (`lodge-tier
//! keep`), which hands it to every later start of the same user and goes when nobody has asked for a while. Machines
//! map it privately: what a guest writes is its own, and a seal, unlike a file's mode, also binds a QEMU that a guest
//! has taken over. Machines themselves are not kept: what one is shown is fixed when its wall is built, and an emulated
//! one that has not run is hardly faster than one that is restored.

use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut, stderr, stdin, stdout};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags, SealFlags, fcntl_add_seals, fcntl_get_seals};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};

const SOCKET: &str = "memory.sock";
const LOCK: &str = "memory.lock";
/// A keeper that nobody asks goes.
const IDLE: Duration = Duration::from_mins(5);
/// How soon it is noticed that the snapshot was removed.
const LOOK: Timespec = Timespec {
    tv_sec: 5,
    tv_nsec: 0,
};
/// A keeper that does not answer is none.
const PATIENCE: Duration = Duration::from_secs(2);
const SEALS: SealFlags = SealFlags::WRITE
    .union(SealFlags::SHRINK)
    .union(SealFlags::GROW)
    .union(SealFlags::SEAL);

/// The kept memory of the snapshot in `folder`, `size` bytes long; `None` when nobody keeps it.
pub(super) fn ask(folder: &Path, size: u64) -> Option<OwnedFd> {
    let directory = directory(folder).ok()?;
    let stream = UnixStream::connect(within(&directory, SOCKET)).ok()?;
    if !same_user(&stream) {
        return None;
    }
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    let memory = receive(&stream).ok()??;
    let sealed = fcntl_get_seals(&memory).is_ok_and(|seals| seals.contains(SEALS));
    let length = rustix::fs::fstat(&memory).ok()?.st_size;
    (sealed && u64::try_from(length) == Ok(size)).then_some(memory)
}

/// Nobody changes `memory` any more.
pub(super) fn seal(memory: &OwnedFd) -> io::Result<()> {
    Ok(fcntl_add_seals(memory, SEALS)?)
}

/// Leaves sealed memory of the snapshot in `folder` with a keeper, unless there is one.
pub(super) fn leave(folder: &Path, memory: &OwnedFd) -> io::Result<()> {
    let directory = directory(folder)?;
    let lock = File::create(folder.join(LOCK))?;
    if lock.try_lock().is_err() {
        return Ok(());
    }
    let socket = within(&directory, SOCKET);
    // Nobody listens there: the lock was free.
    let _ = std::fs::remove_file(&socket);
    let listener = UnixListener::bind(&socket)?;
    Command::new(std::env::current_exe()?)
        .arg("keep")
        .env_clear()
        .current_dir("/")
        .stdin(Stdio::from(memory.try_clone()?))
        .stdout(Stdio::from(OwnedFd::from(listener)))
        .stderr(Stdio::from(lock))
        .spawn()
        .map(drop)
}

/// What `lodge-tier keep` does: memory is standard input, the socket it listens on standard output; the lock that says
/// so stays open as standard error. Returns when nobody has asked for a while, or the snapshot is there no more.
pub fn keep() -> io::Result<()> {
    let (memory, listener, lock) = (stdin(), stdout(), stderr());
    // Signals for the terminal of whoever started it are not meant for it.
    let _ = rustix::process::setsid();
    let listener = UnixListener::from(listener.as_fd().try_clone_to_owned()?);
    let mut asked = Instant::now();
    loop {
        match poll(&mut [PollFd::new(&listener, PollFlags::IN)], Some(&LOOK)) {
            Ok(0) => {
                let removed = rustix::fs::fstat(lock.as_fd())?.st_nlink == 0;
                if removed || asked.elapsed() > IDLE {
                    return Ok(());
                }
                continue;
            }
            Ok(_) => asked = Instant::now(),
            Err(rustix::io::Errno::INTR) => continue,
            Err(error) => return Err(error.into()),
        }
        if let Ok((stream, _)) = listener.accept()
            && same_user(&stream)
        {
            let _ = send(&stream, memory.as_fd());
        }
    }
}

fn directory(folder: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::DIRECTORY | OFlags::PATH | OFlags::CLOEXEC;
    Ok(rustix::fs::open(folder, flags, Mode::empty())?)
}

/// A path short enough for a socket's address, however long the directory's own is.
fn within(directory: &OwnedFd, name: &str) -> PathBuf {
    format!("/proc/self/fd/{}/{name}", directory.as_raw_fd()).into()
}

fn same_user(stream: &UnixStream) -> bool {
    let own = rustix::process::geteuid();
    rustix::net::sockopt::socket_peercred(stream).is_ok_and(|peer| peer.uid == own)
}

fn send(stream: &UnixStream, memory: std::os::fd::BorrowedFd<'_>) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let fds = [memory];
    control.push(SendAncillaryMessage::ScmRights(&fds));
    sendmsg(stream, &[IoSlice::new(b"m")], &mut control, SendFlags::NOSIGNAL)?;
    Ok(())
}

fn receive(stream: &UnixStream) -> io::Result<Option<OwnedFd>> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    let mut slices = [IoSliceMut::new(&mut byte)];
    recvmsg(stream, &mut slices, &mut control, RecvFlags::CMSG_CLOEXEC)?;
    let rights = control.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(fds) => Some(fds),
        _ => None,
    });
    Ok(rights.flatten().next())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::microvm::ram;

    const SIZE: u64 = 1 << 20;

    #[test]
    fn sealed_memory_can_be_mapped_and_not_changed() {
        let memory = ram::allocate(SIZE).unwrap();
        rustix::io::pwrite(&memory, b"first", 0).unwrap();
        seal(&memory).unwrap();
        let again = File::options()
            .read(true)
            .write(true)
            .open(format!("/proc/self/fd/{}", memory.as_raw_fd()))
            .unwrap();
        assert!(rustix::io::pwrite(&again, b"other", 0).is_err());
        assert!(again.set_len(0).is_err());
        let mut bytes = [0; 5];
        rustix::io::pread(&memory, &mut bytes, 0).unwrap();
        assert_eq!(&bytes, b"first");
    }

    #[test]
    fn only_sealed_memory_of_the_right_size_is_taken() {
        let folder = tempfile::tempdir().unwrap();
        assert!(ask(folder.path(), SIZE).is_none(), "nobody keeps it");
        let listener = UnixListener::bind(folder.path().join(SOCKET)).unwrap();
        let memory = ram::allocate(SIZE).unwrap();
        let offered = |memory: &OwnedFd, size| {
            std::thread::scope(|scope| {
                scope.spawn(|| send(&listener.accept().unwrap().0, memory.as_fd()).unwrap());
                ask(folder.path(), size).is_some()
            })
        };
        assert!(!offered(&memory, SIZE), "a guest could change it");
        seal(&memory).unwrap();
        assert!(offered(&memory, SIZE));
        assert!(!offered(&memory, SIZE * 2));
    }
}
