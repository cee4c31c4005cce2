//! Images for prompts.

use super::local_actor;
use crate::failure::Failure;
use lodge_backend::upstream::RunnerAddress;
use lodge_backend::upstream::transfer::{self, TransferError};
use lodge_proto::blob::{MAX_BLOB, MAX_NAME, image_type};
use lodge_proto::part::BlobRef;
use lodge_proto::{ErrorCode, Part, sock};
use std::io::Read as _;
use std::path::Path;

/// An image that was read from a file.
#[derive(Debug, Clone)]
pub struct Image {
    bytes: Vec<u8>,
    name: Option<String>,
}

impl Image {
    /// Reads an image; what is none, or too large, is said so before anything is sent.
    pub fn read(path: &Path) -> Result<Self, Failure> {
        let wrong = |what: String| {
            Failure::new(ErrorCode::InvalidArgument, what).at(format!("--image {}", path.display()))
        };
        let file =
            std::fs::File::open(path).map_err(|error| wrong(format!("the file cannot be read: {error}")))?;
        let mut bytes = Vec::new();
        file.take(MAX_BLOB as u64 + 1)
            .read_to_end(&mut bytes)
            .map_err(|error| wrong(format!("the file cannot be read: {error}")))?;
        if bytes.len() > MAX_BLOB {
            return Err(wrong(format!("an image has at most {MAX_BLOB} bytes")));
        }
        if image_type(&bytes).is_none() {
            return Err(wrong("this is no PNG, JPEG, GIF or WebP image".to_owned()));
        }
        let name = path.file_name().map(|name| {
            let plain = name.to_string_lossy().into_owned();
            plain.chars().filter(|c| !c.is_control()).take(MAX_NAME).collect()
        });
        Ok(Self { bytes, name })
    }

    /// Gives the image to the runner; returns the part of a prompt that names it.
    pub async fn upload(self, runner: &Path) -> anyhow::Result<Part> {
        let blob = put(runner, self.bytes).await?;
        let blob = BlobRef {
            name: self.name,
            ..blob
        };
        Ok(Part::Image { blob, alt: None })
    }
}

/// Gives bytes to the runner as an image.
pub async fn put(runner: &Path, bytes: Vec<u8>) -> anyhow::Result<BlobRef> {
    let address = RunnerAddress::Unix {
        path: runner.to_owned(),
        uid: sock::own_uid(),
    };
    match transfer::put_bytes(&address, &local_actor(), bytes).await {
        Ok(blob) => Ok(blob),
        Err(TransferError::Upstream(error)) => Err(error.into()),
        Err(other) => Err(other.to_body().into()),
    }
}
