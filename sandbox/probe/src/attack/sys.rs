//! System calls by number: what an attacker would call, without a library in between that might refuse first.
#![allow(unsafe_code)]

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::fd::FromRawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Argument of a call.
#[derive(Debug)]
pub(crate) enum Arg<'a> {
    Int(i64),
    /// A buffer, valid for the call.
    Bytes(&'a mut [u8]),
    Text(&'a CString),
}

impl From<i64> for Arg<'_> {
    fn from(value: i64) -> Self {
        Self::Int(value)
    }
}

impl From<i32> for Arg<'_> {
    fn from(value: i32) -> Self {
        Self::Int(value.into())
    }
}

impl From<u32> for Arg<'_> {
    fn from(value: u32) -> Self {
        Self::Int(value.into())
    }
}

impl<'a> From<&'a mut [u8]> for Arg<'a> {
    fn from(value: &'a mut [u8]) -> Self {
        Self::Bytes(value)
    }
}

impl<'a> From<&'a CString> for Arg<'a> {
    fn from(value: &'a CString) -> Self {
        Self::Text(value)
    }
}

/// Makes call `number`. Integers are numbers, flags and descriptors, never addresses.
pub(crate) fn make<const N: usize>(number: i64, arguments: [Arg<'_>; N]) -> io::Result<i64> {
    let mut words = [0_i64; 6];
    for (word, argument) in words.iter_mut().zip(arguments) {
        *word = match argument {
            Arg::Int(value) => value,
            Arg::Bytes(bytes) => bytes.as_mut_ptr() as i64,
            Arg::Text(text) => text.as_ptr() as i64,
        };
    }
    // SAFETY: pointers are to buffers borrowed for this call; the calls made here use no other memory.
    let result = unsafe { libc::syscall(number, words[0], words[1], words[2], words[3], words[4], words[5]) };
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}

/// `call!(SYS_x, a, b)`.
macro_rules! call {
    ($number:expr $(, $argument:expr)* $(,)?) => {
        $crate::attack::sys::make($number, [$($crate::attack::sys::Arg::from($argument)),*])
    };
}
pub(crate) use call;

pub(crate) fn text(path: impl AsRef<Path>) -> CString {
    CString::new(path.as_ref().as_os_str().as_bytes()).unwrap_or_default()
}

/// Takes over a descriptor that a call returned.
pub(crate) fn own(fd: i32) -> File {
    // SAFETY: callers pass what the kernel just gave them, once in each process.
    unsafe { File::from_raw_fd(fd) }
}

/// Runs `act` in a forked child, which leaves with its result; the parent gets the raw wait status.
pub(crate) fn fork(act: impl FnOnce() -> i32) -> io::Result<i32> {
    // SAFETY: this program has one thread when it forks; the child uses nothing but what it copied.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => {
            let status = act();
            // SAFETY: ends the child without running the parent's exit handlers.
            unsafe { libc::_exit(status) }
        }
        pid => Ok(pid),
    }
}

/// Waits for `pid`; with `flags` such as `WNOHANG`. The status is `None` while it runs.
pub(crate) fn wait(pid: i32, flags: i32) -> io::Result<Option<i32>> {
    let mut status = 0;
    // SAFETY: `status` is valid for the call.
    match unsafe { libc::waitpid(pid, &raw mut status, flags) } {
        -1 => Err(io::Error::last_os_error()),
        0 => Ok(None),
        _ => Ok(Some(status)),
    }
}

/// The 32-bit entry point; number 20 is `getpid` there.
#[cfg(target_arch = "x86_64")]
pub(crate) fn call_32bit(number: i32) -> i32 {
    let mut result = number;
    // SAFETY: the call takes no pointer; the gate saves every register but the result and r8 to r11.
    unsafe {
        std::arch::asm!("int 0x80", inlateout("eax") result, out("r8") _, out("r9") _, out("r10") _, out("r11") _);
    }
    result
}

/// Calls with namespaces flags behind a pointer; the child leaves at once.
pub(crate) fn clone3(flags: u64) -> io::Result<i32> {
    // struct clone_args: flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls.
    let arguments: [u64; 8] = [flags, 0, 0, 0, libc::SIGCHLD as u64, 0, 0, 0];
    // SAFETY: the structure is valid for the call; the child leaves before it touches anything.
    let pid = unsafe { libc::syscall(libc::SYS_clone3, arguments.as_ptr(), size_of_val(&arguments)) };
    match pid {
        -1 => Err(io::Error::last_os_error()),
        // SAFETY: ends the child.
        0 => unsafe { libc::_exit(0) },
        pid => Ok(i32::try_from(pid).unwrap_or(-1)),
    }
}

/// `clone` with `flags`, as a fork; the child leaves at once.
pub(crate) fn clone(flags: i32) -> io::Result<i32> {
    let flags = i64::from(flags | libc::SIGCHLD);
    // SAFETY: no stack and no thread data: the call is a fork; the child leaves at once.
    match unsafe { libc::syscall(libc::SYS_clone, flags, 0, 0, 0, 0) } {
        -1 => Err(io::Error::last_os_error()),
        // SAFETY: ends the child.
        0 => unsafe { libc::_exit(0) },
        pid => Ok(i32::try_from(pid).unwrap_or(-1)),
    }
}

