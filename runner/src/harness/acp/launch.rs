//! How agents that speak ACP are started: one row for each.

use super::options::PROVIDER_PREFIX;
use crate::harness::launch::{
    GATEWAY_PORT, GUEST_HOME, HarnessLaunch, HomeFile, KEY_VALUE, KEY_VARIABLE, LaunchContext, dialects,
};
use lodge_proto::control::{Dialect, Model};
use serde_json::{Map, Value, json};
use std::path::PathBuf;

/// Tokens a model may answer with where the catalog does not say.
const DEFAULT_MAX_OUTPUT: u64 = 8_192;
/// Context window where the catalog does not say.
const DEFAULT_CONTEXT_WINDOW: u64 = 128_000;

/// Further arguments, environment and files of an agent.
#[derive(Debug, Default)]
struct Config {
    args: &'static [&'static str],
    env: Vec<(&'static str, String)>,
    files: Vec<(&'static str, String)>,
}

/// What is known of one agent.
#[derive(Debug)]
struct Row {
    name: &'static str,
    args: &'static [&'static str],
    configure: fn(&LaunchContext) -> Config,
}

const ROWS: &[Row] = &[
    Row {
        name: "gemini",
        args: &["--acp"],
        configure: gemini,
    },
    Row {
        name: "qwen",
        args: &["--acp"],
        configure: qwen,
    },
    Row {
        name: "goose",
        args: &["acp"],
        configure: goose,
    },
    Row {
        name: "opencode-acp",
        args: &["acp"],
        configure: opencode,
    },
    Row {
        name: "codex-acp",
        args: &[],
        configure: codex,
    },
    Row {
        name: "claude-code-acp",
        args: &[],
        configure: claude,
    },
    // Any other: how it reaches a model is its own affair, so it is told in every usual way.
    Row {
        name: "acp",
        args: &[],
        configure: other,
    },
];

/// Whether an agent of this name is started over ACP.
pub fn is_known(name: &str) -> bool {
    ROWS.iter().any(|row| row.name == name)
}

/// Arguments, environment and files for the agent that is installed. One without a row is started as it is.
pub fn launch(context: &LaunchContext) -> HarnessLaunch {
    let row = ROWS.iter().find(|row| row.name == context.installed.name);
    let mut argv: Vec<String> = context
        .installed
        .argv0
        .iter()
        .map(|path| path.to_string_lossy().into_owned())
        .collect();
    argv.extend(row.iter().flat_map(|row| row.args).map(|arg| (*arg).to_owned()));
    let config = row.map_or_else(|| other(context), |row| (row.configure)(context));
    argv.extend(config.args.iter().map(|arg| (*arg).to_owned()));
    HarnessLaunch {
        argv,
        env: config
            .env
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value))
            .collect(),
        files: config
            .files
            .into_iter()
            .map(|(path, contents)| HomeFile {
                path: PathBuf::from(path),
                contents,
            })
            .collect(),
    }
}

/// A model and the dialect an agent speaks to it.
struct Choice<'a> {
    model: &'a Model,
    dialect: Dialect,
}

impl Choice<'_> {
    /// The provider's address at the gateway, without a version.
    fn address(&self) -> String {
        address(&self.model.provider)
    }
}

fn address(provider: &str) -> String {
    format!("http://127.0.0.1:{GATEWAY_PORT}/{provider}")
}

/// Models that speak one of these dialects, each with the first of them that it speaks.
fn speaking<'a>(context: &'a LaunchContext, wanted: &[Dialect]) -> Vec<Choice<'a>> {
    context
        .models
        .iter()
        .filter_map(|model| {
            let dialect = dialects(model)
                .into_iter()
                .find(|dialect| wanted.contains(dialect))?;
            Some(Choice { model, dialect })
        })
        .collect()
}

/// The model to begin with: the one that was asked for, or the first.
fn first<'a>(context: &'a LaunchContext, wanted: &[Dialect]) -> Option<Choice<'a>> {
    let mut models = speaking(context, wanted);
    let asked = models.iter().position(|choice| {
        let id = format!("{}/{}", choice.model.provider, choice.model.id);
        context.model.as_deref() == Some(id.as_str())
    });
    (!models.is_empty()).then(|| models.swap_remove(asked.unwrap_or_default()))
}

fn key() -> String {
    KEY_VALUE.to_owned()
}

fn pretty(value: &Value) -> String {
    format!("{value:#}\n")
}

