//! What the recorded transcripts do not show: our side of the wire, and lines that no recording has.

use crate::fold::{Created, JournalCommand, Note, Output, Record, RecordBody, SessionFold};
use crate::harness::AnyAdapter;
use lodge_proto::command::CommandBody;
use lodge_proto::event::{EventBody, TurnOutcome};
use lodge_proto::input::{InputAnswer, InputKind, InputRequest, PermissionChoice};
use lodge_proto::invariants::Checker;
use lodge_proto::message::{Role, Sender, StopReason};
use lodge_proto::part::{Part, PlanStatus};
use lodge_proto::session::Tier;
use lodge_proto::{ErrorCode, Event, SessionId};
use serde_json::{Value, json};

const SESSION: SessionId = SessionId(uuid::Uuid::from_u128(0x0190_0000_0000_7000_8000_0000_0000_0003));

struct Session {
    fold: SessionFold,
    out: Output,
    checker: Checker,
    seq: u64,
    events: Vec<Event>,
}

impl Session {
    /// One whose harness has answered its first request.
    fn idle() -> Self {
        let mut this = Self {
            fold: SessionFold::new(SESSION, AnyAdapter::new("claude").unwrap()),
            out: Output::new(),
            checker: Checker::new(),
            seq: 0,
            events: Vec::new(),
        };
        let created = Created {
            session: SESSION,
            harness: "claude".into(),
            workspace: "/w".into(),
            title: None,
            model: None,
            thinking_level: None,
            tier: Tier::Process,
            profile: None,
            wish: crate::fold::Wish::default(),
            fork: None,
        };
        this.apply(RecordBody::Note(Box::new(Note::Created(Box::new(created)))));
        this.apply(RecordBody::Generation { generation: 1 });
        this.apply(RecordBody::Started);
        let hello = this.sent();
        assert_eq!(hello[0]["request"]["subtype"], "initialize");
        let models = json!([{
            "value": "default", "resolvedModel": "claude-opus-4-8[1m]", "displayName": "Default",
            "supportedEffortLevels": ["low", "high"],
        }, { "value": "haiku", "resolvedModel": "claude-haiku-4-5", "displayName": "Haiku" }]);
        let body = json!({ "commands": [{ "name": "init" }], "models": models });
        this.respond(&hello[0], &body);
        this
    }

    fn apply(&mut self, body: RecordBody) {
        self.seq += 1;
        let record = Record {
            seq: self.seq,
            time_ms: 1_000 + self.seq,
            body,
        };
        self.fold.apply(&record, &mut self.out);
        for event in &self.out.events {
            self.checker.event(event).unwrap();
        }
        self.events.append(&mut self.out.events);
        if let Some(turn) = self.fold.wants().persist.map(|record| record.id) {
            let message_version = self.fold.info().message_count;
            self.apply(RecordBody::Note(Box::new(Note::HistoryAck {
                turn,
                message_version,
            })));
        }
    }

    fn line(&mut self, line: &Value) {
        self.apply(RecordBody::Out(line.to_string().into_bytes()));
    }

    fn respond(&mut self, request: &Value, body: &Value) {
        let response = json!({ "subtype": "success", "request_id": request["request_id"], "response": body });
        self.line(&json!({ "type": "control_response", "response": response }));
    }

    fn command(&mut self, body: CommandBody) {
        let sender = Sender {
            account: "a".into(),
            name: "A".into(),
        };
        let command = JournalCommand {
            sender,
            client_id: self.seq.to_string(),
            body,
        };
        self.apply(RecordBody::Cmd(Box::new(command)));
    }

    fn prompt(&mut self, text: &str) {
        let parts = vec![Part::text(text)];
        self.command(CommandBody::Prompt { parts });
    }

    /// What waits for the harness, delivered.
    fn sent(&mut self) -> Vec<Value> {
        let mut lines = Vec::new();
        while let Some(input) = self.fold.wants().inputs.first().cloned() {
            lines.push(serde_json::from_slice(&input.bytes).unwrap());
            self.apply(RecordBody::InBegin {
                id: input.id,
                bytes: input.bytes,
            });
            self.apply(RecordBody::InDone { id: input.id });
        }
        lines
    }

    fn tool_use(&mut self, id: &str, name: &str, input: &Value) {
        let block = json!({ "type": "tool_use", "id": id, "name": name, "input": input });
        let message = json!({ "id": format!("msg-{id}"), "model": "claude-opus-4-8", "content": [block] });
        self.line(&json!({ "type": "assistant", "message": message }));
    }

    fn tool_result(&mut self, id: &str, text: &str, details: &Value) {
        let block = json!({ "type": "tool_result", "tool_use_id": id, "content": text });
        let message = json!({ "role": "user", "content": [block] });
        self.line(&json!({ "type": "user", "message": message, "tool_use_result": details }));
    }

