//! How Claude Code is started: arguments, environment and the settings it is given.

use crate::harness::launch::{
    GATEWAY_PORT, GUEST_HOME, HarnessLaunch, HomeFile, KEY_VARIABLE, LaunchContext, dialects,
};
use lodge_proto::control::{Dialect, Model};
use serde_json::{Value, json};
use std::path::PathBuf;

/// Where Claude Code keeps its files, below the private home.
const CONFIG_DIR: &str = ".claude";
/// Our settings, beside the ones that the harness writes itself: permissions that the user gave for good are kept.
const SETTINGS: &str = "lodge-settings.json";
/// Those that the harness writes itself.
const OWN_SETTINGS: &str = "settings.json";
/// MCP servers of a workspace.
const SERVERS: &str = ".mcp.json";
/// Provider in the address where the gateway offers no model that fits: the model call then says what is wrong.
const DEFAULT_PROVIDER: &str = "anthropic";
/// Attempts after the first; its own ten wait for minutes.
const MAX_RETRIES: &str = "3";
/// Days for which conversations are kept: a session may be resumed whenever its user comes back.
const CLEANUP_DAYS: u32 = 3650;
/// The sizes by which the harness names models for its side tasks and sub-agents.
const SIZES: [&str; 3] = ["OPUS", "SONNET", "HAIKU"];

/// Arguments, environment and files for Claude Code.
pub fn launch(context: &LaunchContext) -> HarnessLaunch {
    let config_dir = format!("{GUEST_HOME}/{CONFIG_DIR}");
    let mut argv: Vec<String> = context
        .installed
        .argv0
        .iter()
        .map(|path| path.to_string_lossy().into_owned())
        .collect();
    argv.extend(
        [
            "-p",
            "--input-format",
            "stream-json",
            "--output-format",
            "stream-json",
            "--verbose",
            "--include-partial-messages",
            "--permission-prompt-tool",
            "stdio",
            // Tells which prompts the running turn took up.
            "--replay-user-messages",
            // The user may choose that mode later: the wall is the sandbox.
            "--allow-dangerously-skip-permissions",
        ]
        .map(str::to_owned),
    );
    argv.extend(of_workspace(context));
    argv.extend(["--settings".to_owned(), format!("{config_dir}/{SETTINGS}")]);
    let mode = if context.ask_permissions {
        "default"
    } else {
        "bypassPermissions"
    };
    argv.extend(["--permission-mode".to_owned(), mode.to_owned()]);
    let models = usable(&context.models, context.model.as_deref());
    let model = chosen(&models, context.model.as_deref());
    if let Some(model) = model {
        argv.extend(["--model".to_owned(), model.id.clone()]);
    }
    if let Some(level) = &context.thinking_level {
        argv.extend(["--effort".to_owned(), level.clone()]);
    }
    // Without `--session-id`: one that is taken already is refused, and the harness tells the id it chose.
    if let Some(session) = &context.native_session {
        argv.extend(["--resume".to_owned(), session.clone()]);
    } else if let Some(copy) = &context.forked_from {
        argv.extend(["--resume".to_owned(), copy.native.clone()]);
        argv.push("--fork-session".to_owned());
        if let Some(point) = &copy.point {
            argv.extend(["--resume-session-at".to_owned(), point.clone()]);
        }
    }
    let settings = HomeFile {
        path: PathBuf::from(CONFIG_DIR).join(SETTINGS),
        contents: format!("{:#}\n", settings(context)),
    };
    let mut files = vec![settings];
    if context.trusts() {
        // With hooks on, those of the home would run too, and the guest may have written them.
        files.push(HomeFile {
            path: PathBuf::from(CONFIG_DIR).join(OWN_SETTINGS),
            contents: "{}\n".to_owned(),
        });
    }
    HarnessLaunch {
        argv,
        env: environment(&config_dir, &models, model),
        files,
    }
}

/// Settings, hooks and servers of a workspace are code of a stranger, unless its user says otherwise.
fn of_workspace(context: &LaunchContext) -> Vec<String> {
    let sources = if context.trusts() {
        "user,project,local"
    } else {
        "user"
    };
    // Servers of the workspace are named: others may be in the home, where the guest writes.
    let mut words = ["--setting-sources", sources, "--strict-mcp-config"]
        .map(str::to_owned)
        .to_vec();
    if context.trusted.iter().any(|name| name == SERVERS) {
        let path = context.workspace.join(SERVERS);
        words.extend(["--mcp-config".to_owned(), path.to_string_lossy().into_owned()]);
    }
    words
}

