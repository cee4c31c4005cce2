//! Approvals that are remembered: equal questions are not asked again, whatever was killed in between.

use crate::world::World;
use lodge_proto::command::CommandBody;
use lodge_proto::event::{EventBody, TurnOutcome};
use lodge_proto::ids::RequestId;
use lodge_proto::input::{Approval, ApprovalScope, InputAnswer, InputRequest, PermissionChoice};
use lodge_proto::{ErrorCode, SessionId};
use serde_json::json;
use std::time::{Duration, Instant};

/// Time after which what was to be kept never will be.
const PATIENCE: Duration = Duration::from_secs(20);

/// Prompts for a permission and waits for the question.
async fn asked(world: &mut World, id: SessionId, prompt: &str) -> (InputRequest, lodge_proto::TurnId) {
    let before = world.head(id);
    let turn = world.prompt(id, prompt).await;
    let request = world
        .event(id, before, "question", |event| match event {
            EventBody::AgentInputNeeded { request } => Some(request.clone()),
            _ => None,
        })
        .await;
    (request, turn)
}

fn answer(request: RequestId, choice: PermissionChoice) -> CommandBody {
    CommandBody::InputResponse {
        request_id: request,
        answer: InputAnswer::Permission { choice },
    }
}

/// How the question was answered; by which scope, where nobody was asked.
async fn resolved(world: &mut World, id: SessionId, request: &InputRequest) -> Option<ApprovalScope> {
    let (_, remembered) = world
        .event(id, 0, "answer", |event| match event {
            EventBody::AgentInputResolved {
                request_id,
                remembered,
                ..
            } if *request_id == request.id => Some((*request_id, *remembered)),
            _ => None,
        })
        .await;
    remembered
}

/// Prompts, answers the question, and waits for the end of the turn.
async fn answered(world: &mut World, id: SessionId, prompt: &str, choice: PermissionChoice) -> InputRequest {
    let (request, turn) = asked(world, id, prompt).await;
    world.ok(id, answer(request.id, choice)).await;
    assert_eq!(resolved(world, id, &request).await, None);
    assert_eq!(world.ended(id, turn).await, (TurnOutcome::Completed, None));
    request
}

/// Prompts for what is approved: the turn goes through without an answer of anybody.
async fn unasked(world: &mut World, id: SessionId, prompt: &str, scope: ApprovalScope) {
    let (request, turn) = asked(world, id, prompt).await;
    assert_eq!(resolved(world, id, &request).await, Some(scope));
    assert_eq!(world.ended(id, turn).await, (TurnOutcome::Completed, None));
    assert!(!world.state(id).await.session.needs_input);
}

async fn approvals(world: &mut World, id: Option<SessionId>) -> Vec<Approval> {
    let listed = world.ok(id, CommandBody::ApprovalsList {}).await;
    serde_json::from_value(listed["approvals"].clone()).unwrap()
}

/// Waits until so many approvals are kept for always.
async fn kept(world: &mut World, count: usize) -> Vec<Approval> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let found = approvals(world, None).await;
        if found.len() == count {
            return found;
        }
        assert!(found.len() < count && Instant::now() < deadline, "{found:?}");
    }
}

fn forget(id: Option<RequestId>) -> CommandBody {
    CommandBody::ApprovalsForget { approval_id: id }
}

#[tokio::test]
async fn an_approval_for_the_session_outlives_harness_and_runner() {
    let mut world = World::new();
    let id = world.session("for-session").await;
    let first = answered(&mut world, id, "permit", PermissionChoice::Session).await;
    assert_eq!(
        world.seen(id).answers(),
        "You chose once.",
        "the harness is told what it knows"
    );
    unasked(&mut world, id, "permit", ApprovalScope::Session).await;
    world.restart_runner().await;
    unasked(&mut world, id, "permit", ApprovalScope::Session).await;
    world.ok(id, CommandBody::SessionClose {}).await;
    unasked(&mut world, id, "permit", ApprovalScope::Session).await;
    // Another command is another question, and so is the same one elsewhere.
    answered(&mut world, id, "permit make all", PermissionChoice::Once).await;
    answered(&mut world, id, "permit make all", PermissionChoice::Deny).await;
    let other = world.session("for-session-2").await;
    answered(&mut world, other, "permit", PermissionChoice::Once).await;

    assert_eq!(approvals(&mut world, None).await, []);
    let listed = approvals(&mut world, Some(id)).await;
    assert_eq!(
        (listed.len(), listed[0].id, listed[0].scope),
        (1, first.id, ApprovalScope::Session)
    );
    assert_eq!(listed[0].subject, json!({ "command": "make" }));
    world.ok(id, forget(Some(first.id))).await;
    let again = world.refused(id, forget(Some(first.id))).await;
    assert_eq!(again.code, ErrorCode::NotFound);
    answered(&mut world, id, "permit", PermissionChoice::Once).await;
    world.finish();
}

