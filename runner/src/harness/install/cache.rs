//! Installing without network and without npm: packages come from a directory that is an npm cache.
//!
//! Such a cache keeps each archive under the SHA-512 of its bytes. The lock file knows the hashes, so neither names nor
//! addresses of a registry are needed, and nothing in the directory has to be trusted.

use super::lockfile::{LockFile, LockedPackage};
use super::{InstallError, Progress};
use flate2::read::GzDecoder;
use sha2::{Digest, Sha512};
use std::fmt::Write as _;
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Component, Path, PathBuf};
use tar::{Archive, EntryType};

/// Longest archive, compressed.
const ARCHIVE_BYTES: u64 = 512 * 1024 * 1024;
/// Most bytes that one archive may unpack to.
const UNPACKED_BYTES: u64 = 2 * 1024 * 1024 * 1024;

/// Unpacks every package of `lock` that belongs on this machine from `cache` into `tree`.
pub(super) fn unpack_all(
    harness: &str,
    cache: &Path,
    tree: &Path,
    lock: &LockFile,
    progress: &mut dyn Progress,
) -> Result<(), InstallError> {
    let packages = lock.packages_here();
    let total = packages.len();
    // First look whether all are there: half a minute of unpacking before "missing" helps nobody.
    for package in &packages {
        if !blob_path(cache, &package.sha512).is_file() {
            return Err(InstallError::CacheMiss {
                path: cache.to_owned(),
                package: package.name().to_owned(),
                version: package.version.clone(),
                harness: harness.to_owned(),
            });
        }
    }
    for (index, package) in packages.into_iter().enumerate() {
        if progress.cancelled() {
            return Err(InstallError::Cancelled);
        }
        unpack(&verified(cache, package)?, package, &tree.join(&package.path))?;
        progress.packages(index + 1, total);
    }
    Ok(())
}

/// Where an npm cache keeps the archive with that hash.
fn blob_path(cache: &Path, sha512: &[u8; 64]) -> PathBuf {
    let mut hex = String::with_capacity(128);
    for byte in sha512 {
        // Writing to a string cannot fail.
        let _ = write!(hex, "{byte:02x}");
    }
    cache
        .join("_cacache/content-v2/sha512")
        .join(&hex[..2])
        .join(&hex[2..4])
        .join(&hex[4..])
}

/// The archive's bytes: read once, so that what was checked is what is unpacked.
fn verified(cache: &Path, package: &LockedPackage) -> Result<Vec<u8>, InstallError> {
    let path = blob_path(cache, &package.sha512);
    let mut bytes = Vec::new();
    let file = File::open(&path).map_err(InstallError::io("opening", &path))?;
    file.take(ARCHIVE_BYTES)
        .read_to_end(&mut bytes)
        .map_err(InstallError::io("reading", &path))?;
    if Sha512::digest(&bytes)[..] != package.sha512[..] {
        return Err(InstallError::Integrity {
            path: cache.to_owned(),
            package: package.name().to_owned(),
        });
    }
    Ok(bytes)
}

fn unpack(bytes: &[u8], package: &LockedPackage, target: &Path) -> Result<(), InstallError> {
    let wrong = |reason: String| InstallError::Archive {
        package: package.name().to_owned(),
        reason,
    };
    std::fs::create_dir_all(target).map_err(InstallError::io("making", target))?;
    let mut archive = Archive::new(GzDecoder::new(bytes).take(UNPACKED_BYTES));
    for entry in archive.entries().map_err(|e| wrong(e.to_string()))? {
        let mut entry = entry.map_err(|e| wrong(e.to_string()))?;
        let inside = entry.path().map_err(|e| wrong(e.to_string()))?.into_owned();
        // npm leaves out links and special files too.
        if !matches!(
            entry.header().entry_type(),
            EntryType::Regular | EntryType::Continuous
        ) {
            continue;
        }
        let relative = below_first(&inside)
            .ok_or_else(|| wrong(format!("`{}` leaves the package", inside.display())))?;
        let executable = entry.header().mode().is_ok_and(|mode| mode & 0o111 != 0);
        write_file(&mut entry, &target.join(relative), executable)?;
    }
    Ok(())
}

/// The path without its first component (`package/` as a rule); `None` where it is empty or climbs.
fn below_first(path: &Path) -> Option<PathBuf> {
    let mut parts = path.components();
    parts.next()?;
    let rest = parts.as_path();
    let plain = path.components().all(|part| matches!(part, Component::Normal(_)));
    (plain && rest.components().next().is_some()).then(|| rest.to_owned())
}

fn write_file(from: &mut impl Read, path: &Path, executable: bool) -> Result<(), InstallError> {
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent).map_err(InstallError::io("making", parent))?;
    }
    let mode = if executable { 0o755 } else { 0o644 };
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(mode)
        .open(path)
        .map_err(InstallError::io("writing", path))?;
    std::io::copy(from, &mut file).map_err(InstallError::io("writing", path))?;
    file.flush().map_err(InstallError::io("writing", path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_paths_below_the_first_component_are_taken() {
        assert_eq!(below_first(Path::new("package/a/b.js")), Some("a/b.js".into()));
        for bad in [
            "package",
            "package/",
            "/etc/passwd",
            "package/../../x",
            "../x",
            "",
        ] {
            assert_eq!(below_first(Path::new(bad)), None, "{bad}");
        }
    }
}
