//! A policy file as written: every key optional, unknown keys refused.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::names;
use crate::policy::{Nesting, Origins, PolicyError, Profile, Strength, Tier, Unlisted};
use crate::size::Bytes;

/// Version of the file format.
const VERSION: i64 = 1;
/// What the broker takes of each list of hosts, and of ports.
const MAX_HOSTS: usize = 2048;
const MAX_PORTS: usize = 256;

/// One policy file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Layer {
    version: i64,
    pub(crate) profile: Option<Profile>,
    pub(crate) tier: Option<Tier>,
    pub(crate) minimum_tier: Option<Tier>,
    pub(crate) nesting: Option<Nesting>,
    #[serde(default)]
    pub(crate) fs: FsLayer,
    #[serde(default)]
    pub(crate) net: NetLayer,
    #[serde(default)]
    pub(crate) env: EnvLayer,
    #[serde(default)]
    pub(crate) limits: LimitsLayer,
    /// The file, by every key it sets.
    #[serde(skip)]
    origins: Origins,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct FsLayer {
    pub(crate) home: Option<bool>,
    pub(crate) read: Option<BTreeSet<PathBuf>>,
    pub(crate) write: Option<BTreeSet<PathBuf>>,
    pub(crate) deny: Option<BTreeSet<PathBuf>>,
    pub(crate) protect: Option<BTreeSet<String>>,
    pub(crate) tmp_size: Option<Bytes>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum NetMode {
    None,
    Broker,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct NetLayer {
    pub(crate) mode: Option<NetMode>,
    pub(crate) allow: Option<BTreeSet<String>>,
    pub(crate) deny: Option<BTreeSet<String>>,
    pub(crate) ports: Option<BTreeSet<u16>>,
    pub(crate) unlisted: Option<Unlisted>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct EnvLayer {
    pub(crate) pass: Option<BTreeSet<String>>,
    pub(crate) set: Option<BTreeMap<String, String>>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct LimitsLayer {
    pub(crate) processes: Option<u64>,
    pub(crate) memory: Option<Bytes>,
    pub(crate) file_size: Option<Bytes>,
    pub(crate) open_files: Option<u64>,
    pub(crate) cpu_seconds: Option<u64>,
    pub(crate) disk: Option<Bytes>,
    pub(crate) output: Option<Bytes>,
    pub(crate) wall_seconds: Option<u64>,
    pub(crate) idle_seconds: Option<u64>,
    pub(crate) require: Option<Strength>,
}

impl Layer {
    /// A layer that names a profile and nothing else.
    pub(crate) fn of_profile(profile: Profile) -> Self {
        Self {
            version: VERSION,
            profile: Some(profile),
            ..Self::default()
        }
    }

    /// Parses the text of `file`, which only serves to name it in errors.
    pub fn parse(file: &Path, text: &str) -> Result<Self, PolicyError> {
        let invalid = |key: String, reason: String| PolicyError::Invalid {
            file: file.to_owned(),
            key,
            reason,
        };
        let mut layer: Self = toml::from_str(text).map_err(|error| {
            let key = key_of(&error, text);
            invalid(key, error.message().to_owned())
        })?;
        if layer.version != VERSION {
            return Err(invalid(
                "version".into(),
                format!("{} is not {VERSION}", layer.version),
            ));
        }
        layer
            .check()
            .map_err(|(key, reason)| invalid(key.into(), reason))?;
        let table: toml::Table = toml::from_str(text).unwrap_or_default();
        for (key, value) in table {
            match value {
                toml::Value::Table(inner) => {
                    let keys = inner.into_iter().map(|(name, _)| format!("{key}.{name}"));
                    layer.origins.extend(keys.map(|key| (key, file.to_owned())));
                }
                _ => drop(layer.origins.insert(key, file.to_owned())),
            }
        }
        Ok(layer)
    }

    pub(crate) fn origins(&self) -> &Origins {
        &self.origins
    }

    /// What types alone cannot refuse.
    fn check(&self) -> Result<(), (&'static str, String)> {
        let path_keys = [
            ("fs.read", &self.fs.read),
            ("fs.write", &self.fs.write),
            ("fs.deny", &self.fs.deny),
        ];
        for (key, paths) in path_keys {
            if let Some(bad) = paths.iter().flatten().find(|path| !is_plain(path)) {
                return Err((
                    key,
                    format!("{} is no absolute path without `.` and `..`", bad.display()),
                ));
            }
        }
        if let Some(bad) = self
            .fs
            .protect
            .iter()
            .flatten()
            .find(|name| !is_plain_relative(name))
        {
            return Err(("fs.protect", format!("{bad:?} is no name below the workspace")));
        }
        self.check_net()?;
        self.check_limits()?;
        let names = self
            .env
            .pass
            .iter()
            .flatten()
            .chain(self.env.set.iter().flat_map(BTreeMap::keys));
        match names.into_iter().find(|name| !is_variable(name)) {
            Some(bad) => Err(("env", format!("{bad:?} is no name of a variable"))),
            None => Ok(()),
        }
    }
}

impl Layer {
    fn check_net(&self) -> Result<(), (&'static str, String)> {
        let net = &self.net;
        if net.mode != Some(NetMode::Broker) {
            for (key, present) in [
                ("net.allow", net.allow.is_some()),
                ("net.deny", net.deny.is_some()),
                ("net.ports", net.ports.is_some()),
                ("net.unlisted", net.unlisted.is_some()),
            ] {
                if present {
                    return Err((key, "it needs net.mode = \"broker\" in the same file".into()));
                }
            }
        }
        for (key, patterns) in [("net.allow", &net.allow), ("net.deny", &net.deny)] {
            if patterns
                .as_ref()
                .is_some_and(|patterns| patterns.len() > MAX_HOSTS)
            {
                return Err((key, format!("there are more than {MAX_HOSTS}")));
            }
            for pattern in patterns.iter().flatten() {
                names::check(pattern).map_err(|reason| (key, format!("{pattern:?} {reason}")))?;
            }
        }
        if net.ports.as_ref().is_some_and(|ports| ports.len() > MAX_PORTS) {
            return Err(("net.ports", format!("there are more than {MAX_PORTS}")));
        }
        let taken = |port: &&u16| [0, 53, crate::plan::GATEWAY_PORT].contains(port);
        match net.ports.iter().flatten().find(taken) {
            Some(port) => Err(("net.ports", format!("{port} is not for the way out"))),
            None => Ok(()),
        }
    }

    fn check_limits(&self) -> Result<(), (&'static str, String)> {
        let bytes = |size: Option<Bytes>| size.map(|Bytes(bytes)| bytes);
        let limits = &self.limits;
        let values = [
            ("fs.tmp_size", bytes(self.fs.tmp_size)),
            ("limits.processes", limits.processes),
            ("limits.memory", bytes(limits.memory)),
            ("limits.file_size", bytes(limits.file_size)),
            ("limits.open_files", limits.open_files),
            ("limits.cpu_seconds", limits.cpu_seconds),
            ("limits.disk", bytes(limits.disk)),
            ("limits.output", bytes(limits.output)),
            ("limits.wall_seconds", limits.wall_seconds),
            ("limits.idle_seconds", limits.idle_seconds),
        ];
        // The kernel and the engines count in signed numbers.
        let fits = |value: u64| value > 0 && i64::try_from(value).is_ok();
        match values
            .into_iter()
            .find(|(_, value)| value.is_some_and(|value| !fits(value)))
        {
            Some((key, _)) => Err((key, "it has to be more than 0 and fit into 63 bits".into())),
            None => Ok(()),
        }
    }
}

fn is_plain(path: &Path) -> bool {
    let text = path.as_os_str().as_encoded_bytes();
    path.is_absolute()
        && !text.contains(&0)
        && path.components().collect::<PathBuf>().as_os_str() == path.as_os_str()
        && !path
            .components()
            .any(|part| part == std::path::Component::ParentDir)
}

fn is_plain_relative(name: &str) -> bool {
    !name.is_empty() && is_plain(&Path::new("/").join(name)) && !name.starts_with('/')
}

fn is_variable(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
    name.starts_with(|c: char| !c.is_ascii_digit()) && name.chars().all(plain)
}

/// The dotted key an error of the parser is about, as far as the text tells.
fn key_of(error: &toml::de::Error, text: &str) -> String {
    // The parser points at the table for a key that is missing, so its own words come first.
    if let Some((_, rest)) = error.message().split_once("missing field `") {
        return rest.split('`').next().unwrap_or_default().to_owned();
    }
    let end = error.span().map_or(0, |span| span.start);
    let line_end = text
        .get(end..)
        .and_then(|rest| rest.find('\n'))
        .map_or(text.len(), |at| end + at);
    let (mut table, mut key) = (String::new(), String::new());
    for line in text.get(..line_end).unwrap_or(text).lines().map(str::trim) {
        if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            name.trim().clone_into(&mut table);
            key.clear();
        } else if let Some((name, _)) = line.split_once('=').filter(|_| !line.starts_with('#')) {
            name.trim().trim_matches('"').clone_into(&mut key);
        }
    }
    [table, key]
        .into_iter()
        .filter(|part| !part.is_empty())
        .collect::<Vec<_>>()
        .join(".")
}
