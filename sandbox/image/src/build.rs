//! The steps of a build.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use crate::error::ImageError;
use crate::kernel::{self, Kernel, KernelRequest};
use crate::manifest::{Artifact, Baked, Container, FORMAT, Manifest};
use crate::recipe::{Inputs, Recipe};
use crate::rootfs::{self, Tree};
use crate::store::{Image, Workshop, current};
use crate::{archive, digest, packages, sources, squashfs};

/// Where harnesses are in the image: `/opt/lodge/harness/NAME/VERSION`, the same as in a data directory.
const BAKED: &str = "/opt/lodge";

/// What to build.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Lodge's state of the sandboxes; images go to `images` below.
    pub state: PathBuf,
    /// Groups of packages; the recipe's defaults when empty.
    pub groups: BTreeSet<String>,
    /// Archive of a root file system to use instead of Debian packages, as `docker export` writes it; it has to have
    /// what the recipe's groups `base` and `python` have.
    pub from: Option<PathBuf>,
    /// Debian mirror to use instead of apt's own sources.
    pub mirror: Option<String>,
    /// Builds also when the recipe is what it was: the archive may have newer packages.
    pub refresh: bool,
    /// The data directory and the installed trees below it that go into the image, such as `harness/pi/0.87.1` and
    /// `runtime/node/24.21.0`.
    pub data: PathBuf,
    pub trees: BTreeSet<PathBuf>,
    /// Static guest init for the microVM; without it only the container image and the root are built.
    pub init_binary: Option<PathBuf>,
}

/// What a build is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    UpToDate,
    Packages,
    Harnesses,
    Container,
    Rootfs,
    Kernel,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::UpToDate => "the image is up to date",
            Self::Packages => "installing Debian packages into a new root",
            Self::Harnesses => "adding harnesses",
            Self::Container => "packing the container image",
            Self::Rootfs => "packing the root of the microVM",
            Self::Kernel => "building kernel and initramfs of the microVM",
        })
    }
}

/// Builds the image, or finds that it is there already. Takes about half a minute with a near mirror; when only the
/// kernel part is missing or changed, some seconds.
pub fn build(options: &Options, progress: &mut dyn FnMut(Step)) -> Result<Manifest, ImageError> {
    let recipe = Recipe::embedded()?;
    let job = Job::new(options, &recipe)?;
    let shop = Workshop::open(&options.state)?;
    let before = current(&options.state).ok().filter(|image| {
        let same = image.manifest.recipe == job.digest;
        same && !options.refresh
    });
    if let Some(image) = &before
        && (job.kernel.is_none() || job.kernel == image.manifest.kernel_recipe)
    {
        progress(Step::UpToDate);
        return Ok(image.manifest.clone());
    }
    let sources = shop.work().join("lodge.sources");
    let found = sources::find(&recipe.suite, options.mirror.as_deref())?;
    fs::write(&sources, sources::write(&found)).map_err(ImageError::file("write", &sources))?;
    let root = match &before {
        Some(image) => Root::again(image, &shop)?,
        None => Root::build(options, &recipe, &job, &sources, &shop, progress)?,
    };
    let kernel = match &options.init_binary {
        Some(init_binary) => {
            progress(Step::Kernel);
            kernel::build(&KernelRequest {
                init_binary,
                apt_sources: &sources,
                work: &shop.work(),
                out: &shop.out(),
                epoch: recipe.epoch,
            })?
        }
        None => None,
    };
    let manifest = Manifest {
        format: FORMAT,
        digest: overall(&root.container, &root.squashed, kernel.as_ref()),
        recipe: job.digest,
        kernel_recipe: kernel.as_ref().and(job.kernel),
        suite: recipe.suite.clone(),
        architecture: architecture().to_owned(),
        packages: root.packages,
        harnesses: job.baked,
        container: root.container,
        rootfs: root.squashed,
        kernel,
    };
    Ok(shop.publish(&manifest)?.manifest)
}

/// The root in its two forms.
struct Root {
    packages: BTreeMap<String, String>,
    container: Container,
    squashed: Artifact,
}

