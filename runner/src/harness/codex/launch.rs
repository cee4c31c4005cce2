//! How codex is started: arguments, environment and `config.toml`.

use super::wire::PROVIDER_PREFIX;
use crate::harness::launch::{
    GATEWAY_PORT, GUEST_HOME, HarnessLaunch, HomeFile, KEY_VARIABLE, LaunchContext, dialects,
};
use lodge_proto::control::{Dialect, Model};
use std::path::PathBuf;
use toml::{Table, Value};

/// Where codex keeps its files, below the private home. Never below a temporary directory: codex refuses that.
const CODEX_HOME: &str = ".codex";
/// Attempts to make again; the gateway makes its own.
const RETRIES: i64 = 2;

/// Arguments, environment and files for codex.
pub fn launch(context: &LaunchContext) -> HarnessLaunch {
    let mut argv: Vec<String> = context
        .installed
        .argv0
        .iter()
        .map(|path| path.to_string_lossy().into_owned())
        .collect();
    argv.push("app-server".to_owned());
    let file = HomeFile {
        path: PathBuf::from(CODEX_HOME).join("config.toml"),
        contents: config(context).to_string(),
    };
    HarnessLaunch {
        argv,
        env: vec![
            ("CODEX_HOME".to_owned(), format!("{GUEST_HOME}/{CODEX_HOME}")),
            // Its last words are shown to people.
            ("NO_COLOR".to_owned(), "1".to_owned()),
        ],
        files: vec![file],
    }
}

fn config(context: &LaunchContext) -> Table {
    // Responses is the only wire that codex speaks.
    let models: Vec<&Model> = context
        .models
        .iter()
        .filter(|model| dialects(model).contains(&Dialect::OpenaiResponses))
        .collect();
    let mut config = Table::from_iter([
        // The user is asked, not another model.
        entry("approvals_reviewer", "user"),
        // Lodge's sandbox is around it.
        entry("sandbox_mode", "danger-full-access"),
        entry("check_for_update_on_startup", false),
        // A search would run at the provider.
        entry("web_search", "disabled"),
        entry("analytics", Table::from_iter([entry("enabled", false)])),
        entry("feedback", Table::from_iter([entry("enabled", false)])),
        // Plugins are fetched from the network at start.
        entry("features", Table::from_iter([entry("plugins", false)])),
        entry("shell_environment_policy", environment()),
        entry("model_providers", providers(&models)),
        entry("projects", projects(context)),
    ]);
    let name = |model: &Model| format!("{}/{}", model.provider, model.id);
    let wanted = models
        .iter()
        .find(|model| context.model.as_deref() == Some(name(model).as_str()))
        .or(models.first());
    if let Some(model) = wanted {
        config.extend(defaults(model, &models));
    }
    if let Some(level) = &context.thinking_level {
        config.extend([entry("model_reasoning_effort", level.as_str())]);
    }
    config
}

fn entry(key: &str, value: impl Into<Value>) -> (String, Value) {
    (key.to_owned(), value.into())
}

/// A workspace brings settings, servers and hooks. Where nothing is said of it, codex trusts it as soon as a conversation
/// in it has no sandbox of codex's own.
fn projects(context: &LaunchContext) -> Table {
    let level = if context.trusts() { "trusted" } else { "untrusted" };
    let project = Table::from_iter([entry("trust_level", level)]);
    Table::from_iter([entry(&context.workspace.to_string_lossy(), project)])
}

/// Tools get the environment without the session's key.
fn environment() -> Table {
    let hidden = Value::Array(vec![KEY_VARIABLE.into()]);
    Table::from_iter([entry("exclude", hidden)])
}

fn defaults(model: &Model, models: &[&Model]) -> Table {
    let mut defaults = Table::from_iter([
        entry("model", model.id.as_str()),
        entry("model_provider", format!("{PROVIDER_PREFIX}{}", model.provider)),
    ]);
    // One window for all models of the conversation: with the smallest none overflows.
    let window = models
        .iter()
        .filter(|other| other.provider == model.provider && other.context_window > 0)
        .filter_map(|other| i64::try_from(other.context_window).ok())
        .min();
    if let Some(window) = window {
        defaults.extend([entry("model_context_window", window)]);
    }
    defaults
}

