//! Commands that need no running Lodge.

#![allow(clippy::unwrap_used)]

mod common;

use common::{Lodge, repository, stderr, stdout};
use serde_json::Value;
use std::process::Stdio;

#[test]
fn wrong_usage_exits_with_2() {
    let lodge = Lodge::new();
    for args in [
        &["chat"][..],
        &["up", "--listen", "here"],
        &["no-such-command"],
        &["sessions"],
    ] {
        assert_eq!(lodge.run(args).status.code(), Some(2), "{args:?}");
    }
}

#[test]
fn help_teaches_and_hides_the_roles() {
    let lodge = Lodge::new();
    let help = stdout(&lodge.run(&["--help"]));
    assert!(
        ["Examples:", "lodge up", "lodge sandbox run", "lodge image build"]
            .iter()
            .all(|part| help.contains(part)),
        "{help}"
    );
    assert!(!help.contains("\n  runner"), "{help}");
}

#[test]
fn doctor_reports_as_json_and_its_exit_status_says_whether_something_is_missing() {
    let lodge = Lodge::new();
    let doctor = lodge.run(&["doctor", "--json"]);
    let report: Value = serde_json::from_slice(&doctor.stdout).unwrap();
    let items = report["items"].as_array().unwrap();
    for name in [
        "bwrap",
        "user namespaces",
        "landlock",
        "seccomp",
        "pi",
        "node",
        "npm",
        "disk",
        "clock",
    ] {
        assert!(items.iter().any(|item| item["name"] == name), "{name} is missing");
    }
    for item in items.iter().filter(|item| item["ok"] == false) {
        assert!(item["mend"].is_string(), "{item}");
    }
    for (group, name) in [
        ("sandbox", "lodge-tier"),
        ("sandbox", "lodge-probe"),
        ("tiers", "process"),
        ("tiers", "container"),
        ("tiers", "microvm"),
        ("limits", "process"),
        ("policy", "sandbox.toml"),
    ] {
        assert!(
            items
                .iter()
                .any(|item| item["group"] == group && item["name"] == name),
            "{group}: {name} is missing"
        );
    }
    let missing = items
        .iter()
        .any(|item| item["ok"] == false && item["required"] == true);
    assert_eq!(doctor.status.code(), Some(i32::from(missing)));
    assert_eq!(report["ok"], !missing);
}

#[test]
fn doctor_shows_which_policy_files_were_read_and_what_is_wrong_with_one() {
    let lodge = Lodge::new();
    let policy = || {
        let report: Value = serde_json::from_slice(&lodge.run(&["doctor", "--json"]).stdout).unwrap();
        let items = report["items"].as_array().unwrap();
        items
            .iter()
            .find(|item| item["group"] == "policy")
            .unwrap()
            .clone()
    };
    let file = lodge.folder("data/config").join("sandbox.toml");
    std::fs::write(&file, "version = 1\nprofile = \"minimal\"\n").unwrap();
    let found = policy();
    let detail = found["detail"].as_str().unwrap();
    assert!(
        detail.contains("minimal") && detail.contains(file.to_str().unwrap()),
        "{detail}"
    );
    std::fs::write(&file, "version = 1\n[limits]\nmemry = 3\n").unwrap();
    let found = policy();
    assert_eq!((&found["ok"], &found["required"]), (&false.into(), &true.into()));
    let problem = found["problem"].as_str().unwrap();
    assert!(
        problem.contains(file.to_str().unwrap()) && problem.contains("limits.memry"),
        "{problem}"
    );
}

#[test]
fn doctor_without_npm_says_how_to_install_it() {
    let lodge = Lodge::new();
    let empty = lodge.folder("empty");
    let doctor = lodge
        .command(&["doctor", "--json"])
        .env("PATH", empty)
        .output()
        .unwrap();
    let report: Value = serde_json::from_slice(&doctor.stdout).unwrap();
    let npm = report["items"]
        .as_array()
        .unwrap()
        .iter()
        .find(|item| item["name"] == "npm")
        .unwrap();
    assert_eq!(npm["ok"], false);
    assert!(npm["mend"].as_str().unwrap().contains("npm"));
}

#[test]
fn harnesses_are_listed_and_an_unknown_one_is_named() {
    let lodge = Lodge::new();
    let list: Value = serde_json::from_slice(&lodge.run(&["harness", "list", "--json"]).stdout).unwrap();
    assert!(
        list.as_array()
            .unwrap()
            .iter()
            .any(|harness| harness["name"] == "pi" && harness["installed"] == false)
    );
    let unknown = lodge.run(&["harness", "install", "no-such-agent"]);
    assert_eq!(unknown.status.code(), Some(10));
    assert!(stderr(&unknown).contains("no-such-agent") && stderr(&unknown).contains("pi"));
}

#[test]
fn an_installation_from_an_empty_directory_fails_and_leaves_nothing() {
    let lodge = Lodge::new();
    let empty = lodge.folder("empty");
    let install = lodge.run(&["harness", "install", "pi", "--from", empty.to_str().unwrap()]);
    assert_eq!(install.status.code(), Some(10), "{}", stderr(&install));
    assert!(stderr(&install).contains(empty.to_str().unwrap()));
    assert!(!lodge.data().join("harness/pi").exists());
}

#[test]
fn completions_name_the_commands() {
    let script = stdout(&Lodge::new().run(&["completions", "bash"]));
    assert!(
        script.contains("login-link") && script.contains("complete"),
        "{}",
        script.len()
    );
    for words in [
        "sandbox__subcmd__run",
        "sandbox__subcmd__explain",
        "image__subcmd__build",
    ] {
        assert!(script.contains(words), "{words}");
    }
}

#[test]
fn a_recorded_transcript_becomes_a_valid_log() {
    let lodge = Lodge::new();
    let transcripts = repository().join("runner/tests/fixtures/pi");
    let mut count = 0;
    for entry in std::fs::read_dir(&transcripts).unwrap_or_else(|e| panic!("{}: {e}", transcripts.display()))
    {
        let path = entry.unwrap().path();
        let input = std::fs::File::open(&path).unwrap();
        let mut command = lodge.command(&["debug", "translate", "--harness", "pi", "--json"]);
        let output = command.stdin(Stdio::from(input)).output().unwrap();
        assert!(output.status.success(), "{}: {}", path.display(), stderr(&output));
        let text = stdout(&output);
        let seqs = text.lines().map(|line| {
            serde_json::from_str::<Value>(line).unwrap()["seq"]
                .as_u64()
                .unwrap()
        });
        assert!(
            seqs.eq(1..=text.lines().count() as u64),
            "{}: a gap",
            path.display()
        );
        count += 1;
    }
    assert!(count > 0, "no transcript was found");
}

#[test]
fn an_unknown_adapter_and_a_line_that_is_no_record_are_refused() {
    let lodge = Lodge::new();
    let unknown = lodge.run(&["debug", "translate", "--harness", "no-such-agent"]);
    assert_eq!(unknown.status.code(), Some(10));
    let garbage = lodge.root().join("garbage");
    std::fs::write(&garbage, "{\"t\":0,\"dir\":\"out\",\"line\":\"{}\"}\nnot json\n").unwrap();
    let mut command = lodge.command(&["debug", "translate", "--harness", "pi"]);
    let output = command
        .stdin(std::fs::File::open(&garbage).unwrap())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(15));
    assert!(stderr(&output).contains("line 2"), "{}", stderr(&output));
}
