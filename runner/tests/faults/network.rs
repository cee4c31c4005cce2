//! What the gateway tells of a guest, and the questions it has.

use crate::support::stubs::Asked;
use crate::world::World;
use lodge_proto::SessionId;
use lodge_proto::command::CommandBody;
use lodge_proto::control::{EgressAccess, EgressClosed, EgressNotice, EgressQuestion, egress_notice::Notice};
use lodge_proto::event::{EventBody, NetworkDecision};
use lodge_proto::input::{InputAnswer, InputKind, InputRequest, PermissionChoice};

/// The stand-in names leases after their sessions.
fn say(world: &World, id: SessionId, notice: Notice) {
    world.leases.as_ref().unwrap().say(EgressNotice {
        lease_id: id.to_string(),
        notice: Some(notice),
    });
}

fn ask(world: &World, id: SessionId, question: &str) {
    let question = EgressQuestion {
        id: question.to_owned(),
        host: "a.example".to_owned(),
        port: 443,
        seconds: 120,
    };
    say(world, id, Notice::Question(question));
}

/// The next question that is open.
async fn question(world: &mut World, id: SessionId) -> InputRequest {
    world
        .until("a question", |peer| {
            let mut open: Vec<InputRequest> = Vec::new();
            for event in &peer.seen(id).events {
                match &event.body {
                    EventBody::AgentInputNeeded { request } => open.push(request.clone()),
                    EventBody::AgentInputResolved { request_id, .. } => {
                        open.retain(|request| request.id != *request_id);
                    }
                    _ => {}
                }
            }
            open.pop()
        })
        .await
}

async fn resolved(world: &mut World, id: SessionId, request: &InputRequest) {
    let wanted = request.id;
    world
        .event(id, 0, "the end of the question", |event| match event {
            EventBody::AgentInputResolved { request_id, .. } if *request_id == wanted => Some(()),
            _ => None,
        })
        .await;
}

#[tokio::test]
async fn a_connection_that_waits_is_a_question_and_its_answer_goes_back() {
    let mut world = World::new();
    let id = world.session("network").await;
    let access = EgressAccess {
        host: "b.example".to_owned(),
        port: 80,
        decision: "denied".to_owned(),
        rule: "unlisted".to_owned(),
        connections: 2,
        ..EgressAccess::default()
    };
    say(&world, id, Notice::Access(access));
    let host = world
        .event(id, 0, "network.access", |event| match event {
            EventBody::NetworkAccess {
                host,
                decision: NetworkDecision::Denied,
                connections: 2,
                ..
            } => Some(host.clone()),
            _ => None,
        })
        .await;
    assert_eq!(host, "b.example");

    ask(&world, id, "ask-1");
    let request = question(&mut world, id).await;
    assert!(matches!(&request.kind, InputKind::Permission { tool, .. } if tool == "network"));
    let answer = CommandBody::InputResponse {
        request_id: request.id,
        answer: InputAnswer::Permission {
            choice: PermissionChoice::Session,
        },
    };
    world.ok(id, answer).await;
    let told = Asked::Answered("ask-1".to_owned(), "session".to_owned());
    world.leases.as_ref().unwrap().heard(&told).await;

    // A guest that hangs up takes its question with it.
    ask(&world, id, "ask-2");
    let request = question(&mut world, id).await;
    let closed = EgressClosed {
        id: "ask-2".to_owned(),
    };
    say(&world, id, Notice::Closed(closed));
    resolved(&mut world, id, &request).await;
    world.run(id, "hello").await;
    world.finish();
}

#[tokio::test]
async fn a_question_is_void_without_the_gateway_or_the_runner_that_it_was_put_to() {
    let mut world = World::new();
    let id = world.session("void").await;
    ask(&world, id, "ask-1");
    let request = question(&mut world, id).await;
    world.start_gateway();
    resolved(&mut world, id, &request).await;
    let again = Asked::Resumed(id.to_string());
    world.leases.as_ref().unwrap().heard(&again).await;
    ask(&world, id, "ask-2");
    let request = question(&mut world, id).await;
    world.restart_runner().await;
    resolved(&mut world, id, &request).await;
    assert!(world.state(id).await.requests.is_empty());
    world.finish();
}
