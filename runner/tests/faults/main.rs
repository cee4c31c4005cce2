//! Bad input and faults, through the runner's socket: each gives a typed answer, and nothing is lost.
//!
//! Sandbox, shims and guest init are the real ones; the harness is `lodge-fake-pi` or a shell script, history and
//! gateway are stand-ins. Every event that a test hears goes through the checker of the log's rules.

#![allow(clippy::unwrap_used)]

mod abort;
mod approvals;
mod dialogs;
mod files;
mod git;
mod harness;
mod idempotency;
mod lifecycle;
mod network;
mod peer;
mod queue;
mod reboot;
mod reconnect;
mod sandboxes;
mod secrets;
mod services;
#[path = "../support/mod.rs"]
#[allow(dead_code, reason = "other tests use the rest")]
mod support;
mod terminals;
mod tiers;
mod trust;
mod wires;
mod workspaces;
mod world;

/// The program that the tests start as their runner; as a test of its own it has nothing to do.
#[test]
fn runner_process() {
    support::rig::be_runner();
}