impl Root {
    fn build(
        options: &Options,
        recipe: &Recipe,
        job: &Job<'_>,
        sources: &Path,
        shop: &Workshop,
        progress: &mut dyn FnMut(Step),
    ) -> Result<Self, ImageError> {
        let root = shop.work().join("rootfs.tar");
        progress(Step::Packages);
        match &options.from {
            Some(archive) => rootfs::copy(archive, &root)?,
            None => rootfs::install(&job.packages, &recipe.suite, recipe.epoch, sources, &root)?,
        }
        if !job.trees.is_empty() {
            progress(Step::Harnesses);
        }
        rootfs::append(&root, &job.trees, recipe.epoch)?;
        progress(Step::Container);
        let container = archive::pack(&root, architecture(), &shop.out())?;
        progress(Step::Rootfs);
        Ok(Self {
            packages: packages::read(&root)?,
            container,
            squashed: squashfs::pack(&root, recipe.epoch, &shop.out())?,
        })
    }

    /// That of an image from the same recipe.
    fn again(image: &Image, shop: &Workshop) -> Result<Self, ImageError> {
        let Manifest {
            packages,
            container,
            rootfs,
            ..
        } = &image.manifest;
        for artifact in [&container.archive, rootfs] {
            let (from, to) = (image.path(artifact), shop.out().join(&artifact.file));
            fs::hard_link(&from, to).map_err(ImageError::file("take over", &from))?;
        }
        Ok(Self {
            packages: packages.clone(),
            container: container.clone(),
            squashed: rootfs.clone(),
        })
    }
}

/// What the options come to.
struct Job<'a> {
    packages: BTreeSet<&'a str>,
    trees: Vec<Tree>,
    baked: Vec<Baked>,
    digest: String,
    /// Digest of the kernel part's inputs.
    kernel: Option<String>,
}

impl<'a> Job<'a> {
    fn new(options: &Options, recipe: &'a Recipe) -> Result<Self, ImageError> {
        let groups = if options.groups.is_empty() {
            &recipe.default
        } else {
            &options.groups
        };
        let packages = recipe.select(groups)?;
        let (mut trees, mut baked) = (Vec::new(), Vec::new());
        for path in &options.trees {
            let from = options.data.join(path);
            let Some((name, version)) = name_and_version(path).filter(|_| from.is_dir()) else {
                return Err(ImageError::Harness {
                    path: from,
                    reason: "not an installed harness or runtime",
                });
            };
            let at = Path::new(BAKED).join(path);
            baked.push(Baked {
                name,
                version,
                path: at.display().to_string(),
            });
            trees.push(Tree { from, at });
        }
        let kernel = match &options.init_binary {
            Some(init) => Some(digest::of_bytes(&kernel::inputs(init)?)),
            None => None,
        };
        let inputs = Inputs {
            suite: &recipe.suite,
            epoch: recipe.epoch,
            packages: packages.clone(),
            from: match &options.from {
                Some(archive) => Some(digest::of_file(archive)?.0),
                None => None,
            },
            harnesses: baked
                .iter()
                .map(|baked| (baked.path.as_str(), baked.version.as_str()))
                .collect(),
            architecture: architecture(),
        };
        Ok(Self {
            digest: inputs.digest()?,
            packages,
            trees,
            baked,
            kernel,
        })
    }
}

/// Of `harness/NAME/VERSION` or `runtime/NAME/VERSION`.
fn name_and_version(path: &Path) -> Option<(String, String)> {
    let parts: Vec<&str> = path.to_str()?.split('/').collect();
    match parts[..] {
        ["harness" | "runtime", name, version]
            if ![name, version].iter().any(|part| part.starts_with('.')) =>
        {
            Some((name.to_owned(), version.to_owned()))
        }
        _ => None,
    }
}

fn overall(container: &Container, rootfs: &Artifact, kernel: Option<&Kernel>) -> String {
    let kernel = kernel
        .into_iter()
        .flat_map(|kernel| [&kernel.vmlinux, &kernel.initramfs]);
    let parts = [&container.archive, rootfs].into_iter().chain(kernel);
    let text: String = parts
        .flat_map(|artifact| [artifact.file.as_str(), " ", artifact.sha256.as_str(), "\n"])
        .collect();
    digest::of_bytes(text.as_bytes())
}

/// Debian's name of the architecture this program was made for.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_installed_trees_can_be_baked() {
        let pair = |name: &str, version: &str| Some((name.to_owned(), version.to_owned()));
        assert_eq!(
            name_and_version(Path::new("harness/pi/0.87.1")),
            pair("pi", "0.87.1")
        );
        assert_eq!(
            name_and_version(Path::new("runtime/node/24.21.0")),
            pair("node", "24.21.0")
        );
        for bad in [
            "harness/pi",
            "workspaces/a/b",
            "harness/../config",
            "/etc/a/b",
            "harness/pi/..",
            "harness/./x",
        ] {
            assert_eq!(name_and_version(Path::new(bad)), None, "{bad}");
        }
    }
}