fn gemini(context: &LaunchContext) -> Config {
    let settings = json!({
        "general": {
            "disableAutoUpdate": true,
            "enableAutoUpdate": false,
            "disableUpdateNag": true,
            // Otherwise it deletes sessions that are still to be resumed.
            "sessionRetention": { "enabled": false },
        },
        "privacy": { "usageStatisticsEnabled": false },
        "telemetry": { "enabled": false },
        "security": { "auth": { "selectedType": "gemini-api-key" } },
        "tools": { "sandbox": false },
    });
    let mut config = Config {
        args: if context.ask_permissions {
            &[]
        } else {
            &["--approval-mode", "yolo"]
        },
        env: vec![
            ("GEMINI_API_KEY", key()),
            ("GEMINI_CLI_NO_RELAUNCH", "true".to_owned()),
            ("GEMINI_TELEMETRY_ENABLED", "false".to_owned()),
        ],
        files: vec![(".gemini/settings.json", pretty(&settings))],
    };
    if let Some(choice) = first(context, &[Dialect::Gemini]) {
        // The client adds the version itself. A fixed model: the choice by itself costs calls of another model.
        config.env.push(("GOOGLE_GEMINI_BASE_URL", choice.address()));
        config.env.push(("GEMINI_MODEL", choice.model.id.clone()));
    }
    config
}

fn qwen(context: &LaunchContext) -> Config {
    let settings = json!({
        "general": { "disableAutoUpdate": true },
        "privacy": { "usageStatisticsEnabled": false },
        "telemetry": { "enabled": false },
        "security": { "auth": { "selectedType": "openai" } },
        "tools": { "sandbox": false },
    });
    let mut config = openai(context);
    config.files.push((".qwen/settings.json", pretty(&settings)));
    config
}

fn goose(context: &LaunchContext) -> Config {
    let mut config = Config {
        args: &[],
        env: vec![
            ("GOOSE_PROVIDER", "openai".to_owned()),
            ("GOOSE_DISABLE_KEYRING", "1".to_owned()),
            ("GOOSE_TELEMETRY_ENABLED", "false".to_owned()),
            ("OPENAI_API_KEY", key()),
        ],
        files: Vec::new(),
    };
    if let Some(choice) = first(context, &[Dialect::OpenaiChat]) {
        config.env.extend([
            ("OPENAI_HOST", format!("http://127.0.0.1:{GATEWAY_PORT}")),
            (
                "OPENAI_BASE_PATH",
                format!("{}/v1/chat/completions", choice.model.provider),
            ),
            ("GOOSE_MODEL", choice.model.id.clone()),
        ]);
    }
    config
}

fn openai(context: &LaunchContext) -> Config {
    let mut config = Config {
        args: &[],
        env: vec![("OPENAI_API_KEY", key())],
        files: Vec::new(),
    };
    if let Some(choice) = first(context, &[Dialect::OpenaiChat, Dialect::OpenaiResponses]) {
        config
            .env
            .push(("OPENAI_BASE_URL", format!("{}/v1", choice.address())));
        config.env.push(("OPENAI_MODEL", choice.model.id.clone()));
    }
    config
}

fn claude(context: &LaunchContext) -> Config {
    let mut config = Config {
        args: &[],
        env: vec![
            ("CLAUDE_CONFIG_DIR", format!("{GUEST_HOME}/.claude")),
            ("ANTHROPIC_AUTH_TOKEN", key()),
            ("CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC", "1".to_owned()),
            ("CLAUDE_CODE_MAX_RETRIES", "2".to_owned()),
            ("DISABLE_AUTOUPDATER", "1".to_owned()),
            ("DISABLE_ERROR_REPORTING", "1".to_owned()),
            ("DISABLE_TELEMETRY", "1".to_owned()),
        ],
        files: Vec::new(),
    };
    if let Some(choice) = first(context, &[Dialect::AnthropicMessages]) {
        config.env.extend([
            ("ANTHROPIC_BASE_URL", choice.address()),
            ("ANTHROPIC_MODEL", choice.model.id.clone()),
            ("ANTHROPIC_SMALL_FAST_MODEL", choice.model.id.clone()),
        ]);
    }
    config
}

