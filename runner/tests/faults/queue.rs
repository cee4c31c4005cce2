//! Steering, and prompts that wait for their own turns.

use crate::peer::{follow_up, prompt, steer};
use crate::world::World;
use lodge_proto::command::CommandBody;
use lodge_proto::ids::QueueId;
use lodge_proto::session::QueueState;
use lodge_proto::{ErrorCode, Part};

fn edit(entry_id: QueueId, text: &str) -> CommandBody {
    CommandBody::QueueEdit {
        entry_id,
        parts: vec![Part::text(text)],
    }
}

fn take_out(entry_id: QueueId) -> CommandBody {
    CommandBody::QueueClear {
        entry_id: Some(entry_id),
    }
}

#[tokio::test]
async fn a_steered_prompt_joins_the_turn_and_queued_ones_get_their_own_in_order() {
    let mut world = World::new();
    let id = world.session("order").await;
    let turn = world.prompt(id, "stream 60 20").await;
    world.streaming(id, turn).await;
    let steered = world.queue(id, steer("joined"), "steering").await;
    world.queue(id, follow_up("one"), "queued").await;
    let two = world.queue(id, follow_up("two"), "queued").await;
    let three = world.queue(id, follow_up("three"), "queued").await;
    world.ok(id, edit(two, "two, edited")).await;
    world.ok(id, take_out(three)).await;
    let queue = world.state(id).await.queue;
    let shown: Vec<_> = queue
        .iter()
        .map(|entry| (entry.state, entry.parts[0].as_text().unwrap()))
        .collect();
    assert_eq!(
        shown,
        [
            (QueueState::Steering, "joined"),
            (QueueState::Waiting, "one"),
            (QueueState::Waiting, "two, edited")
        ]
    );
    assert_eq!(
        world.refused(id, edit(steered, "too late")).await.code,
        ErrorCode::Conflict
    );
    assert_eq!(
        world.refused(id, edit(three, "gone")).await.code,
        ErrorCode::NotFound
    );
    world
        .until("all prompts", |peer| {
            (peer.seen(id).prompts().len() == 4).then_some(())
        })
        .await;
    let prompts = world.seen(id).prompts();
    let texts: Vec<&str> = prompts.iter().map(|(_, text)| text.as_str()).collect();
    assert_eq!(texts, ["stream 60 20", "joined", "one", "two, edited"]);
    let turns: Vec<_> = prompts.iter().map(|(turn, _)| *turn).collect();
    assert_eq!(turns[0], turns[1], "steered into the running turn");
    assert!(
        turns[1] != turns[2] && turns[2] != turns[3],
        "own turns: {turns:?}"
    );
    world.ended(id, turns[3]).await;
    assert_eq!(world.truth(id, "prompt"), ["stream 60 20", "one", "two, edited"]);
    assert_eq!(world.truth(id, "steer"), ["joined"]);
    world.finish();
}

#[tokio::test]
async fn a_cleared_queue_runs_nothing() {
    let mut world = World::new();
    let id = world.session("cleared").await;
    let turn = world.prompt(id, "stream 40 20").await;
    world.streaming(id, turn).await;
    world.queue(id, follow_up("never"), "queued").await;
    world.queue(id, steer("never either"), "steering").await;
    world.ok(id, CommandBody::QueueClear { entry_id: None }).await;
    assert!(world.state(id).await.queue.is_empty());
    world.ended(id, turn).await;
    world.run(id, "after").await;
    let prompts: Vec<String> = world
        .seen(id)
        .prompts()
        .into_iter()
        .map(|(_, text)| text)
        .collect();
    assert_eq!(prompts, ["stream 40 20", "after"]);
    let empty = world.refused(id, prompt("  \n")).await;
    assert_eq!(empty.code, ErrorCode::InvalidArgument);
    world.finish();
}
