//! The archive format that the kernel unpacks as its first root ("newc").

use std::io::Write;

use super::KernelError;

/// The archive is a multiple of this long, as other tools write it.
const BLOCK: usize = 512;
const MAGIC: &str = "070701";
const TRAILER: &str = "TRAILER!!!";

const DIRECTORY: u32 = 0o040_755;
const REGULAR: u32 = 0o100_000;
const CHARACTER: u32 = 0o020_600;

/// An archive under construction. Equal calls give equal bytes.
#[derive(Debug)]
pub(super) struct Archive {
    bytes: Vec<u8>,
    epoch: u64,
    inode: u32,
}

struct Entry<'a> {
    name: &'a str,
    mode: u32,
    device: (u32, u32),
    content: &'a [u8],
}

impl Archive {
    pub(super) fn new(epoch: u64) -> Self {
        Self {
            bytes: Vec::new(),
            epoch,
            inode: 0,
        }
    }

    pub(super) fn directory(&mut self, name: &str) {
        self.plain(name, DIRECTORY, (0, 0));
    }

    /// The device of the system console.
    pub(super) fn console(&mut self, name: &str) {
        self.plain(name, CHARACTER, (5, 1));
    }

    pub(super) fn file(&mut self, name: &str, mode: u32, content: &[u8]) -> Result<(), KernelError> {
        let too_large = || KernelError::TooLarge { path: name.into() };
        let size = u32::try_from(content.len()).map_err(|_| too_large())?;
        let entry = Entry {
            name,
            mode: REGULAR | mode,
            device: (0, 0),
            content,
        };
        self.entry(&entry, size);
        Ok(())
    }

    pub(super) fn finish(mut self) -> Vec<u8> {
        self.plain(TRAILER, 0, (0, 0));
        self.bytes.resize(self.bytes.len().next_multiple_of(BLOCK), 0);
        self.bytes
    }

    fn plain(&mut self, name: &str, mode: u32, device: (u32, u32)) {
        let content = &[];
        self.entry(
            &Entry {
                name,
                mode,
                device,
                content,
            },
            0,
        );
    }

    fn entry(&mut self, entry: &Entry<'_>, size: u32) {
        self.inode += 1;
        let time = u32::try_from(self.epoch).unwrap_or(u32::MAX);
        let name_length = u32::try_from(entry.name.len() + 1).unwrap_or(u32::MAX);
        let (major, minor) = entry.device;
        let fields = [
            self.inode,
            entry.mode,
            0,
            0,
            1,
            time,
            size,
            0,
            0,
            major,
            minor,
            name_length,
            0,
        ];
        self.bytes.extend_from_slice(MAGIC.as_bytes());
        for field in fields {
            // Writing to a vector cannot fail.
            let _ = write!(self.bytes, "{field:08x}");
        }
        self.bytes.extend_from_slice(entry.name.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend_from_slice(entry.content);
        self.pad();
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn an_archive_has_the_bytes_of_the_format() {
        let mut archive = Archive::new(5);
        archive.directory("d");
        archive.file("d/f", 0o644, b"hello").unwrap();
        let bytes = archive.finish();
        assert_eq!(bytes.len() % BLOCK, 0);
        let text = String::from_utf8_lossy(&bytes);
        assert!(text.starts_with(
            "07070100000001000041ed00000000000000000000000100000005000000000000000000000000000000000000000000000002\
             00000000d\0"
        ));
        assert!(text.contains("000081a4"));
        assert!(text.contains("d/f\x00\x00\x00hello\x00\x00\x00070701"));
        assert!(text.contains(TRAILER));
    }
}