/// The models that one process can use: it knows a single address, so those of one provider. One that speaks its dialect
/// comes before those that are translated.
pub fn usable(models: &[Model], wanted: Option<&str>) -> Vec<Model> {
    let speaks = |model: &&Model| dialects(model).contains(&Dialect::AnthropicMessages);
    let mut fitting: Vec<&Model> = models.iter().filter(speaks).collect();
    fitting.sort_by_key(|model| !model.dialects.contains(&Dialect::AnthropicMessages.into()));
    let provider = chosen_of(&fitting, wanted).map(|model| model.provider.clone());
    fitting
        .into_iter()
        .filter(|model| Some(&model.provider) == provider.as_ref())
        .cloned()
        .collect()
}

fn chosen_of<'a>(models: &[&'a Model], wanted: Option<&str>) -> Option<&'a Model> {
    let is_wanted = |model: &&&Model| {
        let id = wanted.and_then(|wanted| wanted.split_once('/'));
        id == Some((model.provider.as_str(), model.id.as_str()))
    };
    models.iter().find(is_wanted).or_else(|| models.first()).copied()
}

fn chosen<'a>(models: &'a [Model], wanted: Option<&str>) -> Option<&'a Model> {
    chosen_of(&models.iter().collect::<Vec<_>>(), wanted)
}

