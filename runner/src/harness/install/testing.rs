//! For tests of every crate: the real harnesses, installed once per build directory and shared.

use super::{InstallError, InstalledHarness, Installer, Source};
use std::io::ErrorKind;
use std::path::Path;

/// Installs `name` into `cache` unless it is there (waiting for another test that does so), and makes `data`, the data
/// directory of a test, share it through symbolic links. By convention `cache` is `target/test-data/harness-cache`.
///
/// A test must not install or remove harnesses in such a data directory.
pub fn share(cache: &Path, data: &Path, name: &str) -> Result<InstalledHarness, InstallError> {
    Installer::new(cache)?
        .waiting()
        .install(name, &Source::Registry { cache: None }, &mut ())?;
    std::fs::create_dir_all(data).map_err(InstallError::io("making", data))?;
    let cache = cache.canonicalize().map_err(InstallError::io("finding", cache))?;
    for folder in ["harness", "runtime"] {
        let link = data.join(folder);
        match std::os::unix::fs::symlink(cache.join(folder), &link) {
            Err(source) if source.kind() != ErrorKind::AlreadyExists => {
                return Err(InstallError::Io {
                    action: "linking",
                    path: link,
                    source,
                });
            }
            _ => {}
        }
    }
    Installer::new(data)?.resolve(name)
}
