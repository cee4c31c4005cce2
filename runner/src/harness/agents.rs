//! Agents that the administrator adds: `[[agent]]` of the configuration file.
//!
//! Any command line of this machine that speaks the Agent Client Protocol. Only that file can name one, never a
//! workspace: what it names runs with the session's key and sees whatever the session's sandbox shows.

use super::AnyAdapter;
use super::install::{Catalog, InstallError, InstalledHarness};
use super::launch::KEY_VARIABLE;
use lodge_proto::command::HarnessInfo;
use lodge_proto::control::Dialect;
use lodge_proto::{ErrorBody, ErrorCode};
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Longest name.
const MAX_NAME: usize = 32;
/// Directories that every guest sees of the host's system.
const SYSTEM: &[&str] = &["/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32"];
/// Where nothing can be shown, or nothing may be: the sandbox is built of it, or it is the system's.
const RESERVED: &[&str] = &[
    "/bin", "/boot", "/dev", "/etc", "/lib", "/lib32", "/lib64", "/libx32", "/proc", "/run", "/sbin", "/sys",
    "/usr",
];
/// Directories that nobody's agent may show whole: homes, and what holds them.
const HOMES: &[&str] = &["/root", "/home", "/tmp", "/var/tmp"];

/// One `[[agent]]`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Agent {
    /// As `--harness` takes it. Where Lodge has settings for an agent of that name (`goose`, `qwen`), it gets them.
    pub name: String,
    /// Name for people; default: the name.
    pub title: Option<String>,
    /// For the picker.
    pub description: Option<String>,
    /// The program, an absolute path, and its first arguments.
    pub command: Vec<String>,
    /// Further arguments; default: those of Lodge's settings for an agent of that name.
    pub args: Option<Vec<String>>,
    /// Directories of the host that its guests are shown read-only.
    #[serde(default)]
    pub roots: Vec<PathBuf>,
    /// Variables besides those that Lodge sets.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// The dialects it speaks to models, the one it should use first; default: every one.
    pub dialects: Option<Vec<Spoken>>,
    /// Names at the top of a workspace that its guests are not shown, because it would run what they bring; default:
    /// those of every agent that Lodge knows of.
    pub hide: Option<Vec<String>>,
}

/// What agents take settings, hooks, servers and extensions from. Text for an agent (`AGENTS.md`) is not among them.
const CODE: &[&str] = &[
    ".agents",
    ".claude",
    ".codex",
    ".gemini",
    ".goose",
    ".mcp.json",
    ".opencode",
    ".pi",
    ".qwen",
    "opencode.json",
    "opencode.jsonc",
];

/// A dialect, as the file names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Spoken {
    OpenaiChat,
    OpenaiResponses,
    AnthropicMessages,
    Gemini,
}

/// Every dialect, in the order in which an agent that names none is given them.
const EVERY: [Dialect; 4] = [
    Dialect::OpenaiChat,
    Dialect::OpenaiResponses,
    Dialect::AnthropicMessages,
    Dialect::Gemini,
];

impl From<Spoken> for Dialect {
    fn from(spoken: Spoken) -> Self {
        match spoken {
            Spoken::OpenaiChat => Self::OpenaiChat,
            Spoken::OpenaiResponses => Self::OpenaiResponses,
            Spoken::AnthropicMessages => Self::AnthropicMessages,
            Spoken::Gemini => Self::Gemini,
        }
    }
}

/// Why an agent is refused.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// `key` is its place in the file, counted from 0.
    #[error("agent[{at}]: {key}: {reason}")]
    Form {
        at: usize,
        key: &'static str,
        reason: String,
    },
    #[error("agent `{name}`: {key}: {reason}")]
    Host {
        name: String,
        key: &'static str,
        reason: String,
    },
    #[error(transparent)]
    Catalog(#[from] InstallError),
}

/// What guests must not be shown, or can write to.
#[derive(Debug, Clone)]
pub struct Places {
    /// Lodge's data directory.
    pub data: PathBuf,
    /// Directories below which sessions work.
    pub workspaces: Vec<PathBuf>,
}

/// The agents of a configuration file, each of good form.
#[derive(Debug, Clone, Default)]
pub struct Agents(Vec<Agent>);

