//! What a hostile repository brings runs where its user trusted just that, and nowhere else.
//!
//! The same repositories as in `hostile.rs`, where nobody trusts them. Everything happens inside the sandbox, whose walls
//! are the same either way.

#![allow(clippy::unwrap_used)]

mod common;

use common::brings::{for_claude, for_codex, for_gemini, for_opencode, for_pi};
use common::hostile::Hostile;
use common::stderr;
use serde_json::Value;

/// Trusted it runs; one byte later it does not, in the same session started again, which says what changed.
fn holds_for_just_that(hostile: &Hostile, expected: &[&str], changed: &str) {
    let digest = hostile.trust();
    let events = hostile.turn("use bash: touch tool-1\nsay one");
    let marks = hostile.marks();
    for mark in expected {
        let ran = marks.iter().any(|ran| ran.strip_prefix("ran-") == Some(mark));
        assert!(ran, "{mark} did not run, but: {marks:?}");
    }
    let said = notices(&events)
        .iter()
        .any(|text| text.contains("that you trusted"));
    assert!(said, "{:?}", notices(&events));
    let shown = hostile.shown();
    assert_eq!(
        shown["digest"],
        digest.as_str(),
        "its own session changed nothing"
    );
    hostile.clear();
    let path = hostile.workspace.join(changed);
    let mut bytes = std::fs::read(&path).unwrap();
    bytes.push(b'\n');
    std::fs::write(&path, &bytes).unwrap();
    let shown = hostile.shown();
    assert_eq!(shown["trusted"], false);
    assert_eq!(shown["changed"][0]["path"], changed, "{shown}");
    let resumed = hostile.again(&events, "use bash: touch tool-2\nsay two");
    assert!(hostile.workspace.join("tool-2").exists());
    assert_eq!(hostile.marks(), Vec::<String>::new());
    let notice = notices(&resumed);
    let is_said = |text: &&str| text.contains("is off") && text.contains(changed);
    assert!(notice.iter().any(is_said), "{notice:?}");
    // What was there before is still what the user trusts, until that is taken back.
    bytes.pop();
    std::fs::write(&path, &bytes).unwrap();
    assert_eq!(hostile.shown()["trusted"], true);
    let output = hostile.on_workspace("distrust", &[]);
    assert!(output.status.success(), "{}", stderr(&output));
    hostile.again(&events, "use bash: touch tool-3\nsay three");
    assert!(hostile.workspace.join("tool-3").exists());
    assert_eq!(hostile.marks(), Vec::<String>::new());
    hostile.lodge.assert_no_processes();
}

fn notices(events: &[Value]) -> Vec<&str> {
    let notify = events.iter().filter(|event| event["event"] == "notify");
    notify.filter_map(|event| event["message"].as_str()).collect()
}

#[test]
fn pi_runs_what_its_user_trusts() {
    let hostile = Hostile::new("pi");
    for_pi(&hostile);
    holds_for_just_that(
        &hostile,
        &["extension", "extension-folder"],
        ".pi/extensions/evil.ts",
    );
}

#[test]
fn codex_runs_what_its_user_trusts() {
    let hostile = Hostile::new("codex");
    for_codex(&hostile);
    holds_for_just_that(&hostile, &["mcp"], ".codex/config.toml");
}

#[test]
fn claude_runs_what_its_user_trusts() {
    let hostile = Hostile::new("claude");
    for_claude(&hostile);
    let expected = [
        "mcp",
        "settings-SessionStart",
        "settings-PreToolUse",
        "settings.local-Stop",
        "settings.local-bash-env",
    ];
    holds_for_just_that(&hostile, &expected, ".mcp.json");
}

#[test]
fn gemini_runs_what_its_user_trusts() {
    let hostile = Hostile::new("gemini");
    for_gemini(&hostile);
    let expected = ["mcp", "discovery", "hook-BeforeAgent", "bash-env"];
    holds_for_just_that(&hostile, &expected, ".env");
}

