//! Debian's kernel package: found, downloaded and checked by apt, read without unpacking what is not needed.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use super::{KernelError, modules};
use crate::error::ImageError;
use crate::process;

/// The package that depends on the newest kernel of the suite.
pub(super) const META: &str = "linux-image-amd64";
/// A mirror may be slow, but not dead.
const LIMIT: Duration = Duration::from_mins(20);
const INSTALL_APT: &str = "install apt and dpkg, which belong to every Debian system";

/// A downloaded package.
#[derive(Debug)]
pub(super) struct Package {
    pub(super) name: String,
    pub(super) version: String,
    file: PathBuf,
}

/// What is taken out of a package.
#[derive(Debug, Default)]
pub(super) struct Unpacked {
    pub(super) vmlinuz: Vec<u8>,
    /// By module name, as they lie in the package but decompressed.
    pub(super) modules: BTreeMap<String, Vec<u8>>,
    pub(super) builtin: Vec<String>,
}

/// Downloads the suite's kernel with lists of its own: apt's of this machine stay as they are.
pub(super) fn fetch(sources: &Path, work: &Path) -> Result<Package, ImageError> {
    let apt = Apt::new(sources, work)?;
    apt.run("apt-get", &["update"])?;
    let said = apt.run("apt-cache", &["depends", META])?;
    let name = image(&said).ok_or(KernelError::Unresolved { package: META })?;
    apt.run("apt-get", &["download", &name])?;
    let entries = fs::read_dir(work).map_err(ImageError::file("read", work))?;
    let mut files = entries.flatten().map(|entry| entry.path());
    let file = files
        .find(|path| path.extension().is_some_and(|end| end == "deb"))
        .ok_or_else(|| KernelError::NotDownloaded {
            package: name.clone(),
        })?;
    let mut field = process::command("dpkg-deb", INSTALL_APT)?;
    field.arg("--field").arg(&file).arg("Version");
    let version = output("dpkg-deb", &mut field, work)?.trim().to_owned();
    Ok(Package { name, version, file })
}

/// Of `apt-cache depends`: the kernel image.
fn image(said: &str) -> Option<String> {
    said.lines().find_map(|line| {
        let name = line.trim().strip_prefix("Depends: ")?;
        name.starts_with("linux-image-").then(|| name.to_owned())
    })
}

struct Apt<'a> {
    options: Vec<String>,
    work: &'a Path,
}

impl<'a> Apt<'a> {
    fn new(sources: &Path, work: &'a Path) -> Result<Self, ImageError> {
        for folder in ["lists/partial", "archives/partial"] {
            let folder = work.join(folder);
            fs::create_dir_all(&folder).map_err(ImageError::file("make", &folder))?;
        }
        let status = work.join("status");
        File::create(&status).map_err(ImageError::file("make", &status))?;
        let at = |name: &str| work.join(name).display().to_string();
        let settings = [
            ("Dir::Etc::sourcelist", sources.display().to_string()),
            ("Dir::Etc::sourceparts", "-".to_owned()),
            ("Dir::State", at("")),
            ("Dir::State::lists", at("lists")),
            ("Dir::State::status", at("status")),
            ("Dir::Cache", at("")),
            ("Dir::Cache::archives", at("archives")),
            ("APT::Architecture", "amd64".to_owned()),
            ("APT::Architectures", "amd64".to_owned()),
            ("APT::Sandbox::User", "root".to_owned()),
            ("Acquire::Languages", "none".to_owned()),
            ("Acquire::Retries", "3".to_owned()),
        ];
        let options = settings
            .iter()
            .map(|(key, value)| format!("--option={key}={value}"));
        Ok(Self {
            options: options.collect(),
            work,
        })
    }

    fn run(&self, tool: &'static str, words: &[&str]) -> Result<String, ImageError> {
        let mut command = process::command(tool, INSTALL_APT)?;
        command.args(&self.options).args(words).env("LC_ALL", "C.UTF-8");
        output(tool, &mut command, self.work)
    }
}

/// Runs `command` in `work` and returns what it printed.
fn output(tool: &'static str, command: &mut Command, work: &Path) -> Result<String, ImageError> {
    let log = work.join("log");
    process::run(tool, command.current_dir(work), &log, LIMIT)?;
    fs::read_to_string(&log).map_err(ImageError::file("read", &log))
}

