//! How agents that speak ACP are started: one row for each.

use super::options::PROVIDER_PREFIX;
use crate::harness::agents::Agent;
use crate::harness::launch::{
    GATEWAY_PORT, GUEST_HOME, HarnessLaunch, HomeFile, KEY_VALUE, KEY_VARIABLE, LaunchContext, dialects,
};
use lodge_proto::control::{Dialect, Model};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Environment and files of an agent.
#[derive(Debug, Default)]
struct Config {
    env: Vec<(&'static str, String)>,
    files: Vec<(&'static str, String)>,
}

/// What is known of one agent.
#[derive(Debug)]
struct Row {
    name: &'static str,
    args: &'static [&'static str],
    /// Further arguments where tools run unasked.
    unasked: &'static [&'static str],
    configure: fn(&LaunchContext) -> Config,
}

const ROWS: &[Row] = &[
    Row {
        name: "gemini",
        args: &["--acp"],
        unasked: &[],
        configure: gemini,
    },
    Row {
        name: "qwen",
        // Otherwise it runs the hooks and servers that a workspace brings; it does not read text of a workspace then.
        args: &["--acp", "--safe-mode"],
        unasked: &["--approval-mode=yolo"],
        configure: qwen,
    },
    Row {
        name: "goose",
        args: &["acp"],
        unasked: &[],
        configure: goose,
    },
    Row {
        name: "opencode-acp",
        args: &["acp"],
        unasked: &[],
        configure: opencode,
    },
    Row {
        name: "codex-acp",
        args: &[],
        unasked: &[],
        configure: codex,
    },
    Row {
        name: "claude-code-acp",
        args: &[],
        unasked: &[],
        configure: claude,
    },
    // Any other: how it reaches a model is its own affair, so it is told in every usual way.
    Row {
        name: "acp",
        args: &[],
        unasked: &[],
        configure: other,
    },
];

/// What one client for `OpenAI` speaks, best first.
const OPENAI: &[Dialect] = &[Dialect::OpenaiChat, Dialect::OpenaiResponses];
/// Where Gemini's client finds its model.
const GEMINI_ADDRESS: &[&str] = &["GEMINI_API_KEY", "GOOGLE_GEMINI_BASE_URL", "GEMINI_MODEL"];

/// How often Gemini asks its model before it gives up. It pauses 5 s before the second attempt and twice as long before
/// each further one.
const GEMINI_ATTEMPTS: u32 = 4;

/// Tools run unasked. The mode for that would need a trusted workspace, and one that is trusted runs what it brings.
const GEMINI_POLICY: &str = r#"[[rule]]
toolName = "*"
decision = "allow"
priority = 998
modes = ["default", "autoEdit"]
allowRedirection = true
"#;

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
    let agent = context.agent.as_ref();
    match agent.and_then(|agent| agent.args.as_ref()) {
        Some(args) => argv.extend(args.iter().cloned()),
        None => argv.extend(row.iter().flat_map(|row| arguments(row, context))),
    }
    let config = row.map_or_else(|| other(context), |row| (row.configure)(context));
    let mut env: BTreeMap<String, String> = config
        .env
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect();
    // The administrator's word is the last.
    env.extend(agent.into_iter().flat_map(|agent| agent.env.clone()));
    HarnessLaunch {
        argv,
        env: env.into_iter().collect(),
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

fn arguments(row: &Row, context: &LaunchContext) -> impl Iterator<Item = String> + use<> {
    let unasked = if context.ask_permissions { &[] } else { row.unasked };
    row.args.iter().chain(unasked).map(|arg| (*arg).to_owned())
}

/// A model that an agent can speak to.
struct Choice<'a> {
    model: &'a Model,
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

/// Models that speak one of these dialects.
fn speaking<'a>(context: &'a LaunchContext, wanted: &[Dialect]) -> Vec<Choice<'a>> {
    context
        .models
        .iter()
        .filter(|model| dialects(model).iter().any(|dialect| wanted.contains(dialect)))
        .map(|model| Choice { model })
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
            // It tells of none of them, and its own ten take minutes.
            "maxAttempts": GEMINI_ATTEMPTS,
        },
        "privacy": { "usageStatisticsEnabled": false },
        "telemetry": { "enabled": false },
        "security": { "auth": { "selectedType": "gemini-api-key" } },
        "tools": { "sandbox": false },
    });
    let mut config = Config {
        env: vec![
            ("GEMINI_API_KEY", key()),
            ("GEMINI_CLI_NO_RELAUNCH", "true".to_owned()),
            // A workspace's settings, servers and hooks are code of a stranger, unless its user says otherwise.
            ("GEMINI_CLI_TRUST_WORKSPACE", context.trusts().to_string()),
            ("GEMINI_TELEMETRY_ENABLED", "false".to_owned()),
        ],
        files: vec![(".gemini/settings.json", pretty(&settings))],
    };
    if !context.ask_permissions {
        config
            .files
            .push((".gemini/policies/lodge.toml", GEMINI_POLICY.to_owned()));
    }
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
    let mut config = openai(context, OPENAI);
    config.files.push((".qwen/settings.json", pretty(&settings)));
    config
}

