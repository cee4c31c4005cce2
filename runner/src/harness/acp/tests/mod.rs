//! The encoding side: what an agent gets, and what its answers do.

mod images;
mod support;
mod v2;

use crate::fold::{JournalCommand, Output, Record, RecordBody};
use lodge_proto::ErrorCode;
use lodge_proto::command::CommandBody;
use lodge_proto::event::{EventBody, TurnOutcome};
use lodge_proto::input::{InputAnswer, InputKind, PermissionChoice};
use lodge_proto::message::Sender;
use lodge_proto::part::Part;
use serde_json::{Value, json};
use support::Agent;

fn option(id: &str, kind: &str) -> Value {
    json!({ "optionId": id, "name": id, "kind": kind })
}

#[test]
fn a_prompt_waits_for_the_session_and_names_files_by_address() {
    let mut agent = Agent::created(None);
    agent.start(&json!({ "protocolVersion": 1, "agentCapabilities": {} }));
    let new = agent.expect("session/new");
    assert_eq!(new["params"]["cwd"], "/w");
    agent.command(CommandBody::Prompt {
        parts: vec![
            Part::text("look"),
            Part::FileRef {
                path: "a b.txt".into(),
                lines: Some((1, 2)),
            },
        ],
    });
    assert_eq!(agent.next(), None);
    agent.answer(&new, &json!({ "sessionId": "s" }));
    let prompt = agent.expect("session/prompt");
    assert_eq!(
        prompt["params"],
        json!({ "sessionId": "s", "prompt": [
            { "type": "text", "text": "look" },
            { "type": "resource_link", "uri": "file:///w/a%20b.txt", "name": "a b.txt" },
            { "type": "text", "text": "(lines 1 to 2 of a b.txt)" },
        ] })
    );
    agent.text("done");
    agent.answer(&prompt, &json!({ "stopReason": "end_turn" }));
    assert_eq!(agent.outcome(), Some(TurnOutcome::Completed));
}

#[test]
fn the_wanted_model_is_set_before_the_first_prompt() {
    let mut agent = Agent::created(Some("p/two"));
    agent.start(&json!({ "protocolVersion": 1, "agentCapabilities": {} }));
    let new = agent.expect("session/new");
    agent.prompt("go");
    let options = |current: &str| {
        json!([{ "id": "m", "category": "model", "type": "select", "currentValue": current, "options": [
            { "value": "lodge-p/one", "name": "One" }, { "value": "lodge-p/two", "name": "Two" },
            { "value": "vendor/free", "name": "Free" } ] }])
    };
    agent.answer(
        &new,
        &json!({ "sessionId": "s", "configOptions": options("lodge-p/one") }),
    );
    let set = agent.expect("session/set_config_option");
    assert_eq!(set["params"]["value"], "lodge-p/two");
    assert_eq!(agent.next(), None);
    agent.answer(&set, &json!({ "configOptions": options("lodge-p/two") }));
    let prompt = agent.expect("session/prompt");
    let models: Vec<String> = agent
        .fold
        .state()
        .capabilities
        .models
        .into_iter()
        .map(|model| model.id)
        .collect();
    assert_eq!(models, ["p/one", "p/two"]);
    assert_eq!(agent.fold.info().model.as_deref(), Some("p/two"));
    agent.answer(&prompt, &json!({ "stopReason": "end_turn" }));
    agent.command(CommandBody::SetModel {
        model: "p/one".into(),
    });
    let set = agent.expect("session/set_config_option");
    agent.answer(&set, &json!({ "configOptions": options("lodge-p/one") }));
    assert_eq!(agent.fold.info().model.as_deref(), Some("p/one"));
}

#[test]
fn of_gemini_the_gateways_models_are_offered_not_its_vendors() {
    let mut agent = Agent::created(None);
    agent.start(&json!({ "protocolVersion": 1, "agentInfo": { "name": "gemini-cli" } }));
    let new = agent.expect("session/new");
    let models =
        json!({ "currentModelId": "auto", "availableModels": [{ "modelId": "auto", "name": "Auto" }] });
    agent.answer(&new, &json!({ "sessionId": "s", "models": models }));
    let state = agent.fold.state();
    let offered: Vec<&str> = state
        .capabilities
        .models
        .iter()
        .map(|model| model.id.as_str())
        .collect();
    assert_eq!(offered, ["p/one", "p/two"]);
    assert_eq!(state.session.model.as_deref(), Some("p/one"));
    agent.command(CommandBody::SetModel {
        model: "p/two".into(),
    });
    let set = agent.expect("session/set_model");
    assert_eq!(set["params"]["modelId"], "two");
    agent.answer(&set, &json!({}));
    assert_eq!(agent.fold.state().session.model.as_deref(), Some("p/two"));
}

