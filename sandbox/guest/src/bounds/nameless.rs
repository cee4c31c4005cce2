//! Files in memory that have no name: a process can fill one without mapping it, and then it is in no figure of any
//! process and in no mounted file system.
//!
//! Finding them means a look at every descriptor of every process. So that is done only when the shared memory of the
//! whole machine, which is one figure, has grown by more than the last look explains.

use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::memory::{field, kilobytes};

/// Growth of the machine's shared memory that is not looked into.
const UNEXPLAINED: u64 = 16 << 20;
/// Descriptors that are looked at in one go.
const MAX_DESCRIPTORS: usize = 100_000;

#[derive(Debug, Default)]
pub(super) struct Nameless {
    /// The machine's shared memory, less that in the sandbox's own file systems, at the last look.
    machine: u64,
    /// What was found then.
    bytes: u64,
}

impl Nameless {
    /// Bytes in such files, where `named` are the bytes in the sandbox's file systems in memory.
    pub(super) fn bytes(&mut self, all: &[PathBuf], named: u64) -> u64 {
        let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let Some(machine) = field(&text, "Shmem:").map(|_| kilobytes(&text, "Shmem:")) else {
            return 0;
        };
        let machine = machine.saturating_sub(named);
        // When it shrinks the sandbox may have given back what it had.
        let grown = machine > self.machine.saturating_add(UNEXPLAINED);
        if grown || (machine < self.machine && self.bytes > 0) {
            self.bytes = find(all);
            self.machine = machine;
        }
        self.machine = self.machine.min(machine);
        self.bytes
    }
}

fn find(all: &[PathBuf]) -> u64 {
    let mut seen = HashSet::new();
    let descriptors = all
        .iter()
        .filter_map(|process| fs::read_dir(process.join("fd")).ok());
    let sizes = descriptors
        .flat_map(Iterator::flatten)
        .take(MAX_DESCRIPTORS)
        .filter_map(|entry| {
            let path = entry.path();
            let nameless = nameless(&path).then(|| fs::metadata(&path).ok())?;
            nameless.filter(|found| seen.insert((found.dev(), found.ino())))
        });
    sizes.map(|found| found.blocks() * 512).sum()
}

fn nameless(descriptor: &Path) -> bool {
    fs::read_link(descriptor)
        .is_ok_and(|target| target.as_os_str().as_encoded_bytes().starts_with(b"/memfd:"))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use nix::sys::memfd::{MFdFlags, memfd_create};

    use super::*;

    #[test]
    fn a_nameless_file_is_found_once() {
        let own = [PathBuf::from("/proc/self")];
        let before = find(&own);
        let mut file = fs::File::from(memfd_create("test", MFdFlags::MFD_CLOEXEC).unwrap());
        file.write_all(&vec![1; 3 << 20]).unwrap();
        let again = file.try_clone().unwrap();
        assert_eq!(find(&own) - before, 3 << 20);
        drop((file, again));
        assert_eq!(find(&own), before);
    }
}
