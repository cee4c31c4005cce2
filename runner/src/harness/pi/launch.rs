//! How pi is started: arguments, `models.json` and `settings.json`.

use super::wire::PROVIDER_PREFIX;
use crate::harness::launch::{
    GATEWAY_PORT, GUEST_HOME, HarnessLaunch, HomeFile, KEY_VARIABLE, LaunchContext, dialects,
};
use lodge_proto::control::{Dialect, Model};
use serde_json::{Map, Value, json};
use std::path::PathBuf;

/// Where pi keeps its files, below the private home.
const AGENT_DIR: &str = ".pi/agent";
/// Tokens a model may answer with where the catalog does not say.
const DEFAULT_MAX_OUTPUT: u64 = 8_192;
/// Context window where the catalog does not say.
const DEFAULT_CONTEXT_WINDOW: u64 = 128_000;
/// Lodge's permission extension; asks through a dialog before each tool call.
const PERMISSION_EXTENSION: &str = include_str!("permissions.ts");

/// Arguments, environment and files for pi.
pub fn launch(context: &LaunchContext) -> HarnessLaunch {
    let agent_dir = format!("{GUEST_HOME}/{AGENT_DIR}");
    let mut argv: Vec<String> = context
        .installed
        .argv0
        .iter()
        .map(|path| path.to_string_lossy().into_owned())
        .collect();
    // A workspace's own extensions and settings are code of a stranger, unless its user says otherwise.
    let approve = if context.trusts() {
        "--approve"
    } else {
        "--no-approve"
    };
    argv.extend(["--mode", "rpc", approve].map(str::to_owned));
    match (&context.native_session, &context.forked_from) {
        (Some(file), _) => argv.extend(["--session".to_owned(), file.clone()]),
        (None, Some(copy)) => argv.extend(["--session".to_owned(), copy.native.clone()]),
        (None, None) => argv.extend(["--session-id".to_owned(), context.session.to_string()]),
    }
    let mut files = vec![
        file("models.json", &json!({ "providers": providers(&context.models) })),
        file("settings.json", &settings(context)),
    ];
    if context.ask_permissions {
        argv.extend(["-e".to_owned(), format!("{agent_dir}/lodge-permissions.ts")]);
        files.push(HomeFile {
            path: PathBuf::from(AGENT_DIR).join("lodge-permissions.ts"),
            contents: PERMISSION_EXTENSION.to_owned(),
        });
    }
    let env = vec![
        ("PI_CODING_AGENT_DIR".to_owned(), agent_dir.clone()),
        // Otherwise a workspace says where conversations are kept, trusted or not.
        (
            "PI_CODING_AGENT_SESSION_DIR".to_owned(),
            format!("{agent_dir}/sessions"),
        ),
        ("PI_OFFLINE".to_owned(), "1".to_owned()),
        ("PI_TELEMETRY".to_owned(), "0".to_owned()),
    ];
    HarnessLaunch { argv, env, files }
}

fn file(name: &str, contents: &Value) -> HomeFile {
    HomeFile {
        path: PathBuf::from(AGENT_DIR).join(name),
        contents: format!("{contents:#}\n"),
    }
}

fn settings(context: &LaunchContext) -> Value {
    let mut settings = json!({ "enableInstallTelemetry": false });
    let wanted = context.model.clone().or_else(|| {
        context
            .models
            .first()
            .map(|model| format!("{}/{}", model.provider, model.id))
    });
    if let Some((provider, id)) = wanted.as_deref().and_then(|model| model.split_once('/')) {
        settings["defaultProvider"] = format!("{PROVIDER_PREFIX}{provider}").into();
        settings["defaultModel"] = id.into();
    }
    if let Some(level) = &context.thinking_level {
        settings["defaultThinkingLevel"] = level.clone().into();
    }
    settings
}

fn providers(models: &[Model]) -> Map<String, Value> {
    let mut providers = Map::new();
    for model in models {
        let Some((api, base)) = dialects(model).into_iter().find_map(wire_of) else {
            continue;
        };
        let name = format!("{PROVIDER_PREFIX}{}", model.provider);
        let entry = providers.entry(name).or_insert_with(|| {
            json!({
                "baseUrl": format!("http://127.0.0.1:{GATEWAY_PORT}/{}{base}", model.provider),
                "api": api,
                "apiKey": format!("${KEY_VARIABLE}"),
                "models": [],
            })
        });
        if let Some(list) = entry.get_mut("models").and_then(Value::as_array_mut) {
            list.push(describe(model));
        }
    }
    providers
}

/// pi's name for a dialect, and the path that its client expects in the base address.
fn wire_of(dialect: Dialect) -> Option<(&'static str, &'static str)> {
    match dialect {
        Dialect::OpenaiChat => Some(("openai-completions", "/v1")),
        Dialect::OpenaiResponses => Some(("openai-responses", "/v1")),
        // The client adds the version itself.
        Dialect::AnthropicMessages => Some(("anthropic-messages", "")),
        Dialect::Gemini => Some(("google-generative-ai", "/v1beta")),
        Dialect::Unspecified => None,
    }
}

fn describe(model: &Model) -> Value {
    let or = |value: u64, default: u64| if value == 0 { default } else { value };
    let mut input = vec!["text"];
    if model.images {
        input.push("image");
    }
    json!({
        "id": model.id,
        "name": model.name,
        "reasoning": model.reasoning,
        "input": input,
        "contextWindow": or(model.context_window, DEFAULT_CONTEXT_WINDOW),
        "maxTokens": or(model.max_output, DEFAULT_MAX_OUTPUT),
        "cost": { "input": 0, "output": 0, "cacheRead": 0, "cacheWrite": 0 },
    })
}
