//! The probes that need raw system calls.
#![allow(unsafe_code)]

use std::fs::File;
use std::os::fd::AsRawFd;

/// Version of the kernel's Landlock interface; `None` when it is absent or switched off.
pub(crate) fn landlock_abi() -> Option<u32> {
    const CREATE_RULESET_VERSION: u32 = 1;
    // SAFETY: with this flag the kernel wants a null pointer and size 0, and only returns a number.
    let abi = unsafe {
        libc::syscall(
            libc::SYS_landlock_create_ruleset,
            std::ptr::null::<u8>(),
            0usize,
            CREATE_RULESET_VERSION,
        )
    };
    u32::try_from(abi).ok().filter(|abi| *abi > 0)
}

/// Whether a virtual machine can really be made: an open device alone does not mean so.
pub(crate) fn kvm_usable(device: &File) -> std::io::Result<()> {
    const KVM_CREATE_VM: libc::Ioctl = 0xAE01;
    // SAFETY: takes an integer (the machine type) and returns a descriptor or an error.
    let vm = unsafe { libc::ioctl(device.as_raw_fd(), KVM_CREATE_VM, 0) };
    if vm < 0 {
        return Err(std::io::Error::last_os_error());
    }
    // SAFETY: the number was returned just now and is known to nobody else.
    unsafe { libc::close(vm) };
    Ok(())
}
