//! An agent of version 2, which is a draft.
//!
//! The lines are made from the draft's schema, `schema/v2/schema.json` 2.0.0-alpha.3, and its migration guide, because
//! the agents that offer the version use little of it. A recording of one is among the transcripts (`acp-v2-codex`).

use super::option;
use super::support::Agent;
use lodge_proto::event::{EventBody, TurnOutcome};
use lodge_proto::input::{InputAnswer, InputKind, PermissionChoice};
use lodge_proto::message::Role;
use lodge_proto::part::Part;
use lodge_proto::session::SessionStatus;
use serde_json::{Value, json};

fn hello() -> Value {
    json!({
        "protocolVersion": 2,
        "info": { "name": "scripted", "title": "Scripted", "version": "1.0.0" },
        "capabilities": { "session": { "prompt": { "image": {} }, "mcp": { "stdio": {} } } },
        "authMethods": [],
    })
}

/// An agent with an open session, and its options.
fn open() -> Agent {
    let mut agent = Agent::created(None);
    agent.start(&hello());
    let new = agent.expect("session/new");
    let mode = json!({
        "configId": "mode", "name": "Mode", "category": "mode", "type": "select", "currentValue": "ask",
        "options": [{ "value": "ask", "name": "Ask" }, { "value": "code", "name": "Code" }],
    });
    agent.answer(&new, &json!({ "sessionId": "s", "configOptions": [mode] }));
    assert_eq!(agent.fold.status(), SessionStatus::Idle);
    agent
}

fn content(text: &str) -> Value {
    json!({ "type": "text", "text": text })
}

fn update(kind: &str, fields: Value) -> Value {
    let mut update = fields;
    update["sessionUpdate"] = kind.into();
    update
}

fn state(state: &str) -> Value {
    update("state_update", json!({ "state": state }))
}

fn idle(reason: &str) -> Value {
    update("state_update", json!({ "state": "idle", "stopReason": reason }))
}

/// A turn up to the agent's work: accepted, told again, running.
fn begin(agent: &mut Agent) {
    agent.prompt("go");
    let prompt = agent.expect("session/prompt");
    agent.answer(&prompt, &json!({}));
    agent.update(&update(
        "user_message",
        json!({ "messageId": "u", "content": [content("go")] }),
    ));
    agent.update(&state("running"));
}

fn ask(id: u32, subject: &Value) -> Value {
    let options = [option("yes", "allow_once"), option("no", "reject_once")];
    let params = json!({ "sessionId": "s", "title": "Run this?", "subject": subject, "options": options });
    json!({ "jsonrpc": "2.0", "id": id, "method": "session/request_permission", "params": params })
}

