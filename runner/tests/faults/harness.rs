//! Harnesses that misbehave.

use crate::peer::prompt;
use crate::support::rig::Rig;
use crate::world::World;
use lodge_proto::command::CommandBody;
use lodge_proto::event::{EventBody, TurnOutcome};
use lodge_proto::session::SessionStatus;
use lodge_proto::{ErrorBody, ErrorCode, Outcome, SessionId};
use std::time::Duration;

/// The next error that the agent reports.
async fn agent_error(world: &mut World, id: SessionId, after: u64) -> ErrorBody {
    world
        .event(id, after, "agent.error", |event| match event {
            EventBody::AgentError { code, message, .. } => Some(ErrorBody::new(*code, message.clone())),
            _ => None,
        })
        .await
}

/// A turn in which the harness does something odd completes, and so does the next.
async fn survives(directive: &str, said: &str) {
    let mut world = World::new();
    let id = world.session("odd").await;
    let before = world.head(id);
    world.run(id, &format!("{directive}\nstill here")).await;
    let error = agent_error(&mut world, id, before).await;
    assert_eq!(error.code, ErrorCode::HarnessCrashed);
    assert!(error.message.contains(said), "{}", error.message);
    assert!(error.message.len() < 1000, "not the line itself");
    assert_eq!(world.seen(id).answers(), "still here");
    world.run(id, "and again").await;
    assert_eq!(world.truth(id, "start").len(), 1, "the harness lived on");
    world.finish();
}

#[tokio::test]
async fn a_line_of_garbage_is_told_and_survived() {
    survives("garbage", "not JSON").await;
}

#[tokio::test]
async fn a_line_that_is_no_text_is_told_and_survived() {
    survives("invalid-utf8", "not UTF-8").await;
}

#[tokio::test]
async fn a_line_of_20_mib_is_dropped_with_the_limit_named() {
    survives(&format!("bigline {}", 20 << 20), "16 MiB").await;
}

#[tokio::test]
async fn a_harness_that_dies_in_its_turn_interrupts_it_and_is_resumed() {
    let mut world = World::new();
    let id = world.session("dying").await;
    let turn = world.prompt(id, "said before\nstderr out of luck\nexit 3").await;
    let (outcome, error) = world.ended(id, turn).await;
    let error = error.unwrap();
    assert_eq!(
        (outcome, error.code),
        (TurnOutcome::Interrupted, ErrorCode::HarnessCrashed)
    );
    for said in ["status 3", "out of luck"] {
        assert!(error.message.contains(said), "{}", error.message);
    }
    assert_eq!(
        world.seen(id).answers(),
        "said before",
        "what was received is kept"
    );
    let state = world.state(id).await;
    assert_eq!(state.session.status, SessionStatus::Stopped);
    assert_eq!(state.last_error.unwrap(), error);
    world.run(id, "again").await;
    assert_eq!(world.state(id).await.last_error, None);
    assert_eq!(world.truth(id, "start").len(), 2);
    world.finish();
}

#[tokio::test]
async fn a_harness_that_ends_at_once_fails_the_session_and_is_not_started_in_a_loop() {
    let script = "echo start >> $HOME/starts; echo no such module >&2; exit 7";
    let mut world = World::with(Rig::with_harness(Some(script)));
    let id = world.make("broken").await;
    world.status(id, SessionStatus::Failed).await;
    let error = world.state(id).await.last_error.unwrap();
    assert_eq!(error.code, ErrorCode::HarnessCrashed);
    for said in ["status 7", "no such module"] {
        assert!(error.message.contains(said), "{}", error.message);
    }
    let starts = |world: &World| {
        let path = world.rig.session_home(id).join("starts");
        std::fs::read_to_string(path).unwrap().lines().count()
    };
    assert_eq!(starts(&world), 1);
    // It may live just long enough for the turn to begin: then that ends with the same error.
    let error = match world.ask_as("hello", Some(id), prompt("hello")).await {
        Outcome::Error(error) => error,
        Outcome::Ok(answer) => {
            assert_eq!(
                answer["disposition"], "started",
                "nothing waits for a harness that does not come"
            );
            let turn = serde_json::from_value(answer["turn_id"].clone()).unwrap();
            world.ended(id, turn).await.1.unwrap()
        }
    };
    assert_eq!(error.code, ErrorCode::HarnessCrashed, "{error:?}");
    let state = world.state(id).await;
    assert!(matches!(
        state.session.status,
        SessionStatus::Failed | SessionStatus::Stopped
    ));
    assert_eq!(starts(&world), 2, "once for each time it was asked");
    world.finish();
}

#[tokio::test]
async fn a_harness_that_does_not_exist_fails_the_session_with_its_name() {
    let mut world = World::with(Rig::with_harness(None));
    let id = world.make("missing").await;
    world.status(id, SessionStatus::Failed).await;
    let error = world.state(id).await.last_error.unwrap();
    assert!(error.message.contains("scripted"), "{error:?}");
    let refused = world.refused(id, prompt("hello")).await;
    assert_eq!(refused.code, error.code, "{refused:?}");
    world.finish();
}

/// Whether nobody uses the harness's tree.
fn is_free(world: &World) -> bool {
    let tree = std::fs::File::open(world.rig.root().join("harness")).unwrap();
    tree.try_lock().is_ok()
}

#[tokio::test]
async fn what_a_harness_was_started_from_is_in_use_until_its_shim_ends() {
    let mut world = World::new();
    assert!(is_free(&world));
    let id = world.session("using").await;
    assert!(!is_free(&world), "an update must not remove it");
    world.restart_runner().await;
    world.run(id, "still here").await;
    assert!(!is_free(&world), "it is the shim that uses it, not the runner");
    world.ok(id, CommandBody::SessionClose {}).await;
    assert!(world.rig.all_gone(Duration::from_secs(20)).await);
    assert!(is_free(&world));
    world.finish();
}
