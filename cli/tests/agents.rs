//! Agents of the configuration file: a scripted one in the real sandbox, and what is refused.

#![allow(clippy::unwrap_used)]

mod common;

use common::{Lodge, repository, stderr, stdout};
use serde_json::Value;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// A Lodge with the scripted agent in a directory of its own.
struct Scene {
    lodge: Lodge,
    agent: PathBuf,
}

impl Scene {
    fn new() -> Self {
        let lodge = Lodge::new();
        let folder = lodge.folder("agent").canonicalize().unwrap();
        let agent = folder.join("agent.py");
        let script = repository().join("cli/tests/fixtures/acp-agent.py");
        std::fs::copy(script, &agent).unwrap();
        std::fs::set_permissions(&agent, std::fs::Permissions::from_mode(0o755)).unwrap();
        Self { lodge, agent }
    }

    fn root(&self) -> &Path {
        self.agent.parent().unwrap()
    }

    /// Writes the configuration: one agent with these further lines.
    fn configure(&self, more: &str) {
        let folder = self.lodge.data().join("config");
        std::fs::create_dir_all(&folder).unwrap();
        let (agent, root) = (self.agent.display(), self.root().display());
        let text = format!(
            "[[agent]]\nname = \"scripted\"\ntitle = \"The scripted one\"\ncommand = [\"{agent}\"]\nroots = [\"{root}\"]\n{more}\n"
        );
        std::fs::write(folder.join("lodge.toml"), text).unwrap();
    }

    /// The answer to a prompt.
    fn ask(&self, prompt: &str) -> String {
        let workspace = self.lodge.folder("work");
        let folder = workspace.to_str().unwrap();
        let output = self
            .lodge
            .run(&["chat", "--harness", "scripted", "--workspace", folder, prompt]);
        assert!(output.status.success(), "{prompt}: {}", stderr(&output));
        stdout(&output)
    }
}

#[test]
fn a_configured_agent_is_listed_and_runs_in_the_sandbox() {
    let scene = Scene::new();
    scene.configure("args = [\"--loud\"]\nenv = { COLOUR = \"green\", MY_KEY = \"$LODGE_API_KEY\" }");
    let listed = scene.lodge.run(&["harness", "list", "--json"]);
    let listed: Value = serde_json::from_slice(&listed.stdout).unwrap();
    let mut all = listed.as_array().unwrap().iter();
    let found = all.find(|harness| harness["name"] == "scripted").unwrap();
    assert_eq!(
        (&found["installed"], &found["configured"]),
        (&true.into(), &true.into())
    );
    assert_eq!(found["title"], "The scripted one");

    assert!(scene.ask("say it runs").contains("it runs"));
    assert!(scene.ask("args").contains("agent.py --loud"));
    assert!(scene.ask("env COLOUR").contains("green"));
    let (key, own) = (scene.ask("env LODGE_API_KEY"), scene.ask("env MY_KEY"));
    assert!(!key.contains("nothing") && !own.contains("nothing") && !own.contains('$'));
    // The model it was told of answers, through the gateway.
    assert!(scene.ask("model say from the model").contains("from the model"));
}

#[test]
fn it_writes_the_workspace_and_not_its_own_programs() {
    let scene = Scene::new();
    scene.configure("");
    assert!(scene.ask("write made.txt").contains("written"));
    let made = scene.lodge.folder("work").join("made.txt");
    assert_eq!(std::fs::read_to_string(made).unwrap(), "written\n");
    let own = scene.root().join("planted.py");
    let said = scene.ask(&format!("write {}", own.display()));
    assert!(said.contains("Read-only"), "{said}");
    assert!(!own.exists());
}

#[test]
fn an_agent_of_version_2_works_as_any_other() {
    let scene = Scene::new();
    scene.configure("args = [\"--v2\"]");
    assert!(scene.ask("write made.txt").contains("written"));
    let made = scene.lodge.folder("work").join("made.txt");
    assert_eq!(std::fs::read_to_string(made).unwrap(), "written\n");
    assert!(scene.ask("say it runs").contains("it runs"));
}

#[test]
fn an_agent_of_an_unknown_version_is_refused_by_it() {
    let scene = Scene::new();
    scene.configure("args = [\"--v9\"]");
    let workspace = scene.lodge.folder("work");
    let folder = workspace.to_str().unwrap();
    let output = scene
        .lodge
        .run(&["chat", "--harness", "scripted", "--workspace", folder, "say x"]);
    assert_eq!(output.status.code(), Some(18), "{}", stderr(&output));
    let said = stderr(&output);
    assert!(said.contains("version 9") && said.contains("1 and 2"), "{said}");
}