fn providers(models: &[&Model]) -> Table {
    models
        .iter()
        .map(|model| {
            let provider = &model.provider;
            let table = Table::from_iter([
                entry("name", provider.as_str()),
                entry(
                    "base_url",
                    format!("http://127.0.0.1:{GATEWAY_PORT}/{provider}/v1"),
                ),
                entry("env_key", KEY_VARIABLE),
                entry("wire_api", "responses"),
                entry("request_max_retries", RETRIES),
                entry("stream_max_retries", RETRIES),
            ]);
            entry(&format!("{PROVIDER_PREFIX}{provider}"), table)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::harness::install::InstalledHarness;

    fn model(provider: &str, id: &str, dialect: Dialect, window: u64) -> Model {
        Model {
            provider: provider.to_owned(),
            id: id.to_owned(),
            name: id.to_owned(),
            context_window: window,
            dialects: vec![dialect.into()],
            ..Model::default()
        }
    }

    fn context() -> LaunchContext {
        LaunchContext {
            session: lodge_proto::SessionId::default(),
            installed: InstalledHarness {
                name: "codex".to_owned(),
                version: semver::Version::new(0, 169, 0),
                argv0: vec![PathBuf::from("/opt/codex/bin/codex")],
                roots: Vec::new(),
            },
            agent: None,
            trusted: Vec::new(),
            workspace: PathBuf::from("/workspace"),
            native_session: None,
            models: vec![
                model("claude", "opus", Dialect::AnthropicMessages, 1),
                model("demo", "large", Dialect::OpenaiResponses, 200_000),
                model("demo", "small", Dialect::OpenaiResponses, 64_000),
            ],
            model: Some("demo/small".to_owned()),
            thinking_level: Some("high".to_owned()),
            ask_permissions: true,
            forked_from: None,
        }
    }

    fn written(launch: &HarnessLaunch) -> Table {
        launch.files[0].contents.parse().unwrap()
    }

    #[test]
    fn the_gateway_is_the_only_provider_and_the_key_stays_in_the_environment() {
        let launch = launch(&context());
        assert_eq!(launch.argv, ["/opt/codex/bin/codex", "app-server"]);
        assert_eq!(
            launch.env[0],
            ("CODEX_HOME".to_owned(), "/home/guest/.codex".to_owned())
        );
        assert_eq!(launch.files[0].path, PathBuf::from(".codex/config.toml"));
        let config = written(&launch);
        let providers = config["model_providers"].as_table().unwrap();
        assert_eq!(providers.keys().collect::<Vec<_>>(), ["lodge-demo"]);
        let provider = &providers["lodge-demo"];
        assert_eq!(
            provider["base_url"].as_str(),
            Some("http://127.0.0.1:8377/demo/v1")
        );
        assert_eq!(provider["env_key"].as_str(), Some("LODGE_API_KEY"));
        assert_eq!(provider["wire_api"].as_str(), Some("responses"));
        assert_eq!(
            config["shell_environment_policy"]["exclude"][0].as_str(),
            Some("LODGE_API_KEY")
        );
    }

    #[test]
    fn model_and_level_are_the_sessions() {
        let config = written(&launch(&context()));
        assert_eq!(config["model"].as_str(), Some("small"));
        assert_eq!(config["model_provider"].as_str(), Some("lodge-demo"));
        assert_eq!(config["model_context_window"].as_integer(), Some(64_000));
        assert_eq!(config["model_reasoning_effort"].as_str(), Some("high"));
        // It goes with the start of the conversation: in the configuration codex refuses "untrusted".
        assert!(!config.contains_key("approval_policy"));
        assert_eq!(config["sandbox_mode"].as_str(), Some("danger-full-access"));
        assert_eq!(config["features"]["plugins"].as_bool(), Some(false));
    }

    #[test]
    fn a_model_that_codex_cannot_speak_to_gives_way_to_one_it_can() {
        let wanted = LaunchContext {
            model: Some("claude/opus".to_owned()),
            ..context()
        };
        let config = written(&launch(&wanted));
        assert_eq!(config["model"].as_str(), Some("large"));
    }
}
