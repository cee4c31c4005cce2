//! Each real harness works with a provider of each dialect, also one that it does not speak: a turn with a call of a tool,
//! by way of translation.

#![allow(clippy::unwrap_used)]

mod common;

use common::http::Exchange;
use common::vendor::Vendor;
use common::{Lodge, repository, stderr, stdout};
use std::os::unix::fs::PermissionsExt;

const KEY: &str = "sk-provider-0123456789abcdef";

/// Providers of the configuration, and how each is asked.
const CHAT: (&str, &str) = ("chat", "/chat/completions");
const RESPONSES: (&str, &str) = ("openai", "/responses");
const MESSAGES: (&str, &str) = ("anthropic", "/messages");
const GEMINI: (&str, &str) = ("gemini", ":streamGenerateContent");

/// For harnesses that speak several dialects: names at a provider of one, for models of a provider that lacks it.
const ALIASES: [(&str, (&str, &str)); 4] = [
    ("anthropic", CHAT),
    ("anthropic", RESPONSES),
    ("chat", MESSAGES),
    ("chat", GEMINI),
];

fn aliases() -> String {
    let alias = |(at, (target, _)): (&str, (&str, &str))| {
        format!("[[alias]]\nprovider = \"{at}\"\nname = \"by-{target}\"\ntargets = [\"{target}/demo\"]\n\n")
    };
    ALIASES.map(alias).concat()
}

struct Scene {
    lodge: Lodge,
    vendor: Vendor,
    workspace: std::path::PathBuf,
    seen: usize,
}

impl Scene {
    fn new(harness: &str) -> Self {
        let lodge = Lodge::new();
        let cache = repository().join("target/test-data/harness-cache");
        let shared = lodge_runner::harness::install::testing::share(&cache, &lodge.data(), harness);
        shared.unwrap_or_else(|error| {
            panic!(
                "{harness} is not installed ({error}): lodge harness install {harness} --data {}",
                cache.display()
            )
        });
        let vendor = Vendor::start();
        let key = lodge.root().join("key");
        std::fs::write(&key, KEY).unwrap();
        std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).unwrap();
        std::fs::create_dir_all(lodge.data().join("config")).unwrap();
        let configuration = vendor.configuration(&key) + &aliases();
        std::fs::write(lodge.data().join("config/lodge.toml"), configuration).unwrap();
        let workspace = lodge.folder("work");
        Self {
            lodge,
            vendor,
            workspace,
            seen: 0,
        }
    }

    /// One turn: the model has a command run, sees what it said, and says something itself.
    fn turn(&mut self, harness: &str, model: &str, asked_at: &str) {
        let file = format!("{}.txt", model.replace('/', "-"));
        let prompt = format!("use bash: echo 'größe ✓' > {file}; cat {file}\nunicode");
        let folder = self.workspace.to_str().unwrap();
        let arguments = [
            "chat",
            "--harness",
            harness,
            "--model",
            model,
            "--workspace",
            folder,
            &prompt,
        ];
        let chat = self.lodge.run(&arguments);
        let exchanges = self.vendor.exchanges().split_off(self.seen);
        self.seen += exchanges.len();
        let said = (stdout(&chat), stderr(&chat));
        assert!(
            chat.status.success(),
            "{harness} {model}: {said:?}\n{}",
            texts(&exchanges)
        );
        let effect = std::fs::read_to_string(self.workspace.join(&file));
        assert!(
            effect.as_ref().is_ok_and(|effect| effect == "größe ✓\n"),
            "{harness} {model}: {effect:?} {said:?}"
        );
        let asked: Vec<&Exchange> = exchanges
            .iter()
            .filter(|exchange| exchange.request.request().1.contains(asked_at))
            .collect();
        let others: Vec<&str> = exchanges
            .iter()
            .map(|exchange| exchange.request.request())
            .filter(|(method, target)| *method == "POST" && !target.contains(asked_at))
            .map(|(_, target)| target)
            .collect();
        assert!(others.is_empty(), "{harness} {model}: {others:?}");
        // Once for the call, and once with what it returned: the quoted command alone is in the other requests too.
        let result = |exchange: &&&Exchange| {
            let body = String::from_utf8_lossy(&exchange.request.body);
            body.matches("größe ✓").count() > 2
        };
        assert!(
            asked.len() >= 2 && asked.iter().any(|exchange| result(&exchange)),
            "{harness} {model}: {} requests",
            asked.len()
        );
    }
}

/// For a failure: what was asked and answered.
fn texts(exchanges: &[Exchange]) -> String {
    let text = |exchange: &Exchange| {
        let body = |body: &[u8]| {
            String::from_utf8_lossy(body)
                .chars()
                .take(4000)
                .collect::<String>()
        };
        let answer = exchange
            .response
            .as_ref()
            .map(|answer| (&answer.line, body(&answer.body)));
        format!(
            "{} {}\n{answer:?}\n",
            exchange.request.line,
            body(&exchange.request.body)
        )
    };
    exchanges.iter().map(text).collect()
}

