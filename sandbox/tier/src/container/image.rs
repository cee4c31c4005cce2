//! The guest image in the engine: loaded once, recognised by the digest of what is in it.

use std::io;

use bollard::Docker;
use bollard::query_parameters::ImportImageOptions;
use futures_util::StreamExt;
use lodge_image::Image;
use tokio_util::codec::{BytesCodec, FramedRead};

use super::error::ContainerError;

/// Bytes of the archive that are read ahead.
const CHUNK: usize = 1 << 20;

/// The engine's id of `image`, which is loaded when the engine does not have it. Engines number images differently
/// (by configuration or by manifest), but all tell the digest of the layer.
pub(super) async fn ensure(docker: &Docker, image: &Image) -> Result<String, ContainerError> {
    if let Some(id) = find(docker, image).await? {
        return Ok(id);
    }
    load(docker, image).await?;
    find(docker, image)
        .await?
        .ok_or_else(|| ContainerError::ForeignImage {
            tag: image.manifest.container.tag.clone(),
        })
}

async fn find(docker: &Docker, image: &Image) -> Result<Option<String>, ContainerError> {
    let container = &image.manifest.container;
    let found = match docker.inspect_image(&container.tag).await {
        Ok(found) => found,
        Err(bollard::errors::Error::DockerResponseServerError { status_code: 404, .. }) => return Ok(None),
        Err(source) => return Err(ContainerError::engine("look for the guest image")(source)),
    };
    let layers = found.root_fs.and_then(|root| root.layers).unwrap_or_default();
    Ok(found.id.filter(|_| layers == [container.layer.clone()]))
}

async fn load(docker: &Docker, image: &Image) -> Result<(), ContainerError> {
    let path = image.path(&image.manifest.container.archive);
    let file = tokio::fs::File::open(&path)
        .await
        .map_err(ContainerError::file("read", &path))?;
    let bytes = FramedRead::with_capacity(file, BytesCodec::new(), CHUNK);
    let body = bollard::body_try_stream(bytes.map(|chunk: io::Result<_>| chunk.map(Into::into)));
    let options = ImportImageOptions {
        quiet: true,
        ..ImportImageOptions::default()
    };
    let mut steps = std::pin::pin!(docker.import_image(options, body, None));
    while let Some(step) = steps.next().await {
        step.map_err(ContainerError::engine("load the guest image"))?;
    }
    Ok(())
}
