//! How opencode is started: the bridge around it, environment and configuration file.

use super::wire::{LEVELS, PROVIDER_PREFIX};
use crate::harness::launch::{
    GATEWAY_PORT, GUEST_HOME, HarnessLaunch, HomeFile, KEY_VARIABLE, LaunchContext, dialects,
};
use lodge_proto::control::{Dialect, Model};
use lodge_sandbox::plan::GUEST_INIT;
use serde_json::{Map, Value, json};
use std::path::PathBuf;

/// Where the configuration is, below the private home. opencode writes besides it.
const SETTINGS: &str = ".config/opencode/lodge.json";
const PACKAGE: &str = ".config/opencode/package.json";
const LOCK: &str = ".config/opencode/package-lock.json";
const MODULES: &str = ".config/opencode/node_modules/lodge.json";
/// The package that plugins are written with.
const PLUGIN: &str = "@opencode-ai/plugin";
/// Tokens a model may answer with where the catalog does not say.
const DEFAULT_MAX_OUTPUT: u64 = 8_192;
/// Context window where the catalog does not say.
const DEFAULT_CONTEXT_WINDOW: u64 = 128_000;
/// Tokens that a model of Anthropic thinks with at least.
const LEAST_BUDGET: u64 = 1_024;

/// Arguments, environment and files for opencode's server, behind the bridge that is part of guest init.
pub fn launch(context: &LaunchContext) -> HarnessLaunch {
    let mut argv = [GUEST_INIT, "opencode-bridge", "--"].map(str::to_owned).to_vec();
    let program = context.installed.argv0.iter();
    argv.extend(program.map(|path| path.to_string_lossy().into_owned()));
    HarnessLaunch {
        argv,
        env: environment(context)
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value))
            .collect(),
        files: files(context)
            .into_iter()
            .map(|(path, contents)| HomeFile {
                path: PathBuf::from(path),
                contents,
            })
            .collect(),
    }
}

/// Environment of opencode, however it is spoken to.
pub fn environment(context: &LaunchContext) -> Vec<(&'static str, String)> {
    let set = || "1".to_owned();
    // A workspace's own settings are code of a stranger, unless its user says otherwise. Then ours have the last word.
    let project = if context.trusts() {
        ("OPENCODE_CONFIG_CONTENT", settings(context).to_string())
    } else {
        ("OPENCODE_DISABLE_PROJECT_CONFIG", set())
    };
    vec![
        ("OPENCODE_CONFIG", format!("{GUEST_HOME}/{SETTINGS}")),
        project,
        ("OPENCODE_DISABLE_AUTOUPDATE", set()),
        ("OPENCODE_DISABLE_MODELS_FETCH", set()),
        ("OPENCODE_DISABLE_LSP_DOWNLOAD", set()),
        ("OPENCODE_DISABLE_DEFAULT_PLUGINS", set()),
        ("OPENCODE_DISABLE_EXTERNAL_SKILLS", set()),
        ("OPENCODE_DISABLE_CLAUDE_CODE", set()),
    ]
}

