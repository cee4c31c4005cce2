#![allow(clippy::unwrap_used)] // A test that panics has failed.

use super::*;
use std::os::unix::fs::PermissionsExt as _;

/// A PNG of `size` bytes; no two of equal size are equal to those of another `fill`.
fn png(size: usize, fill: u8) -> Vec<u8> {
    let mut bytes = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR".to_vec();
    bytes.resize(size, fill);
    bytes
}

struct Place {
    dir: tempfile::TempDir,
    blobs: Blobs,
}

fn store(dir: &tempfile::TempDir) -> Store {
    Store::open(&dir.path().join("runner.db"), "boot").unwrap().0
}

fn place(quota: u64) -> Place {
    let dir = tempfile::tempdir().unwrap();
    let blobs = Blobs::new(dir.path().join("blobs"), store(&dir), quota);
    Place { dir, blobs }
}

fn files(place: &Place) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![place.dir.path().join("blobs")];
    while let Some(next) = open.pop() {
        for entry in std::fs::read_dir(next).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else {
                found.push(path);
            }
        }
    }
    found
}

#[tokio::test]
async fn an_image_is_kept_under_its_hash_and_is_nobody_elses() {
    let place = place(QUOTA);
    let bytes = png(100, 7);
    let blob = place.blobs.put("ada", bytes.clone()).await.unwrap();
    assert_eq!((blob.media_type.as_str(), blob.size), ("image/png", 100));
    assert_eq!(place.blobs.put("ada", bytes.clone()).await.unwrap(), blob);
    assert_eq!(files(&place).len(), 1, "twice the same is one");
    let mode = files(&place)[0].metadata().unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert_eq!(
        place.blobs.get("ada", &blob.hash).await.unwrap(),
        (blob.clone(), bytes.clone())
    );

    let session = SessionId::new();
    for refused in [
        place.blobs.get("eve", &blob.hash).await.map(drop),
        place
            .blobs
            .refer("eve", session, vec![blob.hash.clone()])
            .await
            .map(drop),
        place.blobs.of_session(session, &blob.hash).await.map(drop),
    ] {
        let refused = refused.unwrap_err();
        assert_eq!(refused.code, ErrorCode::NotFound);
        assert!(refused.message.contains(&blob.hash), "{refused}");
    }
    // Another start of the runner finds it.
    let again = Blobs::new(place.dir.path().join("blobs"), store(&place.dir), QUOTA);
    assert_eq!(again.get("ada", &blob.hash).await.unwrap().1, bytes);
}

#[tokio::test]
async fn what_is_no_image_too_large_or_too_much_is_refused() {
    let place = place(1000);
    let reason = |error: &ErrorBody| error.details.as_ref().unwrap()["reason"].clone();
    let svg = place.blobs.put("ada", b"<svg/>".to_vec()).await.unwrap_err();
    assert_eq!(
        (svg.code, reason(&svg)),
        (ErrorCode::InvalidArgument, json!("media_type"))
    );
    let large = place.blobs.put("ada", png(MAX_BLOB + 1, 0)).await.unwrap_err();
    assert_eq!(
        (large.code, reason(&large)),
        (ErrorCode::InvalidArgument, json!("too_large"))
    );
    let kept = place.blobs.put("ada", png(600, 1)).await.unwrap();
    let full = place.blobs.put("ada", png(401, 2)).await.unwrap_err();
    assert_eq!(
        (full.code, reason(&full)),
        (ErrorCode::LimitExceeded, json!("quota"))
    );
    // What is there already takes no more room, and the room of others is their own.
    place.blobs.put("ada", png(600, 1)).await.unwrap();
    place.blobs.put("bob", png(401, 2)).await.unwrap();
    assert_eq!(files(&place).len(), 2);
    for odd in ["", "../../../runner.db", &kept.hash.to_uppercase()] {
        let refused = place.blobs.get("ada", odd).await.unwrap_err();
        assert_eq!(refused.code, ErrorCode::InvalidArgument, "{odd}");
    }
}

#[tokio::test]
async fn what_no_session_needs_expires() {
    let place = place(QUOTA);
    let [used, unused] = [
        place.blobs.put("ada", png(100, 1)),
        place.blobs.put("ada", png(100, 2)),
    ];
    let (used, unused) = (used.await.unwrap(), unused.await.unwrap());
    let (session, fork) = (SessionId::new(), SessionId::new());
    // All or none: the session does not need the one that is there.
    let missing = "0".repeat(64);
    let both = vec![unused.hash.clone(), missing.clone()];
    let refused = place.blobs.refer("ada", session, both).await.unwrap_err();
    assert_eq!(refused.details.unwrap()["blob"], missing);
    place
        .blobs
        .refer("ada", session, vec![used.hash.clone()])
        .await
        .unwrap();
    let store = &place.blobs.inner.store;
    store.copy_blob_uses(session, fork).await.unwrap();

    assert_eq!(place.blobs.sweep(UNUSED_KEPT).await.unwrap(), 0, "both are young");
    // A clock that stands still within a millisecond makes nothing older.
    let later = lodge_shim::journal::now_ms() + 1000;
    assert_eq!(
        store.expire_blobs(later).await.unwrap(),
        [("ada".to_owned(), unused.hash.clone())]
    );
    assert!(place.blobs.get("ada", &unused.hash).await.is_err());
    store.delete(session).await.unwrap();
    assert_eq!(store.expire_blobs(later).await.unwrap(), [], "the fork needs it");
    assert_eq!(place.blobs.of_session(fork, &used.hash).await.unwrap().len(), 100);
    store.delete(fork).await.unwrap();
    assert_eq!(store.expire_blobs(later).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_swept_file_is_gone_and_half_written_ones_too() {
    let place = place(QUOTA);
    let blob = place.blobs.put("ada", png(100, 1)).await.unwrap();
    let path = disk::path(&place.dir.path().join("blobs"), "ada", &blob.hash);
    std::fs::write(path.with_extension("unfinished"), b"half").unwrap();
    disk::remove_unfinished(&place.dir.path().join("blobs"));
    assert_eq!(files(&place), [path]);
    // Old enough as soon as the clock has moved.
    let swept = async {
        while place.blobs.sweep(Duration::ZERO).await.unwrap() == 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_mins(1), swept).await.unwrap();
    assert_eq!(files(&place), Vec::<PathBuf>::new());
}

#[tokio::test]
async fn a_damaged_file_is_not_passed_on() {
    let place = place(QUOTA);
    let blob = place.blobs.put("ada", png(100, 1)).await.unwrap();
    let path = disk::path(&place.dir.path().join("blobs"), "ada", &blob.hash);
    std::fs::write(&path, png(100, 9)).unwrap();
    let error = place.blobs.get("ada", &blob.hash).await.unwrap_err();
    assert!(error.message.contains("damaged"), "{error}");
    // The same bytes again mend it.
    place.blobs.put("ada", png(100, 1)).await.unwrap();
    place.blobs.get("ada", &blob.hash).await.unwrap();
}
