//! Images in prompts, for agents that take them and for those that do not.

use super::support::Agent;
use lodge_proto::command::CommandBody;
use lodge_proto::event::{EventBody, TurnOutcome};
use lodge_proto::part::{BlobRef, Part};
use lodge_proto::{ErrorCode, Event};
use serde_json::{Value, json};

fn prompt() -> CommandBody {
    let blob = BlobRef {
        hash: "a".repeat(64),
        media_type: "image/png".into(),
        size: 3,
        name: None,
    };
    let parts = vec![Part::text("look"), Part::Image { blob, alt: None }];
    CommandBody::Prompt { parts }
}

/// Before the agent has said anything, then with what it says.
fn prompted_early(hello: &Value) -> Agent {
    let mut agent = Agent::created(None);
    agent.begin();
    agent.command(prompt());
    let initialize = agent.expect("initialize");
    agent.answer(&initialize, hello);
    let new = agent.expect("session/new");
    agent.answer(&new, &json!({ "sessionId": "s" }));
    agent
}

fn error(events: &[Event]) -> Option<ErrorCode> {
    events.iter().rev().find_map(|event| match &event.body {
        EventBody::TurnEnded { error, .. } => error.as_ref().map(|error| error.code),
        _ => None,
    })
}

#[test]
fn both_versions_say_that_they_take_images() {
    for hello in [
        json!({ "protocolVersion": 1, "agentCapabilities": { "promptCapabilities": { "image": true } } }),
        json!({ "protocolVersion": 2, "capabilities": { "session": { "prompt": { "image": {} } } } }),
    ] {
        let mut agent = prompted_early(&hello);
        assert!(agent.fold.state().capabilities.images);
        assert_eq!(agent.fold.wants().inputs[0].blobs.len(), 1);
        let sent = agent.expect("session/prompt");
        assert_eq!(
            sent["params"]["prompt"][1],
            json!({ "type": "image", "data": "", "mimeType": "image/png" })
        );
    }
}

#[test]
fn an_agent_that_takes_none_gets_none() {
    let mut agent = prompted_early(&json!({ "protocolVersion": 1, "agentCapabilities": {} }));
    assert_eq!(agent.outcome(), Some(TurnOutcome::Failed));
    assert_eq!(error(&agent.events), Some(ErrorCode::UnsupportedByHarness));
    assert!(agent.next().is_none(), "nothing of it was sent");
    // Now that it is known, a prompt begins nothing.
    let before = agent.events.len();
    agent.command(prompt());
    assert_eq!(agent.events.len(), before);
    agent.prompt("words");
    agent.expect("session/prompt");
}

#[test]
fn an_image_that_is_met_with_silence_is_told_of() {
    let hello =
        json!({ "protocolVersion": 1, "agentCapabilities": { "promptCapabilities": { "image": true } } });
    let notices = |agent: &Agent| {
        let notices = agent.events.iter().filter(
            |event| matches!(&event.body, EventBody::Notify { message, .. } if message.contains("without a word")),
        );
        notices.count()
    };
    let mut agent = prompted_early(&hello);
    let sent = agent.expect("session/prompt");
    agent.answer(&sent, &json!({ "stopReason": "end_turn" }));
    assert_eq!(
        (agent.outcome(), notices(&agent)),
        (Some(TurnOutcome::Completed), 1)
    );
    agent.command(prompt());
    let sent = agent.expect("session/prompt");
    agent.text("a picture");
    agent.answer(&sent, &json!({ "stopReason": "end_turn" }));
    assert_eq!(notices(&agent), 1);
}