/// Files of opencode's home, by their paths below it: the settings first.
///
/// It fetches the package that plugins are written with, at every start until it is there. No plugin is used: the
/// other files say that it is there.
pub fn files(context: &LaunchContext) -> [(&'static str, String); 4] {
    let dependencies = json!({ PLUGIN: context.installed.version.to_string() });
    let lock = json!({ "lockfileVersion": 3, "packages": { "": { "dependencies": dependencies } } });
    [
        (SETTINGS, settings(context)),
        (PACKAGE, json!({ "dependencies": dependencies })),
        (LOCK, lock),
        (MODULES, json!({})),
    ]
    .map(|(path, value)| (path, format!("{value:#}\n")))
}

fn settings(context: &LaunchContext) -> Value {
    let mut providers = Map::new();
    let mut names = Vec::new();
    for model in &context.models {
        let known = dialects(model)
            .into_iter()
            .find_map(|dialect| Some((dialect, package_of(dialect)?)));
        let Some((dialect, package)) = known else {
            continue;
        };
        let name = format!("{PROVIDER_PREFIX}{}", model.provider);
        names.push(format!("{name}/{}", model.id));
        let entry = providers.entry(name).or_insert_with(|| {
            json!({
                "npm": package,
                "name": model.provider,
                "options": {
                    "baseURL": format!("http://127.0.0.1:{GATEWAY_PORT}/{}/v1", model.provider),
                    "apiKey": format!("{{env:{KEY_VARIABLE}}}"),
                },
                "models": {},
            })
        });
        entry["models"][&model.id] = describe(model, dialect);
    }
    // Without this list it offers its vendor's own models and would send code there.
    let enabled: Vec<String> = providers.keys().cloned().collect();
    let permission = if context.ask_permissions {
        json!({ "bash": "ask", "edit": "ask", "webfetch": "ask" })
    } else {
        // The sandbox is the wall.
        json!({ "external_directory": "allow" })
    };
    let mut settings = json!({
        "provider": providers,
        "enabled_providers": enabled,
        "share": "disabled",
        "autoupdate": false,
        "permission": permission,
    });
    let asked = context
        .model
        .as_ref()
        .map(|model| format!("{PROVIDER_PREFIX}{model}"));
    let model = names
        .iter()
        .find(|name| Some(*name) == asked.as_ref())
        .or(names.first());
    if let Some(model) = model {
        settings["model"] = model.clone().into();
        settings["small_model"] = model.clone().into();
    }
    settings
}

/// Whether one of its clients speaks a dialect.
pub fn speaks(dialect: Dialect) -> bool {
    package_of(dialect).is_some()
}

/// The client, bundled with opencode, that speaks a dialect.
fn package_of(dialect: Dialect) -> Option<&'static str> {
    match dialect {
        Dialect::OpenaiChat => Some("@ai-sdk/openai-compatible"),
        Dialect::OpenaiResponses => Some("@ai-sdk/openai"),
        Dialect::AnthropicMessages => Some("@ai-sdk/anthropic"),
        Dialect::Gemini | Dialect::Unspecified => None,
    }
}

