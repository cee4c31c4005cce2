//! Where images are kept: one directory an image, by digest, and a pointer to the newest.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, symlink};
use std::path::{Path, PathBuf};

use crate::error::ImageError;
use crate::manifest::{Artifact, FORMAT, Manifest};

const CURRENT: &str = "current";
const MANIFEST: &str = "manifest.json";
/// Scratch directory of a build.
const WORK: &str = ".work";

/// An image that can be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// Directory of its files.
    pub folder: PathBuf,
    pub manifest: Manifest,
}

impl Image {
    pub fn path(&self, artifact: &Artifact) -> PathBuf {
        self.folder.join(&artifact.file)
    }

    fn read(folder: PathBuf) -> Result<Self, ImageError> {
        let path = folder.join(MANIFEST);
        let damaged = |reason: String| ImageError::Damaged {
            path: folder.clone(),
            reason,
        };
        let text = fs::read(&path).map_err(ImageError::file("read", &path))?;
        let manifest: Manifest = serde_json::from_slice(&text).map_err(|error| damaged(error.to_string()))?;
        if manifest.format != FORMAT {
            return Err(damaged(format!("its format is {}", manifest.format)));
        }
        let kernel = manifest
            .kernel
            .iter()
            .flat_map(|kernel| [&kernel.vmlinux, &kernel.initramfs]);
        for artifact in kernel.chain([&manifest.container.archive, &manifest.rootfs]) {
            let size = fs::metadata(folder.join(&artifact.file)).map(|meta| meta.len());
            if size.ok() != Some(artifact.size) {
                return Err(damaged(format!("{} is not whole", artifact.file)));
            }
        }
        Ok(Self { folder, manifest })
    }
}

/// The image that was built last, below Lodge's sandbox state.
pub fn current(state: &Path) -> Result<Image, ImageError> {
    let images = state.join("images");
    let images = images.canonicalize().unwrap_or(images);
    match fs::read_link(images.join(CURRENT)) {
        Ok(name) => Image::read(images.join(name)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(ImageError::NotBuilt {
            state: state.to_owned(),
        }),
        Err(error) => Err(ImageError::file("read", &images.join(CURRENT))(error)),
    }
}

/// One build at a time: holds a lock until it is dropped.
pub(crate) struct Workshop {
    images: PathBuf,
    _lock: fs::File,
}

impl Workshop {
    /// Waits for another build, then removes what an interrupted one left.
    pub(crate) fn open(state: &Path) -> Result<Self, ImageError> {
        let images = state.join("images");
        let failed = || ImageError::file("prepare", &images);
        private(&images).map_err(failed())?;
        // Programs that build get these paths, from other working directories too.
        let images = images.canonicalize().map_err(failed())?;
        let failed = || ImageError::file("prepare", &images);
        let lock = fs::File::create(images.join(".lock")).map_err(failed())?;
        lock.lock().map_err(failed())?;
        let workshop = Self { images, _lock: lock };
        workshop.clean()?;
        let work = workshop.work();
        private(&work.join("out")).map_err(ImageError::file("prepare", &work))?;
        Ok(workshop)
    }

    pub(crate) fn work(&self) -> PathBuf {
        self.images.join(WORK)
    }

    /// Where the files of the coming image are written.
    pub(crate) fn out(&self) -> PathBuf {
        self.work().join("out")
    }

    fn clean(&self) -> Result<(), ImageError> {
        match fs::remove_dir_all(self.work()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(ImageError::file("remove", &self.work())(error))
            }
            _ => Ok(()),
        }
    }

    /// Gives the files their place, makes them current, and removes all images but these and the ones before.
    pub(crate) fn publish(self, manifest: &Manifest) -> Result<Image, ImageError> {
        let out = self.out();
        let text = serde_json::to_vec_pretty(manifest)?;
        fs::write(out.join(MANIFEST), text).map_err(ImageError::file("write", &out))?;
        let folder = self.images.join(&manifest.digest);
        let failed = || ImageError::file("make", &folder);
        if folder.exists() {
            fs::remove_dir_all(&folder).map_err(failed())?;
        }
        fs::rename(&out, &folder).map_err(failed())?;
        let before = fs::read_link(self.images.join(CURRENT)).ok();
        let pointer = self.work().join(CURRENT);
        symlink(&manifest.digest, &pointer).map_err(failed())?;
        fs::rename(&pointer, self.images.join(CURRENT)).map_err(failed())?;
        self.clean()?;
        self.forget(&manifest.digest, before.as_deref());
        Image::read(folder)
    }

    fn forget(&self, current: &str, before: Option<&Path>) {
        for entry in fs::read_dir(&self.images).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let kept = name == current || before.is_some_and(|before| name == before);
            if !kept && name.len() == current.len() {
                // What cannot be removed now is tried again by the next build.
                let _ = fs::remove_dir_all(entry.path());
            }
        }
    }
}

impl Drop for Workshop {
    fn drop(&mut self) {
        let _ = self.clean();
    }
}

fn private(folder: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)
}