fn environment(config_dir: &str, models: &[Model], model: Option<&Model>) -> Vec<(String, String)> {
    let provider = model.map_or(DEFAULT_PROVIDER, |model| model.provider.as_str());
    let base = format!("http://127.0.0.1:{GATEWAY_PORT}/{provider}");
    let mut env: Vec<(String, String)> = [
        ("CLAUDE_CONFIG_DIR", config_dir),
        // The client adds `/v1/messages` itself.
        ("ANTHROPIC_BASE_URL", base.as_str()),
        ("CLAUDE_CODE_MAX_RETRIES", MAX_RETRIES),
        ("CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC", "1"),
        // Otherwise a model that it does not know gets no tools to keep a plan with.
        ("CLAUDE_CODE_ENABLE_TODO_TOOLS", "1"),
        ("DISABLE_AUTOUPDATER", "1"),
        ("DISABLE_TELEMETRY", "1"),
        ("DISABLE_ERROR_REPORTING", "1"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .to_vec();
    for size in SIZES {
        let of_size = models
            .iter()
            .find(|model| model.id.contains(&size.to_ascii_lowercase()));
        if let Some(model) = of_size.or(model) {
            env.push((format!("ANTHROPIC_DEFAULT_{size}_MODEL"), model.id.clone()));
        }
    }
    env
}

fn settings(context: &LaunchContext) -> Value {
    json!({
        // The key is in the environment alone, never in a file.
        "apiKeyHelper": format!("printf %s \"${KEY_VARIABLE}\""),
        "cleanupPeriodDays": CLEANUP_DAYS,
        "disableAllHooks": !context.trusts(),
        // Ours is around it; its own needs what ours forbids.
        "sandbox": { "enabled": false },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::harness::install::InstalledHarness;
    use lodge_proto::SessionId;

    fn model(provider: &str, id: &str, dialect: Dialect) -> Model {
        Model {
            id: id.to_owned(),
            name: id.to_owned(),
            provider: provider.to_owned(),
            dialects: vec![dialect.into()],
            ..Model::default()
        }
    }

    fn context() -> LaunchContext {
        LaunchContext {
            session: SessionId(uuid::Uuid::nil()),
            installed: InstalledHarness {
                name: "claude".to_owned(),
                version: semver::Version::new(2, 1, 197),
                argv0: vec![PathBuf::from("/harness/claude")],
                roots: Vec::new(),
            },
            agent: None,
            trusted: Vec::new(),
            workspace: PathBuf::from("/workspace"),
            native_session: None,
            models: vec![
                model("openai", "gpt", Dialect::OpenaiResponses),
                model("demo", "scripted", Dialect::AnthropicMessages),
                model("anthropic", "claude-sonnet-5", Dialect::AnthropicMessages),
                model("anthropic", "claude-haiku-4-5", Dialect::AnthropicMessages),
            ],
            model: Some("anthropic/claude-sonnet-5".to_owned()),
            thinking_level: None,
            ask_permissions: true,
            forked_from: None,
        }
    }

    fn after<'a>(argv: &'a [String], flag: &str) -> Option<&'a str> {
        let at = argv.iter().position(|word| word == flag)?;
        argv.get(at + 1).map(String::as_str)
    }

    fn variable<'a>(launch: &'a HarnessLaunch, name: &str) -> Option<&'a str> {
        let (_, value) = launch.env.iter().find(|(known, _)| known == name)?;
        Some(value)
    }

    #[test]
    fn the_address_is_that_of_the_models_provider() {
        let launch = launch(&context());
        assert_eq!(after(&launch.argv, "--model"), Some("claude-sonnet-5"));
        assert_eq!(
            variable(&launch, "ANTHROPIC_BASE_URL"),
            Some("http://127.0.0.1:8377/anthropic")
        );
        let haiku = variable(&launch, "ANTHROPIC_DEFAULT_HAIKU_MODEL");
        assert_eq!(haiku, Some("claude-haiku-4-5"));
        let opus = variable(&launch, "ANTHROPIC_DEFAULT_OPUS_MODEL");
        assert_eq!(opus, Some("claude-sonnet-5"));
    }

    #[test]
    fn without_a_wish_the_first_model_that_fits_is_used() {
        let launch = launch(&LaunchContext {
            model: None,
            ..context()
        });
        assert_eq!(after(&launch.argv, "--model"), Some("scripted"));
        assert_eq!(
            variable(&launch, "ANTHROPIC_BASE_URL"),
            Some("http://127.0.0.1:8377/demo")
        );
    }

    #[test]
    fn models_of_other_providers_and_dialects_are_not_offered() {
        let models = usable(&context().models, Some("anthropic/claude-haiku-4-5"));
        let ids: Vec<&str> = models.iter().map(|model| model.id.as_str()).collect();
        assert_eq!(ids, ["claude-sonnet-5", "claude-haiku-4-5"]);
    }

    #[test]
    fn no_key_is_in_arguments_or_files() {
        let launch = launch(&context());
        let settings: Value = serde_json::from_str(&launch.files[0].contents).unwrap();
        assert_eq!(settings["apiKeyHelper"], "printf %s \"$LODGE_API_KEY\"");
        assert_eq!(settings["sandbox"]["enabled"], false);
        let path = launch.files[0].path.to_string_lossy().into_owned();
        let given = after(&launch.argv, "--settings");
        assert_eq!(given, Some(format!("{GUEST_HOME}/{path}").as_str()));
    }

    #[test]
    fn what_a_workspace_brings_is_off_unless_it_is_trusted() {
        let off = launch(&context());
        assert_eq!(after(&off.argv, "--setting-sources"), Some("user"));
        let on = launch(&LaunchContext {
            trusted: vec![".claude".to_owned(), ".mcp.json".to_owned()],
            ..context()
        });
        assert_eq!(after(&on.argv, "--setting-sources"), Some("user,project,local"));
        assert_eq!(after(&on.argv, "--mcp-config"), Some("/workspace/.mcp.json"));
        for (launch, hooks_off) in [(&off, true), (&on, false)] {
            assert!(launch.argv.iter().any(|word| word == "--strict-mcp-config"));
            let settings: Value = serde_json::from_str(&launch.files[0].contents).unwrap();
            assert_eq!(settings["disableAllHooks"], hooks_off);
        }
        assert_eq!(after(&off.argv, "--mcp-config"), None);
        assert_eq!(
            on.files[1].contents, "{}\n",
            "nor those that a guest wrote into its home"
        );
    }

    #[test]
    fn a_conversation_is_resumed_by_its_id() {
        let fresh = launch(&context());
        assert_eq!(after(&fresh.argv, "--resume"), None);
        let resumed = launch(&LaunchContext {
            native_session: Some("4bf0".to_owned()),
            thinking_level: Some("high".to_owned()),
            ask_permissions: false,
            ..context()
        });
        assert_eq!(after(&resumed.argv, "--resume"), Some("4bf0"));
        assert_eq!(after(&resumed.argv, "--effort"), Some("high"));
        let mode = after(&resumed.argv, "--permission-mode");
        assert_eq!(mode, Some("bypassPermissions"));
    }
}
