//! Images of prompts: each user's own, named by their hash, kept as long as a session needs them.
//!
//! The bytes are files below `runner/blobs/ACCOUNT/`, the database knows whose they are and who needs them. A file is
//! written whole and synced before its row: whoever was told of a blob finds it after any crash. What no session needs
//! is forgotten a day after it came.

mod disk;
pub mod transfer;

use crate::shared::store_error;
use crate::store::Store;
use lodge_proto::blob::{MAX_BLOB, is_hash};
use lodge_proto::part::BlobRef;
use lodge_proto::{ErrorBody, ErrorCode, SessionId};
use serde_json::json;
use sha2::{Digest, Sha256};
use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Mutex, Semaphore};

/// Bytes that the blobs of one account may have together: 512 MiB.
pub const QUOTA: u64 = 512 * 1024 * 1024;
/// Time that a blob is kept which no session needs: a day.
pub const UNUSED_KEPT: Duration = Duration::from_hours(24);
/// Between two looks for blobs that nobody needs.
const SWEEP: Duration = Duration::from_hours(1);
/// Transfers at a time: each holds a whole blob in memory.
const TRANSFERS: usize = 4;

type Result<T> = std::result::Result<T, ErrorBody>;

/// The blobs of a runner.
#[derive(Debug, Clone)]
pub struct Blobs {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    root: PathBuf,
    store: Store,
    quota: u64,
    /// Files and rows change together, one blob at a time.
    changing: Mutex<()>,
    transfers: Arc<Semaphore>,
}

impl Blobs {
    /// The blobs below `root`, of which an account may have `quota` bytes.
    pub fn new(root: PathBuf, store: Store, quota: u64) -> Self {
        Self {
            inner: Arc::new(Inner {
                root,
                store,
                quota,
                changing: Mutex::new(()),
                transfers: Arc::new(Semaphore::new(TRANSFERS)),
            }),
        }
    }

    /// Keeps an image. It survives a loss of power when this returns.
    pub async fn put(&self, account: &str, bytes: Vec<u8>) -> Result<BlobRef> {
        if bytes.len() > MAX_BLOB {
            return Err(too_large());
        }
        let media_type = lodge_proto::blob::image_type(&bytes).ok_or_else(unknown_type)?;
        let size = bytes.len() as u64;
        let (hash, bytes) = blocking(move || Ok((hash_of(&bytes), bytes))).await?;
        let blob = BlobRef {
            hash,
            media_type: media_type.to_owned(),
            size,
            name: None,
        };
        let _one = self.inner.changing.lock().await;
        let stored = |error| store_error(&error);
        let used = self
            .inner
            .store
            .blob_bytes(account, &blob.hash)
            .await
            .map_err(stored)?;
        if used + size > self.inner.quota {
            return Err(self.over_quota(used, size));
        }
        let path = disk::path(&self.inner.root, account, &blob.hash);
        blocking(move || disk::write(&path, &bytes)).await?;
        let now = lodge_shim::journal::now_ms();
        self.inner
            .store
            .keep_blob(account, &blob, now)
            .await
            .map_err(stored)?;
        Ok(blob)
    }

    fn over_quota(&self, used: u64, size: u64) -> ErrorBody {
        let quota = self.inner.quota;
        let message = format!(
            "there is no room for an image of {size} bytes: {used} of {quota} bytes are taken; images go with their \
             sessions, and unused ones after a day"
        );
        let details = json!({ "reason": "quota", "allowed": quota, "found": used + size });
        ErrorBody::new(ErrorCode::LimitExceeded, message).with_details(details)
    }

    /// An image of an account.
    pub async fn get(&self, account: &str, hash: &str) -> Result<(BlobRef, Vec<u8>)> {
        if !is_hash(hash) {
            return Err(no_hash());
        }
        let found = self.inner.store.blob(account, hash).await;
        let blob = found
            .map_err(|error| store_error(&error))?
            .ok_or_else(|| not_found(hash))?;
        let bytes = self.bytes(account, hash).await?;
        Ok((blob, bytes))
    }

