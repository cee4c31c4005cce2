//! `config/lodge.toml`: the part that concerns the whole, and a check of every key in it before anything starts.

use crate::data::DataDir;
use crate::failure::Failure;
use lodge_proto::ErrorCode;
use lodge_proto::command::HarnessInfo;
use lodge_runner::harness::agents::{Agent, Agents, Places};
use serde::Deserialize;
use std::path::{Path, PathBuf};

/// Longest configuration file, bytes.
const MAX_BYTES: u64 = 1024 * 1024;

/// The file as it is written. Unknown keys are errors.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Directories in which sessions may work, besides `--workspace` and the one in the data directory.
    pub workspaces: Vec<PathBuf>,
    /// The web interface.
    pub backend: lodge_backend::Settings,
    /// Read by the gateway.
    pub gateway: lodge_gateway::config::Section,
    pub egress: lodge_gateway::config::EgressSection,
    pub provider: Vec<lodge_gateway::config::ProviderEntry>,
    pub alias: Vec<lodge_gateway::config::AliasEntry>,
    pub model_policy: Vec<lodge_gateway::config::ModelPolicyEntry>,
    pub user: Vec<lodge_gateway::config::UserEntry>,
    pub telemetry: lodge_gateway::config::TelemetrySection,
    /// Harnesses besides those that Lodge installs.
    pub agent: Vec<Agent>,
}

impl Config {
    /// Reads the file; a missing one says nothing.
    pub fn read(data: &DataDir) -> Result<Self, Failure> {
        let path = data.config();
        match std::fs::metadata(&path) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(e) => return Err(unreadable(&path, &e.to_string())),
            Ok(meta) if meta.len() > MAX_BYTES => {
                return Err(unreadable(
                    &path,
                    &format!("it has {} bytes; at most {MAX_BYTES} are read", meta.len()),
                ));
            }
            Ok(_) => {}
        }
        let text = std::fs::read_to_string(&path).map_err(|e| unreadable(&path, &e.to_string()))?;
        Self::of(&path, &text)
    }

    /// Every key of a text, as that file would have it; whether its agents can be started here too.
    pub fn check(data: &DataDir, path: &Path, text: &str) -> Result<(), Failure> {
        let config = Self::of(path, text)?;
        config.check_agents(data, &config.workspaces)
    }

    fn of(path: &Path, text: &str) -> Result<Self, Failure> {
        let config = Self::parse(path, text)?;
        for (at, workspace) in config.workspaces.iter().enumerate() {
            if !workspace.is_absolute() {
                let what = format!(
                    "workspaces[{at}]: {} is not an absolute path",
                    workspace.display()
                );
                return Err(Failure::new(ErrorCode::InvalidArgument, what).at(path.display().to_string()));
            }
        }
        Ok(config)
    }

    /// The agents of the file, each of good form; whether they can be started here is another question.
    pub fn agents(&self, data: &DataDir) -> Result<Agents, Failure> {
        let agents = Agents::new(self.agent.clone());
        agents.map_err(|error| {
            Failure::new(ErrorCode::InvalidArgument, error.to_string())
                .at(data.config().display().to_string())
                .mend("mend or remove that key; examples/config/lodge.toml explains every key")
        })
    }

    /// Every agent of the file, with what is wrong with it on this machine.
    pub fn list_agents(&self, data: &DataDir) -> Result<Vec<HarnessInfo>, Failure> {
        Ok(self.agents(data)?.list(&places(data, &self.workspaces)))
    }

    /// Refuses agents that cannot be started on this machine. Sessions may work below `workspaces`.
    pub fn check_agents(&self, data: &DataDir, workspaces: &[PathBuf]) -> Result<(), Failure> {
        self.agents(data)?
            .check(&places(data, workspaces))
            .map_err(|error| {
                Failure::new(ErrorCode::InvalidArgument, error.to_string())
                    .at(data.config().display().to_string())
                    .mend("mend that [[agent]], or remove it")
            })
    }

    fn parse(path: &Path, text: &str) -> Result<Self, Failure> {
        toml::from_str(text).map_err(|error| {
            let before = error.span().and_then(|span| text.get(..span.start));
            let line = before.map_or(1, |before| before.matches('\n').count() + 1);
            // Not the error's own display: it quotes the line, and the line may hold a key.
            Failure::new(ErrorCode::InvalidArgument, without_values(error.message()))
                .at(format!("{}, line {line}", path.display()))
                .mend("mend or remove that key; examples/config/lodge.toml explains every key")
        })
    }
}

