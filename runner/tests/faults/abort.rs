//! An abort settles within 5 s, whatever the harness does.

use crate::peer::follow_up;
use crate::world::World;
use lodge_proto::command::CommandBody;
use lodge_proto::event::{EventBody, TurnOutcome};
use lodge_proto::input::InputAnswer;
use lodge_proto::session::{QueueState, SessionStatus};
use std::time::{Duration, Instant};

/// Time within which an abort has settled.
const SETTLED: Duration = Duration::from_secs(5);

#[tokio::test]
async fn a_harness_that_ignores_an_abort_is_killed_and_resumed() {
    let mut world = World::new();
    let id = world.session("stubborn").await;
    let turn = world.prompt(id, "ignore-abort\nstream 1200 20").await;
    world.streaming(id, turn).await;
    let before = world.rig.harnesses();
    assert_eq!(before.len(), 1);
    let begun = Instant::now();
    world.ok(id, CommandBody::Abort {}).await;
    assert_eq!(world.ended(id, turn).await, (TurnOutcome::Aborted, None));
    assert!(begun.elapsed() < SETTLED, "took {:?}", begun.elapsed());
    world.run(id, "and on").await;
    assert!(world.seen(id).answers().ends_with("and on"));
    assert_ne!(
        before,
        world.rig.harnesses(),
        "the harness that would not stop is gone"
    );
    let starts = world.truth(id, "start");
    assert_eq!(starts.len(), 2, "{starts:?}");
    assert!(starts[1].contains("--session "), "resumed: {starts:?}");
    world.finish();
}

#[tokio::test]
async fn an_abort_cancels_the_open_question_first() {
    let mut world = World::new();
    let id = world.session("asking").await;
    let turn = world.prompt(id, "ask").await;
    let asked = world.event(id, 0, "question", |event| match event {
        EventBody::AgentInputNeeded { request } => Some(request.id),
        _ => None,
    });
    let asked = asked.await;
    let begun = Instant::now();
    world.ok(id, CommandBody::Abort {}).await;
    assert_eq!(world.ended(id, turn).await.0, TurnOutcome::Aborted);
    assert!(begun.elapsed() < SETTLED);
    let events = &world.seen(id).events;
    let at =
        |wanted: &dyn Fn(&EventBody) -> bool| events.iter().position(|event| wanted(&event.body)).unwrap();
    let resolved = at(
        &|event| matches!(event, EventBody::AgentInputResolved { request_id, answer: InputAnswer::Cancelled {}, .. } if *request_id == asked),
    );
    assert!(resolved < at(&|event| matches!(event, EventBody::TurnEnded { .. })));
    assert_eq!(world.truth(id, "start").len(), 1, "nothing had to be killed");
    assert!(world.state(id).await.requests.is_empty());
    world.finish();
}

#[tokio::test]
async fn a_silent_harness_is_tolerated_until_it_is_aborted_and_the_queue_is_held() {
    let mut world = World::new();
    let id = world.session("silent").await;
    let turn = world.prompt(id, "silent").await;
    let entry = world.queue(id, follow_up("later"), "queued").await;
    let state = world.state(id).await;
    assert_eq!(
        (state.session.status, state.turn_id),
        (SessionStatus::Working, Some(turn))
    );
    world.ok(id, CommandBody::Abort {}).await;
    assert_eq!(world.ended(id, turn).await, (TurnOutcome::Aborted, None));
    let state = world.state(id).await;
    assert_eq!((state.session.status, state.turn_id), (SessionStatus::Idle, None));
    assert_eq!(state.queue.len(), 1);
    assert_eq!(
        (state.queue[0].id, state.queue[0].state),
        (entry, QueueState::Waiting)
    );
    // What the user says next comes first; then the queue goes on.
    world.run(id, "now").await;
    world
        .until("the queued prompt", |peer| {
            (peer.seen(id).prompts().len() == 3).then_some(())
        })
        .await;
    let prompts: Vec<String> = world
        .seen(id)
        .prompts()
        .into_iter()
        .map(|(_, text)| text)
        .collect();
    assert_eq!(prompts, ["silent", "now", "later"]);
    world.status(id, SessionStatus::Idle).await;
    assert_eq!(world.truth(id, "start").len(), 1, "the same harness all along");
    // An abort of nothing is no error.
    world.ok(id, CommandBody::Abort {}).await;
    world.finish();
}
