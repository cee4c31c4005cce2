//! The files of blobs.

use lodge_proto::{ErrorBody, ErrorCode};
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

/// How a file ends that is being written.
const UNFINISHED: &str = "unfinished";

/// Where a blob is. An account's name is no file name: its hash is. `hash` was checked to be one.
pub(super) fn path(root: &Path, account: &str, hash: &str) -> PathBuf {
    let account = blake3::hash(account.as_bytes()).to_hex();
    root.join(&account.as_str()[..32]).join(&hash[..2]).join(hash)
}

/// Writes a blob whole: it is there after a loss of power, or not at all.
pub(super) fn write(path: &Path, bytes: &[u8]) -> Result<(), ErrorBody> {
    let failed = |error: &std::io::Error| {
        let full = error.kind() == ErrorKind::StorageFull;
        let message = if full {
            "the disk is full: the image was not kept".to_owned()
        } else {
            format!("keeping the image: {error}")
        };
        ErrorBody::new(ErrorCode::Unavailable, message)
    };
    try_write(path, bytes).map_err(|error| failed(&error))
}

fn try_write(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let directory = path.parent().unwrap_or(path);
    DirBuilder::new().mode(0o700).recursive(true).create(directory)?;
    let unfinished = path.with_extension(UNFINISHED);
    let written = (|| {
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&unfinished)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        std::fs::rename(&unfinished, path)?;
        // The name, and those of directories that may be new.
        for made in directory.ancestors().take(3) {
            File::open(made)?.sync_all()?;
        }
        Ok(())
    })();
    if written.is_err() {
        remove(&unfinished);
    }
    written
}

/// Reads a blob that the database knows, and makes sure that it is what its name says.
pub(super) fn read(path: &Path, hash: &str) -> Result<Vec<u8>, ErrorBody> {
    let lost = |why: &str| {
        let message = format!("the image {hash} cannot be read any more: {why}");
        ErrorBody::new(ErrorCode::NotFound, message).with_details(serde_json::json!({ "blob": hash }))
    };
    let bytes = std::fs::read(path).map_err(|error| lost(&error.to_string()))?;
    if super::hash_of(&bytes) != hash {
        return Err(lost("the file is damaged"));
    }
    Ok(bytes)
}

/// Removes a file; one that is not there is as good.
pub(super) fn remove(path: &Path) {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => tracing::warn!(%error, "removing an image"),
        _ => {}
    }
}

/// Removes what a crash left half written. Nobody writes yet.
pub(super) fn remove_unfinished(root: &Path) {
    let entries = |path: PathBuf| std::fs::read_dir(path).into_iter().flatten().flatten();
    let blobs = entries(root.to_owned())
        .flat_map(|account| entries(account.path()))
        .flat_map(|shard| entries(shard.path()));
    for blob in blobs {
        if blob.path().extension().is_some_and(|end| end == UNFINISHED) {
            remove(&blob.path());
        }
    }
}