    fn asks(&mut self, id: &str, tool_use: &str, name: &str, input: &Value) {
        let rule = json!({ "type": "addRules", "rules": [], "destination": "localSettings" });
        let request = json!({
            "subtype": "can_use_tool", "tool_name": name, "input": input, "tool_use_id": tool_use,
            "permission_suggestions": [rule],
        });
        self.line(&json!({ "type": "control_request", "request_id": id, "request": request }));
    }

    fn result(&mut self, reason: &str) {
        self.line(&json!({
            "type": "result", "subtype": "success", "is_error": reason != "completed", "terminal_reason": reason,
        }));
    }

    fn requests(&self) -> Vec<InputRequest> {
        self.fold.state().requests
    }

    fn answer(&mut self, request: &InputRequest, answer: InputAnswer) -> Value {
        let request_id = request.id;
        self.command(CommandBody::InputResponse { request_id, answer });
        self.sent().first().cloned().unwrap_or_default()
    }

    fn outcomes(&self) -> Vec<TurnOutcome> {
        let outcome = |event: &Event| match &event.body {
            EventBody::TurnEnded { outcome, .. } => Some(*outcome),
            _ => None,
        };
        self.events.iter().filter_map(outcome).collect()
    }
}

fn choose(choice: PermissionChoice) -> InputAnswer {
    InputAnswer::Permission { choice }
}

#[test]
fn a_permission_for_the_session_stays_in_the_session() {
    let mut session = Session::idle();
    session.prompt("go");
    session.sent();
    for (choice, destination, command) in [
        (PermissionChoice::Session, "session", "ls"),
        (PermissionChoice::Always, "userSettings", "ls -l"),
    ] {
        let input = json!({ "command": command });
        session.asks("r1", "t1", "Bash", &input);
        let request = session.requests().remove(0);
        let answer = session.answer(&request, choose(choice));
        assert_eq!(answer["response"]["request_id"], "r1");
        let response = &answer["response"]["response"];
        assert_eq!(response["behavior"], "allow");
        assert_eq!(response["updatedInput"], input);
        assert_eq!(response["updatedPermissions"][0]["destination"], destination);
    }
}

#[test]
fn deny_and_stop_denies_and_interrupts() {
    let mut session = Session::idle();
    session.prompt("go");
    session.sent();
    session.tool_use("t1", "Bash", &json!({ "command": "rm" }));
    session.asks("r1", "t1", "Bash", &json!({ "command": "rm" }));
    let request = session.requests().remove(0);
    let answer = session.answer(&request, choose(PermissionChoice::DenyAndStop));
    assert_eq!(answer["response"]["response"]["behavior"], "deny");
    assert_eq!(answer["response"]["response"]["interrupt"], true);
    session.result("aborted_tools");
    assert_eq!(session.outcomes(), [TurnOutcome::Aborted]);
}

#[test]
fn a_question_that_the_harness_takes_back_is_withdrawn() {
    let mut session = Session::idle();
    session.prompt("go");
    session.asks("r1", "t1", "Bash", &json!({}));
    assert_eq!(session.requests().len(), 1);
    session.line(&json!({ "type": "control_cancel_request", "request_id": "r1" }));
    assert!(session.requests().is_empty());
}

#[test]
fn questions_of_the_model_are_answered_together() {
    let mut session = Session::idle();
    session.prompt("go");
    session.sent();
    let options = json!([{ "label": "red", "description": "warm" }, { "label": "blue" }]);
    let input = json!({ "questions": [
        { "question": "Which colour?", "header": "Colour", "options": options },
        { "question": "Which more?", "options": options, "multiSelect": true },
    ] });
    session.tool_use("t1", "AskUserQuestion", &input);
    session.asks("r1", "t1", "AskUserQuestion", &input);
    let requests = session.requests();
    assert!(matches!(&requests[1].kind, InputKind::Select { multiple: true, options } if options.len() == 2));
    let values = vec!["red".to_owned()];
    let answer = session.answer(&requests[0], InputAnswer::Selected { values });
    assert_eq!(answer, Value::Null, "the harness waits for both");
    let values = vec!["red".to_owned(), "blue".to_owned()];
    let answer = session.answer(&requests[1], InputAnswer::Selected { values });
    let answers = &answer["response"]["response"]["updatedInput"]["answers"];
    assert_eq!(
        *answers,
        json!({ "Which colour?": "red", "Which more?": "red, blue" })
    );
}

