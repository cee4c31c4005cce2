//! The plan's mounts divided: what the host holds around QEMU, and what guest init does inside. A pure function.
//!
//! QEMU shows the guest one tree, [`TREE`] in its own mount namespace, in which everything of the host lies at the path
//! it has in the guest. Protected files are read-only mounts in that tree, so not even the guest's root can write
//! them.

use std::path::{Path, PathBuf};

use lodge_guest::mux::Share;
use lodge_sandbox::plan::{Access, Mount, Source};
use lodge_sandbox::size::Bytes;

use super::error::MicrovmError;

/// Where QEMU finds the tree it shares.
pub(super) const TREE: &str = "/share";
/// Room for the tree's mount points.
const TREE_SIZE: Bytes = Bytes(1 << 20);

/// Who does what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct View {
    /// Around QEMU.
    pub(super) tree: Vec<Mount>,
    /// In the guest, in order.
    pub(super) shares: Vec<Share>,
}

/// A tree with nothing in it, for a machine without a session.
pub(super) fn empty() -> Vec<Mount> {
    vec![
        Mount::Tmpfs {
            at: TREE.into(),
            size: TREE_SIZE,
            mode: 0o755,
        },
        Mount::RemountReadOnly { at: TREE.into() },
    ]
}

pub(super) fn divide(mounts: &[Mount]) -> Result<View, MicrovmError> {
    let mut parts = Parts::default();
    for mount in mounts {
        parts.add(mount)?;
    }
    let mut tree = empty();
    let sealed = tree.pop();
    tree.extend(parts.tree);
    tree.extend(sealed);
    Ok(View {
        tree,
        shares: parts.shares,
    })
}

#[derive(Default)]
struct Parts {
    tree: Vec<Mount>,
    shares: Vec<Share>,
    /// What is shared as a whole.
    roots: Vec<PathBuf>,
}

impl Parts {
    fn shared(&self, path: &Path) -> bool {
        self.roots.iter().any(|root| path.starts_with(root))
    }

    fn add(&mut self, mount: &Mount) -> Result<(), MicrovmError> {
        match mount {
            Mount::Bind {
                from,
                at,
                access,
                source,
            } => self.bind(from, at, *access, *source)?,
            Mount::EmptyFile { at } if self.shared(at) => {
                self.tree.push(Mount::EmptyFile { at: in_tree(at) });
            }
            Mount::EmptyFile { at } => self.content(at, "")?,
            Mount::Content { at, content } if !self.shared(at) => self.content(at, content)?,
            Mount::Tmpfs { at, size, mode } if self.shared(at) => self.tree.push(Mount::Tmpfs {
                at: in_tree(at),
                size: *size,
                mode: *mode,
            }),
            Mount::Tmpfs { at, size, mode } => self.shares.push(Share::Tmpfs {
                at: text(at)?,
                size: size.0,
                mode: *mode,
            }),
            Mount::RemountReadOnly { at } if self.shared(at) => {
                self.tree.push(Mount::RemountReadOnly { at: in_tree(at) });
            }
            Mount::Content { at, .. }
            | Mount::Symlink { at, .. }
            | Mount::Proc { at }
            | Mount::Dev { at }
            | Mount::RemountReadOnly { at } => return Err(refused(at, "it cannot be built there")),
        }
        Ok(())
    }

    fn bind(&mut self, from: &Path, at: &Path, access: Access, source: Source) -> Result<(), MicrovmError> {
        if source == Source::Device {
            return Err(refused(at, "a device of the host cannot be shared"));
        }
        self.tree.push(Mount::Bind {
            from: from.to_owned(),
            at: in_tree(at),
            access,
            source,
        });
        // What lies in something that is shared already is seen through it.
        if !self.shared(at) {
            self.roots.push(at.to_owned());
            let at = text(at)?;
            self.shares.push(Share::Host {
                from: at.clone(),
                at,
                writable: access == Access::Write,
            });
        }
        Ok(())
    }

    fn content(&mut self, at: &Path, content: &str) -> Result<(), MicrovmError> {
        self.shares.push(Share::Content {
            at: text(at)?,
            content: content.to_owned(),
        });
        Ok(())
    }
}

fn in_tree(at: &Path) -> PathBuf {
    Path::new(TREE).join(at.strip_prefix("/").unwrap_or(at))
}

fn text(path: &Path) -> Result<String, MicrovmError> {
    let text = path.to_str().ok_or_else(|| refused(path, "it is not UTF-8"))?;
    Ok(text.to_owned())
}

fn refused(path: &Path, reason: &'static str) -> MicrovmError {
    MicrovmError::View {
        path: path.to_owned(),
        reason,
    }
}