#[test]
fn opencode_runs_what_its_user_trusts() {
    let hostile = Hostile::new("opencode");
    for_opencode(&hostile);
    let expected = ["plugin", "plugins", "plugin-settings", "mcp"];
    holds_for_just_that(&hostile, &expected, "opencode.json");
}

#[test]
fn opencode_over_acp_runs_what_its_user_trusts() {
    let hostile = Hostile::new("opencode-acp");
    for_opencode(&hostile);
    let expected = ["plugin", "plugins", "plugin-settings", "mcp"];
    holds_for_just_that(&hostile, &expected, ".opencode/plugin/evil.js");
}

/// The guest is hijacked: what it would have the next session run, it cannot put there.
#[test]
fn a_guest_cannot_change_what_is_trusted() {
    let hostile = Hostile::new("claude");
    for_claude(&hostile);
    let digest = hostile.trust();
    let script = "use bash: echo '{}' > .mcp.json; echo x >> .claude/settings.json; rm -rf .claude; mv .claude moved; \
                  mv .mcp.json away; echo touch ran-again >> evil/mcp.sh; mv evil wicked; rm -f evil/mcp.sh; \
                  ln -f tool-1 evil/mcp.sh; touch tool-1";
    hostile.turn(script);
    assert!(
        hostile.workspace.join("tool-1").exists(),
        "the guest did its work"
    );
    let shown = hostile.shown();
    assert_eq!(
        (&shown["trusted"], &shown["digest"]),
        (&Value::from(true), &Value::from(digest)),
        "{shown}"
    );
    for made in ["moved", "away", "wicked"] {
        assert!(!hostile.workspace.join(made).exists(), "{made}");
    }
}

/// What it can put there, beside what is trusted, is not trusted.
#[test]
fn what_a_guest_adds_is_off_with_all_the_rest() {
    let hostile = Hostile::new("claude");
    for_claude(&hostile);
    hostile.trust();
    hostile.turn(
        "use bash: mkdir -p sub/.claude/skills/evil && echo x > sub/.claude/skills/evil/SKILL.md\nsay one",
    );
    hostile.clear();
    let events = hostile.turn("say two");
    let notice = notices(&events);
    assert!(
        notice
            .iter()
            .any(|text| text.contains("sub/.claude/skills/evil/SKILL.md")),
        "{notice:?}"
    );
    assert_eq!(hostile.marks(), Vec::<String>::new());
}

#[test]
fn only_what_is_there_can_be_trusted() {
    let hostile = Hostile::new("codex");
    // Nothing yet.
    let output = hostile.on_workspace("trust", &["--digest", "00"]);
    assert_eq!(output.status.code(), Some(10), "{}", stderr(&output));
    for_codex(&hostile);
    let output = hostile.on_workspace("trust", &["--digest", "00"]);
    assert_eq!(output.status.code(), Some(14), "{}", stderr(&output));
    let output = hostile.on_workspace("distrust", &[]);
    assert_eq!(output.status.code(), Some(10), "{}", stderr(&output));
    // A link in the place of a file.
    let config = hostile.workspace.join(".codex/config.toml");
    std::fs::rename(&config, hostile.workspace.join("config.toml")).unwrap();
    std::os::unix::fs::symlink("../config.toml", &config).unwrap();
    let shown = hostile.shown();
    assert_eq!(shown["trustable"], false);
    assert!(
        shown["reason"].as_str().unwrap().contains("symbolic link"),
        "{shown}"
    );
    let output = hostile.on_workspace("trust", &["--digest", "00"]);
    assert_eq!(output.status.code(), Some(20), "{}", stderr(&output));
    // There is an agent that Lodge has no switch for, and one that does not exist.
    for (harness, status) in [("goose", 16), ("nonsense", 10)] {
        let folder = hostile.workspace.to_str().unwrap();
        let args = [
            "workspace",
            "trust",
            folder,
            "--harness",
            harness,
            "--digest",
            "00",
        ];
        let output = hostile.lodge.run(&args);
        assert_eq!(
            output.status.code(),
            Some(status),
            "{harness}: {}",
            stderr(&output)
        );
    }
}
