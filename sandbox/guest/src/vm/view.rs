//! The session's file view over the image: what the host shares, temporary file systems, generated files.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Component, Path, PathBuf};

use lodge_guest::mux::{Configure, Share};
use nix::mount::{MsFlags, mount};

use super::boot::{directory, mounted, seal};
use super::{VmError, failed};

/// Tag of the one device that shares the host's tree.
const TAG: &str = "lodge";
/// Only root gets in here.
const PRIVATE: &str = "/run/host";
/// Where that tree is mounted.
const TREE: &str = "/run/host/tree";
/// Ids are the host's; one attachment serves every user, whose rights this kernel checks by the modes; pages are
/// kept for mapped files only, so that what the host changes is seen.
const OPTIONS: &str = "trans=virtio,version=9p2000.L,msize=512000,access=any,cache=mmap";

/// Builds the view in the order given; afterwards the root is read-only.
pub(super) fn apply(configure: &Configure) -> Result<(), VmError> {
    let shared = configure
        .mounts
        .iter()
        .any(|share| matches!(share, Share::Host { .. }));
    if shared {
        tree()?;
    }
    for share in &configure.mounts {
        match share {
            Share::Host { from, at, writable } => host(from, at, *writable)?,
            Share::Tmpfs { at, size, mode } => tmpfs(at, *size, *mode)?,
            Share::Content { at, content } => file(&absolute(at)?, content)?,
        }
    }
    seal()
}

fn tree() -> Result<(), VmError> {
    let tree = Path::new(TREE);
    directory(tree)?;
    let private = std::os::unix::fs::PermissionsExt::from_mode(0o700);
    fs::set_permissions(PRIVATE, private).map_err(failed("close the host's tree off"))?;
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    mount(Some(TAG), tree, Some("9p"), flags, Some(OPTIONS)).map_err(|source| VmError::Mount {
        what: "the host's tree",
        at: tree.to_owned(),
        source: source.into(),
    })
}

fn host(from: &str, at: &str, writable: bool) -> Result<(), VmError> {
    let relative = absolute(from)?;
    let from = Path::new(TREE).join(relative.strip_prefix("/").unwrap_or(&relative));
    let at = absolute(at)?;
    let is_directory = fs::metadata(&from)
        .map_err(failed("look at what the host shares"))?
        .is_dir();
    if is_directory {
        directory(&at)?;
    } else if !at.exists() {
        file(&at, "")?;
    }
    let bound = |source: Option<&Path>, flags| {
        mount(source, &at, None::<&str>, flags, None::<&str>).map_err(|source| VmError::Mount {
            what: "a share",
            at: at.clone(),
            source: source.into(),
        })
    };
    bound(Some(&from), MsFlags::MS_BIND)?;
    // The host holds this too: a share that is not writable is mounted read-only around the machine.
    let mut flags = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    flags.set(MsFlags::MS_RDONLY, !writable);
    bound(None, flags)
}

fn tmpfs(at: &str, size: u64, mode: u32) -> Result<(), VmError> {
    let at = absolute(at)?;
    directory(&at)?;
    let options = format!("size={size},mode={mode:04o}");
    mounted("tmpfs", &at, MsFlags::MS_NOSUID | MsFlags::MS_NODEV, &options)
}

fn file(at: &Path, content: &str) -> Result<(), VmError> {
    let made = |source| VmError::Make {
        path: at.to_owned(),
        source,
    };
    if let Some(parent) = at.parent() {
        directory(parent)?;
    }
    // The image may have a link there, which must not lead the write astray.
    let _ = fs::remove_file(at);
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o644)
        .open(at)
        .map_err(made)?;
    file.write_all(content.as_bytes()).map_err(made)?;
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o444);
    file.set_permissions(mode).map_err(made)
}

/// The path, unless it could mean another place than it says.
fn absolute(path: &str) -> Result<PathBuf, VmError> {
    let path = Path::new(path);
    let plain = path
        .components()
        .all(|part| matches!(part, Component::RootDir | Component::Normal(_)));
    if path.is_absolute() && plain && path != Path::new("/") {
        return Ok(path.to_owned());
    }
    Err(VmError::Refused {
        what: "a path of the file view is not plain and absolute",
    })
}

#[cfg(test)]
mod tests {
    use super::absolute;

    #[test]
    fn paths_have_to_be_plain() {
        assert!(absolute("/home/user").is_ok());
        for bad in ["", "/", "home", "/home/../etc"] {
            assert!(absolute(bad).is_err(), "{bad}");
        }
    }
}
