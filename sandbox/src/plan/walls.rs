//! What guest init is to raise and to measure.

use std::path::{Path, PathBuf};

use lodge_guest::walls::{self, Landlock, Walls};

use super::{Access, GUEST_HOME, Mount, SessionSpec};
use crate::policy::{Nesting, Policy, Tier};
use crate::size::Bytes;

pub(super) fn walls(policy: &Policy, spec: &SessionSpec, mounts: &[Mount], covered: &[PathBuf]) -> Walls {
    let nesting = policy.nesting != Nesting::Deny;
    let bytes = |size: Option<Bytes>| size.map(|Bytes(bytes)| bytes);
    let limits = &policy.limits;
    Walls {
        limits: walls::Limits {
            processes: limits.processes,
            memory: bytes(limits.memory),
            file_size: bytes(limits.file_size),
            open_files: limits.open_files,
            cpu_seconds: limits.cpu_seconds,
        },
        covered: covered.iter().map(|path| text(path)).collect(),
        seccomp: true,
        nesting,
        landlock: (!nesting).then(|| landlock(policy.tier, mounts)),
        bounds: walls::Bounds {
            memory: bytes(limits.memory),
            disk: bytes(limits.disk),
            disk_roots: disk_roots(policy, spec),
            output: bytes(limits.output),
            wall_seconds: limits.wall_seconds,
            idle_seconds: limits.idle_seconds,
        },
    }
}

fn landlock(tier: Tier, mounts: &[Mount]) -> Landlock {
    const ETC: &str = "/etc";
    let mut paths = Landlock::default();
    let mut etc = false;
    if tier != Tier::Process {
        // What the image holds is not known here; it is all of one's own, and read-only.
        paths.read.push("/".to_owned());
        paths.write.extend(["/dev", "/proc"].map(str::to_owned));
    }
    for mount in mounts {
        match mount {
            Mount::Bind {
                at,
                access: Access::Write,
                ..
            }
            | Mount::Tmpfs { at, .. }
            | Mount::Proc { at }
            | Mount::Dev { at } => paths.write.push(text(at)),
            // The directory is the sandbox's own, with nothing else in it.
            Mount::Bind { at, .. } | Mount::Content { at, .. }
                if tier == Tier::Process && at.starts_with(ETC) =>
            {
                etc = true;
            }
            Mount::Bind { at, .. } | Mount::Content { at, .. } | Mount::EmptyFile { at } => {
                paths.read.push(text(at));
            }
            Mount::Symlink { .. } | Mount::RemountReadOnly { .. } => {}
        }
    }
    if etc {
        paths.read.push(ETC.to_owned());
    }
    paths
}

/// The writable places on disk, without those inside another.
fn disk_roots(policy: &Policy, spec: &SessionSpec) -> Vec<String> {
    if policy.limits.disk.is_none() {
        return Vec::new();
    }
    let home = PathBuf::from(GUEST_HOME);
    let mut roots: Vec<&PathBuf> = [&spec.workspace, &home]
        .into_iter()
        .chain(&policy.fs.write)
        .collect();
    roots.sort();
    roots.dedup();
    let outer = |path: &&&PathBuf| {
        !roots
            .iter()
            .any(|other| other != *path && path.starts_with(other))
    };
    roots.iter().filter(outer).map(|path| text(path)).collect()
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}
