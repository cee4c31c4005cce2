//! A guest's memory: an anonymous file that QEMU maps, and what of it a snapshot keeps.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;

use rustix::fs::{MemfdFlags, SeekFrom};
use serde::{Deserialize, Serialize};

const PAGE: usize = 4096;
const CHUNK: usize = 1 << 20;

/// Where bytes that are not zero lie, and what they sum up to. In the file of a snapshot they lie back to back.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Contents {
    /// Offset and length of each stretch, in bytes, ascending.
    pub(super) stretches: Vec<(u64, u64)>,
    pub(super) crc32: u32,
}

/// Memory of `bytes`, all zero and not there before it is touched.
pub(super) fn allocate(bytes: u64) -> io::Result<OwnedFd> {
    let fd = rustix::fs::memfd_create("lodge-vm", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
    rustix::fs::ftruncate(&fd, bytes)?;
    Ok(fd)
}

/// Writes what `memory` holds to `out`.
pub(super) fn pack(memory: &OwnedFd, out: &mut impl Write) -> io::Result<Contents> {
    let mut contents = Contents::default();
    let mut sum = crc32fast::Hasher::new();
    let mut chunk = vec![0; CHUNK];
    let mut at = 0;
    while let Some((from, to)) = data(memory, at)? {
        let mut offset = from;
        while offset < to {
            let want = usize::try_from(to - offset).unwrap_or(CHUNK).min(CHUNK);
            let got = rustix::io::pread(memory, &mut chunk[..want], offset)?;
            if got == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            for (index, page) in chunk[..got].chunks(PAGE).enumerate() {
                if page.iter().any(|&byte| byte != 0) {
                    sum.update(page);
                    out.write_all(page)?;
                    note(
                        &mut contents.stretches,
                        offset + (index * PAGE) as u64,
                        page.len() as u64,
                    );
                }
            }
            offset += got as u64;
        }
        at = to;
    }
    contents.crc32 = sum.finalize();
    Ok(contents)
}

fn note(stretches: &mut Vec<(u64, u64)>, offset: u64, length: u64) {
    match stretches.last_mut() {
        Some((start, before)) if *start + *before == offset => *before += length,
        _ => stretches.push((offset, length)),
    }
}

/// The next part of a sparse file that has something in it.
fn data(file: &OwnedFd, from: u64) -> io::Result<Option<(u64, u64)>> {
    let start = match rustix::fs::seek(file, SeekFrom::Data(from)) {
        Ok(start) => start,
        Err(rustix::io::Errno::NXIO) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    Ok(Some((start, rustix::fs::seek(file, SeekFrom::Hole(start))?)))
}

/// Fills `memory` of `size` bytes with what `packed` holds; refuses what is not what was packed.
pub(super) fn unpack(mut packed: File, contents: &Contents, memory: &OwnedFd, size: u64) -> io::Result<()> {
    let damaged = || io::Error::from(io::ErrorKind::InvalidData);
    let mut sum = crc32fast::Hasher::new();
    let mut chunk = vec![0; CHUNK];
    for &(offset, length) in &contents.stretches {
        let end = offset
            .checked_add(length)
            .filter(|end| *end <= size)
            .ok_or_else(damaged)?;
        let mut at = offset;
        while at < end {
            let want = usize::try_from(end - at).unwrap_or(CHUNK).min(CHUNK);
            let piece = &mut chunk[..want];
            packed.read_exact(piece)?;
            sum.update(piece);
            let mut done = 0;
            while done < want {
                done += rustix::io::pwrite(memory, &piece[done..], at + done as u64)?;
            }
            at += want as u64;
        }
    }
    if sum.finalize() != contents.crc32 || packed.read(&mut [0])? != 0 {
        return Err(damaged());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::{Seek, SeekFrom, Write};

    use super::*;

    const SIZE: u64 = 8 << 20;

    fn packed() -> (File, Contents) {
        let memory = allocate(SIZE).unwrap();
        for (offset, text) in [(0, "first"), (PAGE as u64, "second"), (SIZE - 4, "last")] {
            rustix::io::pwrite(&memory, text.as_bytes(), offset).unwrap();
        }
        let mut file = tempfile::tempfile().unwrap();
        let contents = pack(&memory, &mut file).unwrap();
        file.seek(SeekFrom::Start(0)).unwrap();
        (file, contents)
    }

    #[test]
    fn what_was_packed_comes_back() {
        let (file, contents) = packed();
        assert_eq!(contents.stretches.len(), 2);
        let memory = allocate(SIZE).unwrap();
        unpack(file, &contents, &memory, SIZE).unwrap();
        let mut bytes = [0; 6];
        rustix::io::pread(&memory, &mut bytes, PAGE as u64).unwrap();
        assert_eq!(&bytes, b"second");
        rustix::io::pread(&memory, &mut bytes[..4], SIZE - 4).unwrap();
        assert_eq!(&bytes[..4], b"last");
    }

    #[test]
    fn damage_is_noticed() {
        let (mut file, contents) = packed();
        file.seek(SeekFrom::Start(2)).unwrap();
        file.write_all(b"X").unwrap();
        file.seek(SeekFrom::Start(0)).unwrap();
        let memory = allocate(SIZE).unwrap();
        assert!(unpack(file, &contents, &memory, SIZE).is_err());
        let (file, contents) = packed();
        file.set_len(PAGE as u64).unwrap();
        assert!(unpack(file, &contents, &memory, SIZE).is_err());
        let (file, mut contents) = packed();
        contents.stretches[1].0 = SIZE;
        assert!(unpack(file, &contents, &memory, SIZE).is_err());
    }
}
