//! Sessions that are closed, resumed, forked, deleted and listed.

use crate::peer::prompt;
use crate::support::stubs::Mood;
use crate::world::World;
use lodge_proto::command::CommandBody;
use lodge_proto::event::EventBody;
use lodge_proto::message::{Message, Role};
use lodge_proto::part::plain_text;
use lodge_proto::relay::ToClient;
use lodge_proto::session::{SessionInfo, SessionStatus};
use lodge_proto::{ErrorCode, SessionId};
use std::time::Duration;

fn list(cursor: Option<&str>, limit: u32) -> CommandBody {
    CommandBody::SessionList {
        cursor: cursor.map(str::to_owned),
        limit: Some(limit),
    }
}

#[tokio::test]
async fn a_closed_session_leaves_no_process_and_the_next_prompt_resumes_it() {
    let mut world = World::new();
    let id = world.session("closed").await;
    world.run(id, "before").await;
    let turn = world.prompt(id, "silent").await;
    let before = world.head(id);
    world.ok(id, CommandBody::SessionClose {}).await;
    world.ended(id, turn).await;
    world
        .event(id, before, "session.closed", |event| {
            matches!(event, EventBody::SessionClosed { .. }).then_some(())
        })
        .await;
    world.status(id, SessionStatus::Stopped).await;
    assert!(
        world.rig.all_gone(Duration::from_secs(5)).await,
        "{:?}",
        world.rig.processes()
    );
    world.ok(id, CommandBody::SessionClose {}).await;
    let info = world.ok(id, CommandBody::SessionResume {}).await;
    assert_eq!(info["id"], id.to_string());
    world.status(id, SessionStatus::Idle).await;
    world.ok(id, CommandBody::SessionResume {}).await;
    assert_eq!(world.truth(id, "start").len(), 2, "resumed once");
    world.ok(id, CommandBody::SessionClose {}).await;
    world.run(id, "after").await;
    assert!(world.truth(id, "start")[2].contains("--session "));
    world.finish();
}

#[tokio::test]
async fn a_session_that_is_closed_while_its_harness_starts_leaves_no_process() {
    let mut world = World::new();
    for round in 0..3 {
        let id = world.session(&format!("hasty-{round}")).await;
        world.ok(id, CommandBody::SessionClose {}).await;
        assert!(
            world.rig.all_gone(Duration::from_secs(5)).await,
            "{:?}",
            world.rig.processes()
        );
        world.run(id, "after all").await;
        world.ok(id, CommandBody::SessionDelete {}).await;
    }
    assert!(world.rig.all_gone(Duration::from_secs(5)).await);
}

fn texts(messages: &[Message], role: Role) -> Vec<String> {
    let of_role = messages.iter().filter(|message| message.role == role);
    of_role.map(|message| plain_text(&message.parts)).collect()
}

#[tokio::test]
async fn a_fork_goes_on_from_before_the_message_and_leaves_its_parent_alone() {
    let mut world = World::new();
    let id = world.session("forked").await;
    world.run(id, "first").await;
    world.run(id, "second").await;
    let stored = world.history.messages(id);
    let second = stored.iter().rfind(|message| message.role == Role::User).unwrap();
    let of = |message_id| CommandBody::SessionFork { message_id };
    let forked = world.ok(id, of(Some(second.id))).await;
    let fork: SessionInfo = serde_json::from_value(forked).unwrap();
    assert_eq!((fork.parent, fork.message_count), (Some(id), 2));
    world.subscribe(fork.id, None).await;
    let state = world.state(fork.id).await;
    assert_eq!(texts(&state.messages, Role::User), ["first"]);
    world.run(fork.id, "another second").await;
    assert_eq!(world.truth(fork.id, "prompt"), ["another second"]);
    let copied = world.history.messages(fork.id);
    assert_eq!(texts(&copied, Role::User), ["first", "another second"]);
    assert!(
        copied
            .iter()
            .all(|message| stored.iter().all(|own| own.id != message.id))
    );
    assert_eq!(world.history.messages(id), stored);
    world.run(id, "third").await;
    let assistant = stored
        .iter()
        .find(|message| message.role == Role::Assistant)
        .unwrap();
    let refused = world.refused(id, of(Some(assistant.id))).await;
    assert_eq!(refused.code, ErrorCode::InvalidArgument);
    let nowhere: SessionId = "00000000-0000-7000-8000-000000000001".parse().unwrap();
    assert_eq!(world.refused(nowhere, of(None)).await.code, ErrorCode::NotFound);
    world.finish();
}

