//! The page for people with models of their own (docs/src/user/models.md): its commands, as they stand there, against a
//! provider on this machine.

#![allow(clippy::unwrap_used)]

mod common;

use common::vendor::Vendor;
use common::{Lodge, eventually, repository, stderr, stdout};

/// The commands in backquotes and in indented lines that begin with these words.
fn commands(begin: &str) -> Vec<Vec<String>> {
    let page = std::fs::read_to_string(repository().join("docs/src/user/models.md")).unwrap();
    let quoted = page.lines().flat_map(|line| line.split('`').skip(1).step_by(2));
    let indented = page.lines().filter_map(|line| line.strip_prefix("    "));
    let commands = quoted
        .chain(indented)
        .map(|command| command.split(" < ").next().unwrap_or_default().to_owned());
    let words = |command: String| command.split_whitespace().map(str::to_owned).collect();
    commands
        // One with a name to be filled in is not to be run as it stands.
        .filter(|command| command.starts_with(begin) && !command.contains(" NAME "))
        .map(words)
        .collect()
}

/// The word after an option.
fn option<'a>(words: &'a mut [String], name: &str) -> Option<&'a mut String> {
    let at = words.iter().position(|word| word == name)?;
    words.get_mut(at + 1)
}

fn chat(lodge: &Lodge, args: &[&str]) {
    let folder = lodge.folder("work");
    let mut all = vec!["chat", "--workspace", folder.to_str().unwrap()];
    all.extend(args);
    all.push("say hello from the model");
    let output = lodge.run(&all);
    assert!(
        stdout(&output).contains("hello from the model"),
        "{args:?}: {}",
        stderr(&output)
    );
}

#[test]
fn every_command_of_the_page_for_ones_own_models_works() {
    let lodge = Lodge::with_pi();
    let cache = repository().join("target/test-data/harness-cache");
    lodge_runner::harness::install::testing::share(&cache, &lodge.data(), "claude").unwrap();
    let vendor = Vendor::start();
    let _up = lodge.up(&["--workspace", lodge.folder("work").to_str().unwrap()]);
    let mut names = Vec::new();
    for mut words in commands("lodgectl provider add ") {
        // Their addresses are not ours to ask: the provider of the test stands for each.
        let plain = ["anthropic", "openai", "gemini"].contains(&words[3].as_str());
        let address = format!("http://{}/{}", vendor.address, if plain { "" } else { "v1" });
        match option(&mut words, "--base-url") {
            Some(url) => *url = address,
            None => words.extend(["--base-url".to_owned(), address]),
        }
        let args: Vec<&str> = words[1..].iter().map(String::as_str).collect();
        let output = lodge.ctl(&args, "sk-of-the-page\n");
        assert!(output.status.success(), "{words:?}: {}", stderr(&output));
        names.push(words[3].clone());
    }
    assert_eq!(
        names,
        [
            "anthropic",
            "openai",
            "gemini",
            "openrouter",
            "ollama",
            "vllm",
            "llama-cpp"
        ]
    );
    let mut tried = Vec::new();
    for mut words in commands("lodge chat ") {
        let model = option(&mut words, "--model")
            .unwrap()
            .replace("NAME-OF-THE-MODEL", "demo");
        let (provider, id) = model.split_once('/').unwrap();
        eventually("the model is listed", || {
            lodge.models(provider).contains(&id.to_owned()).then_some(())
        });
        let harness = option(&mut words, "--harness").unwrap();
        chat(&lodge, &["--harness", harness, "--model", &model]);
        tried.push(format!("{harness} {provider}"));
    }
    assert_eq!(
        tried,
        [
            "pi anthropic",
            "pi openai",
            "pi gemini",
            "pi ollama",
            "claude gemini"
        ]
    );
    let headers = ["authorization", "x-api-key", "x-goog-api-key"];
    let mut without = 0;
    for exchange in vendor.exchanges() {
        let shown = headers.iter().filter_map(|name| exchange.request.header(name));
        // Nothing but the key of the page: neither a session's own key, nor one for servers that ask for none.
        let shown: Vec<_> = shown.collect();
        assert!(
            shown.iter().all(|key| key.ends_with("sk-of-the-page")),
            "{shown:?} {:?}",
            exchange.request.line
        );
        without += usize::from(shown.is_empty());
    }
    assert!(without >= 4, "three lists of models and an answer: {without}");
}
