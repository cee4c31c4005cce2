//! Clients that come back with a cursor.

use crate::world::World;
use lodge_proto::command::CommandBody;
use lodge_proto::event::{EventBody, TurnOutcome};
use lodge_proto::relay::{Rights, ToClient, Verdict};
use lodge_proto::session::SessionStatus;
use lodge_proto::{Cursor, ErrorCode, SessionId};

#[tokio::test]
async fn a_cursor_of_the_log_gets_exactly_what_was_missed() {
    let mut world = World::new();
    let id = world.session("missed").await;
    world.run(id, "first").await;
    world.status(id, SessionStatus::Idle).await;
    let away = world.cursor(id);
    let turn = world.prompt(id, "stream 50 5").await;
    world.streaming(id, turn).await;
    let mut back = world.another(Rights::View);
    assert!(matches!(back.subscribe(id, Some(away)).await, Verdict::Ok {}));
    back.ended(id, turn).await;
    // From the very beginning: the whole log, without a gap.
    let beginning = Cursor { seq: 0, ..away };
    let mut whole = world.another(Rights::View);
    assert!(matches!(
        whole.subscribe(id, Some(beginning)).await,
        Verdict::Ok {}
    ));
    whole.ended(id, turn).await;
    world.ended(id, turn).await;
    for peer in [&mut *world, &mut back, &mut whole] {
        peer.status(id, SessionStatus::Idle).await;
    }
    let seen = &world.seen(id).events;
    let missed: Vec<_> = seen
        .iter()
        .filter(|event| event.seq > away.seq)
        .cloned()
        .collect();
    assert_eq!(back.seen(id).events, missed);
    assert!(whole.seen(id).events.ends_with(seen));
    assert!(matches!(
        whole.seen(id).events[0].body,
        EventBody::SessionCreated { .. }
    ));
    for peer in [&world, &back, &whole] {
        peer.finish();
    }
}

#[tokio::test]
async fn a_snapshot_in_the_middle_of_a_turn_is_the_state_at_its_cursor() {
    let mut world = World::new();
    let id = world.session("middle").await;
    let turn = world.prompt(id, "stream 100 10").await;
    world.streaming(id, turn).await;
    let mut late = world.another(Rights::View);
    let Verdict::Snapshot { state } = late.subscribe(id, None).await else {
        panic!("no snapshot")
    };
    assert_eq!(state.turn_id, Some(turn));
    assert_eq!(state.streaming.len(), 1);
    let mut text = state.streaming[0].parts[0]
        .as_text()
        .unwrap_or_default()
        .to_owned();
    assert_eq!(late.ended(id, turn).await, (TurnOutcome::Completed, None));
    for event in &late.seen(id).events {
        if let EventBody::StreamTextDelta { delta, .. } = &event.body {
            text.push_str(delta);
        }
    }
    assert_eq!(
        text,
        late.seen(id).answers(),
        "snapshot and deltas join to the message"
    );
    world.ended(id, turn).await;
    world.finish();
}

#[tokio::test]
async fn a_cursor_of_another_log_gets_a_gap_with_its_reason_and_goes_on() {
    let mut world = World::new();
    let id = world.session("gap").await;
    world.run(id, "first").await;
    world.status(id, SessionStatus::Idle).await;
    let here = world.cursor(id);
    let foreign = Cursor {
        epoch: here.epoch ^ 1,
        ..here
    };
    let ahead = Cursor {
        seq: here.seq + 1000,
        ..here
    };
    let mut peers = Vec::new();
    for cursor in [foreign, ahead] {
        let mut peer = world.another(Rights::View);
        let Verdict::Gap { reason, state } = peer.subscribe(id, Some(cursor)).await else {
            panic!("no gap for {cursor}")
        };
        assert!(!reason.is_empty());
        assert_eq!(state.session.id, id);
        assert_eq!(state.messages.len(), 2);
        assert_eq!(peer.cursor(id), here);
        peers.push(peer);
    }
    let turn = world.run(id, "second").await;
    for peer in &mut peers {
        assert_eq!(peer.ended(id, turn).await, (TurnOutcome::Completed, None));
        peer.finish();
    }
    world.finish();
}

#[tokio::test]
async fn subscribing_twice_doubles_nothing_and_unsubscribing_ends_it() {
    let mut world = World::new();
    let id = world.session("twice").await;
    let mut other = world.another(Rights::View);
    other.subscribe(id, None).await;
    let here = other.cursor(id);
    assert!(matches!(other.subscribe(id, Some(here)).await, Verdict::Ok {}));
    let turn = world.run(id, "first").await;
    // What came double would break the log's numbers.
    other.ended(id, turn).await;
    other.status(id, SessionStatus::Idle).await;
    other.ok(id, CommandBody::SessionUnsubscribe {}).await;
    let known = other.head(id);
    world.run(id, "second").await;
    let state = other.state(id).await;
    assert_eq!(state.messages.len(), 4, "it may still ask");
    assert_eq!(other.head(id), known, "but hears no more events");
    other.finish();
    world.finish();
}

#[tokio::test]
async fn a_session_that_is_not_there_cannot_be_subscribed() {
    let mut world = World::new();
    let nowhere: SessionId = "00000000-0000-7000-8000-000000000001".parse().unwrap();
    world.send_subscribe(nowhere).await;
    let error = world
        .until("subscribe_failed", |peer| {
            peer.controls.iter().find_map(|control| match control {
                ToClient::SubscribeFailed { session_id, error } if *session_id == nowhere => {
                    Some(error.clone())
                }
                _ => None,
            })
        })
        .await;
    assert_eq!(error.code, ErrorCode::NotFound);
}
