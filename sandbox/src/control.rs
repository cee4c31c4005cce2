//! The control files of a workspace: what runs outside the sandbox when a person uses the workspace.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::plan::{Access, Mount, Placeholder, Source, bind};
use crate::policy::Policy;
use crate::view::{HostView, Kind, prefixes};

/// The absent name that is held as a file, because git reads it. All others are held as directories, whatever they
/// would be: git takes no notice of an empty directory, and would commit an empty file.
const FILE: &str = ".git/config";
/// Names that do nothing unless a protected file points at them, so that an absent one need not be held.
const WHEN_PRESENT: &[&str] = &[".husky"];

/// One path that a guest cannot change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Held {
    By(Mount),
    /// By something empty and read-only over the directory.
    Covered(PathBuf),
}

/// How the control files are held.
#[derive(Debug, Default)]
pub(crate) struct Control {
    /// Directories they lie in, which become mount points: those cannot be renamed away.
    pub(crate) pinned: BTreeSet<PathBuf>,
    pub(crate) held: Vec<Held>,
    pub(crate) unprotected: Vec<String>,
    pub(crate) placeholders: Vec<Placeholder>,
}

/// Holds the control files in place: what exists becomes read-only, what does not gets an empty stand-in.
pub(crate) fn control(policy: &Policy, workspace: &Path, view: &HostView) -> Control {
    let mut control = Control::default();
    for name in &policy.fs.protect {
        control.hold(name, workspace, view);
    }
    control.placeholders.sort();
    control.placeholders.dedup();
    control.held.dedup();
    control
}

impl Control {
    fn hold(&mut self, name: &str, workspace: &Path, view: &HostView) {
        let mut above = Vec::new();
        for part in prefixes(name) {
            let last = part == name;
            match view.control.get(&part) {
                Some(Kind::Directory) if !last => above.push(part),
                // Where a directory should be (a worktree's `.git` is a file that names the repository).
                Some(_) if !last => return self.keep(&part, Source::File, workspace, &above),
                Some(kind) if !view.empty.contains(name) => {
                    let directory = *kind == Kind::Directory;
                    let source = if directory {
                        Source::Directory
                    } else {
                        Source::File
                    };
                    if let Some(copy) = view.checked.get(name) {
                        return self.show(copy, name, source, workspace, &above);
                    }
                    return self.keep(name, source, workspace, &above);
                }
                Some(kind) => {
                    let directory = *kind == Kind::Directory;
                    return self.stand_in((name, directory), workspace, &above, view);
                }
                // Making a repository stays possible; it is reported afterwards.
                None if part == ".git" || WHEN_PRESENT.contains(&name) => {
                    return self.unprotected.push(name.to_owned());
                }
                None => {
                    return self.stand_in((&part, part != FILE), workspace, &above, view);
                }
            }
        }
    }

    fn keep(&mut self, name: &str, source: Source, workspace: &Path, above: &[String]) {
        self.pin(workspace, above);
        let at = workspace.join(name);
        self.held.push(Held::By(bind(&at, &at, Access::Read, source)));
    }

    /// Shows a copy, read-only, where `name` lies: what happens to that does not matter to the guest.
    fn show(&mut self, copy: &Path, name: &str, source: Source, workspace: &Path, above: &[String]) {
        self.pin(workspace, above);
        let at = workspace.join(name);
        self.held.push(Held::By(bind(copy, at, Access::Read, source)));
    }

    fn stand_in(
        &mut self,
        (name, directory): (&str, bool),
        workspace: &Path,
        above: &[String],
        view: &HostView,
    ) {
        self.pin(workspace, above);
        let at = workspace.join(name);
        self.placeholders.push(Placeholder {
            name: name.to_owned(),
            directory,
        });
        let kind = if directory { Kind::Directory } else { Kind::File };
        self.held.push(match view.checked.get(name) {
            Some(copy) if directory => Held::By(bind(copy, at, Access::Read, Source::Directory)),
            _ => hide(&at, &kind),
        });
    }

    fn pin(&mut self, workspace: &Path, above: &[String]) {
        self.pinned.extend(above.iter().map(|name| workspace.join(name)));
    }
}

/// Puts something empty and read-only over `path`.
pub(crate) fn hide(path: &Path, kind: &Kind) -> Held {
    let at = path.to_owned();
    if *kind == Kind::Directory {
        Held::Covered(at)
    } else {
        Held::By(Mount::EmptyFile { at })
    }
}
