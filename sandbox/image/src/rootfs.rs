//! The root file system as one tar archive: Debian packages, then the harnesses that were asked for.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Seek, SeekFrom};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tar::{Archive, Builder, EntryType, Header};

use crate::error::ImageError;
use crate::process;

/// A mirror may be slow, but not dead.
const LIMIT: Duration = Duration::from_mins(30);
const BLOCK: u64 = 512;

/// Left out of every package: nobody reads manuals in there.
const LEFT_OUT: &[&str] = &[
    "path-exclude=/usr/share/man/*",
    "path-exclude=/usr/share/info/*",
    "path-exclude=/usr/share/locale/*",
    "path-exclude=/usr/share/doc/*",
    "path-include=/usr/share/doc/*/copyright",
    "path-exclude=/usr/share/lintian/*",
];

/// Runs with the new root as `$1`: takes away what differs from build to build or tells of this machine, and every
/// bit that would change the user; makes the places that launchers mount at.
const TIDY: &str = r#"set -eu
cd "$1"
rm -rf etc/machine-id var/lib/dbus/machine-id etc/hostname etc/resolv.conf etc/apt var/lib/apt \
    etc/ssh/ssh_host_* etc/passwd- etc/group- etc/shadow- etc/gshadow- etc/.pwd.lock
find var/log var/cache tmp run -mindepth 1 -delete
find var/lib/dpkg -maxdepth 1 -name '*-old' -delete
find . -xdev -type f -perm /6000 -exec chmod ug-s {} +
: >etc/machine-id
: >etc/hostname
: >etc/resolv.conf
mkdir -p run/lodge home/guest opt/lodge/harness opt/lodge/runtime
chmod 0755 run/lodge home/guest opt/lodge opt/lodge/harness opt/lodge/runtime
"#;

/// A tree that is copied into the image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Tree {
    pub(crate) from: PathBuf,
    /// Absolute.
    pub(crate) at: PathBuf,
}

/// Installs `packages` into a new root and writes it to `out`.
pub(crate) fn install(
    packages: &BTreeSet<&str>,
    suite: &str,
    epoch: u64,
    sources: &Path,
    out: &Path,
) -> Result<(), ImageError> {
    let mut command = process::command("mmdebstrap", "sudo apt-get install --yes mmdebstrap")?;
    let mode = if rustix::process::getuid().is_root() {
        "--mode=root"
    } else {
        may_unshare()?;
        "--mode=unshare"
    };
    let list: Vec<&str> = packages.iter().copied().collect();
    command.args([
        mode,
        "--variant=essential",
        "--format=tar",
        "--skip=output/dev,cleanup/apt,cleanup/mmdebstrap,cleanup/run,cleanup/tmp",
    ]);
    command.arg(format!("--include={}", list.join(",")));
    command.args(LEFT_OUT.iter().map(|rule| format!("--dpkgopt={rule}")));
    command.arg(format!("--customize-hook={TIDY}"));
    command.args([OsString::from(suite), out.into(), sources.into()]);
    command
        .env("SOURCE_DATE_EPOCH", epoch.to_string())
        .env("LC_ALL", "C.UTF-8");
    process::run("mmdebstrap", &mut command, &out.with_extension("log"), LIMIT)
}

/// Takes a root that was made elsewhere. It is copied, because more is appended to it.
pub(crate) fn copy(archive: &Path, out: &Path) -> Result<(), ImageError> {
    fs::copy(archive, out)
        .map(drop)
        .map_err(ImageError::file("copy", archive))
}

/// As an ordinary user, packages are unpacked in a user namespace with further ids.
fn may_unshare() -> Result<(), ImageError> {
    if process::find("newuidmap").is_none() {
        return Err(ImageError::MissingTool {
            tool: "newuidmap",
            mend: "sudo apt-get install --yes uidmap",
        });
    }
    let uid = rustix::process::getuid().as_raw().to_string();
    let accounts = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let user = accounts
        .lines()
        .map(|line| line.split(':').collect::<Vec<_>>())
        .find(|fields| fields.get(2) == Some(&uid.as_str()))
        .and_then(|fields| fields.first().map(|name| (*name).to_owned()))
        .unwrap_or_else(|| uid.clone());
    let ranges = fs::read_to_string("/etc/subuid").unwrap_or_default();
    let mut owners = ranges.lines().filter_map(|line| line.split(':').next());
    if owners.any(|owner| owner == user || owner == uid) {
        Ok(())
    } else {
        Err(ImageError::NoSubordinateIds { user })
    }
}

/// Appends an empty `/dev`, which the packages' archive leaves out with all devices, and `trees`: owned by root, with the
/// time `epoch`, in the order of their names.
pub(crate) fn append(archive: &Path, trees: &[Tree], epoch: u64) -> Result<(), ImageError> {
    let failed = || ImageError::file("add to", archive);
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .open(archive)
        .map_err(failed())?;
    let end = end_of(&mut file).map_err(failed())?;
    file.set_len(end).map_err(failed())?;
    file.seek(SeekFrom::Start(end)).map_err(failed())?;
    let mut builder = Builder::new(file);
    directory(&mut builder, Path::new("/dev"), epoch).map_err(failed())?;
    for tree in trees {
        let parents = tree.at.parent().map(Path::ancestors).into_iter().flatten();
        let mut parents: Vec<&Path> = parents.filter(|path| *path != Path::new("/")).collect();
        parents.reverse();
        for parent in parents {
            directory(&mut builder, parent, epoch).map_err(failed())?;
        }
        add(&mut builder, &tree.from, &tree.at, epoch)?;
    }
    builder.into_inner().map_err(failed())?;
    Ok(())
}