/// Turns with each of the models.
fn turns(harness: &str, models: &[(String, &str)]) {
    let mut scene = Scene::new(harness);
    let folder = scene.workspace.to_str().unwrap().to_owned();
    let mut up = scene.lodge.up(&["--workspace", &folder]);
    for (model, asked_at) in models {
        scene.turn(harness, model, asked_at);
    }
    assert!(scene.lodge.run(&["down"]).status.success());
    up.wait();
}

/// Models of providers that do not speak the only dialect of a harness.
fn directly(targets: [(&'static str, &'static str); 3]) -> Vec<(String, &'static str)> {
    targets
        .map(|(name, path)| (format!("{name}/demo"), path))
        .to_vec()
}

fn by_alias() -> Vec<(String, &'static str)> {
    ALIASES
        .map(|(at, (name, path))| (format!("{at}/by-{name}"), path))
        .to_vec()
}

#[test]
fn claude_without_a_provider_of_messages() {
    turns("claude", &directly([CHAT, RESPONSES, GEMINI]));
}

#[test]
fn codex_without_a_provider_of_responses() {
    turns("codex", &directly([CHAT, MESSAGES, GEMINI]));
}

#[test]
fn gemini_without_a_provider_of_its_own() {
    turns("gemini", &directly([CHAT, RESPONSES, MESSAGES]));
}

#[test]
fn pi_with_providers_of_other_dialects() {
    turns("pi", &by_alias());
}

#[test]
fn opencode_with_providers_of_other_dialects() {
    let mut models = by_alias();
    models.push((format!("{}/demo", GEMINI.0), GEMINI.1));
    turns("opencode", &models);
}

/// What each harness asks a provider of its own dialect is what the snapshots of the gateway begin from: the same fields at
/// least. `LODGE_UPDATE=1` writes it anew, after a harness has changed what it sends.
#[test]
fn the_requests_of_the_snapshots_are_those_of_the_harnesses() {
    let native = [
        ("pi", CHAT),
        ("codex", RESPONSES),
        ("claude", MESSAGES),
        ("opencode", MESSAGES),
        ("gemini", GEMINI),
    ];
    for (harness, (provider, asked_at)) in native {
        let mut scene = Scene::new(harness);
        let folder = scene.workspace.to_str().unwrap().to_owned();
        let mut up = scene.lodge.up(&["--workspace", &folder]);
        scene.turn(harness, &format!("{provider}/demo"), asked_at);
        assert!(scene.lodge.run(&["down"]).status.success());
        up.wait();
        let exchanges = scene.vendor.exchanges().into_iter();
        let mut bodies = exchanges
            .filter(|exchange| exchange.request.request().1.contains(asked_at))
            .map(|exchange| String::from_utf8(exchange.request.body).unwrap())
            .filter(|body| body.matches("größe ✓").count() > 2);
        // Nobody else has this folder.
        let body = bodies.next().unwrap().replace(&folder, "/srv/work");
        let mut body: serde_json::Value = serde_json::from_str(&body).unwrap();
        shorten(&mut body);
        let fixture = repository().join(format!("gateway/src/translate/tests/fixtures/{harness}.json"));
        if std::env::var_os("LODGE_UPDATE").is_some() {
            std::fs::write(&fixture, format!("{body:#}\n")).unwrap();
        }
        let kept = std::fs::read_to_string(&fixture).unwrap();
        let kept: serde_json::Value = serde_json::from_str(&kept).unwrap();
        assert_eq!(
            fields(&kept),
            fields(&body),
            "{harness}: LODGE_UPDATE=1 writes it anew"
        );
    }
}

fn fields(body: &serde_json::Value) -> Vec<&String> {
    body.as_object().unwrap().keys().collect()
}

/// Long texts say nothing that short ones do not, nor does the tenth tool.
fn shorten(value: &mut serde_json::Value) {
    const LONG: usize = 160;
    match value {
        serde_json::Value::String(text) if text.chars().count() > LONG => {
            *text = text.chars().take(LONG - 40).chain("...".chars()).collect();
        }
        serde_json::Value::Array(items) => items.iter_mut().for_each(shorten),
        serde_json::Value::Object(fields) => {
            for name in ["tools", "functionDeclarations"] {
                if let Some(serde_json::Value::Array(tools)) = fields.get_mut(name) {
                    let is_odd = |tool: &serde_json::Value| {
                        let kind = tool["type"].as_str().is_some_and(|kind| kind != "function");
                        kind || ["Bash", "bash", "exec_command", "shell", "run_shell_command"]
                            .iter()
                            .any(|name| tool["name"] == *name || tool["function"]["name"] == *name)
                    };
                    let mut count = 0;
                    tools.retain(|tool| {
                        count += 1;
                        count <= 2 || is_odd(tool)
                    });
                }
            }
            fields.values_mut().for_each(shorten);
        }
        _ => {}
    }
}
