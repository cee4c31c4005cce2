//! `lodge harness test`, with the real pi.

#![allow(clippy::unwrap_used)]

mod common;

use common::hostile::Hostile;
use common::{Lodge, eventually, signal, stderr, stdout};
use rustix::process::Signal;
use serde_json::Value;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

/// The suite, with its temporary directory where the test sees it.
fn suite(lodge: &Lodge, args: &[&str]) -> Command {
    let mut all = vec!["harness", "test"];
    all.extend(args);
    let mut command = lodge.command(&all);
    command.env("TMPDIR", lodge.folder("tmp"));
    command
}

fn assert_nothing_is_left(lodge: &Lodge) {
    let left: Vec<_> = std::fs::read_dir(lodge.folder("tmp"))
        .unwrap()
        .flatten()
        .collect();
    assert!(left.is_empty(), "{left:?}");
    lodge.assert_no_processes();
}

#[test]
fn a_harness_that_does_all_passes_and_what_was_seen_is_told() {
    let lodge = Lodge::with_pi();
    let cases = "text,tool,permission,image";
    let output = suite(&lodge, &["pi", "--json", "--only", cases])
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}\n{}",
        stdout(&output),
        stderr(&output)
    );
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let results: Vec<(&str, &str)> = report["cases"]
        .as_array()
        .unwrap()
        .iter()
        .map(|case| (case["case"].as_str().unwrap(), case["result"].as_str().unwrap()))
        .collect();
    assert_eq!(results.len(), 4, "{report}");
    assert!(results.iter().all(|(_, result)| *result == "ok"), "{report}");
    assert_eq!(report["observed"]["images"], true);
    assert_eq!(report["observed"]["capabilities"]["steer"], true);
    assert_eq!(report["observed"]["live_tool_output"], true);
    assert_eq!(report["observed"]["permission_choices"][0], "once");
    assert_nothing_is_left(&lodge);
}

#[test]
fn one_that_is_not_installed_is_refused_by_name() {
    let lodge = Lodge::new();
    let output = suite(&lodge, &["codex"]).output().unwrap();
    assert_eq!(output.status.code(), Some(17), "{}", stderr(&output));
    assert!(stderr(&output).contains("codex"), "{}", stderr(&output));
    let output = suite(&lodge, &["pi", "--only", "singing"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("kill-and-resume"), "the cases are named");
}

#[test]
fn after_an_interrupt_nothing_is_left() {
    let lodge = Lodge::with_pi();
    let mut child = suite(&lodge, &["pi", "--only", "text,steer"])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // The first case is over while the other one sleeps in its tool.
    let mut lines = BufReader::new(child.stderr.take().unwrap())
        .lines()
        .map_while(Result::ok);
    assert!(lines.any(|line| line.starts_with("pi text:")));
    signal(child.id().into(), Signal::INT);
    let status = eventually("the suite ends", || child.try_wait().unwrap());
    assert_eq!(status.code(), Some(130));
    assert_nothing_is_left(&lodge);
}

/// The case that watches what a harness does by itself, with a pi that does this at its start: its detail.
fn watched(does: &str) -> String {
    let pi = Hostile::trusting("pi", &format!("{does}\nawait import(\"REAL\");\n"));
    let output = suite(&pi.lodge, &["pi", "--json", "--only", "outbound"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["cases"][0]["result"], "failed", "{report}");
    assert_nothing_is_left(&pi.lodge);
    report["cases"][0]["detail"].as_str().unwrap().to_owned()
}

#[test]
fn one_that_connects_to_a_name_is_caught() {
    let detail = watched(
        r#"import { connect } from "node:net";
connect(443, "stranger.example").on("error", () => {});"#,
    );
    assert!(detail.contains("stranger.example:443"), "{detail}");
}

#[test]
fn one_that_only_asks_for_a_name_or_tries_an_address_is_caught() {
    let detail = watched(
        r#"import { lookup } from "node:dns";
import { connect } from "node:net";
lookup("stranger.example", () => {});
connect(443, "192.0.2.7").on("error", () => {});"#,
    );
    for tried in ["names asked for: 1", "addresses without a way to them: 1"] {
        assert!(detail.contains(tried), "{detail}");
    }
}