#[test]
fn a_turn_of_version_2_from_its_acceptance_to_the_idle_state() {
    let mut agent = open();
    begin(&mut agent);
    assert_eq!(agent.outcome(), None, "an accepted prompt is no end");
    agent.update(&update(
        "agent_thought_chunk",
        json!({ "messageId": "t", "content": content("hm") }),
    ));
    agent.update(&update(
        "tool_call_update",
        json!({ "toolCallId": "c", "title": "Test", "kind": "execute", "status": "in_progress",
            "rawInput": { "command": "cargo test" }, "content": [{ "type": "terminal", "terminalId": "x" }] }),
    ));
    agent.update(&update(
        "terminal_update",
        json!({ "terminalId": "x", "command": "cargo test", "cwd": "/w" }),
    ));
    // A character in two chunks, each encoded by itself.
    for data in ["cMM=", "qA=="] {
        agent.update(&update(
            "terminal_output_chunk",
            json!({ "terminalId": "x", "data": data }),
        ));
    }
    agent.update(&update(
        "terminal_update",
        json!({ "terminalId": "x", "exitStatus": { "exitCode": 3, "signal": null } }),
    ));
    let diff =
        json!({ "type": "diff", "changes": [{ "operation": "delete", "path": "/w/a", "fileType": "text" }] });
    agent.update(&update(
        "tool_call_content_chunk",
        json!({ "toolCallId": "c", "content": diff }),
    ));
    agent.update(&update(
        "tool_call_update",
        json!({ "toolCallId": "c", "status": "completed" }),
    ));
    let entry = json!({ "content": "one", "priority": "high", "status": "in_progress" });
    agent.update(&update(
        "plan_update",
        json!({ "plan": { "type": "items", "planId": "p", "entries": [entry] } }),
    ));
    agent.update(&update(
        "agent_message_chunk",
        json!({ "messageId": "m", "content": content("done") }),
    ));
    agent.update(&idle("end_turn"));
    assert_eq!(agent.outcome(), Some(TurnOutcome::Completed));
    let messages = agent.fold.state().messages;
    let users = messages.iter().filter(|message| message.role == Role::User);
    assert_eq!(users.count(), 1, "the prompt is told once: {messages:?}");
    let result = messages
        .iter()
        .find(|message| message.role == Role::Tool)
        .unwrap();
    let Part::ToolResult { output, is_error, .. } = &result.parts[0] else {
        panic!("{result:?}");
    };
    assert!(!is_error);
    assert_eq!(output[0].as_text(), Some("pè"));
    assert_eq!(output[1].as_text(), Some("[exit code 3]"));
    assert!(matches!(&output[2], Part::Diff { path, .. } if path == "/w/a"));
    assert!(agent.tags().contains(&"plan.updated"), "{:?}", agent.tags());
}

#[test]
fn a_cancelled_turn_ends_with_the_idle_state() {
    let mut agent = open();
    begin(&mut agent);
    agent.command(lodge_proto::command::CommandBody::Abort {});
    agent.expect("session/cancel");
    assert_eq!(agent.outcome(), None);
    agent.update(&idle("cancelled"));
    assert_eq!(agent.outcome(), Some(TurnOutcome::Aborted));
}

#[test]
fn another_version_is_refused_by_name() {
    for (said, shown) in [
        (json!(3), "3"),
        (json!(0), "0"),
        (json!("2025-06-18"), "\"2025-06-18\""),
    ] {
        let mut agent = Agent::created(None);
        agent.start(&json!({ "protocolVersion": said, "info": { "name": "x" }, "capabilities": {} }));
        assert_eq!(agent.next(), None, "no session is opened");
        let told = agent.events.iter().any(|event| {
            matches!(&event.body, EventBody::AgentError { message, .. }
                if message.contains(&format!("version {shown} ")))
        });
        assert!(told, "{said}: {:?}", agent.tags());
    }
}

#[test]
fn the_shape_of_the_answer_tells_an_agent_that_repeats_the_version() {
    let mut agent = Agent::created(None);
    agent.start(&json!({ "protocolVersion": 2, "agentCapabilities": {} }));
    let new = agent.expect("session/new");
    agent.answer(&new, &json!({ "sessionId": "s" }));
    agent.prompt("go");
    let prompt = agent.expect("session/prompt");
    agent.answer(&prompt, &json!({}));
    assert_eq!(
        agent.outcome(),
        Some(TurnOutcome::Completed),
        "as in version 1, the answer ends it"
    );
}

#[test]
fn several_messages_may_come_in_one_line() {
    let mut agent = open();
    begin(&mut agent);
    let say = |text: &str| {
        let update = update(
            "agent_message_chunk",
            json!({ "messageId": "m", "content": content(text) }),
        );
        json!({ "jsonrpc": "2.0", "method": "session/update", "params": { "sessionId": "s", "update": update } })
    };
    agent.line(&json!([say("a"), 7, say("b")]));
    agent.line(&json!([]));
    agent.update(&idle("end_turn"));
    let messages = agent.fold.state().messages;
    let texts: Vec<&str> = messages
        .iter()
        .filter(|message| message.role == Role::Assistant)
        .filter_map(|message| message.parts[0].as_text())
        .collect();
    assert_eq!(texts, ["ab"]);
    let garbage = |event: &&lodge_proto::Event| matches!(event.body, EventBody::AgentError { .. });
    assert_eq!(agent.events.iter().filter(garbage).count(), 2);
}