/// What agents must keep apart from.
fn places(data: &DataDir, workspaces: &[PathBuf]) -> Places {
    Places {
        data: data.path().to_owned(),
        workspaces: workspaces.to_vec(),
    }
}

/// Some messages quote the value they did not expect.
fn without_values(message: &str) -> String {
    match (message.find('"'), message.rfind('"')) {
        (Some(start), Some(end)) if end > start => {
            format!("{}\"…\"{}", &message[..start], &message[end + 1..])
        }
        _ => message.to_owned(),
    }
}

fn unreadable(path: &Path, why: &str) -> Failure {
    Failure::new(
        ErrorCode::InvalidArgument,
        format!("the configuration cannot be read: {why}"),
    )
    .at(path.display().to_string())
    .mend("check its owner and mode, or remove it")
}

/// The directories of `given` as real paths. A session may work in any directory below one of them.
pub fn roots(given: &[PathBuf]) -> Result<Vec<PathBuf>, Failure> {
    let mut roots = Vec::with_capacity(given.len());
    for path in given {
        let real = std::fs::canonicalize(path).map_err(|e| {
            let code = if e.kind() == std::io::ErrorKind::NotFound {
                ErrorCode::NotFound
            } else {
                ErrorCode::InvalidArgument
            };
            Failure::new(code, format!("the workspace cannot be used: {e}"))
                .at(format!("--workspace {}", path.display()))
                .mend("name an existing directory")
        })?;
        if !real.is_dir() {
            return Err(
                Failure::new(ErrorCode::InvalidArgument, "the workspace is not a directory")
                    .at(format!("--workspace {}", path.display()))
                    .mend("name an existing directory"),
            );
        }
        roots.push(real);
    }
    Ok(roots)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::describe;

    fn refused(text: &str) -> String {
        describe(
            &Config::parse(Path::new("/c/lodge.toml"), text)
                .unwrap_err()
                .into(),
        )
    }

    #[test]
    fn an_unknown_key_is_an_error_with_file_line_and_key() {
        let text = refused("[backend]\nlisten_adress = 5\n");
        for part in ["/c/lodge.toml", "line 2", "listen_adress"] {
            assert!(text.contains(part), "{text}");
        }
        assert!(refused("[gateway]\ndemmo = true\n").contains("demmo"));
        assert!(
            refused("[[provider]]\nname = \"x\"\nkind = \"openai\"\napi_key = \"sk-1\"\n")
                .contains("api_key")
        );
    }

    #[test]
    fn a_wrong_value_is_not_quoted() {
        let text = refused("[backend]\nlisten = \"sk-secret\"\n");
        assert!(!text.contains("sk-secret"), "{text}");
    }

    #[test]
    fn the_known_keys_are_read() {
        let text = "workspaces = [\"/srv\"]\n[backend]\nlisten = \"127.0.0.1:9\"\n[gateway]\ndemo = true\n\
            [egress]\nmax_gib = 1\n";
        let config = Config::parse(Path::new("x"), text).unwrap();
        assert_eq!(config.backend.listen.port(), 9);
        assert_eq!(config.workspaces, [PathBuf::from("/srv")]);
        assert_eq!(config.egress.max_gib, Some(1));
    }

    #[test]
    fn roots_are_existing_directories() {
        let root = tempfile::tempdir().unwrap();
        let file = root.path().join("file");
        std::fs::write(&file, "").unwrap();
        assert_eq!(
            roots(&[root.path().join("none")]).unwrap_err().code,
            ErrorCode::NotFound
        );
        assert_eq!(roots(&[file]).unwrap_err().code, ErrorCode::InvalidArgument);
        assert_eq!(roots(&[root.path().to_owned()]).unwrap().len(), 1);
    }

    #[test]
    fn every_setting_of_the_annotated_example_is_one() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/config/lodge.toml");
        let text = std::fs::read_to_string(&path).unwrap();
        Config::parse(&path, &text).unwrap();
        let line = |line: &str| match line.strip_prefix('#') {
            Some(setting) if !setting.starts_with(' ') => setting.to_owned(),
            _ => line.to_owned(),
        };
        let all: Vec<String> = text.lines().map(line).collect();
        let config = Config::parse(&path, &all.join("\n")).unwrap();
        assert_eq!(config.provider.len(), 2);
        Agents::new(config.agent.clone()).unwrap();
        assert_eq!(config.agent.len(), 5);
        assert_eq!(config.backend.listen.port(), 8080);
    }
}
