//! The kernel as an ELF file that a machine enters directly, out of the compressed image that is booted elsewhere.

use std::fs::{self, File, OpenOptions};
use std::path::Path;

use super::{KernelError, package};
use crate::error::ImageError;

/// Type of the ELF note that names the 32-bit entry point (`XEN_ELFNOTE_PHYS32_ENTRY`).
const ENTRY_NOTE: u32 = 18;
/// The uncompressed size that the kernel's build appends to the payload.
const APPENDED: usize = 4;
const NOTES: u32 = 4;

/// Writes the kernel inside `vmlinuz` to `out`.
pub(super) fn extract(vmlinuz: &[u8], work: &Path, out: &Path) -> Result<(), ImageError> {
    let payload = payload(vmlinuz)?;
    let bytes = package::decompress(payload, "vmlinux", work)?;
    let length = check(&bytes)?;
    fs::write(out, &bytes[..length]).map_err(ImageError::file("write", out))?;
    OpenOptions::new()
        .read(true)
        .open(out)
        .and_then(|file: File| file.sync_all())
        .map_err(ImageError::file("write", out))
}

/// The compressed kernel in a `bzImage`, by the boot protocol's header.
fn payload(image: &[u8]) -> Result<&[u8], KernelError> {
    const SECTOR: usize = 512;
    let malformed = || KernelError::Image("it is no bzImage of protocol 2.08 or later");
    let word = |at: usize| -> Option<usize> {
        let bytes = image.get(at..at + 4)?.first_chunk::<4>()?;
        usize::try_from(u32::from_le_bytes(*bytes)).ok()
    };
    if image.get(0x202..0x206) != Some(b"HdrS") {
        return Err(malformed());
    }
    let setup = usize::from(*image.get(0x1f1).ok_or_else(malformed)?);
    let start = word(0x248)
        .map(|offset| (setup + 1) * SECTOR + offset)
        .ok_or_else(malformed)?;
    let length = word(0x24c)
        .and_then(|length| length.checked_sub(APPENDED))
        .ok_or_else(malformed)?;
    image.get(start..start + length).ok_or_else(malformed)
}

/// How long the ELF file is (relocations for the compressed form follow it), once it can be entered directly.
fn check(elf: &[u8]) -> Result<usize, KernelError> {
    let malformed = KernelError::Image("what was compressed is no 64-bit ELF file");
    let header = Header::read(elf).ok_or(malformed)?;
    let notes = header.segments.iter().filter(|segment| segment.kind == NOTES);
    let mut notes =
        notes.filter_map(|segment| elf.get(segment.start..segment.start.checked_add(segment.length)?));
    if !notes.any(has_entry) {
        return Err(KernelError::Image("it has no PVH entry point"));
    }
    if header.end > elf.len() {
        return Err(KernelError::Image("it is cut short"));
    }
    Ok(header.end)
}

struct Segment {
    kind: u32,
    start: usize,
    length: usize,
}

struct Header {
    end: usize,
    segments: Vec<Segment>,
}

impl Header {
    fn read(elf: &[u8]) -> Option<Self> {
        if !elf.starts_with(b"\x7fELF\x02\x01") {
            return None;
        }
        let table = long(elf, 0x20)?;
        let entry = short(elf, 0x36)?;
        let sections = long(elf, 0x28)?.checked_add(short(elf, 0x3a)?.checked_mul(short(elf, 0x3c)?)?)?;
        let segment = |at: usize| -> Option<Segment> {
            let kind = elf.get(at..)?.first_chunk::<4>()?;
            Some(Segment {
                kind: u32::from_le_bytes(*kind),
                start: long(elf, at.checked_add(8)?)?,
                length: long(elf, at.checked_add(32)?)?,
            })
        };
        let segments: Option<Vec<Segment>> = (0..short(elf, 0x38)?)
            .map(|index| segment(table.checked_add(index * entry)?))
            .collect();
        let segments = segments?;
        let ends = segments
            .iter()
            .filter_map(|segment| segment.start.checked_add(segment.length));
        Some(Self {
            end: ends.chain([sections]).max()?,
            segments,
        })
    }
}

fn long(bytes: &[u8], at: usize) -> Option<usize> {
    let bytes = bytes.get(at..)?.first_chunk::<8>()?;
    usize::try_from(u64::from_le_bytes(*bytes)).ok()
}

fn short(bytes: &[u8], at: usize) -> Option<usize> {
    let bytes = bytes.get(at..)?.first_chunk::<2>()?;
    Some(usize::from(u16::from_le_bytes(*bytes)))
}

fn has_entry(mut notes: &[u8]) -> bool {
    let word = |bytes: &[u8], at: usize| -> Option<u32> {
        Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk::<4>()?))
    };
    while let (Some(name), Some(length), Some(kind)) = (word(notes, 0), word(notes, 4), word(notes, 8)) {
        if kind == ENTRY_NOTE && notes.get(12..16) == Some(b"Xen\0") {
            return true;
        }
        let whole = 12 + (name as usize).next_multiple_of(4) + (length as usize).next_multiple_of(4);
        notes = notes.get(whole..).unwrap_or_default();
    }
    false
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn words(values: &[u32]) -> Vec<u8> {
        values.iter().flat_map(|value| value.to_le_bytes()).collect()
    }

    /// An ELF file with one segment of notes.
    fn elf(note: u32) -> Vec<u8> {
        let mut bytes = b"\x7fELF\x02\x01".to_vec();
        bytes.resize(64, 0);
        bytes[0x20] = 64;
        bytes[0x36] = 56;
        bytes[0x38] = 1;
        bytes.extend(words(&[NOTES, 4, 120, 0, 0, 0, 0, 0, 24, 0, 24, 0, 4, 0]));
        bytes.extend(words(&[4, 8, note]));
        bytes.extend(b"Xen\0");
        bytes.extend([0; 8]);
        bytes
    }

    #[test]
    fn a_kernel_needs_a_direct_entry() {
        let good = elf(ENTRY_NOTE);
        assert_eq!(check(&good).unwrap(), good.len());
        let mut longer = good.clone();
        longer.extend([7; 100]);
        assert_eq!(check(&longer).unwrap(), good.len());
        assert!(check(&elf(5)).is_err());
        assert!(check(&good[..good.len() - 1]).is_err());
        assert!(check(b"\x7fELF").is_err());
    }

    #[test]
    fn the_payload_is_where_the_header_says() {
        let mut image = vec![0; 1024];
        image[0x1f1] = 1;
        image[0x202..0x206].copy_from_slice(b"HdrS");
        image[0x248] = 10;
        image[0x24c] = 9;
        image.extend(b"0123456789hello....");
        assert_eq!(payload(&image).unwrap(), b"hello");
        assert!(payload(&image[..image.len() - 5]).is_err());
        image[0x202] = 0;
        assert!(payload(&image).is_err());
    }
}
