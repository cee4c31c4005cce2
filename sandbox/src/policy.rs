//! What a guest may do, and the one rule of merging: it can only narrow.
//!
//! The operator's file sets the base over a profile; the user's and the workspace's files may tighten it in
//! any field. A file that would loosen is refused with the key that does.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

pub use crate::layer::Layer;
use crate::layer::{NetLayer, NetMode};
use crate::size::Bytes;

/// Why a policy cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    /// A file could not be read.
    #[error("cannot read the policy {}: {source}", file.display())]
    Read { file: PathBuf, source: std::io::Error },
    /// A file is not valid: unknown key, wrong type, impossible value.
    #[error("{}: {key}: {reason}", file.display())]
    Invalid {
        file: PathBuf,
        key: String,
        reason: String,
    },
    /// A file asks for more than what stands above it allows.
    #[error("{}: {key}: {reason}; a policy file may only tighten", file.display())]
    Loosens {
        file: PathBuf,
        key: &'static str,
        reason: String,
    },
}

/// The loosening a layer attempts.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{key}: {reason}")]
pub struct Loosening {
    pub key: &'static str,
    pub reason: String,
}

impl Loosening {
    pub(crate) fn new(key: &'static str, reason: String) -> Self {
        Self { key, reason }
    }
}

/// Named default sets; a smaller one is tighter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Profile {
    Strict,
    Development,
    Minimal,
}

impl Profile {
    /// As it stands in a file.
    pub fn name(self) -> &'static str {
        match self {
            Self::Strict => "strict",
            Self::Development => "development",
            Self::Minimal => "minimal",
        }
    }
}

/// Whether a guest may build sandboxes of its own; a smaller one is tighter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Nesting {
    Deny,
    OneLevel,
}

/// What a guest runs in; a GREATER one is tighter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Tier {
    Process,
    Container,
    Microvm,
}

impl Tier {
    /// As it stands in a file.
    pub fn name(self) -> &'static str {
        match self {
            Self::Process => "process",
            Self::Container => "container",
            Self::Microvm => "microvm",
        }
    }
}

/// What becomes of a host that is on no list; a smaller one is tighter.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unlisted {
    #[default]
    Deny,
    /// The connection waits until a person decides.
    Ask,
}

/// How well every limit that is set has to be held; a GREATER one is tighter.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Strength {
    /// Measured again and again, and everything is killed beyond it: it can be crossed for a moment.
    #[default]
    Sampled,
    /// It cannot be crossed.
    Hard,
}

/// Files beyond system, private home and workspace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Fs {
    /// Whether the user's home can be read, without its secrets.
    pub home: bool,
    /// Further read-only roots.
    pub read: BTreeSet<PathBuf>,
    /// Further writable roots.
    pub write: BTreeSet<PathBuf>,
    /// Paths hidden although they lie below something visible.
    pub deny: BTreeSet<PathBuf>,
    /// Names below the workspace that stay read-only.
    pub protect: BTreeSet<String>,
    /// Size of `/tmp`, and of `/dev/shm`.
    pub tmp_size: Bytes,
}

/// The way out, besides inference through the gateway, which there always is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "mode", rename_all = "snake_case")]
pub enum Net {
    None,
    Broker {
        allow: BTreeSet<String>,
        deny: BTreeSet<String>,
        ports: BTreeSet<u16>,
        unlisted: Unlisted,
    },
}

/// The environment beyond what every guest gets.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Env {
    /// Names taken over from the host.
    pub pass: BTreeSet<String>,
    /// Fixed values.
    pub set: BTreeMap<String, String>,
}

/// Upper bounds; `None` is no bound.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Processes and threads of the sandbox together.
    pub processes: Option<u64>,
    /// Memory of the sandbox together, its tmpfs included.
    pub memory: Option<Bytes>,
    /// Size of one file.
    pub file_size: Option<Bytes>,
    /// Descriptors of one process.
    pub open_files: Option<u64>,
    /// CPU time of one process.
    pub cpu_seconds: Option<u64>,
    /// Growth of everything writable on disk together.
    pub disk: Option<Bytes>,
    /// Standard output and error of all commands together.
    pub output: Option<Bytes>,
    /// Life of the sandbox.
    pub wall_seconds: Option<u64>,
    /// Time without a byte in either direction.
    pub idle_seconds: Option<u64>,
    /// What a limit that cannot be held that well means: the sandbox is refused.
    #[serde(default)]
    pub require: Strength,
}

/// A complete policy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Policy {
    pub profile: Profile,
    pub tier: Tier,
    pub minimum_tier: Tier,
    pub nesting: Nesting,
    pub fs: Fs,
    pub net: Net,
    pub env: Env,
    pub limits: Limits,
    /// The file that last set a key; keys of the profile are absent.
    #[serde(skip_serializing_if = "Origins::is_empty")]
    pub origins: Origins,
}

/// Files by the dotted keys they set.
pub type Origins = BTreeMap<String, PathBuf>;