    async fn bytes(&self, account: &str, hash: &str) -> Result<Vec<u8>> {
        let (path, hash) = (disk::path(&self.inner.root, account, hash), hash.to_owned());
        blocking(move || disk::read(&path, &hash)).await
    }

    /// Notes that a session needs these images of an account, and returns what is known of them. From here on they stay
    /// as long as the session does.
    pub async fn refer(
        &self,
        account: &str,
        session: SessionId,
        hashes: Vec<String>,
    ) -> Result<Vec<BlobRef>> {
        if hashes.iter().any(|hash| !is_hash(hash)) {
            return Err(no_hash());
        }
        let found = self.inner.store.use_blobs(account, session, hashes).await;
        found
            .map_err(|error| store_error(&error))?
            .map_err(|missing| not_found(&missing.hash))
    }

    /// The image that a session means by a hash.
    pub async fn of_session(&self, session: SessionId, hash: &str) -> Result<Vec<u8>> {
        let owner = self.inner.store.blob_owner(session, hash).await;
        let owner = owner
            .map_err(|error| store_error(&error))?
            .ok_or_else(|| not_found(hash))?;
        self.bytes(&owner, hash).await
    }

    /// Forgets what no session needs and is older than `unused_kept`.
    pub async fn sweep(&self, unused_kept: Duration) -> Result<usize> {
        let _one = self.inner.changing.lock().await;
        let age = u64::try_from(unused_kept.as_millis()).unwrap_or(u64::MAX);
        let before = lodge_shim::journal::now_ms().saturating_sub(age);
        let gone = self.inner.store.expire_blobs(before).await;
        let gone = gone.map_err(|error| store_error(&error))?;
        let paths: Vec<PathBuf> = gone
            .iter()
            .map(|(account, hash)| disk::path(&self.inner.root, account, hash))
            .collect();
        blocking(move || {
            for path in paths {
                disk::remove(&path);
            }
            Ok(())
        })
        .await?;
        Ok(gone.len())
    }

    /// Sweeps now and then, for ever. Files that a crash left half written go first.
    pub async fn look_after(self) {
        let root = self.inner.root.clone();
        let _ = tokio::task::spawn_blocking(move || disk::remove_unfinished(&root)).await;
        loop {
            if let Err(error) = self.sweep(UNUSED_KEPT).await {
                tracing::warn!(%error, "forgetting images that no session needs");
            }
            tokio::time::sleep(SWEEP).await;
        }
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|error| Err(ErrorBody::new(ErrorCode::Internal, error.to_string())))
}

/// SHA-256 in hexadecimal digits.
fn hash_of(bytes: &[u8]) -> String {
    Sha256::digest(bytes)
        .iter()
        .fold(String::with_capacity(64), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        })
}

fn too_large() -> ErrorBody {
    let details = json!({ "reason": "too_large", "allowed": MAX_BLOB });
    ErrorBody::new(
        ErrorCode::InvalidArgument,
        format!("an image has at most {MAX_BLOB} bytes"),
    )
    .with_details(details)
}

fn unknown_type() -> ErrorBody {
    let details = json!({ "reason": "media_type", "allowed": lodge_proto::blob::IMAGE_TYPES });
    let message = "this is no PNG, JPEG, GIF or WebP image, whatever it is called";
    ErrorBody::new(ErrorCode::InvalidArgument, message).with_details(details)
}

fn no_hash() -> ErrorBody {
    let message = "an image is named by its SHA-256 hash, 64 hexadecimal digits in lower case";
    ErrorBody::new(ErrorCode::InvalidArgument, message)
}

fn not_found(hash: &str) -> ErrorBody {
    let message = format!("no image {hash}: upload it first; unused ones are kept for a day");
    ErrorBody::new(ErrorCode::NotFound, message).with_details(json!({ "blob": hash }))
}

#[cfg(test)]
mod tests;