fn describe(model: &Model, dialect: Dialect) -> Value {
    let or = |value: u64, default: u64| if value == 0 { default } else { value };
    let output = or(model.max_output, DEFAULT_MAX_OUTPUT);
    let mut described = json!({
        "name": model.name,
        "reasoning": model.reasoning,
        "attachment": model.images,
        "limit": {
            "context": or(model.context_window, DEFAULT_CONTEXT_WINDOW),
            "output": output,
        },
    });
    if model.images {
        // Without this it leaves images out, and says so to the model alone.
        described["modalities"] = json!({ "input": ["text", "image"], "output": ["text"] });
    }
    if model.reasoning {
        let variants = LEVELS.iter().rev().enumerate().map(|(lower, level)| {
            // An eighth, a quarter or a half of what it may answer with; the provider takes no less than the least.
            let budget = (output >> (lower + 1)).max(LEAST_BUDGET);
            let options = match dialect {
                Dialect::AnthropicMessages => {
                    json!({ "thinking": { "type": "enabled", "budgetTokens": budget } })
                }
                Dialect::OpenaiResponses => json!({ "reasoningEffort": level, "reasoningSummary": "auto" }),
                _ => json!({ "reasoningEffort": level }),
            };
            ((*level).to_owned(), options)
        });
        described["variants"] = variants.collect::<Map<String, Value>>().into();
    }
    described
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::harness::install::InstalledHarness;
    use std::path::Path;

    fn context(ask_permissions: bool) -> LaunchContext {
        let model = |provider: &str, id: &str, dialect: Dialect| Model {
            provider: provider.to_owned(),
            id: id.to_owned(),
            name: id.to_owned(),
            dialects: vec![dialect.into()],
            ..Model::default()
        };
        LaunchContext {
            session: lodge_proto::SessionId::default(),
            installed: InstalledHarness {
                name: "opencode".to_owned(),
                version: semver::Version::new(1, 18, 33),
                argv0: vec![PathBuf::from("/opt/opencode")],
                roots: Vec::new(),
            },
            agent: None,
            trusted: Vec::new(),
            workspace: PathBuf::from("/workspace"),
            native_session: None,
            models: vec![
                model("goo", "gem", Dialect::Gemini),
                model("chat", "llama", Dialect::OpenaiChat),
                model("oai", "large", Dialect::OpenaiResponses),
                model("ant", "opus", Dialect::AnthropicMessages),
            ],
            model: Some("oai/large".to_owned()),
            thinking_level: None,
            ask_permissions,
            forked_from: None,
        }
    }

    fn written(launch: &HarnessLaunch) -> Value {
        serde_json::from_str(&launch.files[0].contents).unwrap()
    }

    #[test]
    fn it_runs_behind_the_bridge_with_its_own_settings_only() {
        let launch = launch(&context(false));
        assert_eq!(
            launch.argv,
            [GUEST_INIT, "opencode-bridge", "--", "/opt/opencode"]
        );
        let path = format!("{GUEST_HOME}/{}", launch.files[0].path.display());
        assert!(launch.env.contains(&("OPENCODE_CONFIG".to_owned(), path)));
        for name in ["OPENCODE_DISABLE_PROJECT_CONFIG", "OPENCODE_DISABLE_MODELS_FETCH"] {
            assert!(
                launch
                    .env
                    .iter()
                    .any(|(known, value)| known == name && value == "1")
            );
        }
    }

    #[test]
    fn only_the_gateway_is_a_provider() {
        let settings = written(&launch(&context(false)));
        let providers = settings["provider"].as_object().unwrap();
        assert_eq!(
            providers.keys().collect::<Vec<_>>(),
            ["lodge-ant", "lodge-chat", "lodge-oai"]
        );
        assert_eq!(
            settings["enabled_providers"],
            json!(["lodge-ant", "lodge-chat", "lodge-oai"])
        );
        let oai = &providers["lodge-oai"];
        assert_eq!(oai["npm"], "@ai-sdk/openai");
        assert_eq!(oai["options"]["baseURL"], "http://127.0.0.1:8377/oai/v1");
        assert_eq!(oai["options"]["apiKey"], "{env:LODGE_API_KEY}");
        assert_eq!(oai["models"]["large"]["limit"]["context"], DEFAULT_CONTEXT_WINDOW);
        assert_eq!(settings["model"], "lodge-oai/large");
        assert_eq!(settings["small_model"], "lodge-oai/large");
        assert_eq!(settings["share"], "disabled");
    }

    #[test]
    fn models_that_think_have_levels() {
        let mut context = context(false);
        for model in &mut context.models {
            model.reasoning = true;
            model.max_output = 32_000;
        }
        let settings = written(&launch(&context));
        let of =
            |provider: &str, model: &str| settings["provider"][provider]["models"][model]["variants"].clone();
        let budget = |level: &str| of("lodge-ant", "opus")[level]["thinking"]["budgetTokens"].clone();
        assert_eq!(["low", "medium", "high"].map(budget), [4_000, 8_000, 16_000]);
        assert_eq!(
            of("lodge-chat", "llama")["low"],
            json!({ "reasoningEffort": "low" })
        );
        assert_eq!(of("lodge-oai", "large")["high"]["reasoningEffort"], "high");
        let plain = written(&launch(&self::context(false)));
        assert_eq!(
            plain["provider"]["lodge-chat"]["models"]["llama"]["variants"],
            Value::Null
        );
    }

    #[test]
    fn what_plugins_are_written_with_is_said_to_be_there() {
        let launch = launch(&context(false));
        let read = |path: &str| -> Value {
            let file = launch
                .files
                .iter()
                .find(|file| file.path == Path::new(path))
                .unwrap();
            serde_json::from_str(&file.contents).unwrap()
        };
        assert_eq!(read(PACKAGE)["dependencies"][PLUGIN], "1.18.33");
        assert_eq!(
            read(LOCK)["packages"][""]["dependencies"],
            json!({ PLUGIN: "1.18.33" })
        );
        read(MODULES);
    }

    #[test]
    fn permissions_are_asked_for_where_wanted() {
        let asks = |ask| written(&launch(&context(ask)))["permission"]["bash"].clone();
        assert_eq!(asks(true), "ask");
        assert_eq!(asks(false), Value::Null);
    }
}