impl Agents {
    /// Checks what can be checked without looking at the machine.
    pub fn new(agents: Vec<Agent>) -> Result<Self, AgentError> {
        if agents.is_empty() {
            return Ok(Self::default());
        }
        let catalog = Catalog::embedded()?;
        let own: BTreeSet<&str> = catalog
            .harnesses()
            .map(|entry| entry.name.as_str())
            .chain(AnyAdapter::NAMES.iter().copied())
            .collect();
        let mut names = BTreeSet::new();
        for (at, agent) in agents.iter().enumerate() {
            let refused = |(key, reason)| AgentError::Form { at, key, reason };
            form(agent).map_err(refused)?;
            let name = &agent.name;
            if own.contains(name.as_str()) {
                return Err(refused(("name", format!("`{name}` is a harness of Lodge's own"))));
            }
            if !names.insert(name) {
                return Err(refused(("name", format!("there are two agents named `{name}`"))));
            }
        }
        Ok(Self(agents))
    }

    /// The agent of this name.
    pub fn all(&self) -> &[Agent] {
        &self.0
    }

    pub fn get(&self, name: &str) -> Option<&Agent> {
        self.0.iter().find(|agent| agent.name == name)
    }

    /// Checks every agent against this machine. Blocking.
    pub fn check(&self, places: &Places) -> Result<(), AgentError> {
        self.0
            .iter()
            .try_for_each(|agent| agent.resolve(places).map(drop))
    }

    /// Every agent as the picker shows it, in the order of the file. Blocking.
    pub fn list(&self, places: &Places) -> Vec<HarnessInfo> {
        self.0.iter().map(|agent| agent.info(places)).collect()
    }
}

impl Agent {
    fn info(&self, places: &Places) -> HarnessInfo {
        let problem = self.resolve(places).err();
        let words = || format!("{}, of the configuration file.", self.command.join(" "));
        HarnessInfo {
            name: self.name.clone(),
            title: self.title.clone().unwrap_or_else(|| self.name.clone()),
            description: self.description.clone().unwrap_or_else(words),
            installed: problem.is_none(),
            version: String::new(),
            licence: None,
            installing: None,
            problem: problem.map(|error| ErrorBody::from(&error)),
        }
    }

    /// Names of a workspace that its guests are not shown.
    pub fn hidden(&self) -> Vec<String> {
        let every = || CODE.iter().map(|&name| name.to_owned()).collect();
        self.hide.clone().unwrap_or_else(every)
    }

    /// The dialects it speaks, best first.
    pub fn dialects(&self) -> Vec<Dialect> {
        match &self.dialects {
            Some(spoken) => spoken.iter().copied().map(Dialect::from).collect(),
            None => EVERY.to_vec(),
        }
    }

    /// How it is started. Refused where its program or one of its roots cannot be used on this machine. Blocking.
    pub fn resolve(&self, places: &Places) -> Result<InstalledHarness, AgentError> {
        let refused = |(key, reason): (&'static str, String)| AgentError::Host {
            name: self.name.clone(),
            key,
            reason,
        };
        for root in &self.roots {
            check_root(root, places).map_err(|reason| refused(("roots", reason)))?;
        }
        self.check_program()
            .map_err(|reason| refused(("command", reason)))?;
        Ok(InstalledHarness {
            name: self.name.clone(),
            // It is not Lodge's to know.
            version: semver::Version::new(0, 0, 0),
            argv0: self.command.iter().map(PathBuf::from).collect(),
            roots: self.roots.clone(),
        })
    }

    fn check_program(&self) -> Result<(), String> {
        let program = Path::new(self.command.first().map_or("", String::as_str));
        let shown = program.display();
        let real = program
            .canonicalize()
            .map_err(|error| format!("{shown}: {error}"))?;
        let found = real.metadata().map_err(|error| format!("{shown}: {error}"))?;
        if !found.is_file() {
            return Err(format!("{shown} is no file"));
        }
        let mode = found.permissions().mode();
        if mode & 0o111 == 0 {
            return Err(format!("{shown} is not executable"));
        }
        if mode & 0o002 != 0 {
            return Err(format!("{shown} can be changed by every user of this machine"));
        }
        let system = SYSTEM.iter().map(Path::new);
        let visible: Vec<&Path> = system.chain(self.roots.iter().map(PathBuf::as_path)).collect();
        let is_seen = |path: &Path| visible.iter().any(|root| path.starts_with(root));
        if is_seen(program) && is_seen(&real) {
            return Ok(());
        }
        Err(format!(
            "{} is not seen in the sandbox: name its directory in `roots`",
            real.display()
        ))
    }
}

