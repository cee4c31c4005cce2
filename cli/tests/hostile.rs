//! A hostile repository for each harness: what it brings that an agent would run without being asked is not run.
//!
//! Every file that such an agent reads from its working directory names a command of its own, which would leave a mark.
//! `AGENTS.md` and its like are text for the model and no part of this.
//!
//! Each has a control: the same workspace with the same harness that was made to trust it. It leaves marks, so that a
//! workspace that nobody reads any more is noticed.

#![allow(clippy::unwrap_used)]

mod common;

use common::brings::{for_claude, for_codex, for_gemini, for_opencode, for_pi};
use common::hostile::{self, Hostile};
use common::stderr;
use serde_json::json;

#[test]
fn pi_runs_nothing_that_a_workspace_brings() {
    let hostile = Hostile::new("pi");
    for_pi(&hostile);
    hostile.holds();
}

#[test]
fn a_pi_that_trusts_it_runs_it() {
    let hostile = Hostile::trusting("pi", hostile::TRUSTING_PI);
    for_pi(&hostile);
    hostile.leaves(&["extension", "extension-folder"]);
}

#[test]
fn claude_runs_nothing_that_a_workspace_brings() {
    let hostile = Hostile::new("claude");
    for_claude(&hostile);
    hostile.holds();
}

#[test]
fn a_claude_that_trusts_it_runs_it() {
    let hostile = Hostile::trusting("claude", hostile::TRUSTING_CLAUDE);
    for_claude(&hostile);
    hostile.leaves(&[
        "mcp",
        "settings-SessionStart",
        "settings-PreToolUse",
        "settings.local-Stop",
        "settings.local-bash-env",
    ]);
}

#[test]
fn codex_runs_nothing_that_a_workspace_brings() {
    let hostile = Hostile::new("codex");
    for_codex(&hostile);
    hostile.holds();
}

#[test]
fn a_codex_that_trusts_it_runs_it() {
    let hostile = Hostile::trusting("codex", hostile::TRUSTING_CODEX);
    for_codex(&hostile);
    hostile.leaves(&["mcp"]);
}

#[test]
fn gemini_runs_nothing_that_a_workspace_brings() {
    let hostile = Hostile::new("gemini");
    for_gemini(&hostile);
    hostile.holds();
}

#[test]
fn a_gemini_that_trusts_it_runs_it() {
    let hostile = Hostile::trusting("gemini", hostile::TRUSTING_GEMINI);
    for_gemini(&hostile);
    hostile.leaves(&["mcp", "discovery", "hook-BeforeAgent", "bash-env"]);
}

#[test]
fn opencode_runs_nothing_that_a_workspace_brings() {
    let hostile = Hostile::new("opencode");
    for_opencode(&hostile);
    hostile.holds();
}

#[test]
fn opencode_over_acp_runs_nothing_that_a_workspace_brings() {
    let hostile = Hostile::new("opencode-acp");
    for_opencode(&hostile);
    hostile.holds();
}

#[test]
fn a_link_that_opencode_would_follow_is_refused() {
    let hostile = Hostile::new("opencode-acp");
    hostile.json("evil/opencode.json", &json!({}));
    std::os::unix::fs::symlink("evil/opencode.json", hostile.workspace.join("opencode.json")).unwrap();
    let folder = hostile.workspace.to_str().unwrap();
    let output = hostile.lodge.run(&[
        "chat",
        "--harness",
        hostile.harness,
        "--workspace",
        folder,
        "say x",
    ]);
    assert_eq!(output.status.code(), Some(20), "{}", stderr(&output));
    assert!(
        stderr(&output).contains("`opencode.json` is a symbolic link"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn an_opencode_that_trusts_it_runs_it() {
    let mut hostile = Hostile::new("opencode-acp");
    for_opencode(&hostile);
    // As an agent of the administrator's that hides nothing it is shown what its workspace brings. Its switch stays on, without which it
    // writes to `.opencode`, is refused, and gives up: the switch alone does not do.
    let (tree, program) = (hostile.tree().display(), hostile.program_of_tree().display());
    let settings = json!({
        "provider": { "demo": {
            "npm": "@ai-sdk/openai-compatible",
            "options": { "baseURL": "http://127.0.0.1:8377/demo/v1", "apiKey": "{env:LODGE_API_KEY}" },
            "models": { "demo": {} },
        } },
        "model": "demo/demo",
        "small_model": "demo/demo",
    });
    let config = hostile.lodge.data().join("config");
    std::fs::create_dir_all(&config).unwrap();
    let text = format!(
        "[[agent]]\nname = \"trusting\"\ncommand = [\"{program}\", \"acp\"]\nroots = [\"{tree}\"]\nhide = []\n\
         env = {{ OPENCODE_CONFIG_CONTENT = '{settings}', OPENCODE_DISABLE_PROJECT_CONFIG = \"1\" }}\n"
    );
    std::fs::write(config.join("lodge.toml"), text).unwrap();
    hostile.harness = "trusting";
    hostile.leaves(&["plugin", "plugins", "plugin-settings"]);
}
