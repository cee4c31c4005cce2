//! The process tier: a plan as a bubblewrap command.
//!
//! Nothing of it shows in a process list: options travel through a descriptor. What a user or a guest could
//! have swapped meanwhile is opened here, without following links, and mounted by that very descriptor.

use std::ffi::OsString;
use std::io::Write;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, MemfdFlags, SeekFrom};

use crate::error::SandboxError;
use crate::host::Bwrap;
use crate::plan::{Access, ENV_OWN_NETWORK, Mount, Plan, Source};
use crate::policy::Tier;
use crate::view;

/// Descriptors for the child start at this number, out of the way of whatever a spawner opens for itself.
pub(crate) const PARKED: RawFd = 512;

/// What guest init holds until its walls are up, in the sandbox's own user namespace: it makes a network namespace in
/// which it may bind every port, covers the kernel's settings, and gives all of them up with the bounding set before
/// anything else runs.
const FOR_INIT: [&str; 4] = [
    "CAP_NET_ADMIN",
    "CAP_NET_BIND_SERVICE",
    "CAP_SETPCAP",
    "CAP_SYS_ADMIN",
];

/// What has to be executed to start a sandbox, once.
#[derive(Debug)]
pub struct SandboxCommand {
    /// Program and arguments; free of anything worth hiding.
    pub argv: Vec<OsString>,
    /// To be inherited under the very numbers they have here (the options name them), besides the framed
    /// stream, which goes to [`MUX_FD`](crate::plan::MUX_FD). They are close-on-exec: a spawner clears that
    /// flag in the child only. After the start they can be closed.
    pub fds: Vec<OwnedFd>,
    /// To be kept open, and not inherited, in a process that lives as long as the sandbox: the lock on what was made
    /// in the workspace for it.
    pub hold: Option<OwnedFd>,
}

/// Turns `plan` into a command for the bwrap of this machine.
pub fn compile(plan: &Plan, bwrap: &Bwrap) -> Result<SandboxCommand, SandboxError> {
    let mut options = Options {
        words: Vec::new(),
        fds: Vec::new(),
        by_fd: bwrap.bind_fd,
    };
    options.namespaces(plan);
    for mount in &plan.mounts {
        options.mount(mount)?;
    }
    options.words(["--chdir", "/", "--clearenv"]);
    for (name, value) in &plan.init_env {
        options.words(["--setenv", name, value]);
    }
    let Options { words, mut fds, .. } = options;
    let packed = memory("options", &joined(&words)?)?;
    let mut argv: Vec<OsString> = vec![bwrap.path.clone().into(), "--args".into()];
    argv.extend([packed.as_raw_fd().to_string().into(), "--".into()]);
    fds.push(packed);
    argv.extend(plan.argv.iter().map(OsString::from));
    Ok(SandboxCommand {
        argv,
        fds,
        hold: None,
    })
}

struct Options {
    words: Vec<OsString>,
    fds: Vec<OwnedFd>,
    by_fd: bool,
}

impl Options {
    fn words<const N: usize>(&mut self, words: [&str; N]) {
        self.words.extend(words.map(OsString::from));
    }

    fn at(&mut self, option: &str, at: &Path) {
        self.words.extend([option.into(), at.into()]);
    }

    fn namespaces(&mut self, plan: &Plan) {
        self.words([
            "--unshare-user",
            "--unshare-pid",
            "--unshare-ipc",
            "--unshare-uts",
        ]);
        // One network namespace is enough, and making one is the dearest part of a sandbox next to its mounts.
        if !plan.init_env.iter().any(|(name, _)| name == ENV_OWN_NETWORK) {
            self.words(["--unshare-net"]);
        }
        self.words([
            "--unshare-cgroup-try",
            "--die-with-parent",
            "--new-session",
            "--as-pid-1",
        ]);
        self.words(["--cap-drop", "ALL", "--hostname", &plan.hostname]);
        // Around the engine of another tier there is no guest init that would give them up.
        let capabilities: &[&str] = if plan.tier == Tier::Process {
            &FOR_INIT
        } else {
            &[]
        };
        for capability in capabilities {
            self.words(["--cap-add", capability]);
        }
        self.words(["--uid", &plan.uid.to_string(), "--gid", &plan.gid.to_string()]);
        if plan.deny_user_namespaces {
            self.words(["--disable-userns"]);
        }
    }

