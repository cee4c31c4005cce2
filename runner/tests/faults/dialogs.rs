//! Questions of the agent to its user.

use crate::world::World;
use lodge_proto::command::CommandBody;
use lodge_proto::event::{EventBody, TurnOutcome};
use lodge_proto::input::{InputAnswer, InputKind, InputRequest, PermissionChoice};
use lodge_proto::{ErrorCode, SessionId};

async fn question(world: &mut World, id: SessionId) -> InputRequest {
    world
        .event(id, 0, "question", |event| match event {
            EventBody::AgentInputNeeded { request } => Some(request.clone()),
            _ => None,
        })
        .await
}

fn respond(request: &InputRequest, answer: InputAnswer) -> CommandBody {
    CommandBody::InputResponse {
        request_id: request.id,
        answer,
    }
}

fn selected(value: &str) -> InputAnswer {
    InputAnswer::Selected {
        values: vec![value.to_owned()],
    }
}

#[tokio::test]
async fn a_question_takes_one_answer_of_its_kind() {
    let mut world = World::new();
    let id = world.session("question").await;
    let turn = world.prompt(id, "ask").await;
    let request = question(&mut world, id).await;
    assert!(matches!(&request.kind, InputKind::Select { options, .. } if options.len() == 2));
    assert!(world.state(id).await.session.needs_input);
    for wrong in [
        InputAnswer::Confirmed { yes: true },
        InputAnswer::Text {
            text: "one".to_owned(),
        },
        selected("three"),
    ] {
        let refused = world.refused(id, respond(&request, wrong)).await;
        assert_eq!(refused.code, ErrorCode::InvalidArgument);
    }
    // The question outlives a runner.
    world.restart_runner().await;
    assert_eq!(world.state(id).await.requests, std::slice::from_ref(&request));
    world.ok(id, respond(&request, selected("two"))).await;
    let again = world.refused(id, respond(&request, selected("one"))).await;
    assert_eq!(again.code, ErrorCode::Conflict);
    assert_eq!(world.ended(id, turn).await, (TurnOutcome::Completed, None));
    assert_eq!(world.seen(id).answers(), "You chose two.");
    assert!(!world.state(id).await.session.needs_input);
    world.finish();
}

#[tokio::test]
async fn a_permission_takes_one_of_its_choices() {
    use PermissionChoice::{Always, Deny, DenyAndStop, Once, Session};
    let mut world = World::new();
    let id = world.session("permission").await;
    let turn = world.prompt(id, "permit").await;
    let request = question(&mut world, id).await;
    let InputKind::Permission {
        tool,
        arguments,
        choices,
        ..
    } = &request.kind
    else {
        panic!("{request:?}")
    };
    assert_eq!((tool.as_str(), &arguments["command"]), ("bash", &"make".into()));
    assert_eq!(*choices, [Once, Session, Always, Deny, DenyAndStop]);
    let choose = |choice| respond(&request, InputAnswer::Permission { choice });
    let refused = world.refused(id, respond(&request, selected("one"))).await;
    assert_eq!(refused.code, ErrorCode::InvalidArgument);
    world.ok(id, choose(Once)).await;
    assert_eq!(world.ended(id, turn).await, (TurnOutcome::Completed, None));
    assert_eq!(world.seen(id).answers(), "You chose once.");
    world.finish();
}

#[tokio::test]
async fn deny_and_stop_aborts_the_turn() {
    let mut world = World::new();
    let id = world.session("denied").await;
    let turn = world.prompt(id, "permit\nstream 500 20").await;
    let request = question(&mut world, id).await;
    let choice = PermissionChoice::DenyAndStop;
    world
        .ok(id, respond(&request, InputAnswer::Permission { choice }))
        .await;
    assert_eq!(world.ended(id, turn).await, (TurnOutcome::Aborted, None));
    world.run(id, "next").await;
    world.finish();
}