impl From<&AgentError> for ErrorBody {
    fn from(error: &AgentError) -> Self {
        let code = match error {
            AgentError::Form { .. } => ErrorCode::InvalidArgument,
            AgentError::Host { .. } => ErrorCode::HarnessNotInstalled,
            AgentError::Catalog(error) => error.code(),
        };
        Self::new(code, format!("{error}; see [[agent]] in config/lodge.toml"))
    }
}

/// What the text alone says: the key that is wrong, and why.
fn form(agent: &Agent) -> Result<(), (&'static str, String)> {
    let name = &agent.name;
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let begins = name.bytes().next().is_some_and(|byte| byte.is_ascii_lowercase());
    if !begins || name.len() > MAX_NAME || !name.bytes().all(plain) {
        let reason =
            format!("a lower-case letter, then letters, digits and `-`; {MAX_NAME} characters at most");
        return Err(("name", reason));
    }
    if !agent
        .command
        .first()
        .is_some_and(|program| program.starts_with('/'))
    {
        return Err((
            "command",
            "it begins with the absolute path of a program".to_owned(),
        ));
    }
    if let Some(root) = agent.roots.iter().find(|root| !root.is_absolute()) {
        return Err(("roots", format!("{} is no absolute path", root.display())));
    }
    if agent.dialects.as_ref().is_some_and(Vec::is_empty) {
        return Err(("dialects", "name at least one, or leave the key away".to_owned()));
    }
    for name in agent.hide.iter().flatten() {
        if name.is_empty() || name == "." || name == ".." || name.contains('/') {
            let reason = format!("`{name}` is no name of a file or directory at the top of a workspace");
            return Err(("hide", reason));
        }
    }
    for variable in agent.env.keys() {
        let letters = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        let begins = variable.bytes().next().is_some_and(|byte| !byte.is_ascii_digit());
        if !begins || !variable.bytes().all(letters) {
            return Err(("env", format!("`{variable}` is no name of a variable")));
        }
        if variable.starts_with("LODGE_") || variable == "HOME" {
            return Err((
                "env",
                format!("{variable} is set by Lodge; {KEY_VARIABLE} holds the key"),
            ));
        }
    }
    let texts = [("title", &agent.title), ("description", &agent.description)];
    let texts = texts
        .into_iter()
        .filter_map(|(key, text)| Some((key, text.as_ref()?)));
    let command = agent.command.iter().map(|word| ("command", word));
    let args = agent.args.iter().flatten().map(|word| ("args", word));
    let env = agent.env.values().map(|value| ("env", value));
    let hide = agent.hide.iter().flatten().map(|name| ("hide", name));
    let mut all = texts.chain(command).chain(args).chain(env).chain(hide);
    match all.find(|(_, text)| text.chars().any(char::is_control)) {
        Some((key, _)) => Err((key, "it holds a control character".to_owned())),
        None => Ok(()),
    }
}

/// A root is a real directory, and shows or is nothing but the agent.
fn check_root(root: &Path, places: &Places) -> Result<(), String> {
    let shown = root.display();
    let real = root.canonicalize().map_err(|error| format!("{shown}: {error}"))?;
    if !real.is_dir() {
        return Err(format!("{shown} is no directory"));
    }
    if real != root {
        return Err(format!(
            "{shown} leads through a symbolic link: write {}",
            real.display()
        ));
    }
    let overlaps = |path: &Path| root.starts_with(path) || path.starts_with(root);
    let existing = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
    if RESERVED.iter().any(|path| overlaps(Path::new(path))) {
        return Err(format!(
            "{shown} is the system's, of which guests are shown what they need"
        ));
    }
    if overlaps(&existing(&places.data)) {
        return Err(format!("{shown} holds Lodge's own data, or lies in it"));
    }
    let home = std::env::home_dir().map(|home| existing(&home));
    let is_home = HOMES.iter().map(Path::new).any(|path| path.starts_with(root))
        || root.parent() == Some(Path::new("/home"))
        || home.is_some_and(|home| home.parent().is_some() && home.starts_with(root));
    if is_home {
        return Err(format!("{shown} is a home directory, or holds one"));
    }
    match places.workspaces.iter().find(|path| overlaps(&existing(path))) {
        Some(workspace) => Err(format!(
            "{shown} and {}, in which sessions work, are not apart: they could change the agent",
            workspace.display()
        )),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests;