fn goose(context: &LaunchContext) -> Config {
    let mut config = Config {
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

fn openai(context: &LaunchContext, spoken: &[Dialect]) -> Config {
    let mut config = Config {
        env: vec![("OPENAI_API_KEY", key())],
        files: Vec::new(),
    };
    if let Some(choice) = first(context, spoken) {
        config
            .env
            .push(("OPENAI_BASE_URL", format!("{}/v1", choice.address())));
        config.env.push(("OPENAI_MODEL", choice.model.id.clone()));
    }
    config
}

fn claude(context: &LaunchContext) -> Config {
    let mut config = Config {
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
        // Where nothing is said of it, it is trusted as soon as there is no sandbox of codex's own.
        "projects": { context.workspace.to_string_lossy(): { "trust_level": "untrusted" } },
    });
    if let Some(choice) = first(context, &[Dialect::OpenaiResponses]) {
        settings["model"] = choice.model.id.clone().into();
        settings["model_provider"] = format!("{PROVIDER_PREFIX}{}", choice.model.provider).into();
    }
    if let Some(level) = &context.thinking_level {
        settings["model_reasoning_effort"] = level.clone().into();
    }
    let mut env = vec![
        ("CODEX_HOME", format!("{GUEST_HOME}/.codex")),
        ("NO_BROWSER", "1".to_owned()),
    ];
    if !context.ask_permissions {
        // Its other modes put codex's own sandbox around each command.
        env.push(("INITIAL_AGENT_MODE", "agent-full-access".to_owned()));
    }
    Config {
        env,
        // Every value is a text, a number, a truth or a table of these: TOML has them all.
        files: vec![(
            ".codex/config.toml",
            toml::to_string(&settings).unwrap_or_default(),
        )],
    }
}

/// The program of the harness `opencode`, with the same settings.
fn opencode(context: &LaunchContext) -> Config {
    Config {
        env: crate::harness::opencode::launch::environment(context),
        files: crate::harness::opencode::launch::files(context).to_vec(),
    }
}

fn other(context: &LaunchContext) -> Config {
    let every = [OPENAI, &[Dialect::AnthropicMessages, Dialect::Gemini]].concat();
    let spoken = context.agent.as_ref().map_or(every, Agent::dialects);
    let of_openai: Vec<Dialect> = spoken
        .iter()
        .copied()
        .filter(|dialect| OPENAI.contains(dialect))
        .collect();
    let mut config = if of_openai.is_empty() {
        Config::default()
    } else {
        openai(context, &of_openai)
    };
    if spoken.contains(&Dialect::AnthropicMessages) {
        let env = claude(context).env.into_iter();
        config
            .env
            .extend(env.filter(|(name, _)| name.starts_with("ANTHROPIC")));
    }
    if spoken.contains(&Dialect::Gemini) {
        let env = gemini(context).env.into_iter();
        config
            .env
            .extend(env.filter(|(name, _)| GEMINI_ADDRESS.contains(name)));
    }
    config
}

#[cfg(test)]
mod tests;
