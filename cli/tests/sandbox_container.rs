//! `lodge sandbox run` in the container tier.

#![allow(clippy::unwrap_used)]

mod common;

use common::engine::Tier;

const TIER: Tier = Tier {
    name: "container",
    input: 50 << 20,
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
