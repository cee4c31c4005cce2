//! The control files of a workspace: what runs outside the sandbox when a person uses the workspace.

use std::collections::BTreeSet;
use std::path::Path;

use crate::plan::{Access, Mount, Source, bind};
use crate::policy::Policy;
use crate::size::Bytes;
use crate::view::{HostView, Kind, prefixes};

/// Holds the control files in place: what exists becomes read-only, and the directories it lies in become
/// mount points, which cannot be renamed away. Returns also the names that stay unprotected.
pub(crate) fn control(policy: &Policy, workspace: &Path, view: &HostView) -> (Vec<Mount>, Vec<String>) {
    let (mut pinned, mut held, mut unprotected) = (BTreeSet::new(), Vec::new(), Vec::new());
    for name in &policy.fs.protect {
        let at = workspace.join(name);
        let parent = name.rsplit_once('/').map(|(parent, _)| parent);
        let mut pin = || pinned.extend(prefixes(name).filter(|part| part != name));
        match (
            view.control.get(name),
            parent.and_then(|parent| view.control.get(parent)),
        ) {
            (Some(kind), _) => {
                pin();
                let source = if *kind == Kind::Directory {
                    Source::Directory
                } else {
                    Source::File
                };
                held.push(bind(&at, &at, Access::Read, source));
            }
            (None, Some(Kind::Directory)) if parent == Some(".git") => {
                pin();
                held.extend(placeholder(name, &at));
            }
            // A worktree's or submodule's `.git` is a file that names the place of the repository.
            (None, Some(Kind::File)) if parent == Some(".git") => {
                held.push(bind(
                    workspace.join(".git"),
                    workspace.join(".git"),
                    Access::Read,
                    Source::File,
                ));
            }
            _ => unprotected.push(name.clone()),
        }
    }
    held.dedup();
    let pin = |name: String| {
        let at = workspace.join(name);
        bind(&at, &at, Access::Write, Source::Directory)
    };
    (pinned.into_iter().map(pin).chain(held).collect(), unprotected)
}

/// Stands in for an absent part of a repository. It leaves an empty file or directory behind, which git
/// makes there itself.
fn placeholder(name: &str, at: &Path) -> Vec<Mount> {
    if name == ".git/hooks" {
        hide(at, &Kind::Directory)
    } else {
        hide(at, &Kind::File)
    }
}

/// Puts something empty and read-only over `path`.
pub(crate) fn hide(path: &Path, kind: &Kind) -> Vec<Mount> {
    let at = path.to_owned();
    if *kind == Kind::Directory {
        let empty = Mount::Tmpfs {
            at: at.clone(),
            size: Bytes(4096),
            mode: 0o755,
        };
        vec![empty, Mount::RemountReadOnly { at }]
    } else {
        vec![Mount::EmptyFile { at }]
    }
}