    fn mount(&mut self, mount: &Mount) -> Result<(), SandboxError> {
        match mount {
            Mount::Bind {
                from,
                at,
                source: Source::Device,
                ..
            } => self.words.extend(["--dev-bind".into(), from.into(), at.into()]),
            Mount::Bind {
                from,
                at,
                access,
                source: Source::System,
            } => {
                if let Some(content) = small_setting(from) {
                    return self.file(at, &content);
                }
                let option = if *access == Access::Read {
                    "--ro-bind"
                } else {
                    "--bind"
                };
                self.words.extend([option.into(), from.into(), at.into()]);
            }
            Mount::Bind {
                from,
                at,
                access,
                source,
            } => self.bind(from, at, *access, *source)?,
            Mount::Symlink { to, at } => self.words.extend(["--symlink".into(), to.into(), at.into()]),
            Mount::Content { at, content } => self.file(at, content.as_bytes())?,
            Mount::EmptyFile { at } => self.content("--ro-bind-data", at, &[])?,
            Mount::Tmpfs { at, size, mode } => {
                self.words(["--perms", &format!("{mode:04o}"), "--size", &size.0.to_string()]);
                self.at("--tmpfs", at);
            }
            Mount::Proc { at } => self.at("--proc", at),
            Mount::Dev { at } => self.at("--dev", at),
            Mount::RemountReadOnly { at } => self.at("--remount-ro", at),
        }
        Ok(())
    }

    fn bind(&mut self, from: &Path, at: &Path, access: Access, source: Source) -> Result<(), SandboxError> {
        let target = self.pass(open(from, source)?);
        let read = access == Access::Read;
        let (option, what) = match (self.by_fd, read) {
            (true, true) => ("--ro-bind-fd", target.to_string()),
            (true, false) => ("--bind-fd", target.to_string()),
            (false, true) => ("--ro-bind", format!("/proc/self/fd/{target}")),
            (false, false) => ("--bind", format!("/proc/self/fd/{target}")),
        };
        self.words.extend([option.into(), what.into(), at.into()]);
        Ok(())
    }

    /// A file of the sandbox's own root, which becomes read-only.
    fn file(&mut self, at: &Path, content: &[u8]) -> Result<(), SandboxError> {
        self.words(["--perms", "0444"]);
        self.content("--file", at, content)
    }

    fn content(&mut self, option: &str, at: &Path, content: &[u8]) -> Result<(), SandboxError> {
        let target = self.pass(memory(&at.display().to_string(), content)?);
        self.words
            .extend([option.into(), target.to_string().into(), at.into()]);
        Ok(())
    }

    /// Keeps `fd` for the child and returns its number.
    fn pass(&mut self, fd: OwnedFd) -> RawFd {
        let number = fd.as_raw_fd();
        self.fds.push(fd);
        number
    }
}

/// The content of a small file of the system's settings, which is copied: for each mount bwrap reads the list of all
/// others, so a dozen of them takes longer than all the rest.
fn small_setting(path: &Path) -> Option<Vec<u8>> {
    const LARGEST: u64 = 256 << 10;
    let small = |meta: &std::fs::Metadata| meta.is_file() && meta.len() <= LARGEST;
    if !path.starts_with("/etc") || !std::fs::symlink_metadata(path).is_ok_and(|meta| small(&meta)) {
        return None;
    }
    // What this user cannot read is mounted, and the guest cannot read it either.
    std::fs::read(path).ok()
}

fn open(path: &Path, source: Source) -> Result<OwnedFd, SandboxError> {
    let failed = |error: rustix::io::Errno| SandboxError::Open {
        path: path.to_owned(),
        source: error.into(),
    };
    let fd = view::open(None, path).map_err(failed)?;
    let found = view::file_type(fd.as_fd()).map_err(failed)?;
    let fits = match source {
        Source::Directory => found == FileType::Directory,
        Source::File | Source::System | Source::Device => {
            found != FileType::Directory && found != FileType::Symlink
        }
    };
    if !fits {
        return Err(SandboxError::Changed {
            path: path.to_owned(),
        });
    }
    park(&fd).map_err(failed)
}

fn park(fd: &OwnedFd) -> rustix::io::Result<OwnedFd> {
    rustix::io::fcntl_dupfd_cloexec(fd, PARKED)
}

/// An anonymous file that holds `content`, positioned at its start.
pub(crate) fn memory(what: &str, content: &[u8]) -> Result<OwnedFd, SandboxError> {
    let failed = |source| SandboxError::Content {
        what: what.to_owned(),
        source,
    };
    let fd = rustix::fs::memfd_create("lodge", MemfdFlags::CLOEXEC).map_err(|e| failed(e.into()))?;
    let mut file = std::fs::File::from(fd);
    file.write_all(content).map_err(failed)?;
    let fd = OwnedFd::from(file);
    rustix::fs::seek(&fd, SeekFrom::Start(0)).map_err(|e| failed(e.into()))?;
    park(&fd).map_err(|e| failed(e.into()))
}

/// The words as bwrap reads them: each ended by a NUL byte.
fn joined(words: &[OsString]) -> Result<Vec<u8>, SandboxError> {
    let mut bytes = Vec::new();
    for word in words {
        if word.as_bytes().contains(&0) {
            return Err(SandboxError::Nul {
                what: PathBuf::from(word).display().to_string(),
            });
        }
        bytes.extend_from_slice(word.as_bytes());
        bytes.push(0);
    }
    Ok(bytes)
}