#[tokio::test]
async fn a_deleted_session_leaves_no_process_and_no_file() {
    let mut world = World::new();
    let id = world.session("deleted").await;
    world.prompt(id, "ignore-abort\nstream 1000 20").await;
    let directory = world.rig.session_home(id).parent().unwrap().to_owned();
    assert!(directory.is_dir() && !world.rig.processes().is_empty());
    // A history that is away does not make a session half deleted for ever.
    world.history.set(Mood::Refuses);
    let refused = world.refused(id, CommandBody::SessionDelete {}).await;
    assert_eq!(refused.code, ErrorCode::Unavailable, "{refused:?}");
    world.history.set(Mood::Works);
    world.ok(id, CommandBody::SessionDelete {}).await;
    assert!(
        world.rig.all_gone(Duration::from_secs(5)).await,
        "{:?}",
        world.rig.processes()
    );
    assert!(!directory.exists());
    world
        .until("session_removed", |peer| {
            let removed = |control: &ToClient| matches!(control, ToClient::SessionRemoved { session_id } if *session_id == id);
            peer.controls.iter().any(removed).then_some(())
        })
        .await;
    for body in [
        prompt("hello"),
        CommandBody::SessionDelete {},
        CommandBody::GetState {},
    ] {
        assert_eq!(world.refused(id, body).await.code, ErrorCode::NotFound);
    }
    assert_eq!(
        world.ok(None, list(None, 10)).await["sessions"],
        serde_json::json!([])
    );
    world.restart_runner().await;
    assert_eq!(
        world.ok(None, list(None, 10)).await["sessions"],
        serde_json::json!([])
    );
}

async fn shares(world: &mut World, id: SessionId, after: u64) {
    world
        .event(id, after, "notice of the other session", |event| match event {
            EventBody::Notify { message, .. } => message.contains("workspace").then_some(()),
            _ => None,
        })
        .await;
}

#[tokio::test]
async fn two_sessions_of_one_workspace_are_told_of_each_other() {
    let mut world = World::new();
    let one = world.session("shared").await;
    assert!(world.state(one).await.session.shares_workspace_with.is_empty());
    let before = world.head(one);
    let two = world.make("shared").await;
    shares(&mut world, one, before).await;
    shares(&mut world, two, 0).await;
    for (id, other) in [(one, two), (two, one)] {
        assert_eq!(world.state(id).await.session.shares_workspace_with, [other]);
    }
    world.ok(two, CommandBody::SessionClose {}).await;
    world
        .until("the end of sharing", |peer| {
            let changed = peer.controls.iter().rev().find_map(|control| match control {
                ToClient::SessionChanged { session } if session.id == one => Some(session),
                _ => None,
            });
            changed?.shares_workspace_with.is_empty().then_some(())
        })
        .await;
    assert!(world.state(one).await.session.shares_workspace_with.is_empty());
    world.finish();
}

#[tokio::test]
async fn the_list_comes_in_pages_newest_first() {
    let mut world = World::new();
    let mut made = Vec::new();
    for name in ["a", "b", "c"] {
        made.push(world.make(name).await.to_string());
    }
    made.sort_unstable_by(|a, b| b.cmp(a));
    let mut found = Vec::new();
    let mut cursor: Option<String> = None;
    for pages in 1.. {
        let page = world.ok(None, list(cursor.as_deref(), 2)).await;
        let sessions = page["sessions"].as_array().unwrap();
        found.extend(
            sessions
                .iter()
                .map(|info| info["id"].as_str().unwrap().to_owned()),
        );
        cursor = page["next_cursor"].as_str().map(str::to_owned);
        if cursor.is_none() {
            assert_eq!(pages, 2);
            break;
        }
    }
    assert_eq!(found, made);
    let refused = world.refused(None, list(Some("no cursor"), 2)).await;
    assert_eq!(refused.code, ErrorCode::InvalidArgument);
    world.finish();
}

#[tokio::test]
async fn a_fork_of_a_closed_session_has_its_conversation_and_nothing_that_was_planted_there() {
    let mut world = World::new();
    let id = world.session("closed").await;
    world.run(id, "first").await;
    let conversations = world.rig.session_home(id).join(".pi/agent/sessions");
    let own = std::fs::read_dir(&conversations).unwrap().count();
    let secret = tempfile::tempdir().unwrap();
    std::fs::write(secret.path().join("secret.jsonl"), "of the host\n").unwrap();
    std::os::unix::fs::symlink(
        secret.path().join("secret.jsonl"),
        conversations.join("planted.jsonl"),
    )
    .unwrap();
    std::os::unix::fs::symlink(secret.path(), conversations.join("linked")).unwrap();
    world.ok(id, CommandBody::SessionClose {}).await;
    let parent = world.state(id).await.session;

    let forked = world.ok(id, CommandBody::SessionFork { message_id: None }).await;
    let fork: SessionInfo = serde_json::from_value(forked).unwrap();
    world.subscribe(fork.id, None).await;
    world.run(fork.id, "second").await;
    let copied = world.rig.session_home(fork.id).join(".pi/agent/sessions");
    let names: Vec<_> = std::fs::read_dir(&copied)
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(names.len(), own, "{names:?}");
    let text = std::fs::read_to_string(copied.join(&names[0])).unwrap();
    assert!(text.contains("first") && text.contains("second"), "{text}");
    // The parent is as it was, and still closed.
    assert_eq!(world.state(id).await.session, parent);
    world.run(id, "third").await;
    assert_eq!(world.truth(id, "prompt"), ["first", "third"]);

    // What is gone cannot be copied; nothing is made of it.
    world.ok(id, CommandBody::SessionClose {}).await;
    std::fs::remove_dir_all(&conversations).unwrap();
    let refused = world
        .refused(id, CommandBody::SessionFork { message_id: None })
        .await;
    assert_eq!(refused.code, ErrorCode::NotFound, "{refused:?}");
    world.finish();
}
