//! Inputs that hold blobs, put together when they are delivered.

use crate::blobs::Blobs;
use crate::fold::PendingInput;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use lodge_proto::{ErrorBody, ErrorCode, SessionId};

/// The bytes of an input with its blobs in their places.
pub(super) async fn filled(
    blobs: &Blobs,
    session: SessionId,
    input: &PendingInput,
) -> Result<Vec<u8>, ErrorBody> {
    let (mut bytes, mut from) = (Vec::with_capacity(input.bytes.len()), 0);
    for slot in &input.blobs {
        let blob = blobs.of_session(session, &slot.hash).await?;
        bytes.extend_from_slice(input.bytes.get(from..slot.at).unwrap_or_default());
        bytes.extend_from_slice(STANDARD.encode(&blob).as_bytes());
        from = slot.at;
    }
    bytes.extend_from_slice(input.bytes.get(from..).unwrap_or_default());
    if bytes.len() > lodge_shim::wire::MAX_INPUT {
        let message = "the prompt and its images together are more than the 16 MiB that a harness takes";
        return Err(ErrorBody::new(ErrorCode::InvalidArgument, message));
    }
    Ok(bytes)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)] // A test that panics has failed.
mod tests {
    use super::*;
    use crate::fold::BlobSlot;
    use crate::store::Store;

    #[tokio::test]
    async fn images_are_put_into_their_places_and_only_those_of_the_session() {
        let dir = tempfile::tempdir().unwrap();
        let (store, _) = Store::open(&dir.path().join("runner.db"), "boot").unwrap();
        let blobs = Blobs::new(dir.path().join("blobs"), store, 1 << 20);
        let gif = blobs.put("ada", b"GIF89a;".to_vec()).await.unwrap();
        let slot = |at| BlobSlot {
            at,
            hash: gif.hash.clone(),
        };
        let input = PendingInput {
            id: [0; 16],
            bytes: b"[\"\",\"\"]\n".to_vec(),
            blobs: vec![slot(2), slot(5)],
            begun: false,
        };
        let session = SessionId::new();
        let refused = filled(&blobs, session, &input).await.unwrap_err();
        assert_eq!(refused.code, ErrorCode::NotFound);
        blobs.refer("ada", session, vec![gif.hash.clone()]).await.unwrap();
        let line = filled(&blobs, session, &input).await.unwrap();
        assert_eq!(line, b"[\"R0lGODlhOw==\",\"R0lGODlhOw==\"]\n");
        let other = filled(&blobs, SessionId::new(), &input).await.unwrap_err();
        assert_eq!(other.code, ErrorCode::NotFound);
    }
}
