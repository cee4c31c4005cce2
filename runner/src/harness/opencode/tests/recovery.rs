//! Steered prompts, lost streams, crashes, commands, compaction.

use super::{MAIN, Play};
use crate::fold::{Launch, Note, RecordBody};
use lodge_proto::command::CommandBody;
use lodge_proto::event::{EventBody, TurnOutcome};
use lodge_proto::message::{Role, StopReason};
use lodge_proto::session::{ModelInfo, SessionStatus};
use serde_json::json;

#[test]
fn a_steered_prompt_shows_when_it_is_taken_up_and_waits_when_it_is_not() {
    let mut play = Play::working();
    play.prompt("and this");
    play.request("POST", "/session/ses_main/prompt_async");
    play.user("msg_3", "and this");
    assert_eq!(play.texts(Role::User), ["hello"]);
    play.assistant(
        "msg_2",
        "msg_1",
        json!({ "finish": "stop", "time": { "completed": 2 } }),
    );
    play.assistant("msg_4", "msg_3", json!({}));
    assert_eq!(play.texts(Role::User), ["hello", "and this"]);
    play.prompt("too late");
    play.user("msg_5", "too late");
    play.assistant(
        "msg_4",
        "msg_3",
        json!({ "finish": "stop", "time": { "completed": 2 } }),
    );
    play.idle();
    // It begins a turn of its own, and the model does not see it twice.
    play.request("DELETE", "/session/ses_main/message/msg_5");
    assert_eq!(play.outcomes(), [(TurnOutcome::Completed, None)]);
    assert_eq!(play.texts(Role::User), ["hello", "and this", "too late"]);
}

#[test]
fn what_was_missed_with_the_stream_is_asked_for() {
    let mut play = Play::working();
    play.line(&json!({ "type": "stream", "state": "connected" }));
    assert!(
        play.find("GET", "/session/status").is_none(),
        "the first is no loss"
    );
    play.part("msg_2", json!({ "id": "p", "type": "text", "text": "Hel" }));
    play.line(&json!({ "type": "stream", "state": "lost" }));
    play.line(&json!({ "type": "stream", "state": "connected" }));
    let messages = play.request("GET", "/session/ses_main/message?limit=50");
    let status = play.request("GET", "/session/status");
    let text = |message: &str, text: &str| {
        json!([{ "id": format!("p_{message}"), "type": "text", "text": text,
                 "sessionID": MAIN, "messageID": message }])
    };
    let info = |id: &str, role: &str| {
        json!({ "id": id, "role": role, "sessionID": MAIN, "parentID": "msg_1", "finish": "stop",
                "time": { "completed": 2 } })
    };
    let mut second = text("msg_2", "Hello");
    second[0]["id"] = "p".into();
    play.respond(
        &messages,
        200,
        &json!([
            { "info": info("msg_0", "assistant"), "parts": text("msg_0", "of another turn") },
            { "info": info("msg_1", "user"), "parts": text("msg_1", "hello") },
            { "info": info("msg_2", "assistant"), "parts": second },
            { "info": info("msg_3", "assistant"), "parts": text("msg_3", "and more") },
        ]),
    );
    play.respond(&status, 200, &json!({}));
    assert_eq!(play.texts(Role::Assistant), ["Hello", "and more"]);
    assert_eq!(play.outcomes(), [(TurnOutcome::Completed, None)]);
}

#[test]
fn a_crash_closes_the_message_and_the_conversation_is_resumed() {
    let mut play = Play::working();
    let state =
        json!({ "status": "running", "input": { "command": "sleep 9" }, "metadata": { "output": "zz" } });
    play.part(
        "msg_2",
        json!({ "id": "p", "type": "tool", "tool": "bash", "callID": "c", "state": state }),
    );
    play.apply(RecordBody::Exit(crate::fold::Exit::default()));
    assert_eq!(play.outcomes()[0].0, TurnOutcome::Interrupted);
    let stops: Vec<_> = play
        .events
        .iter()
        .filter_map(|event| match &event.body {
            EventBody::StreamMessageEnd { message } if message.role == Role::Assistant => message.stop_reason,
            _ => None,
        })
        .collect();
    assert_eq!(stops, [StopReason::Interrupted]);
    play.start();
    let resume = play.request("GET", "/session/ses_main");
    play.respond(&resume, 404, &json!({ "data": { "message": "not found" } }));
    let create = play.request("POST", "/session");
    play.respond(&create, 200, &json!({ "id": "ses_other" }));
    assert_eq!(play.fold.info().status, SessionStatus::Idle);
}