/// Where the last entry ends: there further ones can follow.
fn end_of(file: &mut File) -> io::Result<u64> {
    file.seek(SeekFrom::Start(0))?;
    let mut end = 0;
    for entry in Archive::new(file).entries_with_seek()? {
        let entry = entry?;
        end = entry.raw_file_position() + entry.size().div_ceil(BLOCK) * BLOCK;
    }
    Ok(end)
}

fn header(kind: EntryType, mode: u32, size: u64, epoch: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(size);
    header.set_mtime(epoch);
    header.set_uid(0);
    header.set_gid(0);
    header
}

/// The name of `path` in the archive.
fn inside(path: &Path) -> PathBuf {
    Path::new(".").join(path.strip_prefix("/").unwrap_or(path))
}

fn directory(builder: &mut Builder<File>, path: &Path, epoch: u64) -> io::Result<()> {
    let mut header = header(EntryType::Directory, 0o755, 0, epoch);
    builder.append_data(&mut header, inside(path), io::empty())
}

fn add(builder: &mut Builder<File>, from: &Path, at: &Path, epoch: u64) -> Result<(), ImageError> {
    let failed = || ImageError::file("read", from);
    let meta = fs::symlink_metadata(from).map_err(failed())?;
    let refused = |reason| ImageError::Harness {
        path: from.to_owned(),
        reason,
    };
    if meta.is_dir() {
        directory(builder, at, epoch).map_err(failed())?;
        let mut names: Vec<OsString> = fs::read_dir(from)
            .map_err(failed())?
            .map(|entry| entry.map(|entry| entry.file_name()))
            .collect::<io::Result<_>>()
            .map_err(failed())?;
        names.sort();
        return names
            .iter()
            .try_for_each(|name| add(builder, &from.join(name), &at.join(name), epoch));
    }
    if meta.is_symlink() {
        let to = fs::read_link(from).map_err(failed())?;
        if to.is_absolute() {
            return Err(refused("an absolute symbolic link cannot go into an image"));
        }
        let mut header = header(EntryType::Symlink, 0o777, 0, epoch);
        return builder.append_link(&mut header, inside(at), to).map_err(failed());
    }
    if !meta.is_file() {
        return Err(refused("neither file, directory nor symbolic link"));
    }
    let mode = if meta.permissions().mode() & 0o111 == 0 {
        0o644
    } else {
        0o755
    };
    let mut header = header(EntryType::Regular, mode, meta.len(), epoch);
    let file = File::open(from).map_err(failed())?;
    builder
        .append_data(&mut header, inside(at), file)
        .map_err(failed())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use std::os::unix::fs::symlink;

    fn names(path: &Path) -> Vec<String> {
        Archive::new(File::open(path).unwrap())
            .entries()
            .unwrap()
            .map(|entry| entry.unwrap().path().unwrap().display().to_string())
            .map(|name| name.trim_start_matches("./").to_owned())
            .collect()
    }

    #[test]
    fn trees_are_appended_the_same_way_each_time() {
        let folder = tempfile::tempdir().unwrap();
        let tree = folder.path().join("tree");
        fs::create_dir_all(tree.join("bin")).unwrap();
        fs::write(tree.join("bin/tool"), "x").unwrap();
        symlink("bin/tool", tree.join("a-link")).unwrap();
        let trees = [Tree {
            from: tree.clone(),
            at: "/opt/lodge/harness/pi/1".into(),
        }];
        let build = |name: &str| {
            let archive = folder.path().join(name);
            let mut builder = Builder::new(File::create(&archive).unwrap());
            let mut first = header(EntryType::Regular, 0o644, 3, 7);
            builder.append_data(&mut first, "./etc/one", &b"one"[..]).unwrap();
            builder.into_inner().unwrap();
            append(&archive, &trees, 7).unwrap();
            archive
        };
        let (one, two) = (build("one.tar"), build("two.tar"));
        assert_eq!(fs::read(&one).unwrap(), fs::read(&two).unwrap());
        let names = names(&one);
        assert_eq!(names.first().unwrap(), "etc/one");
        assert!(
            names.ends_with(&[
                "opt/lodge/harness/pi/1/a-link".into(),
                "opt/lodge/harness/pi/1/bin".into(),
                "opt/lodge/harness/pi/1/bin/tool".into()
            ]),
            "{names:?}"
        );
        symlink("/etc/passwd", tree.join("out")).unwrap();
        let error = append(&one, &trees, 7).unwrap_err().to_string();
        assert!(error.contains("absolute symbolic link"), "{error}");
    }
}
