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
        agent: None,
        trusted: Vec::new(),
        workspace: PathBuf::from("/workspace"),
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
        assert_eq!(launch.argv[1..], [row.args, row.unasked].concat(), "{}", row.name);
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
fn agents_of_the_configuration_file_ask_where_a_session_asks() {
    for (name, word) in [
        ("qwen", "--approval-mode=yolo"),
        ("codex-acp", "agent-full-access"),
    ] {
        let told = |asks: bool| {
            let mut context = context(name);
            context.ask_permissions = asks;
            let launch = launch(&context);
            let env = launch.env.into_iter().map(|(_, value)| value);
            launch.argv.into_iter().chain(env).any(|said| said == word)
        };
        assert!(told(false) && !told(true), "{name}");
    }
}

#[test]
fn gemini_gives_up_after_a_few_attempts() {
    let launch = launch(&context("gemini"));
    let settings: Value = serde_json::from_str(&launch.files[0].contents).unwrap();
    assert_eq!(
        settings["general"]["maxAttempts"], 4,
        "its own ten take minutes, in silence"
    );
}

#[test]
fn gemini_runs_tools_unasked_only_where_nobody_is_to_be_asked() {
    let policy = |asks: bool| {
        let mut context = context("gemini");
        context.ask_permissions = asks;
        let launch = launch(&context);
        let mut files = launch.files.into_iter();
        files.find(|file| file.path.ends_with("policies/lodge.toml"))
    };
    let unasked: toml::Table = policy(false).unwrap().contents.parse().unwrap();
    let rule = &unasked["rule"][0];
    assert_eq!(rule["decision"].as_str(), Some("allow"));
    let modes = rule["modes"].as_array().unwrap();
    assert!(
        modes.iter().all(|mode| mode.as_str() != Some("plan")),
        "it keeps its plan mode"
    );
    assert_eq!(policy(true), None);
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

#[test]
fn an_agent_of_the_administrator_is_told_in_the_dialects_it_speaks() {
    let agent = |more: &str| {
        let text = format!("name = \"mine\"\ncommand = [\"/opt/agent\"]\n{more}");
        Some(toml::from_str::<Agent>(&text).unwrap())
    };
    let every = launch(&LaunchContext {
        agent: agent(""),
        ..context("mine")
    });
    assert_eq!(every.argv, ["/opt/agent"]);
    assert_eq!(variable(&every, "OPENAI_MODEL"), Some("large"));
    assert_eq!(variable(&every, "ANTHROPIC_MODEL"), Some("opus"));
    assert_eq!(variable(&every, "GEMINI_MODEL"), Some("gem"));

    let more = "args = [\"--stdio\"]\ndialects = [\"openai_chat\", \"gemini\"]\n\
        env = { GEMINI_MODEL = \"other\", MY_KEY = \"$LODGE_API_KEY\" }";
    let one = agent(more);
    let offered = crate::harness::launch::usable("mine", one.as_ref(), &context("mine").models, None);
    let ids: Vec<&str> = offered.iter().map(|model| model.id.as_str()).collect();
    assert_eq!(ids, ["gem", "llama"]);
    let some = launch(&LaunchContext {
        agent: one,
        ..context("mine")
    });
    assert_eq!(some.argv, ["/opt/agent", "--stdio"]);
    assert_eq!(variable(&some, "OPENAI_MODEL"), Some("llama"));
    assert_eq!(variable(&some, "ANTHROPIC_MODEL"), None);
    assert_eq!(variable(&some, "GEMINI_MODEL"), Some("other"));
    assert_eq!(variable(&some, "MY_KEY"), Some(KEY_VALUE));
}

#[test]
fn an_agent_that_lodge_has_settings_for_gets_them() {
    let text = "name = \"goose\"\ncommand = [\"/opt/agent\"]";
    let goose = launch(&LaunchContext {
        agent: Some(toml::from_str(text).unwrap()),
        ..context("goose")
    });
    assert_eq!(goose.argv, ["/opt/agent", "acp"]);
    assert_eq!(variable(&goose, "GOOSE_MODEL"), Some("llama"));
}
