//! `lodge sandbox run` in the microVM tier.

#![allow(clippy::unwrap_used)]

mod common;

use common::engine::Tier;
use common::sandbox::{Said, ends};
use common::{signal, stderr};
use rustix::process::Signal;
use std::process::Stdio;

const TIER: Tier = Tier {
    name: "microvm",
    input: 5 << 20,
};

#[test]
fn exit_status_signals_and_pipes_are_passed_through() {
    TIER.exit_status_signals_and_pipes_are_passed_through();
}

#[test]
fn what_is_typed_is_for_the_guest() {
    TIER.what_is_typed_is_for_the_guest();
}

#[test]
fn an_interrupt_during_the_start_leaves_nothing() {
    TIER.an_interrupt_during_the_start_leaves_nothing();
}

#[test]
fn after_a_kill_nothing_is_left_once_another_has_run() {
    TIER.after_a_kill_nothing_is_left_once_another_has_run();
}

#[test]
fn input_that_nobody_reads_holds_up_no_signal() {
    let lodge = TIER.lodge();
    let mut child = lodge
        .script(&TIER.flags(), "echo ready; sleep 1000")
        .stdin(std::fs::File::open("/dev/zero").unwrap())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    Said::by(child.stdout.take().unwrap()).wait_for("ready");
    signal(child.id().into(), Signal::INT);
    assert_eq!(ends(&mut child).code(), Some(130));
}

#[test]
fn a_limit_that_is_crossed_is_named() {
    let lodge = TIER.lodge();
    let file = lodge.root().join("sandbox.toml");
    std::fs::write(&file, "version = 1\n[limits]\nwall_seconds = 1\n").unwrap();
    let flags = ["--policy", file.to_str().unwrap(), "--tier", TIER.name];
    let output = lodge.script(&flags, "sleep 1000").output().unwrap();
    assert_eq!(output.status.code(), Some(27), "{}", stderr(&output));
    assert!(
        stderr(&output).contains("limits.wall_seconds"),
        "{}",
        stderr(&output)
    );
}