#[test]
fn slash_commands_have_a_request_of_their_own() {
    let mut play = Play::ready();
    play.prompt("/init now");
    assert_eq!(
        play.body("POST", "/session/ses_main/prompt_async")["parts"][0]["text"],
        "/init now",
        "what is not known is text"
    );
    let mut play = Play::new();
    let create = play.request("POST", "/session");
    let commands = play.request("GET", "/command");
    play.respond(&create, 200, &json!({ "id": MAIN }));
    play.respond(
        &commands,
        200,
        &json!([{ "name": "init", "description": "guided" }]),
    );
    play.prompt("/init now");
    let body = play.body("POST", "/session/ses_main/command");
    assert_eq!(
        (&body["command"], &body["arguments"]),
        (&json!("init"), &json!("now"))
    );
}

#[test]
fn a_compaction_that_is_asked_for_is_no_turn() {
    let mut play = Play::ready();
    play.command(CommandBody::Compact { instructions: None });
    let body = play.body("POST", "/session/ses_main/summarize");
    assert_eq!(
        (&body["providerID"], &body["modelID"]),
        (&json!("lodge-demo"), &json!("demo"))
    );
    play.event(
        "message.updated",
        json!({ "info": { "id": "msg_1", "sessionID": MAIN, "role": "user" } }),
    );
    play.part("msg_1", json!({ "id": "c", "type": "compaction", "auto": false }));
    play.busy();
    play.assistant("msg_2", "msg_1", json!({ "summary": true }));
    play.part("msg_2", json!({ "id": "p", "type": "text", "text": "In short" }));
    play.assistant(
        "msg_2",
        "msg_1",
        json!({ "summary": true, "time": { "completed": 2 } }),
    );
    play.event("session.compacted", json!({}));
    play.busy();
    play.idle();
    let ends: Vec<_> = play
        .events
        .iter()
        .filter_map(|event| match &event.body {
            EventBody::CompactEnd { success, summary, .. } => Some((*success, summary.clone())),
            _ => None,
        })
        .collect();
    assert_eq!(ends, [(true, Some("In short".to_owned()))]);
    assert!(
        !play
            .events
            .iter()
            .any(|event| matches!(event.body, EventBody::TurnStarted {}))
    );
    // What it does after that by itself is one.
    play.busy();
    play.idle();
    assert_eq!(play.outcomes(), [(TurnOutcome::Completed, None)]);
}

#[test]
fn thinking_levels_follow_the_model_and_go_with_the_prompt() {
    let model = |id: &str, reasoning: bool| ModelInfo {
        id: id.to_owned(),
        name: id.to_owned(),
        provider: "demo".to_owned(),
        context_window: None,
        reasoning,
    };
    let mut play = Play::ready();
    let models = vec![model("demo/demo", true), model("demo/plain", false)];
    play.apply(RecordBody::Note(Box::new(Note::Launch(Box::new(Launch {
        text_models: Vec::new(),
        harness_version: "1.18.33".to_owned(),
        models,
        resume: false,
        ask_permissions: false,
        tier: None,
        profile: None,
    })))));
    play.start();
    let create = play.request("POST", "/session");
    play.respond(&create, 200, &json!({ "id": MAIN }));
    let level = "high".to_owned();
    play.command(CommandBody::SetThinkingLevel { level });
    play.prompt("hello");
    let body = play.body("POST", "/session/ses_main/prompt_async");
    assert_eq!(body["variant"], "high");
    assert_eq!(
        body["model"],
        json!({ "providerID": "lodge-demo", "modelID": "demo" })
    );
    let model = "demo/plain".to_owned();
    play.command(CommandBody::SetModel { model });
    let levels: Vec<_> = play
        .events
        .iter()
        .filter_map(|event| match &event.body {
            EventBody::SessionCapabilities { capabilities } => Some(capabilities.thinking_levels.len()),
            _ => None,
        })
        .collect();
    assert_eq!(levels, [0, 3, 0]);
}