#[test]
fn a_question_that_is_dismissed_is_denied_once() {
    let mut session = Session::idle();
    session.prompt("go");
    session.sent();
    let question = json!({ "question": "Which?", "options": [{ "label": "a" }] });
    let other = json!({ "question": "And?", "options": [{ "label": "a" }] });
    session.asks(
        "r1",
        "t1",
        "AskUserQuestion",
        &json!({ "questions": [question, other] }),
    );
    let requests = session.requests();
    let answer = session.answer(&requests[0], InputAnswer::Cancelled {});
    assert_eq!(answer["response"]["response"]["behavior"], "deny");
    assert!(session.requests().is_empty());
    assert!(session.sent().is_empty());
}

#[test]
fn an_unknown_request_is_refused_and_does_not_hang() {
    let mut session = Session::idle();
    let request = json!({ "subtype": "from_the_future" });
    session.line(&json!({ "type": "control_request", "request_id": "r9", "request": request }));
    let answer = session.sent().remove(0);
    assert_eq!(answer["response"]["subtype"], "error");
    assert_eq!(answer["response"]["request_id"], "r9");
}

#[test]
fn a_form_of_one_field_is_asked_for() {
    let mut session = Session::idle();
    let schema = json!({ "properties": { "name": { "type": "string" } } });
    let request = json!({
        "subtype": "elicitation", "mcp_server_name": "s", "message": "Who?", "requested_schema": schema,
    });
    session.line(&json!({ "type": "control_request", "request_id": "r1", "request": request }));
    let asked = session.requests().remove(0);
    let answer = session.answer(&asked, InputAnswer::Text { text: "me".into() });
    let response = &answer["response"]["response"];
    assert_eq!(
        *response,
        json!({ "action": "accept", "content": { "name": "me" } })
    );
}

#[test]
fn an_abort_takes_steered_prompts_back_first() {
    let mut session = Session::idle();
    session.prompt("go");
    session.sent();
    session.prompt("and this");
    let steered = session.sent().remove(0);
    session.command(CommandBody::Abort {});
    let sent = session.sent();
    assert_eq!(sent[0]["request"]["subtype"], "cancel_async_message");
    assert_eq!(sent[0]["request"]["message_uuid"], steered["uuid"]);
    assert_eq!(sent[1]["request"]["subtype"], "interrupt");
    session.result("aborted_streaming");
    assert_eq!(session.outcomes(), [TurnOutcome::Aborted]);
    let queue = session.fold.state().queue;
    assert_eq!(queue.len(), 1, "what was not taken up waits for the user");
}

#[test]
fn an_answer_that_an_abort_cuts_off_says_so() {
    let mut session = Session::idle();
    session.prompt("go");
    session.sent();
    let stream = |event: Value| json!({ "type": "stream_event", "event": event });
    session.line(&stream(
        json!({ "type": "message_start", "message": { "id": "m1", "model": "demo", "content": [] } }),
    ));
    let block = json!({ "type": "text", "text": "" });
    session.line(&stream(
        json!({ "type": "content_block_start", "index": 0, "content_block": block }),
    ));
    let delta = json!({ "type": "text_delta", "text": "half" });
    session.line(&stream(
        json!({ "type": "content_block_delta", "index": 0, "delta": delta }),
    ));
    session.command(CommandBody::Abort {});
    session.sent();
    session.line(&stream(json!({ "type": "message_stop" })));
    session.result("aborted_streaming");
    let messages = session.fold.state().messages;
    let answer = messages.last().unwrap();
    assert_eq!(answer.parts, [Part::text("half")]);
    assert_eq!(answer.stop_reason, Some(StopReason::Aborted));
}

#[test]
fn a_steered_prompt_that_comes_too_late_for_its_run_belongs_to_the_turn() {
    let mut session = Session::idle();
    session.prompt("go");
    session.prompt("more");
    session.sent();
    session.result("completed");
    assert!(session.outcomes().is_empty());
    session.line(&json!({ "type": "system", "subtype": "init", "session_id": "s" }));
    assert!(session.fold.state().queue.is_empty());
    session.result("completed");
    assert_eq!(session.outcomes(), [TurnOutcome::Completed]);
    let users = session.fold.state().messages;
    assert_eq!(
        users.iter().filter(|message| message.role == Role::User).count(),
        2
    );
}

#[test]
fn what_only_looks_like_a_command_is_not_sent_as_one() {
    let mut session = Session::idle();
    session.prompt("/usr/bin/env is missing");
    assert_eq!(
        session.sent()[0]["message"]["content"],
        " /usr/bin/env is missing"
    );
    session.result("completed");
    session.prompt("/init now");
    assert_eq!(session.sent()[0]["message"]["content"], "/init now");
}