#[test]
fn null_clears_and_what_is_left_out_stays() {
    let mut agent = open();
    begin(&mut agent);
    let say = |kind: &str, fields: Value| {
        let mut fields = fields;
        fields["messageId"] = "m".into();
        update(kind, fields)
    };
    agent.update(&say(
        "agent_message_chunk",
        json!({ "content": content("wrong") }),
    ));
    agent.update(&say("agent_message", json!({ "_meta": {} })));
    agent.update(&say("agent_message", json!({ "content": null })));
    agent.update(&say(
        "agent_message_chunk",
        json!({ "content": content("right") }),
    ));
    agent.update(&update(
        "tool_call_update",
        json!({ "toolCallId": "c", "kind": "execute", "status": "in_progress",
            "content": [{ "type": "terminal", "terminalId": "x" }] }),
    ));
    agent.update(&update(
        "terminal_update",
        json!({ "terminalId": "x", "output": { "data": "b2xk" }, "exitStatus": { "exitCode": 1 } }),
    ));
    agent.update(&update(
        "terminal_update",
        json!({ "terminalId": "x", "output": null, "exitStatus": null }),
    ));
    agent.update(&update(
        "tool_call_update",
        json!({ "toolCallId": "c", "status": "completed", "rawOutput": "new" }),
    ));
    agent.update(&idle("end_turn"));
    let messages = agent.fold.state().messages;
    let said = messages
        .iter()
        .find(|message| message.role == Role::Assistant)
        .unwrap();
    assert_eq!(said.parts[0].as_text(), Some("right"));
    let result = messages
        .iter()
        .find(|message| message.role == Role::Tool)
        .unwrap();
    let Part::ToolResult { output, .. } = &result.parts[0] else {
        panic!("{result:?}");
    };
    assert_eq!(*output, [Part::text("new")]);
}

#[test]
fn a_permission_is_asked_for_a_call_a_command_or_something_unknown() {
    let mut agent = open();
    begin(&mut agent);
    agent.update(&state("requires_action"));
    let call =
        json!({ "toolCallId": "c", "title": "Set up", "kind": "execute", "rawInput": { "command": "x" } });
    let command = json!({ "type": "command", "command": "cargo test", "cwd": "/w" });
    let subjects = [
        (
            json!({ "type": "tool_call", "toolCall": call }),
            "execute",
            json!({ "command": "x" }),
        ),
        (
            command,
            "execute",
            json!({ "command": "cargo test", "cwd": "/w" }),
        ),
        (
            json!({ "type": "_odd", "what": 1 }),
            "tool",
            json!({ "type": "_odd", "what": 1 }),
        ),
    ];
    for (id, (subject, named, shown)) in (0u32..).zip(subjects) {
        agent.line(&ask(id, &subject));
        let request = agent.question();
        assert_eq!(request.title, "Run this?");
        let InputKind::Permission { tool, arguments, .. } = &request.kind else {
            panic!("{request:?}");
        };
        assert_eq!((tool.as_str(), arguments), (named, &shown));
        agent.command(lodge_proto::command::CommandBody::InputResponse {
            request_id: request.id,
            answer: InputAnswer::Permission {
                choice: PermissionChoice::Once,
            },
        });
        assert_eq!(agent.next().unwrap()["result"]["outcome"]["optionId"], "yes");
    }
    agent.update(&state("running"));
    agent.update(&idle("end_turn"));
    assert_eq!(agent.outcome(), Some(TurnOutcome::Completed));
}

#[test]
fn a_mode_is_an_option_in_version_2() {
    let mut agent = open();
    agent.command(lodge_proto::command::CommandBody::SetMode { mode: "code".into() });
    let set = agent.expect("session/set_config_option");
    assert_eq!(
        set["params"],
        json!({ "sessionId": "s", "configId": "mode", "type": "id", "value": "code" })
    );
}
