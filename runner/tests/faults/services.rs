//! History and gateway that are down.

use crate::peer::{Peer, error, prompt};
use crate::support::rig::Rig;
use crate::support::stubs::{Asked, Mood};
use crate::world::{World, create};
use lodge_proto::command::CommandBody;
use lodge_proto::event::{EventBody, TurnOutcome};
use lodge_proto::part::plain_text;
use lodge_proto::session::SessionStatus;
use lodge_proto::{ErrorCode, Outcome};
use std::time::{Duration, Instant};

/// Turns wait for history, survive the runner meanwhile, and end when it is back.
async fn history_is_away(mood: Mood) {
    let mut world = World::new();
    let id = world.session("away").await;
    world.history.set(mood);
    let turn = world.prompt(id, "hello").await;
    world
        .event(id, 0, "status persisting", |event| {
            matches!(event, EventBody::Status { persisting: true, .. }).then_some(())
        })
        .await;
    world.queue(id, prompt("second"), "queued").await;
    world.restart_runner().await;
    let state = world.state(id).await;
    assert!(state.persisting);
    assert_eq!(state.queue.len(), 1);
    let ended = |peer: &Peer| {
        let events = peer.seen(id).events.iter();
        events
            .filter(|event| matches!(event.body, EventBody::TurnEnded { .. }))
            .count()
    };
    assert_eq!(ended(&world), 0, "not before it is stored");
    assert_eq!(world.history.messages(id), []);
    world.history.set(Mood::Works);
    assert_eq!(world.ended(id, turn).await, (TurnOutcome::Completed, None));
    world
        .until("the queued turn", |peer| (ended(peer) == 2).then_some(()))
        .await;
    let stored: Vec<String> = world
        .history
        .messages(id)
        .iter()
        .map(|message| plain_text(&message.parts))
        .collect();
    assert_eq!(stored, ["hello", "hello", "second", "second"]);
    assert_eq!(world.truth(id, "prompt"), ["hello", "second"]);
    world.finish();
}

#[tokio::test]
async fn turns_wait_for_a_history_that_refuses() {
    history_is_away(Mood::Refuses).await;
}

#[tokio::test]
async fn turns_wait_for_a_history_that_hangs() {
    history_is_away(Mood::Hangs).await;
}

#[tokio::test]
async fn without_the_gateway_no_session_begins_and_the_same_command_works_later() {
    let mut world = World::without_gateway(Rig::new());
    world.rig.workspace("early");
    let begun = Instant::now();
    let refused = error(world.ask_as("create", None, create("early")).await);
    assert_eq!(refused.code, ErrorCode::Unavailable);
    assert!(refused.message.contains("gateway"), "{}", refused.message);
    assert!(
        begun.elapsed() < Duration::from_secs(15),
        "took {:?}",
        begun.elapsed()
    );
    let list = CommandBody::SessionList {
        cursor: None,
        limit: None,
    };
    assert_eq!(world.ok(None, list).await["sessions"], serde_json::json!([]));
    world.start_gateway();
    let Outcome::Ok(info) = world.ask_as("create", None, create("early")).await else {
        panic!("refused")
    };
    let id = info["id"].as_str().unwrap().parse().unwrap();
    world.subscribe(id, None).await;
    world.run(id, "hello").await;
    world.finish();
}

#[tokio::test]
async fn what_a_session_may_use_is_asked_for_at_every_start_and_of_its_forks() {
    let mut world = World::new();
    world.rig.workspace("narrow");
    let with = |limits: serde_json::Value| {
        let CommandBody::SessionCreate {
            harness, workspace, ..
        } = create("narrow")
        else {
            unreachable!()
        };
        CommandBody::SessionCreate {
            harness,
            workspace,
            model: None,
            thinking_level: None,
            title: None,
            tier: None,
            profile: None,
            limits: serde_json::from_value(limits).unwrap(),
        }
    };
    for (limits, named) in [
        (serde_json::json!({"budget_nanodollars": 0}), "budget_nanodollars"),
        (serde_json::json!({"models": ["no-such-*"]}), "limits.models"),
    ] {
        let refused = world.refused(None, with(limits)).await;
        assert_eq!(refused.code, lodge_proto::ErrorCode::InvalidArgument);
        assert!(refused.message.contains(named), "{}", refused.message);
    }
    let limits = serde_json::json!({"budget_nanodollars": 2_000_000_000_u64, "models": ["*"]});
    let made = world.ok(None, with(limits.clone())).await;
    assert_eq!(made["limits"], limits);
    let id = made["id"].as_str().unwrap().parse().unwrap();
    world.subscribe(id, None).await;
    world.run(id, "hello").await;
    let narrowed = |id: String| Asked::Narrowed(id, 2_000_000_000);
    world
        .leases
        .as_ref()
        .unwrap()
        .heard(&narrowed(id.to_string()))
        .await;
    // The next start, by a runner and with a gateway that know nothing of the first.
    world.ok(id, CommandBody::SessionClose {}).await;
    world.status(id, SessionStatus::Stopped).await;
    world.start_gateway();
    world.restart_runner().await;
    world.run(id, "again").await;
    world
        .leases
        .as_ref()
        .unwrap()
        .heard(&narrowed(id.to_string()))
        .await;
    let fork = world.ok(id, CommandBody::SessionFork { message_id: None }).await;
    assert_eq!(fork["limits"], limits);
    let fork = fork["id"].as_str().unwrap().to_owned();
    world.leases.as_ref().unwrap().heard(&narrowed(fork)).await;
    world.finish();
}

#[tokio::test]
async fn leases_are_resumed_after_the_gateway_and_after_the_runner_and_end_with_the_harness() {
    let mut world = World::new();
    let id = world.session("leases").await;
    let turn = world.prompt(id, "stream 100 10").await;
    let resumed = Asked::Resumed(id.to_string());
    for by_runner in [false, true] {
        world.start_gateway();
        if by_runner {
            world.restart_runner().await;
        }
        world.leases.as_ref().unwrap().heard(&resumed).await;
    }
    assert_eq!(world.ended(id, turn).await, (TurnOutcome::Completed, None));
    world.ok(id, CommandBody::SessionClose {}).await;
    world.status(id, SessionStatus::Stopped).await;
    let closed = Asked::Closed(id.to_string());
    world.leases.as_ref().unwrap().heard(&closed).await;
    world.finish();
}
