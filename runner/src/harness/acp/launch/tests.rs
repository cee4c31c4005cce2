//! What agents are started with.

use super::*;
use crate::harness::install::InstalledHarness;

fn context(name: &str) -> LaunchContext {
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
            name: name.to_owned(),
            version: semver::Version::new(1, 0, 0),
            argv0: vec![PathBuf::from("/opt/agent")],
            roots: Vec::new(),
        },
        native_session: None,
        models: vec![
            model("goo", "gem", Dialect::Gemini),
            model("ant", "opus", Dialect::AnthropicMessages),
            model("oai", "small", Dialect::OpenaiResponses),
            model("oai", "large", Dialect::OpenaiResponses),
            model("chat", "llama", Dialect::OpenaiChat),
        ],
        model: Some("oai/large".to_owned()),
        thinking_level: None,
        ask_permissions: false,
        forked_from: None,
    }
}

fn variable<'a>(launch: &'a HarnessLaunch, name: &str) -> Option<&'a str> {
    let mut env = launch.env.iter();
    env.find(|(known, _)| known == name)
        .map(|(_, value)| value.as_str())
}

#[test]
fn every_row_has_its_arguments_and_reaches_only_the_gateway() {
    for row in ROWS {
        let launch = launch(&context(row.name));
        assert_eq!(launch.argv[0], "/opt/agent");
        assert_eq!(launch.argv[1..], *row.args, "{}", row.name);
        let files = launch.files.iter().map(|file| file.contents.as_str());
        let values: Vec<&str> = launch
            .env
            .iter()
            .map(|(_, value)| value.as_str())
            .chain(files)
            .collect();
        let addresses = values
            .iter()
            .flat_map(|value| value.match_indices("http").map(|(at, _)| &value[at..]));
        let mut known = 0;
        for address in addresses {
            assert!(
                address.starts_with("http://127.0.0.1:8377"),
                "{}: {address}",
                row.name
            );
            known += 1;
        }
        assert!(known > 0, "{} has no address", row.name);
    }
}

#[test]
fn agents_get_the_key_under_their_own_names() {
    let gemini = launch(&context("gemini"));
    assert_eq!(variable(&gemini, "GEMINI_API_KEY"), Some(KEY_VALUE));
    assert_eq!(
        variable(&gemini, "GOOGLE_GEMINI_BASE_URL"),
        Some("http://127.0.0.1:8377/goo")
    );
    assert_eq!(variable(&gemini, "GEMINI_MODEL"), Some("gem"));
    let claude = launch(&context("claude-code-acp"));
    assert_eq!(variable(&claude, "ANTHROPIC_AUTH_TOKEN"), Some(KEY_VALUE));
    assert_eq!(variable(&claude, "ANTHROPIC_MODEL"), Some("opus"));
    let goose = launch(&context("goose"));
    assert_eq!(
        variable(&goose, "OPENAI_BASE_PATH"),
        Some("chat/v1/chat/completions")
    );
    assert_eq!(variable(&launch(&context("qwen")), "OPENAI_MODEL"), Some("large"));
}

#[test]
fn codex_has_its_own_sandbox_off_and_the_wanted_model() {
    let launch = launch(&context("codex-acp"));
    let settings: toml::Table = launch.files[0].contents.parse().unwrap();
    assert_eq!(settings["sandbox_mode"].as_str(), Some("danger-full-access"));
    assert_eq!(settings["model"].as_str(), Some("large"));
    assert_eq!(settings["model_provider"].as_str(), Some("lodge-oai"));
    let provider = &settings["model_providers"]["lodge-oai"];
    assert_eq!(provider["env_key"].as_str(), Some(KEY_VARIABLE));
    assert_eq!(
        provider["base_url"].as_str(),
        Some("http://127.0.0.1:8377/oai/v1")
    );
}

#[test]
fn opencode_offers_the_gateways_models_and_no_others() {
    let launch = launch(&context("opencode-acp"));
    let settings: Value = serde_json::from_str(&launch.files[0].contents).unwrap();
    assert_eq!(
        settings["enabled_providers"],
        json!(["lodge-ant", "lodge-chat", "lodge-oai"])
    );
    assert_eq!(settings["model"], "lodge-oai/large");
    let provider = &settings["provider"]["lodge-oai"];
    assert_eq!(provider["npm"], "@ai-sdk/openai");
    assert_eq!(provider["options"]["apiKey"], "{env:LODGE_API_KEY}");
    assert_eq!(provider["models"]["small"]["limit"]["context"], 128_000);
}
