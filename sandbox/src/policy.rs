//! What a guest may do, and the one rule of merging: it can only narrow.
//!
//! The operator's file sets the base over a profile; the user's and the workspace's files may tighten it in
//! any field. A file that would loosen is refused with the key that does.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

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

/// Files beyond system, private home and workspace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Fs {
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
    pub processes: Option<u64>,
    pub memory: Option<Bytes>,
    pub file_size: Option<Bytes>,
    pub open_files: Option<u64>,
    pub cpu_seconds: Option<u64>,
    pub disk: Option<Bytes>,
    pub output: Option<Bytes>,
    pub wall_seconds: Option<u64>,
    pub idle_seconds: Option<u64>,
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
}

/// Control files whose content runs outside the sandbox when a person uses the workspace.
const PROTECTED: &[&str] = &[
    ".git/config",
    ".git/hooks",
    ".lodge",
    ".envrc",
    ".vscode",
    ".idea",
    ".mcp.json",
    ".pi",
    ".claude",
    ".codex",
    ".opencode",
    ".gemini",
];

impl Policy {
    /// The full default set of a profile.
    pub fn of(profile: Profile) -> Self {
        let strict = profile == Profile::Strict;
        Self {
            profile,
            tier: if strict { Tier::Microvm } else { Tier::Process },
            minimum_tier: if strict { Tier::Container } else { Tier::Process },
            nesting: if profile == Profile::Minimal {
                Nesting::OneLevel
            } else {
                Nesting::Deny
            },
            fs: Fs {
                read: BTreeSet::new(),
                write: BTreeSet::new(),
                deny: BTreeSet::new(),
                protect: PROTECTED.iter().map(|&name| name.to_owned()).collect(),
                tmp_size: Bytes::mib(if strict { 512 } else { 2048 }),
            },
            net: Net::None,
            env: Env::default(),
            limits: Limits {
                processes: Some(if strict { 256 } else { 1024 }),
                file_size: Some(Bytes::mib(if strict { 2 << 10 } else { 16 << 10 })),
                open_files: Some(if strict { 1024 } else { 65_536 }),
                ..Limits::default()
            },
        }
    }

    /// Reads the layers that exist, in order: operator's, user's, workspace's. Without any: `development`.
    pub fn load(
        system: Option<&Path>,
        user: Option<&Path>,
        workspace: Option<&Path>,
    ) -> Result<Self, PolicyError> {
        let read = |file: Option<&Path>| match file {
            Some(file) => read_layer(file),
            None => Ok(None),
        };
        let mut policy = match read(system)? {
            Some((file, layer)) => {
                Self::base(&layer).map_err(|Loosening { key, reason }| PolicyError::Invalid {
                    file,
                    key: key.into(),
                    reason,
                })?
            }
            None => Self::of(Profile::Development),
        };
        for narrower in [user, workspace] {
            if let Some((file, layer)) = read(narrower)? {
                policy = policy
                    .tighten(&layer)
                    .map_err(|Loosening { key, reason }| PolicyError::Loosens { file, key, reason })?;
            }
        }
        Ok(policy)
    }

    /// The operator's file: its values replace the profile's, but protected names are only added to.
    pub fn base(layer: &Layer) -> Result<Self, Loosening> {
        let mut policy = Self::of(layer.profile.unwrap_or(Profile::Development));
        replace(&mut policy.tier, layer.tier);
        replace(&mut policy.minimum_tier, layer.minimum_tier);
        replace(&mut policy.nesting, layer.nesting);
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
        policy.consistent()
    }

    pub(crate) fn consistent(self) -> Result<Self, Loosening> {
        if self.tier < self.minimum_tier {
            return Err(Loosening::new("tier", "it is below minimum_tier".to_owned()));
        }
        Ok(self)
    }
}

fn read_layer(file: &Path) -> Result<Option<(PathBuf, Layer)>, PolicyError> {
    match std::fs::read_to_string(file) {
        Ok(text) => Ok(Some((file.to_owned(), Layer::parse(file, &text)?))),
        Err(source) if source.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(PolicyError::Read {
            file: file.to_owned(),
            source,
        }),
    }
}

fn net(mode: NetMode, layer: &NetLayer) -> Net {
    match mode {
        NetMode::None => Net::None,
        NetMode::Broker => Net::Broker {
            // An absent list allows nothing, never everything.
            allow: layer.allow.clone().unwrap_or_default(),
            deny: layer.deny.clone().unwrap_or_default(),
            ports: layer.ports.clone().unwrap_or_default(),
        },
    }
}

fn replace<T>(value: &mut T, with: Option<T>) {
    if let Some(with) = with {
        *value = with;
    }
}