/// Takes kernel and modules out.
pub(super) fn unpack(package: &Package, work: &Path) -> Result<Unpacked, ImageError> {
    let failed = || ImageError::file("read", &package.file);
    let mut command = process::command("dpkg-deb", INSTALL_APT)?;
    command.arg("--fsys-tarfile").arg(&package.file);
    let mut child = command
        .stdout(Stdio::piped())
        .spawn()
        .map_err(ImageError::file("start", Path::new("dpkg-deb")))?;
    let taken = child.stdout.take().map_or_else(
        || Err(io::ErrorKind::BrokenPipe.into()),
        |stdout| {
            take(&mut tar::Archive::new(io::BufReader::with_capacity(
                1 << 20,
                stdout,
            )))
        },
    );
    let status = child.wait().map_err(failed())?;
    let mut unpacked = taken.map_err(failed())?;
    if !status.success() {
        return Err(ImageError::Tool {
            tool: "dpkg-deb",
            status: status.to_string(),
            said: String::new(),
        });
    }
    if unpacked.vmlinuz.is_empty() {
        return Err(KernelError::Missing {
            what: "kernel".to_owned(),
        }
        .into());
    }
    for (name, content) in &mut unpacked.modules {
        if !content.starts_with(b"\x7fELF") {
            *content = decompress(content, name, work)?;
        }
    }
    Ok(unpacked)
}

fn take(archive: &mut tar::Archive<impl Read>) -> io::Result<Unpacked> {
    let mut unpacked = Unpacked::default();
    for entry in archive.entries()? {
        let mut entry = entry?;
        let path = entry.path()?.display().to_string();
        let mut content = Vec::new();
        if path.contains("boot/vmlinuz-") {
            entry.read_to_end(&mut unpacked.vmlinuz)?;
        } else if path.ends_with("/modules.builtin") {
            entry.read_to_end(&mut content)?;
            let text = String::from_utf8_lossy(&content);
            unpacked.builtin = text.lines().filter_map(modules::name).collect();
        } else if let Some(name) = modules::name(&path).filter(|_| needed(&path)) {
            entry.read_to_end(&mut content)?;
            unpacked.modules.insert(name, content);
        }
    }
    Ok(unpacked)
}

/// Where what is wanted, and what that depends on, can be; the rest of the package is many times larger.
fn needed(path: &str) -> bool {
    [
        "/drivers/virtio/",
        "/drivers/char/",
        "/drivers/block/",
        "/fs/",
        "/net/9p/",
        "/lib/",
    ]
    .iter()
    .any(|part| path.contains(&format!("/kernel{part}")))
}

/// Decompresses what the kernel's build compresses.
pub(super) fn decompress(packed: &[u8], name: &str, work: &Path) -> Result<Vec<u8>, ImageError> {
    let (tool, mend, end) = if packed.starts_with(b"\xfd7zXZ\0") {
        ("xz", "sudo apt-get install --yes xz-utils", "xz")
    } else if packed.starts_with(b"\x28\xb5\x2f\xfd") {
        ("zstd", "sudo apt-get install --yes zstd", "zst")
    } else {
        return Err(KernelError::Image("it is compressed in an unknown way").into());
    };
    let from = work.join(format!("{name}.{end}"));
    let to = work.join(name);
    fs::write(&from, packed).map_err(ImageError::file("write", &from))?;
    let mut command = process::command(tool, mend)?;
    command.args(["--decompress", "--force"]).arg(&from);
    process::run(tool, &mut command, &work.join("log"), LIMIT)?;
    fs::read(&to).map_err(ImageError::file("read", &to))
}

#[cfg(test)]
mod tests {
    use super::image;

    #[test]
    fn the_newest_kernel_is_what_the_meta_package_depends_on() {
        let said = "linux-image-amd64\n  Depends: linux-image-6.1.0-56-amd64\n  Recommends: firmware\n";
        assert_eq!(image(said).as_deref(), Some("linux-image-6.1.0-56-amd64"));
        assert_eq!(image("linux-image-amd64\n"), None);
    }
}
