//! Other paths to the same place: a bind mount shows a directory twice, and only one of its names is walled.

use std::fs;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

/// The mounts of this process, as far as it sees them.
#[derive(Debug, Default)]
pub(crate) struct Mounts(Vec<Mounted>);

#[derive(Debug)]
struct Mounted {
    /// `major:minor` of the file system.
    device: String,
    /// The directory of that file system which is seen.
    root: PathBuf,
    /// Where it is seen.
    point: PathBuf,
}

/// A place in a file system, whatever it is mounted as.
#[derive(Debug, PartialEq, Eq)]
struct Location<'a> {
    device: &'a str,
    path: PathBuf,
}

impl Mounts {
    pub(crate) fn read() -> io::Result<Self> {
        Ok(Self::parse(&fs::read("/proc/self/mountinfo")?))
    }

    fn parse(table: &[u8]) -> Self {
        let line = |line: &[u8]| {
            let mut fields = line.split(|&byte| byte == b' ').skip(2);
            Some(Mounted {
                device: String::from_utf8_lossy(fields.next()?).into_owned(),
                root: unescaped(fields.next()?),
                point: unescaped(fields.next()?),
            })
        };
        Self(table.split(|&byte| byte == b'\n').filter_map(line).collect())
    }

    /// Where an absolute path without links really lies. Of mounts on top of each other the last counts.
    fn locate(&self, path: &Path) -> Option<Location<'_>> {
        let covers = self.0.iter().filter(|mount| path.starts_with(&mount.point));
        let mount = covers.max_by_key(|mount| mount.point.as_os_str().len())?;
        let inside = path.strip_prefix(&mount.point).ok()?;
        Some(Location {
            device: &mount.device,
            path: joined(&mount.root, inside),
        })
    }

    /// Another path below `root` (or that one itself) at which `target`, or a part of it, can be seen.
    pub(crate) fn alias_below(&self, root: &Path, target: &Path) -> Option<PathBuf> {
        let wanted = self.locate(target)?;
        let below = self
            .0
            .iter()
            .filter(|mount| mount.point.starts_with(root))
            .map(|mount| mount.point.as_path());
        [root].into_iter().chain(below).find_map(|seen| {
            let here = self.locate(seen)?;
            if here.device != wanted.device {
                return None;
            }
            let alias = if let Ok(rest) = wanted.path.strip_prefix(&here.path) {
                joined(seen, rest)
            } else if here.path.starts_with(&wanted.path) {
                seen.to_owned()
            } else {
                return None;
            };
            let bare = self.locate(&alias)?.path.starts_with(&wanted.path);
            (bare && !alias.starts_with(target)).then_some(alias)
        })
    }
}

/// Not `join`, which would leave a separator behind when the rest is empty.
fn joined(base: &Path, rest: &Path) -> PathBuf {
    if rest.as_os_str().is_empty() {
        base.to_owned()
    } else {
        base.join(rest)
    }
}

/// The table writes blanks and backslashes as three octal digits.
fn unescaped(field: &[u8]) -> PathBuf {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&first, tail)) = rest.split_first() {
        let octal = |digits: &[u8]| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok();
        if let (b'\\', Some(byte)) = (first, tail.get(..3).and_then(octal)) {
            bytes.push(byte);
            rest = &tail[3..];
        } else {
            bytes.push(first);
            rest = tail;
        }
    }
    PathBuf::from(std::ffi::OsString::from_vec(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &[u8] = b"\
22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
30 22 8:2 / /home rw - ext4 /dev/sda2 rw
31 22 8:2 /ann /srv/alias rw - ext4 /dev/sda2 rw
32 22 8:2 /ann/.ssh /srv/data/keys rw - ext4 /dev/sda2 rw
33 22 8:2 /ann/.ssh/deep /srv/deep rw - ext4 /dev/sda2 rw
34 22 0:44 / /srv/alias/.ssh rw - tmpfs tmpfs rw
35 22 8:2 /bob /srv/with\\040blank rw - ext4 /dev/sda2 rw
";

    fn alias(root: &str, target: &str) -> Option<PathBuf> {
        Mounts::parse(TABLE).alias_below(Path::new(root), Path::new(target))
    }

    #[test]
    fn every_other_name_of_a_place_is_found() {
        for (root, target, found) in [
            ("/srv/alias", "/home/ann/.aws", "/srv/alias/.aws"),
            ("/srv/data", "/home/ann/.ssh", "/srv/data/keys"),
            ("/srv/data/keys", "/home/ann/.ssh", "/srv/data/keys"),
            ("/srv", "/home/ann/.aws", "/srv/alias/.aws"),
            ("/srv/deep", "/home/ann/.ssh", "/srv/deep"),
            ("/home", "/srv/alias/project", "/home/ann/project"),
            ("/srv/with blank", "/home/bob/x", "/srv/with blank/x"),
        ] {
            assert_eq!(alias(root, target), Some(found.into()), "{root} {target}");
        }
    }

    #[test]
    fn the_place_itself_what_is_covered_and_what_is_elsewhere_are_none() {
        for (root, target) in [
            ("/home/ann", "/home/ann/.ssh"),
            ("/home/ann/.ssh/deep", "/home/ann/.ssh"),
            ("/opt", "/home/ann/.ssh"),
            ("/srv/with blank", "/home/ann/.ssh"),
            // The tmpfs covers it.
            ("/srv/alias", "/home/ann/.ssh"),
        ] {
            assert_eq!(alias(root, target), None, "{root} {target}");
        }
    }
}
