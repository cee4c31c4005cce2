//! Finding an installed harness, and refusing one that does not fit.

use super::catalog::{Catalog, HarnessEntry};
use super::store::{MANIFEST, Manifest, RuntimeRef, Store};
use super::{InstallError, npm};
use std::path::{Path, PathBuf};

/// An installed harness, ready to be started in a sandbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InstalledHarness {
    pub name: String,
    pub version: semver::Version,
    /// How it starts: the runtime, then the harness's program. Arguments follow.
    pub argv0: Vec<PathBuf>,
    /// Trees that a sandbox must show read-only at these very paths. No component of them is a symbolic link.
    pub roots: Vec<PathBuf>,
}

/// The harness `entry` as it is installed: the pinned version where it is there, else the newest accepted one.
pub(super) fn resolve(
    store: &Store,
    catalog: &Catalog,
    entry: &HarnessEntry,
) -> Result<InstalledHarness, InstallError> {
    let folder = store.harness(&entry.name);
    let versions = Store::versions(&folder)?;
    let accepted = versions
        .iter()
        .find(|version| **version == entry.version)
        .or_else(|| {
            versions
                .iter()
                .rev()
                .find(|version| entry.accepts.matches(version))
        });
    let Some(version) = accepted else {
        return Err(match versions.last() {
            None => InstallError::NotInstalled {
                name: entry.name.clone(),
            },
            Some(found) => InstallError::VersionRefused {
                name: entry.name.clone(),
                found: found.to_string(),
                accepts: entry.accepts.to_string(),
                pinned: entry.version.to_string(),
            },
        });
    };
    let tree = sound_tree(&entry.name, &entry.name, &folder, version)?;
    let program = tree.root.join(&tree.manifest.entry);
    let (argv0, roots) = match &tree.manifest.runtime {
        None if entry.runtime.is_some() => {
            let reason = "its manifest names no runtime".to_owned();
            return Err(damaged(&entry.name, &entry.name, &tree.root, reason));
        }
        None => (vec![program], vec![tree.root]),
        Some(wanted) => {
            let runtime = runtime_tree(store, catalog, entry, wanted)?;
            let argv0 = vec![runtime.root.join(&runtime.manifest.entry), program];
            (argv0, vec![runtime.root, tree.root])
        }
    };
    Ok(InstalledHarness {
        name: entry.name.clone(),
        version: version.clone(),
        argv0,
        roots,
    })
}

fn runtime_tree(
    store: &Store,
    catalog: &Catalog,
    entry: &HarnessEntry,
    wanted: &RuntimeRef,
) -> Result<Tree, InstallError> {
    let folder = store.runtime(&wanted.name);
    let present = Store::versions(&folder)?.contains(&wanted.version);
    if !present {
        let title = catalog
            .runtime_of(entry)
            .map_or(&wanted.name, |runtime| &runtime.title);
        let reason = format!("its runtime {title} {} is missing", wanted.version);
        return Err(damaged(&entry.name, &entry.name, &folder, reason));
    }
    sound_tree(&wanted.name, &entry.name, &folder, &wanted.version)
}

/// An installed tree that was found sound.
pub(super) struct Tree {
    pub(super) root: PathBuf,
    pub(super) manifest: Manifest,
}

/// Checks the tree of one version: manifest, version in its `package.json`, program.
pub(super) fn sound_tree(
    name: &str,
    owner: &str,
    folder: &Path,
    version: &semver::Version,
) -> Result<Tree, InstallError> {
    let place = folder.join(version.to_string());
    let wrong = |reason: String| damaged(name, owner, &place, reason);
    let root = place.canonicalize().map_err(|e| wrong(e.to_string()))?;
    let text = std::fs::read(root.join(MANIFEST)).map_err(|e| wrong(format!("{MANIFEST}: {e}")))?;
    let manifest: Manifest = serde_json::from_slice(&text).map_err(|e| wrong(format!("{MANIFEST}: {e}")))?;
    if manifest.format != 1 || manifest.name != name || manifest.version != *version {
        return Err(wrong(format!(
            "{MANIFEST} is of {} {}",
            manifest.name, manifest.version
        )));
    }
    for part in [&manifest.package, &manifest.entry] {
        if Path::new(part)
            .components()
            .any(|c| !matches!(c, std::path::Component::Normal(_)))
        {
            return Err(wrong(format!("{MANIFEST}: `{part}` leaves the tree")));
        }
    }
    let inside = version_inside(&root.join(&manifest.package));
    if inside.as_ref() != Some(version) {
        return Err(wrong(
            "its package.json is missing or of another version".to_owned(),
        ));
    }
    if !root.join(&manifest.entry).is_file() {
        return Err(wrong(format!("{} is missing", manifest.entry)));
    }
    Ok(Tree { root, manifest })
}

/// The version in the `package.json` of `folder`.
fn version_inside(folder: &Path) -> Option<semver::Version> {
    let text = npm::read_bounded(&folder.join("package.json"));
    let value: serde_json::Value = serde_json::from_str(&text).ok()?;
    value.get("version")?.as_str()?.parse().ok()
}

fn damaged(name: &str, owner: &str, path: &Path, reason: String) -> InstallError {
    InstallError::Damaged {
        name: name.to_owned(),
        owner: owner.to_owned(),
        path: path.to_owned(),
        reason,
    }
}