#[test]
fn an_abort_cancels_questions_first_and_end_turn_after_it_is_aborted() {
    let mut agent = Agent::open();
    agent.prompt("go");
    let prompt = agent.expect("session/prompt");
    let options = [option("yes", "allow_once"), option("no", "reject_once")];
    let call = json!({ "toolCallId": "ls__1", "title": "ls", "kind": "execute" });
    let params = json!({ "sessionId": "s", "toolCall": call, "options": options });
    agent.line(
        &json!({ "jsonrpc": "2.0", "id": 7, "method": "session/request_permission", "params": params }),
    );
    agent.command(CommandBody::Abort {});
    let answer = agent.next().unwrap();
    assert_eq!(answer["id"], 7);
    assert_eq!(answer["result"]["outcome"]["outcome"], "cancelled");
    agent.expect("session/cancel");
    agent.answer(&prompt, &json!({ "stopReason": "end_turn" }));
    assert_eq!(agent.outcome(), Some(TurnOutcome::Aborted));
}

#[test]
fn choices_are_the_agents_own_and_more_than_ours_are_a_selection() {
    use PermissionChoice::{Always, Deny, DenyAndStop, Once, Session};
    let mut agent = Agent::open();
    agent.prompt("go");
    agent.expect("session/prompt");
    let ask = |id: u32, options: &[Value]| {
        let call =
            json!({ "toolCallId": "t", "title": "Run", "kind": "execute", "rawInput": { "command": "ls" } });
        let params = json!({ "sessionId": "s", "toolCall": call, "options": options });
        json!({ "jsonrpc": "2.0", "id": id, "method": "session/request_permission", "params": params })
    };
    agent.line(&ask(
        0,
        &[
            option("always-session", "allow_always"),
            option("o", "allow_once"),
            option("n", "reject_once"),
        ],
    ));
    let request = agent.question();
    let InputKind::Permission {
        choices, arguments, ..
    } = &request.kind
    else {
        panic!("{request:?}");
    };
    // What the agent says of the call is enough to remember it by.
    assert_eq!(*choices, [Once, Session, Always, Deny, DenyAndStop]);
    assert_eq!(arguments["command"], "ls");
    agent.command(CommandBody::InputResponse {
        request_id: request.id,
        answer: InputAnswer::Permission { choice: Session },
    });
    assert_eq!(
        agent.next().unwrap()["result"]["outcome"]["optionId"],
        "always-session"
    );

    let both = [
        option("a", "allow_always"),
        option("b", "allow_always"),
        option("c", "reject_always"),
    ];
    agent.line(&ask(1, &both));
    let request = agent.question();
    let InputKind::Select { options, .. } = &request.kind else {
        panic!("{request:?}");
    };
    assert_eq!(options.len(), 3);
    agent.command(CommandBody::InputResponse {
        request_id: request.id,
        answer: InputAnswer::Selected {
            values: vec!["b".into()],
        },
    });
    assert_eq!(agent.next().unwrap()["result"]["outcome"]["optionId"], "b");

    agent.line(&ask(2, &both));
    agent.line(&json!({ "jsonrpc": "2.0", "method": "$/cancel_request", "params": { "requestId": 2 } }));
    assert!(agent.fold.state().requests.is_empty());
    assert_eq!(agent.next().unwrap()["error"]["code"], -32_800);
}

#[test]
fn a_form_is_asked_field_by_field() {
    let mut agent = Agent::open();
    let schema = json!({ "type": "object", "properties": {
        "a": { "type": "string", "enum": ["x", "y"] }, "b": { "type": "integer", "title": "How many?" } } });
    let params = json!({ "sessionId": "s", "mode": "form", "message": "Tell me", "requestedSchema": schema });
    agent.line(&json!({ "jsonrpc": "2.0", "id": "f", "method": "elicitation/create", "params": params }));
    let request = agent.question();
    assert!(matches!(request.kind, InputKind::Select { .. }));
    let (request_id, values) = (request.id, vec!["y".to_owned()]);
    let answer = InputAnswer::Selected { values };
    agent.command(CommandBody::InputResponse { request_id, answer });
    let request = agent.question();
    assert_eq!(request.title, "How many?");
    let answer = InputAnswer::Text { text: " 3 ".into() };
    agent.command(CommandBody::InputResponse {
        request_id: request.id,
        answer,
    });
    let accepted = json!({ "action": "accept", "content": { "a": "y", "b": 3 } });
    assert_eq!(agent.next().unwrap()["result"], accepted);
}