#[test]
fn model_level_and_mode_change_when_the_harness_says_so() {
    let mut session = Session::idle();
    assert_eq!(session.fold.state().capabilities.thinking_levels, ["low", "high"]);
    session.command(CommandBody::SetThinkingLevel { level: "high".into() });
    session.command(CommandBody::SetMode { mode: "plan".into() });
    let model = "anthropic/claude-haiku-4-5".to_owned();
    session.command(CommandBody::SetModel { model: model.clone() });
    let sent = session.sent();
    assert_eq!(sent[2]["request"]["model"], "claude-haiku-4-5");
    assert_eq!(session.fold.state().mode, None);
    for request in &sent {
        session.respond(request, &json!({}));
    }
    let state = session.fold.state();
    assert_eq!(state.mode.as_deref(), Some("plan"));
    assert_eq!(state.session.model, Some(model));
    assert_eq!(state.session.thinking_level.as_deref(), Some("high"));
    assert!(state.capabilities.thinking_levels.is_empty(), "haiku has none");
    assert_eq!(session.out.replies.len(), 3);
}

#[test]
fn ending_a_retry_alone_is_not_supported() {
    let mut session = Session::idle();
    session.command(CommandBody::AbortRetry {});
    let reply = session.out.replies.pop().unwrap();
    assert_eq!(reply.result.unwrap_err().code, ErrorCode::UnsupportedByHarness);
}

#[test]
fn compaction_is_a_turn_that_answers_with_its_end() {
    let mut session = Session::idle();
    let instructions = Some("be brief".to_owned());
    session.command(CommandBody::Compact { instructions });
    assert_eq!(session.sent()[0]["message"]["content"], "/compact be brief");
    assert!(session.out.replies.is_empty());
    session.result("completed");
    assert!(session.out.replies[0].result.is_ok());
    assert_eq!(session.outcomes(), [TurnOutcome::Completed]);
}

#[test]
fn tasks_are_the_plan() {
    let mut session = Session::idle();
    session.prompt("go");
    session.tool_use("t1", "TaskCreate", &json!({ "subject": "one" }));
    session.tool_result("t1", "Task #1 created", &json!({ "task": { "id": "1" } }));
    session.tool_use(
        "t2",
        "TaskUpdate",
        &json!({ "taskId": "1", "status": "in_progress" }),
    );
    session.tool_result("t2", "Updated", &json!({}));
    let plan = session.fold.state().plan;
    assert_eq!(
        (plan[0].content.as_str(), plan[0].status),
        ("one", PlanStatus::InProgress)
    );
    let todos = json!({ "todos": [{ "content": "two", "status": "completed" }] });
    session.tool_use("t3", "TodoWrite", &todos);
    session.tool_result("t3", "ok", &json!({}));
    let plan = session.fold.state().plan;
    assert_eq!(
        (plan[0].content.as_str(), plan[0].status),
        ("two", PlanStatus::Completed)
    );
}

#[test]
fn a_sub_agent_shows_in_the_call_that_runs_it() {
    let mut session = Session::idle();
    session.prompt("go");
    session.tool_use("t1", "Task", &json!({ "prompt": "look" }));
    let block = json!({ "type": "text", "text": "I look." });
    let message = json!({ "id": "sub", "content": [block] });
    session.line(&json!({ "type": "assistant", "message": message, "parent_tool_use_id": "t1" }));
    assert_eq!(
        session.fold.state().running_tools[0].output,
        [Part::text("I look.\n")]
    );
    session.tool_result("t1", "Found it.", &json!({}));
    session.result("completed");
    let messages = session.fold.state().messages;
    let Some(Part::ToolResult { output, .. }) = messages.last().and_then(|message| message.parts.first())
    else {
        panic!("no tool result: {messages:#?}");
    };
    let kept = serde_json::to_value(&output[1]).unwrap();
    assert_eq!(kept["type"], "x-claude-subagent");
    assert_eq!(kept["entries"][0]["text"], "I look.");
}

#[test]
fn a_state_in_mid_turn_survives_its_snapshot() {
    let mut session = Session::idle();
    session.prompt("go");
    session.tool_use("t1", "Bash", &json!({ "command": "ls" }));
    session.asks("r1", "t1", "Bash", &json!({ "command": "ls" }));
    session.prompt("steered");
    let message = json!({ "id": "m", "content": [] });
    let block = json!({ "type": "tool_use", "id": "t2", "name": "Read", "input": {} });
    for event in [
        json!({ "type": "message_start", "message": message }),
        json!({ "type": "content_block_start", "index": 0, "content_block": block }),
    ] {
        session.line(&json!({ "type": "stream_event", "event": event }));
    }
    let bytes = session.fold.to_snapshot().unwrap();
    assert_eq!(SessionFold::from_snapshot(&bytes), Some(session.fold.clone()));
}
