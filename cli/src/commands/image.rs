//! `lodge image`

use crate::data::DataDir;
use crate::failure::{Failure, chain};
use crate::roles::companion;
use crate::terminal::{print_json, println};
use clap::Subcommand;
use lodge_image::{ImageError, Manifest, Options, Step};
use lodge_proto::ErrorCode;
use lodge_runner::harness::install::{InstalledHarness, Installer};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Build and show the guest image of the container and microVM tiers.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  lodge image build\n  lodge image build --harness pi\n  lodge image show --json\n\n\
    The image is made of Debian packages from this machine's own apt sources; equal packages give equal bytes. \
    Container image, root, kernel and initramfs of the microVM come from the one recipe in dependencies.toml."
)]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Build the image, or find that it is up to date.
    Build {
        /// Put an installed agent into the image; may be given more than once.
        #[arg(long, value_name = "NAME")]
        harness: Vec<String>,
        /// A further group of packages of dependencies.toml; may be given more than once.
        #[arg(long, value_name = "NAME")]
        group: Vec<String>,
        /// Archive of a root file system to use instead of Debian packages, as `docker export` writes it.
        #[arg(long, value_name = "TAR", conflicts_with_all = ["group", "mirror"])]
        from: Option<PathBuf>,
        /// Debian mirror, instead of apt's own sources.
        #[arg(long, value_name = "URL")]
        mirror: Option<String>,
        /// Build also when the recipe has not changed: the archive may have newer packages.
        #[arg(long)]
        refresh: bool,
        /// Print the manifest as JSON.
        #[arg(long)]
        json: bool,
    },
    /// The image that was built last.
    Show {
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
}

pub fn run(data: &DataDir, args: &Args) -> anyhow::Result<u8> {
    let state = data.path().join("sandbox");
    let (manifest, json) = match &args.action {
        Action::Build {
            harness,
            group,
            from,
            mirror,
            refresh,
            json,
        } => {
            data.create()?;
            let options = Options {
                state: state.clone(),
                groups: group.iter().cloned().collect(),
                from: from.clone(),
                mirror: mirror.clone(),
                refresh: *refresh,
                data: data.path().canonicalize()?,
                trees: trees(data, harness)?,
                init_binary: Some(companion("lodge-init")?.canonicalize()?),
            };
            let mut tell = |step: Step| {
                if !json {
                    eprintln!("{step}");
                }
            };
            (
                lodge_image::build(&options, &mut tell).map_err(|error| failed(&error))?,
                *json,
            )
        }
        Action::Show { json } => {
            let image = lodge_image::current(&state).map_err(|error| failed(&error))?;
            (image.manifest, *json)
        }
    };
    if json {
        print_json(&manifest)?;
    } else {
        show(&manifest, &state);
    }
    Ok(0)
}

/// The trees of installed agents, relative to the data directory.
fn trees(data: &DataDir, names: &[String]) -> anyhow::Result<BTreeSet<PathBuf>> {
    let installer = Installer::new(data.path())?;
    let base = data.path().canonicalize()?;
    let mut trees = BTreeSet::new();
    for name in names {
        let InstalledHarness { roots, .. } = installer.resolve(name).map_err(|error| {
            Failure::new(error.code(), chain(&error)).mend(format!("lodge harness install {name}"))
        })?;
        trees.extend(
            roots
                .iter()
                .filter_map(|root| root.strip_prefix(&base).ok())
                .map(Path::to_owned),
        );
    }
    Ok(trees)
}

fn failed(error: &ImageError) -> anyhow::Error {
    let failure = Failure::new(ErrorCode::SandboxUnavailable, chain(error));
    match error {
        ImageError::NotBuilt { .. } => failure.mend("lodge image build").into(),
        _ => failure.into(),
    }
}

fn show(manifest: &Manifest, state: &Path) {
    println(&format!("image {}", manifest.digest));
    println(&format!(
        "  {} packages of Debian {} ({})",
        manifest.packages.len(),
        manifest.suite,
        manifest.architecture
    ));
    for harness in &manifest.harnesses {
        println(&format!("  {} {}", harness.name, harness.version));
    }
    println(&format!("  in {}", state.join("images/current").display()));
}