fn codex(context: &LaunchContext) -> Config {
    // The only dialect it speaks; Lodge's sandbox is around it, its own does not start inside.
    let models = speaking(context, &[Dialect::OpenaiResponses]);
    let providers: Map<String, Value> = models
        .iter()
        .map(|choice| {
            let provider = &choice.model.provider;
            let entry = json!({
                "name": provider,
                "base_url": format!("{}/v1", choice.address()),
                "env_key": KEY_VARIABLE,
                "wire_api": "responses",
                "request_max_retries": 2,
                "stream_max_retries": 2,
            });
            (format!("{PROVIDER_PREFIX}{provider}"), entry)
        })
        .collect();
    let mut settings = json!({
        "sandbox_mode": "danger-full-access",
        "approval_policy": if context.ask_permissions { "untrusted" } else { "never" },
        "check_for_update_on_startup": false,
        "features": { "plugins": false },
        "analytics": { "enabled": false },
        "model_providers": providers,
    });
    if let Some(choice) = first(context, &[Dialect::OpenaiResponses]) {
        settings["model"] = choice.model.id.clone().into();
        settings["model_provider"] = format!("{PROVIDER_PREFIX}{}", choice.model.provider).into();
    }
    if let Some(level) = &context.thinking_level {
        settings["model_reasoning_effort"] = level.clone().into();
    }
    Config {
        args: &[],
        env: vec![
            ("CODEX_HOME", format!("{GUEST_HOME}/.codex")),
            ("NO_BROWSER", "1".to_owned()),
        ],
        // Every value is a text, a number, a truth or a table of these: TOML has them all.
        files: vec![(
            ".codex/config.toml",
            toml::to_string(&settings).unwrap_or_default(),
        )],
    }
}

fn opencode(context: &LaunchContext) -> Config {
    let wanted = [
        Dialect::OpenaiChat,
        Dialect::OpenaiResponses,
        Dialect::AnthropicMessages,
    ];
    let mut providers = Map::new();
    for choice in speaking(context, &wanted) {
        let package = match choice.dialect {
            Dialect::AnthropicMessages => "@ai-sdk/anthropic",
            Dialect::OpenaiResponses => "@ai-sdk/openai",
            _ => "@ai-sdk/openai-compatible",
        };
        let provider = &choice.model.provider;
        let entry = providers
            .entry(format!("{PROVIDER_PREFIX}{provider}"))
            .or_insert_with(|| {
                json!({
                    "npm": package,
                    "name": provider,
                    "options": {
                        "baseURL": format!("{}/v1", choice.address()),
                        "apiKey": format!("{{env:{KEY_VARIABLE}}}"),
                    },
                    "models": {},
                })
            });
        let or = |value: u64, default: u64| if value == 0 { default } else { value };
        entry["models"][&choice.model.id] = json!({
            "name": choice.model.name,
            "reasoning": choice.model.reasoning,
            "attachment": choice.model.images,
            "limit": {
                "context": or(choice.model.context_window, DEFAULT_CONTEXT_WINDOW),
                "output": or(choice.model.max_output, DEFAULT_MAX_OUTPUT),
            },
        });
    }
    // Without this list it offers its vendor's own models and would send code there.
    let names: Vec<String> = providers.keys().cloned().collect();
    let mut settings = json!({
        "provider": providers,
        "enabled_providers": names,
        "share": "disabled",
        "autoupdate": false,
    });
    if let Some(choice) = first(context, &wanted) {
        let model = format!("{PROVIDER_PREFIX}{}/{}", choice.model.provider, choice.model.id);
        settings["small_model"] = model.clone().into();
        settings["model"] = model.into();
    }
    if context.ask_permissions {
        settings["permission"] = json!({ "bash": "ask", "edit": "ask", "webfetch": "ask" });
    }
    let path = format!("{GUEST_HOME}/.config/opencode/lodge.json");
    Config {
        args: &[],
        env: vec![
            ("OPENCODE_CONFIG", path),
            // A workspace's own settings are code of a stranger.
            ("OPENCODE_DISABLE_PROJECT_CONFIG", "1".to_owned()),
            ("OPENCODE_DISABLE_AUTOUPDATE", "1".to_owned()),
            ("OPENCODE_DISABLE_MODELS_FETCH", "1".to_owned()),
            ("OPENCODE_DISABLE_LSP_DOWNLOAD", "1".to_owned()),
            ("OPENCODE_DISABLE_CLAUDE_CODE", "1".to_owned()),
        ],
        files: vec![(".config/opencode/lodge.json", pretty(&settings))],
    }
}

fn other(context: &LaunchContext) -> Config {
    let mut config = openai(context);
    config.env.extend(
        claude(context)
            .env
            .into_iter()
            .filter(|(name, _)| name.starts_with("ANTHROPIC")),
    );
    config.env.extend(
        gemini(context)
            .env
            .into_iter()
            .filter(|(name, _)| name.contains("GEMINI")),
    );
    config
}

#[cfg(test)]
mod tests;