impl Policy {
    /// Where `key` was set, for an error: `FILE: key`, or `profile NAME: key`.
    pub fn place(&self, key: &str) -> String {
        match self.origins.get(key) {
            Some(file) => format!("{}: {key}", file.display()),
            None => format!("profile {}: {key}", self.profile.name()),
        }
    }

    /// Reads the layers that exist, in order: operator's, user's, workspace's. Without any: `development`.
    pub fn load(
        system: Option<&Path>,
        user: Option<&Path>,
        workspace: Option<&Path>,
    ) -> Result<Self, PolicyError> {
        let read = |file: Option<&Path>| match file {
            Some(file) => read_layer(file, Trust::Person),
            None => Ok(None),
        };
        let policy = match read(system)? {
            Some((file, layer)) => {
                Self::base(&layer).map_err(|Loosening { key, reason }| PolicyError::Invalid {
                    file,
                    key: key.into(),
                    reason,
                })?
            }
            None => Self::of(Profile::Development),
        };
        policy.under(user, workspace)
    }

    /// This policy narrowed by the files that exist.
    pub(crate) fn under(
        mut self,
        user: Option<&Path>,
        workspace: Option<&Path>,
    ) -> Result<Self, PolicyError> {
        let files = [(user, Trust::Person), (workspace, Trust::Guest)];
        for (file, trust) in files.into_iter().filter_map(|(file, trust)| Some((file?, trust))) {
            if let Some((file, layer)) = read_layer(file, trust)? {
                self = self
                    .tighten(&layer)
                    .map_err(|Loosening { key, reason }| PolicyError::Loosens { file, key, reason })?;
            }
        }
        Ok(self)
    }

    /// The operator's file: its values replace the profile's, but protected names are only added to.
    pub fn base(layer: &Layer) -> Result<Self, Loosening> {
        let mut policy = Self::of(layer.profile.unwrap_or(Profile::Development));
        replace(&mut policy.tier, layer.tier);
        replace(&mut policy.minimum_tier, layer.minimum_tier);
        replace(&mut policy.nesting, layer.nesting);
        replace(&mut policy.fs.home, layer.fs.home);
        replace(&mut policy.fs.read, layer.fs.read.clone());
        replace(&mut policy.fs.write, layer.fs.write.clone());
        replace(&mut policy.fs.deny, layer.fs.deny.clone());
        policy
            .fs
            .protect
            .extend(layer.fs.protect.iter().flatten().cloned());
        replace(&mut policy.fs.tmp_size, layer.fs.tmp_size);
        replace(&mut policy.net, layer.net.mode.map(|mode| net(mode, &layer.net)));
        replace(&mut policy.env.pass, layer.env.pass.clone());
        replace(&mut policy.env.set, layer.env.set.clone());
        policy.limits.replace(&layer.limits);
        policy.origins.clone_from(layer.origins());
        policy.consistent()
    }

    pub(crate) fn consistent(self) -> Result<Self, Loosening> {
        if self.tier < self.minimum_tier {
            return Err(Loosening::new("tier", "it is below minimum_tier".to_owned()));
        }
        Ok(self)
    }
}

/// Who may have put a file there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Trust {
    /// The operator or the user, who may use links.
    Person,
    /// A guest, or a repository from outside: a link could lead to a file whose content errors would quote, a pipe
    /// would never end.
    Guest,
}

/// Longest policy file, in bytes.
const MAX_FILE: u64 = 1 << 20;

fn read_layer(file: &Path, trust: Trust) -> Result<Option<(PathBuf, Layer)>, PolicyError> {
    let failed = |source: std::io::Error| PolicyError::Read {
        file: file.to_owned(),
        source,
    };
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let resolve = match trust {
        Trust::Person => ResolveFlags::empty(),
        Trust::Guest => ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS,
    };
    let opened = rustix::fs::openat2(rustix::fs::CWD, file, flags, Mode::empty(), resolve);
    let opened = match opened {
        Ok(fd) => std::fs::File::from(fd),
        Err(Errno::NOENT | Errno::NOTDIR) => return Ok(None),
        Err(errno) => return Err(failed(errno.into())),
    };
    let meta = opened.metadata().map_err(failed)?;
    if !meta.is_file() || meta.len() > MAX_FILE {
        return Err(failed(std::io::Error::other(
            "it is no regular file of at most 1 MiB",
        )));
    }
    let mut text = String::new();
    opened.take(MAX_FILE).read_to_string(&mut text).map_err(failed)?;
    Ok(Some((file.to_owned(), Layer::parse(file, &text)?)))
}

fn net(mode: NetMode, layer: &NetLayer) -> Net {
    match mode {
        NetMode::None => Net::None,
        NetMode::Broker => Net::Broker {
            // An absent list allows nothing, never everything.
            allow: layer.allow.clone().unwrap_or_default(),
            deny: layer.deny.clone().unwrap_or_default(),
            ports: layer.ports.clone().unwrap_or_default(),
            unlisted: layer.unlisted.unwrap_or_default(),
        },
    }
}

fn replace<T>(value: &mut T, with: Option<T>) {
    if let Some(with) = with {
        *value = with;
    }
}
