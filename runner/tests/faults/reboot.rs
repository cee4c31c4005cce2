//! The machine stops: everything is killed at once.

use crate::peer::{follow_up, steer};
use crate::world::World;
use lodge_proto::ErrorCode;
use lodge_proto::command::CommandBody;
use lodge_proto::event::TurnOutcome;
use lodge_proto::session::{QueueState, SessionStatus};
use rustix::process::Pid;
use std::time::Duration;

impl World {
    /// Kills runner, shims, sandboxes and harnesses, and starts a runner again.
    async fn reboot(&mut self) {
        self.kill_runner().await;
        self.rig.kill_guests();
        assert!(
            self.rig.all_gone(Duration::from_secs(5)).await,
            "{:?}",
            self.rig.processes()
        );
        self.start_runner();
    }
}

/// Guest init is the parent of its harness.
fn parent(pid: Pid) -> Pid {
    let status = std::fs::read_to_string(format!("/proc/{}/status", pid.as_raw_nonzero())).unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("PPid:"))
        .unwrap();
    Pid::from_raw(line.trim().parse().unwrap()).unwrap()
}

#[tokio::test]
async fn a_turn_under_way_is_closed_as_interrupted_and_the_session_resumes() {
    let mut world = World::new();
    let id = world.session("rebooted").await;
    world.run(id, "before").await;
    let turn = world.prompt(id, "stream 1000 10").await;
    world.streaming(id, turn).await;
    world.reboot().await;
    let (outcome, error) = world.ended(id, turn).await;
    let error = error.unwrap();
    assert_eq!(
        (outcome, error.code),
        (TurnOutcome::Interrupted, ErrorCode::HarnessCrashed),
        "{error:?}"
    );
    let state = world.state(id).await;
    assert_eq!(state.session.status, SessionStatus::Stopped);
    assert!(state.queue.is_empty(), "the prompt had arrived");
    assert!(world.seen(id).answers().contains("1 "), "what was said is kept");
    world.run(id, "after").await;
    assert!(world.truth(id, "start")[1].contains("--session "));
    world.finish();
}

#[tokio::test]
async fn prompts_that_may_not_have_arrived_wait_for_the_users_decision() {
    let mut world = World::new();
    let id = world.session("uncertain").await;
    // A guest that is stopped takes nothing in: its stream fills and the delivery stays half done.
    let harness = world.rig.harnesses()[0];
    for pid in [parent(harness), harness] {
        rustix::process::kill_process(pid, rustix::process::Signal::STOP).unwrap();
    }
    let long = format!("hello\n{}", "x".repeat(3 << 20));
    let turn = world.prompt(id, &long).await;
    world.queue(id, steer("steered"), "steering").await;
    world.queue(id, follow_up("waits"), "queued").await;
    world.reboot().await;
    assert_eq!(world.ended(id, turn).await.0, TurnOutcome::Interrupted);
    let queue = world.state(id).await.queue;
    let states: Vec<QueueState> = queue.iter().map(|entry| entry.state).collect();
    let (uncertain, waiting) = (QueueState::Uncertain, QueueState::Waiting);
    assert_eq!(states, [uncertain, uncertain, waiting]);
    assert_eq!(queue[0].parts[0].as_text(), Some(long.as_str()));
    let clear = CommandBody::QueueClear {
        entry_id: Some(queue[2].id),
    };
    world.ok(id, clear).await;
    // None is sent by itself, not even with the next prompt.
    world.run(id, "next").await;
    assert_eq!(world.state(id).await.queue.len(), 2);
    assert_eq!(world.truth(id, "prompt"), ["next"]);
    let resend = CommandBody::QueueResend {
        entry_id: queue[1].id,
    };
    world.ok(id, resend).await;
    world
        .until("the prompt that was sent again", |peer| {
            let prompts = peer.seen(id).prompts();
            let (turn, _) = prompts.iter().find(|(_, text)| text == "steered")?;
            Some(*turn)
        })
        .await;
    world
        .until("its answer", |peer| {
            peer.seen(id).answers().ends_with("steered").then_some(())
        })
        .await;
    world.status(id, SessionStatus::Idle).await;
    assert_eq!(world.truth(id, "prompt"), ["next", "steered"]);
    world.finish();
}
