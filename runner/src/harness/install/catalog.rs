//! The pinned harnesses and runtimes: `dependencies.toml`, embedded and read strictly.

use super::InstallError;
use super::lockfile::LockFile;
use semver::{Version, VersionReq};
use serde::Deserialize;
use std::collections::BTreeMap;

const DEPENDENCIES: &str = include_str!("../../../../dependencies.toml");

/// Name, `package.json` and `package-lock.json` of everything that npm packages make up.
const LOCKS: &[(&str, &str, &str)] = &[
    (
        "pi",
        include_str!("../../../harness/pi/package.json"),
        include_str!("../../../harness/pi/package-lock.json"),
    ),
    (
        "claude",
        include_str!("../../../harness/claude/package.json"),
        include_str!("../../../harness/claude/package-lock.json"),
    ),
    (
        "codex",
        include_str!("../../../harness/codex/package.json"),
        include_str!("../../../harness/codex/package-lock.json"),
    ),
    (
        "gemini",
        include_str!("../../../harness/gemini/package.json"),
        include_str!("../../../harness/gemini/package-lock.json"),
    ),
    (
        "opencode",
        include_str!("../../../harness/opencode/package.json"),
        include_str!("../../../harness/opencode/package-lock.json"),
    ),
    (
        "opencode-acp",
        include_str!("../../../harness/opencode-acp/package.json"),
        include_str!("../../../harness/opencode-acp/package-lock.json"),
    ),
    (
        "node",
        include_str!("../../../harness/node/package.json"),
        include_str!("../../../harness/node/package-lock.json"),
    ),
];

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(dead_code)]
struct Document {
    format: u32,
    /// Read by the image's builder.
    image: toml::Table,
    harness: BTreeMap<String, HarnessTable>,
    runtime: BTreeMap<String, RuntimeTable>,
    system: BTreeMap<String, SystemTable>,
    tool: BTreeMap<String, ToolTable>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct HarnessTable {
    title: String,
    description: String,
    licence: Option<String>,
    /// Carries the version; `packages` where it differs by architecture.
    package: Option<String>,
    #[serde(default)]
    packages: BTreeMap<String, String>,
    version: Version,
    accepts: VersionReq,
    /// The program, relative to the installed tree; `entries` where it differs by architecture.
    entry: Option<String>,
    #[serde(default)]
    entries: BTreeMap<String, String>,
    /// None where the program starts by itself.
    runtime: Option<String>,
    allow_scripts: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RuntimeTable {
    title: String,
    version: Version,
    entry: String,
    packages: BTreeMap<String, String>,
}

/// Read by `scripts/install-system`; here only so that a misspelt key is an error.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(dead_code)]
struct SystemTable {
    groups: Vec<String>,
    debian: String,
    command: Option<String>,
    minimum: Option<String>,
    file: Option<String>,
    probe: Option<String>,
    why: String,
}

/// Read by `scripts/install-tool`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(dead_code)]
struct ToolTable {
    source: String,
    package: String,
    version: Version,
    command: String,
    why: String,
}

/// One pinned harness.
#[derive(Debug, Clone)]
pub struct HarnessEntry {
    pub name: String,
    /// Name for people.
    pub title: String,
    pub description: String,
    /// Terms that whoever installs it accepts, where they are its vendor's own.
    pub licence: Option<String>,
    /// The version that is installed.
    pub version: Version,
    /// The versions that the adapter speaks to.
    pub accepts: VersionReq,
    /// Name of its runtime; none where it starts by itself.
    pub runtime: Option<String>,
    pub(super) package: Option<String>,
    pub(super) packages: BTreeMap<String, String>,
    pub(super) entry: Option<String>,
    pub(super) entries: BTreeMap<String, String>,
    pub(super) allow_scripts: Vec<String>,
    pub(super) lock: LockFile,
}

/// One pinned runtime.
#[derive(Debug, Clone)]
pub struct RuntimeEntry {
    pub name: String,
    pub title: String,
    pub version: Version,
    pub(super) entry: String,
    pub(super) packages: BTreeMap<String, String>,
    pub(super) lock: LockFile,
}

impl HarnessEntry {
    /// The package that carries the version on this machine, and the program's path in an installed tree.
    pub(super) fn package_and_entry(&self) -> Result<(String, String), InstallError> {
        let arch = std::env::consts::ARCH;
        let here = |one: &Option<String>, many: &BTreeMap<String, String>| {
            one.clone()
                .or_else(|| many.get(arch).cloned())
                .ok_or_else(|| InstallError::Platform {
                    name: self.title.clone(),
                    arch: arch.to_owned(),
                })
        };
        Ok((
            here(&self.package, &self.packages)?,
            here(&self.entry, &self.entries)?,
        ))
    }
}

impl RuntimeEntry {
    /// The package that carries the executable on this machine, and its path in an installed tree.
    pub(super) fn package_and_entry(&self) -> Result<(String, String), InstallError> {
        let arch = std::env::consts::ARCH;
        let package = self.packages.get(arch).ok_or_else(|| InstallError::Platform {
            name: self.title.clone(),
            arch: arch.to_owned(),
        })?;
        Ok((package.clone(), format!("node_modules/{package}/{}", self.entry)))
    }
}

/// Every harness and runtime that this build can install.
#[derive(Debug, Clone)]
pub struct Catalog {
    harnesses: BTreeMap<String, HarnessEntry>,
    runtimes: BTreeMap<String, RuntimeEntry>,
}

impl Catalog {
    /// The catalog of this build. It fails only where the build itself is wrong; a test holds that it is not.
    pub fn embedded() -> Result<Self, InstallError> {
        Self::parse(DEPENDENCIES, LOCKS)
    }

    pub(super) fn parse(text: &str, locks: &[(&str, &str, &str)]) -> Result<Self, InstallError> {
        let wrong = |reason: String| InstallError::Catalog { reason };
        let document: Document = toml::from_str(text).map_err(|e| wrong(e.to_string()))?;
        if document.format != 1 {
            return Err(wrong(format!("format {} is not 1", document.format)));
        }
        check_tables(&document).map_err(wrong)?;
        let lock_of = |name: &str| {
            let (_, package_json, lock) = locks
                .iter()
                .find(|(known, ..)| *known == name)
                .ok_or_else(|| wrong(format!("`{name}` has no embedded lock file")))?;
            LockFile::parse(name, package_json, lock)
        };
        let mut runtimes = BTreeMap::new();
        for (name, table) in document.runtime {
            let lock = lock_of(&name)?;
            runtimes.insert(name.clone(), table.into_entry(name, lock));
        }
        let mut harnesses = BTreeMap::new();
        for (name, table) in document.harness {
            if let Some(runtime) = &table.runtime
                && !runtimes.contains_key(runtime)
            {
                return Err(wrong(format!("harness.{name}: no runtime `{runtime}`")));
            }
            for (key, one, many) in [
                ("package", &table.package, &table.packages),
                ("entry", &table.entry, &table.entries),
            ] {
                if one.is_some() != many.is_empty() {
                    let reason = format!("harness.{name}: {key} is to be given once, or by architecture");
                    return Err(wrong(reason));
                }
            }
            if !table.accepts.matches(&table.version) {
                return Err(wrong(format!(
                    "harness.{name}: the pinned version is outside of `accepts`"
                )));
            }
            let lock = lock_of(&name)?;
            harnesses.insert(name.clone(), table.into_entry(name, lock));
        }
        Ok(Self { harnesses, runtimes })
    }

    /// All harnesses, by name.
    pub fn harnesses(&self) -> impl Iterator<Item = &HarnessEntry> {
        self.harnesses.values()
    }

    /// The harness of that name.
    pub fn harness(&self, name: &str) -> Result<&HarnessEntry, InstallError> {
        self.harnesses.get(name).ok_or_else(|| InstallError::Unknown {
            name: name.chars().take(64).collect(),
            known: self.harnesses.keys().cloned().collect::<Vec<_>>().join(", "),
        })
    }

    /// The runtime that a harness is started with; none where it starts by itself.
    pub fn runtime_of(&self, harness: &HarnessEntry) -> Option<&RuntimeEntry> {
        // That there is one of that name was checked when the catalog was read.
        self.runtimes.get(harness.runtime.as_ref()?)
    }

    pub(super) fn runtimes(&self) -> impl Iterator<Item = &RuntimeEntry> {
        self.runtimes.values()
    }
}

/// What the types alone do not hold.
fn check_tables(document: &Document) -> Result<(), String> {
    for (name, system) in &document.system {
        if system.command.is_none() && system.file.is_none() && system.probe.is_none() {
            return Err(format!(
                "system.{name}: no `command`, `file` or `probe` says how to find it"
            ));
        }
        if let Some(group) = system
            .groups
            .iter()
            .find(|g| !["run", "test", "dev"].contains(&g.as_str()))
        {
            return Err(format!("system.{name}: unknown group `{group}`"));
        }
    }
    for (name, tool) in &document.tool {
        if !["cargo", "npm", "pypi"].contains(&tool.source.as_str()) {
            return Err(format!("tool.{name}: unknown source `{}`", tool.source));
        }
    }
    Ok(())
}

impl HarnessTable {
    fn into_entry(self, name: String, lock: LockFile) -> HarnessEntry {
        HarnessEntry {
            name,
            title: self.title,
            description: self.description,
            licence: self.licence,
            version: self.version,
            accepts: self.accepts,
            runtime: self.runtime,
            package: self.package,
            packages: self.packages,
            entry: self.entry,
            entries: self.entries,
            allow_scripts: self.allow_scripts,
            lock,
        }
    }
}

impl RuntimeTable {
    fn into_entry(self, name: String, lock: LockFile) -> RuntimeEntry {
        RuntimeEntry {
            name,
            title: self.title,
            version: self.version,
            entry: self.entry,
            packages: self.packages,
            lock,
        }
    }
}
