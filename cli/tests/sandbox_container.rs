//! `lodge sandbox run` in the container tier.

#![allow(clippy::unwrap_used)]

mod common;

use common::sandbox::{Said, Terminal, all_gone, descendants, ends};
use common::{Lodge, eventually, signal, stderr, stdout};
use rustix::process::Signal;
use std::io::Write;
use std::process::Stdio;

const TIER: [&str; 2] = ["--tier", "container"];

fn lodge() -> Lodge {
    Lodge::of_tier("container")
}

#[test]
fn exit_status_signals_and_pipes_are_passed_through() {
    let lodge = lodge();
    for (script, status) in [("exit 7", 7), ("kill -TERM $$", 143)] {
        let output = lodge.script(&TIER, script).output().unwrap();
        assert_eq!(
            output.status.code(),
            Some(status),
            "{script}: {}",
            stderr(&output)
        );
    }
    let missing = lodge.sandboxed(&TIER, &["no-such-command"]).output().unwrap();
    assert_eq!(missing.status.code(), Some(127));
    let mut child = lodge
        .script(&TIER, "wc -c; touch made; echo wrong >&2")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let much = vec![b'x'; 50 << 20];
    child.stdin.take().unwrap().write_all(&much).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(stdout(&output).trim(), much.len().to_string());
    assert_eq!(stderr(&output), "wrong\n");
    std::fs::remove_file(lodge.folder("work").join("made")).unwrap();
    assert_eq!(lodge.leftovers(), Vec::<String>::new());
    assert_eq!(lodge.containers(), "");
}

#[test]
fn what_is_typed_is_for_the_guest() {
    let lodge = lodge();
    let script = "stty size; trap 'echo caught; exit 9' INT; echo ready; while :; do sleep 0.05; done";
    let mut terminal = Terminal::with(&lodge.script(&TIER, script), None);
    terminal.said.wait_for("33 77\r\nready");
    terminal.type_in("\u{3}");
    terminal.said.wait_for("caught");
    assert_eq!(terminal.wait(), Some(9));
    assert!(terminal.edits_lines());
}

#[test]
fn an_interrupt_during_the_start_leaves_nothing() {
    let lodge = lodge();
    let mut child = lodge.script(&TIER, "sleep 1000").spawn().unwrap();
    let started = eventually("a launcher", || {
        Some(descendants(child.id())).filter(|pids| !pids.is_empty())
    });
    signal(child.id().into(), Signal::INT);
    assert_eq!(ends(&mut child).code(), Some(130));
    all_gone(&started);
    assert_eq!(lodge.leftovers(), Vec::<String>::new());
    assert_eq!(lodge.containers(), "");
}

#[test]
fn after_a_kill_nothing_is_left_once_another_has_run() {
    let lodge = lodge();
    let mut child = lodge
        .script(&TIER, "echo ready; sleep 1000")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    Said::by(child.stdout.take().unwrap()).wait_for("ready");
    assert_ne!(lodge.containers(), "");
    let started = descendants(child.id());
    child.kill().unwrap();
    child.wait().unwrap();
    all_gone(&started);
    assert!(lodge.script(&TIER, "true").status().unwrap().success());
    assert_eq!(lodge.leftovers(), Vec::<String>::new());
    assert_eq!(lodge.containers(), "");
}