#[test]
fn steering_joins_the_turn_or_waits_for_its_own() {
    let mut agent = Agent::created(None);
    let meta = json!({ "steering": { "supported": true } });
    agent.start(
        &json!({ "protocolVersion": 2, "info": {}, "capabilities": { "session": {} }, "_meta": meta }),
    );
    let new = agent.expect("session/new");
    agent.answer(&new, &json!({ "sessionId": "s" }));
    agent.prompt("go");
    let prompt = agent.expect("session/prompt");
    agent.update(&json!({ "sessionUpdate": "state_update", "state": "running" }));
    agent.answer(&prompt, &json!({}));
    let steer = |agent: &mut Agent, text: &str| {
        let parts = vec![Part::text(text)];
        agent.command(CommandBody::Steer { parts });
        agent.expect("_session/steering")
    };
    let first = steer(&mut agent, "more");
    agent.answer(&first, &json!({ "outcome": "injected" }));
    assert!(agent.fold.state().queue.is_empty());
    let second = steer(&mut agent, "late");
    agent.update(&json!({ "sessionUpdate": "state_update", "state": "idle", "stopReason": "end_turn" }));
    assert_eq!(agent.outcome(), Some(TurnOutcome::Completed));
    agent.answer(&second, &json!({ "outcome": "promptRequired" }));
    let prompt = agent.expect("session/prompt");
    assert_eq!(prompt["params"]["prompt"][0]["text"], "late");
}

#[test]
fn a_conversation_is_resumed_without_its_replay_or_begun_anew() {
    let mut agent = Agent::open();
    agent.apply(RecordBody::Exit(crate::fold::Exit::default()));
    let hello = json!({ "protocolVersion": 1, "agentCapabilities": { "loadSession": true } });
    agent.start(&hello);
    let load = agent.expect("session/load");
    assert_eq!(load["params"]["sessionId"], "s");
    agent.text("old words");
    agent.answer(&load, &json!({}));
    agent.prompt("new");
    agent.text("more old words");
    let sync = agent.expect("_lodge/sync");
    assert_eq!(agent.next(), None);
    agent.refuse(&sync, &json!({ "code": -32_601, "message": "Method not found" }));
    let prompt = agent.expect("session/prompt");
    agent.text("new words");
    agent.answer(&prompt, &json!({ "stopReason": "end_turn" }));
    let said: Vec<String> = agent
        .fold
        .state()
        .messages
        .iter()
        .filter_map(|message| message.parts.first()?.as_text().map(str::to_owned))
        .collect();
    assert_eq!(said, ["new", "new words"]);

    agent.apply(RecordBody::Exit(crate::fold::Exit::default()));
    agent.start(&hello);
    let load = agent.expect("session/load");
    agent.refuse(&load, &json!({ "code": -32_602, "message": "session not found" }));
    let new = agent.expect("session/new");
    agent.answer(&new, &json!({ "sessionId": "t" }));
    assert_eq!(agent.fold.native_session().as_deref(), Some("t"));
    assert!(agent.tags().contains(&"notify"));
}

#[test]
fn a_login_with_the_key_is_tried_once() {
    let mut agent = Agent::created(None);
    let methods = json!([{ "id": "oauth" }, { "id": "gemini-api-key" }]);
    agent.start(&json!({ "protocolVersion": 1, "agentCapabilities": {}, "authMethods": methods }));
    let auth = json!({ "code": -32_000, "message": "Authentication required" });
    let new = agent.expect("session/new");
    agent.prompt("go");
    agent.refuse(&new, &auth);
    let login = agent.expect("authenticate");
    assert_eq!(login["params"]["methodId"], "gemini-api-key");
    agent.answer(&login, &json!({}));
    let new = agent.expect("session/new");
    agent.refuse(&new, &auth);
    assert_eq!(agent.next(), None);
    assert_eq!(agent.outcome(), Some(TurnOutcome::Failed));
}

#[test]
fn compaction_is_a_turn_of_the_agents_command() {
    let mut agent = Agent::open();
    let commands = json!([{ "name": "compress", "description": "d" }]);
    agent.update(&json!({ "sessionUpdate": "available_commands_update", "availableCommands": commands }));
    agent.command(CommandBody::Compact {
        instructions: Some("briefly".into()),
    });
    let prompt = agent.expect("session/prompt");
    assert_eq!(prompt["params"]["prompt"][0]["text"], "/compress briefly");
    agent.text("what was");
    agent.answer(&prompt, &json!({ "stopReason": "end_turn" }));
    let end = agent.events.iter().find_map(|event| match &event.body {
        EventBody::CompactEnd { success, summary, .. } => Some((*success, summary.clone())),
        _ => None,
    });
    assert_eq!(end, Some((true, Some("what was".to_owned()))));
    assert_eq!(agent.outcome(), Some(TurnOutcome::Completed));
}

