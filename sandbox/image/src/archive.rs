//! The container image as Docker and Podman load it: configuration, one layer and an index, in one tar archive.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use serde_json::json;
use tar::{Builder, EntryType, Header};

use crate::digest::{self, Hashing};
use crate::error::ImageError;
use crate::manifest::{Artifact, Container};

/// Name of the archive in the image's directory.
pub(crate) const FILE: &str = "container.tar";
/// What the image is called in an engine; the tag is the start of its layer's digest.
pub(crate) const REPOSITORY: &str = "lodge-guest";

/// Packs the root file system `rootfs` into `out`.
pub(crate) fn pack(rootfs: &Path, architecture: &str, out: &Path) -> Result<Container, ImageError> {
    let (layer, size) = digest::of_file(rootfs)?;
    let config = serde_json::to_vec(&json!({
        "architecture": architecture,
        "os": "linux",
        "created": "1970-01-01T00:00:00Z",
        "config": { "WorkingDir": "/", "Env": [] },
        "rootfs": { "type": "layers", "diff_ids": [format!("sha256:{layer}")] },
        "history": [{ "created": "1970-01-01T00:00:00Z", "created_by": "lodge image build" }],
    }))?;
    let id = digest::of_bytes(&config);
    let tag = format!("{REPOSITORY}:{}", &layer[..16]);
    let index = serde_json::to_vec(&json!([{
        "Config": format!("{id}.json"),
        "RepoTags": [tag],
        "Layers": [format!("{layer}/layer.tar")],
    }]))?;
    let path = out.join(FILE);
    let write = || -> io::Result<(String, u64)> {
        let mut builder = Builder::new(Hashing::new(BufWriter::with_capacity(
            1 << 20,
            File::create(&path)?,
        )));
        member(
            &mut builder,
            &format!("{id}.json"),
            config.len() as u64,
            &config[..],
        )?;
        member(
            &mut builder,
            &format!("{layer}/layer.tar"),
            size,
            File::open(rootfs)?,
        )?;
        member(&mut builder, "manifest.json", index.len() as u64, &index[..])?;
        let hashing = builder.into_inner()?;
        let size = hashing.written;
        let (mut file, sha256) = hashing.finish();
        file.flush()?;
        Ok((sha256, size))
    };
    let (sha256, size) = write().map_err(ImageError::file("write", &path))?;
    Ok(Container {
        archive: Artifact {
            file: FILE.to_owned(),
            sha256,
            size,
        },
        image_id: format!("sha256:{id}"),
        layer: format!("sha256:{layer}"),
        tag,
    })
}

fn member<W: Write>(builder: &mut Builder<W>, name: &str, size: u64, data: impl io::Read) -> io::Result<()> {
    let mut header = Header::new_gnu();
    header.set_entry_type(EntryType::Regular);
    header.set_mode(0o644);
    header.set_mtime(0);
    header.set_uid(0);
    header.set_gid(0);
    header.set_size(size);
    builder.append_data(&mut header, name, data)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use std::io::Read;

    #[test]
    fn equal_roots_give_equal_archives_whose_digests_hold() {
        let folder = tempfile::tempdir().unwrap();
        let rootfs = folder.path().join("rootfs.tar");
        std::fs::write(&rootfs, vec![7; 3000]).unwrap();
        let pack = |name: &str| {
            let out = folder.path().join(name);
            std::fs::create_dir(&out).unwrap();
            pack(&rootfs, "amd64", &out).unwrap()
        };
        let (one, two) = (pack("one"), pack("two"));
        assert_eq!(one, two);
        let path = folder.path().join("one").join(FILE);
        assert_eq!(
            digest::of_file(&path).unwrap(),
            (one.archive.sha256, one.archive.size)
        );
        let mut tar = tar::Archive::new(File::open(path).unwrap());
        for entry in tar.entries().unwrap() {
            let mut entry = entry.unwrap();
            let name = entry.path().unwrap().display().to_string();
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes).unwrap();
            if let Some(id) = name.strip_suffix(".json").filter(|id| *id != "manifest") {
                assert_eq!(format!("sha256:{}", digest::of_bytes(&bytes)), one.image_id);
                assert_eq!(one.image_id, format!("sha256:{id}"));
            } else if name.ends_with("layer.tar") {
                assert_eq!(format!("sha256:{}", digest::of_bytes(&bytes)), one.layer);
            }
        }
    }
}
