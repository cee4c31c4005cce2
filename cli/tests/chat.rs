//! `lodge chat` and `lodge sessions` with the real pi and the demo model.

#![allow(clippy::unwrap_used)]

mod common;

use common::{Lodge, stderr, stdout};
use lodge_proto::{Event, EventBody};
use serde_json::Value;
use std::path::Path;
use std::process::Output;

fn chat(lodge: &Lodge, workspace: &Path, prompt: &str) -> Output {
    let workspace = workspace.to_str().unwrap();
    lodge.run(&[
        "chat",
        "--harness",
        "pi",
        "--workspace",
        workspace,
        "--json",
        prompt,
    ])
}

fn events(output: &Output) -> Vec<Event> {
    let text = stdout(output);
    let events: Vec<Event> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert!(!events.is_empty(), "no event; standard error: {}", stderr(output));
    events
}

/// Gap-free numbers from 1, one end of the one turn, everything the checker knows.
fn assert_whole_turn(events: &[Event]) {
    assert!(
        events.iter().map(|event| event.seq).eq(1..=events.len() as u64),
        "a gap"
    );
    let ends = events
        .iter()
        .filter(|event| matches!(event.body, EventBody::TurnEnded { .. }))
        .count();
    assert_eq!(ends, 1);
    assert!(matches!(events.last().unwrap().body, EventBody::AgentIdle { .. }));
    let mut checker = lodge_proto::invariants::Checker::new();
    for event in events {
        checker.event(event).unwrap();
    }
    checker.finish().unwrap();
}

#[test]
fn a_turn_prints_its_whole_log_and_leaves_no_process() {
    let lodge = Lodge::with_pi();
    let workspace = lodge.folder("work");
    let output = chat(&lodge, &workspace, "think");
    assert!(output.status.success(), "{}", stderr(&output));
    assert_whole_turn(&events(&output));
    assert_eq!(lodge.processes(), [""; 0]);
}

#[test]
fn a_tool_writes_into_the_workspace_and_the_session_goes_on() {
    let lodge = Lodge::with_pi();
    let workspace = lodge.folder("work");
    let output = chat(
        &lodge,
        &workspace,
        "use bash: echo hi > hello.txt && cat hello.txt",
    );
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!(
        std::fs::read_to_string(workspace.join("hello.txt")).unwrap(),
        "hi\n"
    );
    let session = events(&output)[0].session_id.to_string();
    let folder = workspace.to_str().unwrap();
    let more = lodge.run(&[
        "chat",
        "--session",
        &session,
        "--workspace",
        folder,
        "say still here",
    ]);
    assert!(more.status.success(), "{}", stderr(&more));
    assert!(stdout(&more).contains("still here"), "{}", stdout(&more));
    let list: Value = serde_json::from_slice(&lodge.run(&["sessions", "list", "--json"]).stdout).unwrap();
    assert_eq!(list[0]["id"], session.as_str());
    let shown = stdout(&lodge.run(&["sessions", "show", &session]));
    assert!(
        shown.contains("hello.txt") && shown.contains("still here"),
        "{shown}"
    );
    let deleted = lodge.run(&["sessions", "delete", &session]);
    assert!(deleted.status.success(), "{}", stderr(&deleted));
    assert_eq!(lodge.run(&["sessions", "show", &session]).status.code(), Some(10));
}

#[test]
fn a_running_lodge_is_used_and_decides_where_agents_work() {
    let lodge = Lodge::with_pi();
    let (inside, outside) = (lodge.folder("inside"), lodge.folder("outside"));
    let _up = lodge.up(&["--workspace", inside.to_str().unwrap()]);
    let output = chat(&lodge, &inside, "say hello");
    assert!(output.status.success(), "{}", stderr(&output));
    assert_whole_turn(&events(&output));
    let refused = chat(&lodge, &outside, "say hello");
    assert!(
        matches!(refused.status.code(), Some(11 | 20)),
        "{}",
        stderr(&refused)
    );
    assert!(stderr(&refused).contains("--workspace"), "{}", stderr(&refused));
    std::os::unix::fs::symlink(&outside, inside.join("link")).unwrap();
    let refused = chat(&lodge, &inside.join("link"), "say hello");
    assert!(
        matches!(refused.status.code(), Some(11 | 20)),
        "{}",
        stderr(&refused)
    );
}

#[test]
fn what_cannot_be_started_is_refused_with_its_reason() {
    let lodge = Lodge::new();
    let workspace = lodge.folder("work");
    let missing = chat(&lodge, &workspace, "say x");
    assert_eq!(missing.status.code(), Some(17), "{}", stderr(&missing));
    assert!(
        stderr(&missing).contains("lodge harness install pi"),
        "{}",
        stderr(&missing)
    );
    let nowhere = chat(&lodge, &workspace.join("none"), "say x");
    assert_eq!(nowhere.status.code(), Some(10), "{}", stderr(&nowhere));
    let folder = workspace.to_str().unwrap();
    let unknown = lodge.run(&[
        "chat",
        "--harness",
        "no-such-agent",
        "--workspace",
        folder,
        "say x",
    ]);
    assert!(
        matches!(unknown.status.code(), Some(10 | 15)),
        "{}",
        stderr(&unknown)
    );
    assert!(stderr(&unknown).contains("no-such-agent"));
}

#[test]
fn an_unknown_model_is_refused() {
    let lodge = Lodge::with_pi();
    let workspace = lodge.folder("work");
    let args = [
        "chat",
        "--harness",
        "pi",
        "--workspace",
        workspace.to_str().unwrap(),
        "--model",
        "no/such",
        "say x",
    ];
    let output = lodge.run(&args);
    assert!(
        matches!(output.status.code(), Some(10 | 15)),
        "{}",
        stderr(&output)
    );
    assert!(stderr(&output).contains("no/such"), "{}", stderr(&output));
}

#[test]
fn an_error_of_the_provider_ends_the_turn_and_is_the_exit_status() {
    let lodge = Lodge::with_pi();
    let output = chat(&lodge, &lodge.folder("work"), "err 401");
    assert_eq!(output.status.code(), Some(23), "{}", stderr(&output));
    assert_whole_turn(&events(&output));
}