#[test]
fn work_of_the_agents_own_is_a_turn_and_messages_may_be_replaced() {
    let mut agent = Agent::created(None);
    agent.start(&json!({ "protocolVersion": 2, "info": { "name": "x" }, "capabilities": { "session": {} } }));
    let new = agent.expect("session/new");
    agent.answer(&new, &json!({ "sessionId": "s" }));
    agent.update(&json!({ "sessionUpdate": "state_update", "state": "running" }));
    let chunk = |text: &str| json!({ "type": "text", "text": text });
    let say =
        |kind: &str, content: Value| json!({ "sessionUpdate": kind, "messageId": "m", "content": content });
    agent.update(&say("agent_message_chunk", chunk("on")));
    agent.update(&say("agent_message", json!([chunk("one")])));
    agent.update(&say("agent_message", json!([chunk("two")])));
    agent.update(&say("agent_message_chunk", chunk(" three")));
    agent.update(&json!({ "sessionUpdate": "subagent_update", "id": "x" }));
    agent.update(&json!({ "sessionUpdate": "state_update", "state": "idle", "stopReason": "max_tokens" }));
    assert_eq!(agent.outcome(), Some(TurnOutcome::Completed));
    let messages = agent.fold.state().messages;
    let texts: Vec<&str> = messages
        .iter()
        .filter_map(|message| message.parts[0].as_text())
        .collect();
    assert_eq!(texts, ["two three"]);
    assert!(matches!(messages[0].parts[0], Part::Other(_)), "{messages:?}");
}

#[test]
fn what_an_agent_cannot_do_is_refused_by_name() {
    let mut agent = Agent::open();
    let mut refused = |body: CommandBody| {
        agent.seq += 1;
        let sender = Sender {
            account: "a".into(),
            name: "A".into(),
        };
        let record = Record {
            seq: agent.seq,
            time_ms: agent.seq,
            body: RecordBody::Cmd(Box::new(JournalCommand {
                sender,
                client_id: "c".into(),
                body,
            })),
        };
        let mut out = Output::new();
        agent.fold.apply(&record, &mut out);
        out.replies.remove(0).result.unwrap_err().code
    };
    assert_eq!(
        refused(CommandBody::AbortRetry {}),
        ErrorCode::UnsupportedByHarness
    );
    assert_eq!(
        refused(CommandBody::Compact { instructions: None }),
        ErrorCode::UnsupportedByHarness
    );
    assert_eq!(
        refused(CommandBody::SetMode { mode: "m".into() }),
        ErrorCode::UnsupportedByHarness
    );
}

#[test]
fn files_and_terminals_are_not_offered() {
    let mut agent = Agent::open();
    let params = json!({ "sessionId": "s", "path": "/etc/passwd" });
    agent.line(&json!({ "jsonrpc": "2.0", "id": 3, "method": "fs/read_text_file", "params": params }));
    assert_eq!(agent.next().unwrap()["error"]["code"], -32_601);
}

#[test]
fn an_agent_that_refuses_version_2_is_asked_for_version_1() {
    let mut agent = Agent::created(None);
    agent.apply(RecordBody::Generation { generation: 1 });
    agent.apply(RecordBody::Started);
    let first = agent.expect("initialize");
    agent.refuse(
        &first,
        &json!({ "code": -32_602, "message": "unsupported protocol version" }),
    );
    let second = agent.expect("initialize");
    assert_eq!(second["params"]["protocolVersion"], 1);
    agent.answer(&second, &json!({ "protocolVersion": 1, "agentCapabilities": {} }));
    agent.expect("session/new");
}

#[test]
fn idleness_from_before_the_prompt_ends_no_turn() {
    let mut agent = Agent::created(None);
    agent.start(&json!({ "protocolVersion": 2, "info": {}, "capabilities": { "session": {} } }));
    let new = agent.expect("session/new");
    agent.prompt("go");
    let idle = json!({ "sessionUpdate": "state_update", "state": "idle" });
    agent.update(&idle);
    agent.answer(&new, &json!({ "sessionId": "s" }));
    let prompt = agent.expect("session/prompt");
    agent.update(&idle);
    assert_eq!(agent.outcome(), None);
    agent.answer(&prompt, &json!({}));
    agent.text("done");
    agent.update(&idle);
    assert_eq!(agent.outcome(), Some(TurnOutcome::Completed));
}

#[test]
fn output_outside_of_a_turn_is_shown_and_ends_nothing() {
    let mut agent = Agent::open();
    agent.text("by the ");
    agent.text("way");
    agent.prompt("go");
    let prompt = agent.expect("session/prompt");
    agent.answer(&prompt, &json!({ "stopReason": "refusal" }));
    let shown = agent
        .events
        .iter()
        .any(|event| matches!(&event.body, EventBody::Notify { message, .. } if message == "by the way"));
    assert!(shown);
    assert_eq!(agent.outcome(), Some(TurnOutcome::Completed));
}