#[tokio::test]
async fn an_approval_for_always_holds_in_every_session_of_its_workspace_until_it_is_forgotten() {
    let mut world = World::new();
    let id = world.session("for-always").await;
    let first = answered(&mut world, id, "permit", PermissionChoice::Always).await;
    let listed = kept(&mut world, 1).await;
    assert_eq!(
        (listed[0].id, listed[0].scope, listed[0].session_id),
        (first.id, ApprovalScope::Always, None)
    );
    assert_eq!(
        (listed[0].harness.as_str(), listed[0].tool.as_str()),
        ("pi", "bash")
    );
    assert!(listed[0].workspace.ends_with("/for-always"), "{listed:?}");
    unasked(&mut world, id, "permit", ApprovalScope::Always).await;

    let same = world.session("for-always").await;
    unasked(&mut world, same, "permit", ApprovalScope::Always).await;
    world.restart_runner().await;
    unasked(&mut world, same, "permit", ApprovalScope::Always).await;
    let elsewhere = world.session("not-here").await;
    answered(&mut world, elsewhere, "permit", PermissionChoice::Once).await;

    let unknown = world.refused(None, forget(Some(RequestId::new()))).await;
    assert_eq!(unknown.code, ErrorCode::NotFound);
    world.ok(None, forget(Some(first.id))).await;
    assert_eq!(approvals(&mut world, None).await, []);
    answered(&mut world, id, "permit", PermissionChoice::Once).await;
    answered(&mut world, same, "permit", PermissionChoice::Always).await;
    kept(&mut world, 1).await;
    // The other session is open, and is told.
    unasked(&mut world, id, "permit", ApprovalScope::Always).await;
    world.ok(None, forget(None)).await;
    assert_eq!(approvals(&mut world, None).await, []);
    world.finish();
}

/// The database refuses the approval, so the kill comes for certain between the answer and its effect.
#[tokio::test]
async fn a_kill_between_answer_and_effect_loses_no_approval() {
    let mut world = World::new();
    let id = world.session("killed").await;
    let path = world.rig.data().join("runner/runner.db");
    let database = rusqlite::Connection::open(path).unwrap();
    database
        .execute_batch(
            "CREATE TRIGGER held BEFORE INSERT ON approvals BEGIN SELECT RAISE(ABORT, 'held'); END;",
        )
        .unwrap();
    answered(&mut world, id, "permit", PermissionChoice::Always).await;
    assert_eq!(approvals(&mut world, None).await, []);
    world.kill_runner().await;
    database.execute_batch("DROP TRIGGER held;").unwrap();
    world.start_runner();
    let listed = kept(&mut world, 1).await;
    assert_eq!(listed[0].subject, json!({ "command": "make" }));
    let same = world.session("killed").await;
    unasked(&mut world, same, "permit", ApprovalScope::Always).await;
    world.finish();
}

#[tokio::test]
async fn a_kill_as_soon_as_the_answer_is_given_loses_neither_answer_nor_approval() {
    let mut world = World::new();
    let id = world.session("killed-early").await;
    for round in 0..4 {
        let (request, turn) = asked(&mut world, id, &format!("permit {round}")).await;
        let choice = if round % 2 == 0 {
            PermissionChoice::Always
        } else {
            PermissionChoice::Session
        };
        let command = world.send(None, Some(id), answer(request.id, choice)).await;
        if round >= 2 {
            assert_eq!(resolved(&mut world, id, &request).await, None);
        }
        world.restart_runner().await;
        world.answer(&command).await;
        assert_eq!(world.ended(id, turn).await, (TurnOutcome::Completed, None));
    }
    kept(&mut world, 2).await;
    assert_eq!(approvals(&mut world, Some(id)).await.len(), 2);
    for round in 0..4 {
        let scope = if round % 2 == 0 {
            ApprovalScope::Always
        } else {
            ApprovalScope::Session
        };
        unasked(&mut world, id, &format!("permit {round}"), scope).await;
    }
    world.finish();
}

#[tokio::test]
async fn a_viewer_neither_sees_nor_forgets_approvals() {
    let mut world = World::new();
    let id = world.make("viewed").await;
    let mut viewer = world.another(lodge_proto::relay::Rights::View);
    for (session, body) in [
        (None, CommandBody::ApprovalsList {}),
        (Some(id), CommandBody::ApprovalsList {}),
        (None, forget(None)),
    ] {
        let refused = viewer.refused(session, body).await;
        assert_eq!(refused.code, ErrorCode::Forbidden);
    }
    world.finish();
}
