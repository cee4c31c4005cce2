//! One effect and equal answers under one client id; who may change anything at all.

use crate::peer::{error, prompt};
use crate::world::{World, create};
use lodge_proto::command::CommandBody;
use lodge_proto::event::TurnOutcome;
use lodge_proto::relay::Rights;
use lodge_proto::{ErrorCode, Outcome, SessionId};

async fn sessions(world: &mut World) -> usize {
    let list = CommandBody::SessionList {
        cursor: None,
        limit: None,
    };
    world.ok(None, list).await["sessions"].as_array().unwrap().len()
}

#[tokio::test]
async fn a_command_that_comes_again_has_one_effect_and_equal_answers() {
    let mut world = World::new();
    world.rig.workspace("same");
    let first = world.ask_as("create", None, create("same")).await;
    assert_eq!(first, world.ask_as("create", None, create("same")).await);
    let Outcome::Ok(info) = &first else {
        panic!("{first:?}")
    };
    let id: SessionId = info["id"].as_str().unwrap().parse().unwrap();
    world.subscribe(id, None).await;
    let started = world.ask_as("prompt", Some(id), prompt("hello")).await;
    assert_eq!(started, world.ask_as("prompt", Some(id), prompt("hello")).await);
    let Outcome::Ok(answer) = &started else {
        panic!("{started:?}")
    };
    let turn = serde_json::from_value(answer["turn_id"].clone()).unwrap();
    assert_eq!(world.ended(id, turn).await, (TurnOutcome::Completed, None));

    world.restart_runner().await;
    assert_eq!(started, world.ask_as("prompt", Some(id), prompt("hello")).await);
    assert_eq!(first, world.ask_as("create", None, create("same")).await);
    for (client_id, session, body) in [
        ("prompt", Some(id), prompt("another")),
        ("create", None, create("another")),
    ] {
        let refused = error(world.ask_as(client_id, session, body).await);
        assert_eq!(refused.code, ErrorCode::Conflict, "{refused:?}");
    }
    assert_eq!(sessions(&mut world).await, 1);
    assert_eq!(world.truth(id, "prompt"), ["hello"]);
    world.finish();
}

#[tokio::test]
async fn a_command_whose_answer_a_kill_swallowed_is_done_once() {
    let mut world = World::new();
    let id = world.session("killed").await;
    for round in 0..3 {
        let text = format!("round {round}");
        let command = world.send(Some(&text), Some(id), prompt(&text)).await;
        world.restart_runner().await;
        // The client asks again under the same ids by itself.
        let Outcome::Ok(answer) = world.answer(&command).await else {
            panic!("refused")
        };
        let turn = serde_json::from_value(answer["turn_id"].clone()).unwrap();
        assert_eq!(world.ended(id, turn).await, (TurnOutcome::Completed, None));
    }
    assert_eq!(world.truth(id, "prompt"), ["round 0", "round 1", "round 2"]);
    world.finish();
}

#[tokio::test]
async fn changes_need_a_client_id_and_the_right_to_make_them() {
    let mut world = World::new();
    let id = world.session("rights").await;
    let refused = error(world.ask_anonymously(Some(id), prompt("hello")).await);
    assert_eq!(refused.code, ErrorCode::InvalidArgument);
    assert!(refused.message.contains("client_id"), "{}", refused.message);
    let mut viewer = world.another(Rights::View);
    for body in [
        prompt("hello"),
        CommandBody::Abort {},
        CommandBody::SessionDelete {},
    ] {
        assert_eq!(viewer.refused(id, body).await.code, ErrorCode::Forbidden);
    }
    assert_eq!(
        viewer.refused(None, create("rights")).await.code,
        ErrorCode::Forbidden
    );
    assert_eq!(viewer.state(id).await.session.id, id, "looking is allowed");
    let missing = error(world.ask_as("nowhere", None, prompt("hello")).await);
    assert_eq!(missing.code, ErrorCode::InvalidArgument);
    assert!(missing.message.contains("session_id"), "{}", missing.message);
    assert!(world.truth(id, "prompt").is_empty());
    world.finish();
}