#[test]
fn a_running_lodge_offers_it_and_keeps_its_sessions() {
    let scene = Scene::new();
    scene.configure("");
    let workspace = scene.lodge.folder("work");
    let _up = scene.lodge.up(&["--workspace", workspace.to_str().unwrap()]);
    assert!(scene.ask("say hello").contains("hello"));
    // It is gone while Lodge runs: new sessions are refused with its name, the rest goes on.
    std::fs::rename(&scene.agent, scene.root().join("away")).unwrap();
    let folder = workspace.to_str().unwrap();
    let output = scene
        .lodge
        .run(&["chat", "--harness", "scripted", "--workspace", folder, "say x"]);
    assert_eq!(output.status.code(), Some(17), "{}", stderr(&output));
    assert!(
        stderr(&output).contains("agent `scripted`: command"),
        "{}",
        stderr(&output)
    );
    let list = scene.lodge.run(&["sessions", "list"]);
    assert!(stdout(&list).contains("scripted"), "{}", stdout(&list));
}

#[test]
fn a_wrong_agent_stops_lodge_with_file_and_key() {
    let scene = Scene::new();
    let workspace = scene.lodge.folder("work");
    let data = scene.lodge.data();
    for (more, key) in [
        ("dialects = [\"latin\"]".to_owned(), "latin"),
        ("env = { LODGE_API_KEY = \"x\" }".to_owned(), "env"),
        (
            "\n[[agent]]\nname = \"pi\"\ncommand = [\"/usr/bin/env\"]".to_owned(),
            "agent[1]: name",
        ),
        (
            "\n[[agent]]\nname = \"b\"\ncommand = [\"/no/such\"]".to_owned(),
            "agent `b`: command",
        ),
        (
            format!(
                "\n[[agent]]\nname = \"b\"\ncommand = [\"/usr/bin/env\"]\nroots = [\"{}\"]",
                data.display()
            ),
            "agent `b`: roots",
        ),
        (
            format!(
                "\n[[agent]]\nname = \"b\"\ncommand = [\"/usr/bin/env\"]\nroots = [\"{}\"]",
                workspace.display()
            ),
            "agent `b`: roots",
        ),
    ] {
        scene.configure(&more);
        let folder = workspace.to_str().unwrap();
        for args in [
            &[
                "up",
                "--no-open",
                "--listen",
                "127.0.0.1:0",
                "--seconds",
                "1",
                "--workspace",
                folder,
            ][..],
            &["chat", "--harness", "scripted", "--workspace", folder, "say x"],
        ] {
            let output = scene.lodge.run(args);
            assert_eq!(output.status.code(), Some(15), "{more}: {}", stderr(&output));
            for part in ["lodge.toml", key] {
                assert!(stderr(&output).contains(part), "{more}: {}", stderr(&output));
            }
        }
    }
}

#[test]
fn a_workspace_cannot_bring_one() {
    let scene = Scene::new();
    let workspace = scene.lodge.folder("work");
    scene.configure("");
    let text = std::fs::read_to_string(scene.lodge.data().join("config/lodge.toml")).unwrap();
    std::fs::remove_dir_all(scene.lodge.data().join("config")).unwrap();
    for place in [
        "lodge.toml",
        "config/lodge.toml",
        ".lodge/lodge.toml",
        ".lodge/config/lodge.toml",
    ] {
        let path = workspace.join(place);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, &text).unwrap();
    }
    let folder = workspace.to_str().unwrap();
    let output = scene
        .lodge
        .command(&["chat", "--harness", "scripted", "--workspace", folder, "say x"])
        .current_dir(&workspace)
        .output()
        .unwrap();
    assert!(
        matches!(output.status.code(), Some(10 | 15)),
        "{}",
        stderr(&output)
    );
    assert!(stderr(&output).contains("scripted"), "{}", stderr(&output));
}

#[test]
fn an_agent_of_the_configuration_is_not_lodges_to_update() {
    let scene = Scene::new();
    scene.configure("");
    let output = scene.lodge.run(&["harness", "update", "scripted"]);
    assert!(stderr(&output).contains("[[agent]]"), "{}", stderr(&output));
    let none = scene.lodge.run(&["harness", "update", "--all", "--json"]);
    assert!(none.status.success(), "{}", stderr(&none));
    assert_eq!(stdout(&none).trim(), "[]");
    let missing = scene.lodge.run(&["harness", "update", "pi"]);
    assert_eq!(missing.status.code(), Some(17), "{}", stderr(&missing));
}

#[test]
fn the_list_says_that_there_is_an_update() {
    let lodge = Lodge::new();
    std::fs::create_dir_all(lodge.data().join("harness/pi/0.84.4")).unwrap();
    let text = stdout(&lodge.run(&["harness", "list"]));
    let with_update = |line: &&str| line.contains("update available: ");
    let lines: Vec<&str> = text.lines().filter(with_update).collect();
    assert!(lines.len() == 1 && lines[0].starts_with("pi "), "{text}");
    let listed = lodge.run(&["harness", "list", "--json"]);
    let listed: Value = serde_json::from_slice(&listed.stdout).unwrap();
    let mut all = listed.as_array().unwrap().iter();
    let pi = all.find(|harness| harness["name"] == "pi").unwrap();
    assert!(pi["update"].is_string(), "{pi}");
}
