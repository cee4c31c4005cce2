//! What is refused before a plan is made.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::{GUEST_HOME, PlanError, SessionSpec};
use crate::policy::{Nesting, Policy, Tier};
use crate::view::HostView;

/// Where nothing of a user's may be mounted.
const RESERVED: &[&str] = &[
    "/bin",
    "/boot",
    "/dev",
    "/etc",
    "/lib",
    "/lib32",
    "/lib64",
    "/libx32",
    "/proc",
    "/run/lodge",
    "/sbin",
    "/sys",
    "/usr",
];
/// What denials may not touch: a launcher or an engine builds it.
const BUILT: &[&str] = &["/dev", "/proc", "/run/lodge", "/sys", GUEST_HOME];

/// A setting that is parsed is enforced or refused.
pub(super) fn supported(policy: &Policy) -> Result<(), PlanError> {
    let refusals = [
        (
            policy.tier == Tier::Container && policy.nesting != Nesting::Deny,
            "nesting",
            "a container allows no sandbox inside it; set it to \"deny\" or take another tier",
        ),
        (
            policy.tier == Tier::Microvm && policy.fs.home,
            "fs.home",
            "a microVM is not shown the home; set it to false or take another tier",
        ),
        (
            policy.tier < policy.minimum_tier,
            "tier",
            "it is below minimum_tier",
        ),
    ];
    match refusals.into_iter().find(|(refused, ..)| *refused) {
        Some((_, key, reason)) => Err(PlanError::Unsupported {
            key,
            place: policy.place(key),
            reason: reason.to_owned(),
        }),
        None => Ok(()),
    }
}

/// No root of the session may cover a part of the sandbox, and none may show what is Lodge's own.
pub(super) fn disjoint(policy: &Policy, spec: &SessionSpec, view: &HostView) -> Result<(), PlanError> {
    let own = own(spec);
    let places = places(policy, spec, view);
    let mut paths = places.iter().map(|(_, path)| *path).chain(own.iter().copied());
    if let Some(path) = paths.find(|path| !path.is_absolute()) {
        return Err(PlanError::Relative {
            path: path.to_owned(),
        });
    }
    for (place, root) in &places {
        let secret = [&spec.private_home, &spec.gateway_socket].map(PathBuf::as_path);
        let overlaps = |path: &&Path| path.starts_with(root) || root.starts_with(path);
        let with = match *place {
            "fs.deny" => {
                refuse(policy, place, root, outside_built(root, &spec.workspace))?;
                continue;
            }
            "fs.read" => secret.into_iter().find(|own| own.starts_with(root)),
            "fs.write" | WORKSPACE => own.iter().copied().find(overlaps),
            _ => None,
        };
        refuse(policy, place, root, outside(root).or(with))?;
    }
    Ok(())
}

/// How the workspace is called in errors, which no key of a policy names.
const WORKSPACE: &str = "workspace";

/// Everything that is mounted at its own path or denied, with who names it.
fn places<'a>(
    policy: &'a Policy,
    spec: &'a SessionSpec,
    view: &'a HostView,
) -> Vec<(&'static str, &'a Path)> {
    let named = |place, paths: &'a BTreeSet<PathBuf>| paths.iter().map(move |path| (place, path.as_path()));
    let harness = spec.harness_roots.iter().map(|path| ("harness", path.as_path()));
    let home = view.home.iter().map(|home| ("fs.home", home.path.as_path()));
    harness
        .chain(named("fs.read", &policy.fs.read))
        .chain(named("fs.write", &policy.fs.write))
        .chain([(WORKSPACE, spec.workspace.as_path())])
        .chain(home)
        .chain(named("fs.deny", &policy.fs.deny))
        .collect()
}

/// What a guest must not reach through what it may write to.
fn own(spec: &SessionSpec) -> Vec<&Path> {
    let single = [&spec.private_home, &spec.gateway_socket, &spec.init_binary];
    let harness = spec.harness_roots.iter();
    single.into_iter().chain(harness).map(PathBuf::as_path).collect()
}

fn refuse(policy: &Policy, place: &str, path: &Path, with: Option<&Path>) -> Result<(), PlanError> {
    let Some(with) = with else {
        return Ok(());
    };
    Err(PlanError::Collision {
        place: if place.starts_with("fs.") {
            policy.place(place)
        } else {
            place.to_owned()
        },
        path: path.to_owned(),
        with: with.to_owned(),
    })
}

/// The part of the sandbox that `root` lies in or would cover.
fn outside(root: &Path) -> Option<&'static Path> {
    let mut reserved = RESERVED.iter().map(Path::new);
    let covered = || {
        let parts = RESERVED.iter().chain(&["/tmp", GUEST_HOME]).map(Path::new);
        parts.into_iter().find(|inside| inside.starts_with(root))
    };
    reserved.find(|taken| root.starts_with(taken)).or_else(covered)
}

/// A denial of what the sandbox consists of would make one that does not start, or one that hides its own walls.
fn outside_built<'a>(denied: &Path, workspace: &'a Path) -> Option<&'a Path> {
    let built = || BUILT.iter().map(Path::new);
    let within = built().find(|part| denied.starts_with(part));
    let around = || built().chain([workspace]).find(|part| part.starts_with(denied));
    within.or_else(around)
}