/// Reads from another process's memory through the call for it.
pub(crate) fn read_memory_of(pid: i32) -> io::Result<i64> {
    let mut buffer = [0_u8; 8];
    let local = libc::iovec {
        iov_base: buffer.as_mut_ptr().cast(),
        iov_len: buffer.len(),
    };
    // Programs are not mapped at a fixed place; that the memory is not there is past the permission check.
    let remote = libc::iovec {
        iov_base: std::ptr::without_provenance_mut(0x1000),
        iov_len: buffer.len(),
    };
    // SAFETY: the local vector is valid; the remote one is the other process's.
    let got = unsafe { libc::process_vm_readv(pid, &raw const local, 1, &raw const remote, 1, 0) };
    match io::Error::last_os_error() {
        error if got < 0 && error.raw_os_error() == Some(libc::EFAULT) => Ok(0),
        error if got < 0 => Err(error),
        _ => Ok(got as i64),
    }
}

/// Maps `bytes` of private memory and touches every page, at most until the kernel refuses; returns how many stood.
pub(crate) fn touch_memory(bytes: usize, chunk: usize) -> usize {
    let mut held = 0;
    while held < bytes {
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        // SAFETY: a fresh mapping at an address of the kernel's choice.
        let at = unsafe { libc::mmap(std::ptr::null_mut(), chunk, protection, flags, -1, 0) };
        if at == libc::MAP_FAILED {
            break;
        }
        for page in (0..chunk).step_by(4096) {
            // SAFETY: within the mapping just made, which nothing else knows.
            unsafe { at.cast::<u8>().add(page).write_volatile(1) };
        }
        held += chunk;
    }
    held
}

/// Fresh pages that are not zero, of `bytes` looked at.
pub(crate) fn dirty_pages(bytes: usize) -> usize {
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_POPULATE;
    // SAFETY: a fresh mapping at an address of the kernel's choice.
    let at = unsafe { libc::mmap(std::ptr::null_mut(), bytes, protection, flags, -1, 0) };
    if at == libc::MAP_FAILED {
        return 0;
    }
    // SAFETY: readable for its whole length, and nothing writes to it.
    let all = unsafe { std::slice::from_raw_parts(at.cast::<u8>(), bytes) };
    let dirty = all
        .chunks(4096)
        .filter(|page| page.iter().any(|&byte| byte != 0))
        .count();
    // SAFETY: the mapping made above, not used any more.
    unsafe { libc::munmap(at, bytes) };
    dirty
}

/// Keeps the memory of this process from being swept away by its own signal: signals in `list` are ignored.
pub(crate) fn ignore(list: &[i32]) {
    for &signal in list {
        // SAFETY: no handler runs.
        unsafe { libc::signal(signal, libc::SIG_IGN) };
    }
}

/// Ends this process with a core dump, if one may be written.
pub(crate) fn abort() -> i32 {
    // SAFETY: as ordinary as it gets.
    unsafe {
        libc::signal(libc::SIGABRT, libc::SIG_DFL);
        libc::abort()
    }
}

/// A pair of terminal descriptors, controller first.
pub(crate) fn open_terminal() -> io::Result<(i32, i32)> {
    let (mut controller, mut terminal) = (-1, -1);
    // SAFETY: both integers are valid for the call, everything else may be absent.
    let result = unsafe {
        libc::openpty(
            &raw mut controller,
            &raw mut terminal,
            std::ptr::null_mut(),
            std::ptr::null(),
            std::ptr::null(),
        )
    };
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok((controller, terminal))
    }
}

/// Connects to `socket`, says `greeting`, and tells how many descriptors come with the answer.
pub(crate) fn received_descriptors(socket: i32) -> io::Result<usize> {
    let mut data = [0_u8; 512];
    let mut control = [0_u64; 64];
    let mut vector = libc::iovec {
        iov_base: data.as_mut_ptr().cast(),
        iov_len: data.len(),
    };
    // SAFETY: all zero is a valid message header.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = &raw mut vector;
    message.msg_iovlen = 1;
    message.msg_control = control.as_mut_ptr().cast();
    message.msg_controllen = size_of_val(&control);
    // SAFETY: the header's buffers live until the end of this function.
    if unsafe { libc::recvmsg(socket, &raw mut message, 0) } < 0 {
        return Err(io::Error::last_os_error());
    }
    let mut count = 0;
    // SAFETY: the macros walk the control buffer within the length that the kernel wrote.
    unsafe {
        let mut header = libc::CMSG_FIRSTHDR(&raw const message);
        while !header.is_null() {
            count += usize::from((*header).cmsg_type == libc::SCM_RIGHTS);
            header = libc::CMSG_NXTHDR(&raw const message, header);
        }
    }
    Ok(count)
}

/// Bytes of one descriptor in a control message.
const DESCRIPTOR: u32 = 4;

/// Sends descriptor `fd` over `socket` with one byte.
pub(crate) fn send_descriptor(socket: i32, fd: i32) -> io::Result<()> {
    let mut byte = [0_u8];
    let mut control = [0_u64; 4];
    let mut vector = libc::iovec {
        iov_base: byte.as_mut_ptr().cast(),
        iov_len: 1,
    };
    // SAFETY: all zero is a valid message header; the control buffer has room for one descriptor.
    unsafe {
        let mut message: libc::msghdr = std::mem::zeroed();
        message.msg_iov = &raw mut vector;
        message.msg_iovlen = 1;
        message.msg_control = control.as_mut_ptr().cast();
        message.msg_controllen = libc::CMSG_SPACE(DESCRIPTOR) as _;
        let header = libc::CMSG_FIRSTHDR(&raw const message);
        (*header).cmsg_level = libc::SOL_SOCKET;
        (*header).cmsg_type = libc::SCM_RIGHTS;
        (*header).cmsg_len = libc::CMSG_LEN(DESCRIPTOR) as _;
        libc::CMSG_DATA(header).cast::<i32>().write_unaligned(fd);
        if libc::sendmsg(socket, &raw const message, 0) < 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}
