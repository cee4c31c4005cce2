//! What is said to codex: each test plays the app-server.

#![allow(clippy::unwrap_used)] // A test that panics has failed.

use crate::fold::{Created, Exit, JournalCommand, Launch, Note, Output, Record, RecordBody, SessionFold};
use crate::harness::AnyAdapter;
use lodge_proto::command::CommandBody;
use lodge_proto::event::{EventBody, TurnOutcome};
use lodge_proto::input::{InputAnswer, InputKind, PermissionChoice};
use lodge_proto::invariants::Checker;
use lodge_proto::message::Sender;
use lodge_proto::part::Part;
use lodge_proto::session::{ModelInfo, SessionStatus, Tier};
use lodge_proto::{ErrorBody, ErrorCode, Event, SessionId};
use serde_json::{Value, json};

const SESSION: SessionId = SessionId(uuid::Uuid::from_u128(0x0190_0000_0000_7000_8000_0000_0000_0003));

struct Session {
    fold: SessionFold,
    out: Output,
    checker: Checker,
    seq: u64,
}

impl Session {
    fn starting() -> Self {
        let mut this = Self {
            fold: SessionFold::new(SESSION, AnyAdapter::new("codex").unwrap()),
            out: Output::new(),
            checker: Checker::new(),
            seq: 0,
        };
        let created = Created {
            session: SESSION,
            harness: "codex".into(),
            workspace: "/w".into(),
            title: None,
            model: Some("demo/b".into()),
            thinking_level: None,
            tier: Tier::Process,
            profile: None,
            wish: crate::fold::Wish::default(),
            fork: None,
        };
        this.apply(RecordBody::Note(Box::new(Note::Created(Box::new(created)))));
        let model = |id: &str| ModelInfo {
            id: id.into(),
            name: id.into(),
            provider: id.split('/').next().unwrap().into(),
            context_window: None,
            reasoning: true,
        };
        let launch = Launch {
            text_models: Vec::new(),
            harness_version: "0.169.0".into(),
            models: vec![model("demo/a"), model("demo/b"), model("other/c")],
            resume: false,
            ask_permissions: true,
            tier: None,
            profile: None,
        };
        this.apply(RecordBody::Note(Box::new(Note::Launch(Box::new(launch)))));
        this.start(1);
        this
    }

    fn idle() -> Self {
        let mut this = Self::starting();
        this.open("thread/start");
        this
    }

    fn start(&mut self, generation: u64) {
        self.apply(RecordBody::Generation { generation });
        self.apply(RecordBody::Started);
    }

    /// Answers everything up to the open conversation; returns what opened it.
    fn open(&mut self, method: &str) -> Value {
        let hello = self.expect("initialize");
        self.result(&hello, &json!({ "userAgent": "codex" }));
        let sent = self.deliver();
        let opens = sent.iter().find(|line| line["method"] == method).unwrap();
        self.result(
            opens,
            &json!({
                "thread": { "id": "T" }, "model": "a", "modelProvider": "lodge-demo",
                "approvalPolicy": "untrusted", "reasoningEffort": null,
            }),
        );
        opens.clone()
    }

    fn apply(&mut self, body: RecordBody) -> Vec<Event> {
        self.seq += 1;
        let record = Record {
            seq: self.seq,
            time_ms: self.seq,
            body,
        };
        self.fold.apply(&record, &mut self.out);
        let events = std::mem::take(&mut self.out.events);
        for event in &events {
            self.checker.event(event).unwrap();
        }
        // The adapter's state is stored: whatever it is, it comes back the same.
        let stored = serde_json::to_vec(self.fold.adapter()).unwrap();
        let back: AnyAdapter = serde_json::from_slice(&stored).unwrap();
        assert_eq!(&back, self.fold.adapter());
        events
    }

    fn line(&mut self, line: &Value) -> Vec<Event> {
        self.apply(RecordBody::Out(line.to_string().into_bytes()))
    }

    fn note(&mut self, method: &str, mut params: Value) -> Vec<Event> {
        params["threadId"] = "T".into();
        params["turnId"] = "t".into();
        self.line(&json!({ "method": method, "params": params }))
    }

    fn result(&mut self, request: &Value, result: &Value) -> Vec<Event> {
        self.line(&json!({ "id": request["id"], "result": result }))
    }

    fn refuse(&mut self, request: &Value, message: &str) -> Vec<Event> {
        self.line(&json!({ "id": request["id"], "error": { "code": -32600, "message": message } }))
    }

    fn command(&mut self, body: CommandBody) -> Option<Result<Value, ErrorBody>> {
        self.out.replies.clear();
        let command = JournalCommand {
            sender: Sender {
                account: "a".into(),
                name: "A".into(),
            },
            client_id: self.seq.to_string(),
            body,
        };
        self.apply(RecordBody::Cmd(Box::new(command)));
        self.out.replies.pop().map(|reply| reply.result)
    }

    fn prompt(&mut self, text: &str) -> Value {
        let parts = vec![Part::text(text)];
        self.command(CommandBody::Prompt { parts }).unwrap().unwrap()
    }

    /// Delivers what waits, as the shim does.
    fn deliver(&mut self) -> Vec<Value> {
        let mut lines = Vec::new();
        while let Some(input) = self.fold.wants().inputs.first().cloned() {
            let (id, bytes) = (input.id, input.bytes.clone());
            self.apply(RecordBody::InBegin { id, bytes });
            self.apply(RecordBody::InDone { id });
            lines.push(serde_json::from_slice(&input.bytes).unwrap());
        }
        lines
    }

    /// The one line that waits.
    fn expect(&mut self, method: &str) -> Value {
        let lines = self.deliver();
        assert_eq!(lines.len(), 1, "{lines:?}");
        assert_eq!(lines[0]["method"], method);
        lines[0].clone()
    }

    /// A prompt that codex has taken up.
    fn working(&mut self) {
        self.prompt("hi");
        let start = self.expect("turn/start");
        self.result(&start, &json!({ "turn": { "id": "t" } }));
        self.note("turn/started", json!({ "turn": { "id": "t" } }));
        let content = json!([{ "type": "text", "text": "hi" }]);
        self.note(
            "item/started",
            json!({ "item": { "type": "userMessage", "id": "u", "content": content } }),
        );
    }

    fn completed(&mut self, status: &str) -> TurnOutcome {
        self.note(
            "turn/completed",
            json!({ "turn": { "id": "t", "status": status } }),
        );
        self.stored()
    }

    fn stored(&mut self) -> TurnOutcome {
        let turn = self.fold.wants().persist.expect("a turn to be stored").id;
        let events = self.apply(RecordBody::Note(Box::new(Note::HistoryAck {
            turn,
            message_version: 0,
        })));
        let ended = events.iter().find_map(|event| match &event.body {
            EventBody::TurnEnded { outcome, .. } => Some(*outcome),
            _ => None,
        });
        ended.expect("turn.ended")
    }
}

#[test]
fn a_prompt_before_the_conversation_is_open_goes_out_when_it_is() {
    let mut session = Session::starting();
    assert_eq!(session.prompt("hi")["disposition"], "started");
    let opens = session.open("thread/start");
    assert_eq!(opens["params"]["approvalPolicy"], "untrusted");
    let start = session.expect("turn/start");
    assert_eq!(start["params"]["threadId"], "T");
    assert_eq!(start["params"]["input"][0]["text"], "hi");
    // The session was made for another model of the same provider.
    assert_eq!(start["params"]["model"], "b");
}

#[test]
fn capabilities_are_what_codex_said() {
    let session = Session::idle();
    let state = session.fold.state();
    assert_eq!(state.session.status, SessionStatus::Idle);
    assert_eq!(state.session.model.as_deref(), Some("demo/b"));
    let can = state.capabilities;
    assert!(can.permissions && can.steer && can.compact && can.fork_at_message && !can.abort_retry);
    let models: Vec<&str> = can.models.iter().map(|model| model.id.as_str()).collect();
    assert_eq!(models, ["demo/a", "demo/b"]);
    assert_eq!(can.thinking_levels, ["low", "medium", "high"]);
}

#[test]
fn model_and_level_go_with_the_next_prompt_until_codex_confirms_them() {
    let mut session = Session::idle();
    let set = |model: &str| CommandBody::SetModel { model: model.into() };
    session.command(set("demo/a")).unwrap().unwrap();
    session.command(set("demo/b")).unwrap().unwrap();
    let level = CommandBody::SetThinkingLevel { level: "high".into() };
    session.command(level).unwrap().unwrap();
    let error = session.command(set("other/c")).unwrap().unwrap_err();
    assert_eq!(error.code, ErrorCode::NotFound);
    session.prompt("hi");
    let start = session.expect("turn/start");
    assert_eq!(start["params"]["model"], "b");
    assert_eq!(start["params"]["effort"], "high");
    let settings = json!({ "model": "b", "modelProvider": "lodge-demo", "effort": "high" });
    session.note("thread/settings/updated", json!({ "threadSettings": settings }));
    session.result(&start, &json!({ "turn": { "id": "t" } }));
    assert_eq!(session.completed("completed"), TurnOutcome::Completed);
    session.prompt("again");
    let start = session.expect("turn/start");
    assert_eq!(start["params"].get("model"), None);
}

#[test]
fn a_mode_is_asked_for_with_the_model_in_use() {
    let mut session = Session::idle();
    let set = CommandBody::SetMode { mode: "plan".into() };
    let error = session.command(set.clone()).unwrap().unwrap_err();
    assert_eq!(error.code, ErrorCode::UnsupportedByHarness);
    // The request for the modes was delivered before; its answer comes now.
    let mut session = Session::starting();
    let hello = session.expect("initialize");
    session.result(&hello, &json!({}));
    let sent = session.deliver();
    let by = |method: &str| {
        let found = sent.iter().find(|line| line["method"] == method);
        found.unwrap().clone()
    };
    let thread = json!({ "thread": { "id": "T" }, "model": "b", "modelProvider": "lodge-demo" });
    session.result(&by("thread/start"), &thread);
    session.result(
        &by("collaborationMode/list"),
        &json!({ "data": [{ "name": "Plan", "mode": "plan" }] }),
    );
    let skill = json!({ "name": "review", "path": "/s/review", "enabled": true });
    session.result(&by("skills/list"), &json!({ "data": [{ "skills": [skill] }] }));
    session.command(set).unwrap().unwrap();
    session.prompt("/review all");
    let params = session.expect("turn/start")["params"].clone();
    assert_eq!(params["collaborationMode"]["mode"], "plan");
    assert_eq!(params["collaborationMode"]["settings"]["model"], "b");
    assert_eq!(params["input"][0]["text"], "$review all");
    assert_eq!(params["input"][1]["path"], "/s/review");
}

#[test]
fn a_prompt_during_a_turn_steers_and_waits_where_codex_refuses_it() {
    let mut session = Session::idle();
    session.working();
    assert_eq!(session.prompt("also")["disposition"], "steering");
    let steer = session.expect("turn/steer");
    assert_eq!(steer["params"]["expectedTurnId"], "t");
    session.refuse(&steer, "no active turn to steer");
    assert_eq!(session.completed("completed"), TurnOutcome::Completed);
    assert_eq!(session.expect("turn/start")["params"]["input"][0]["text"], "also");
}

#[test]
fn an_abort_waits_for_the_turns_name_and_stops_commands_too() {
    let mut session = Session::idle();
    session.prompt("hi");
    let start = session.expect("turn/start");
    session.command(CommandBody::Abort {}).unwrap().unwrap();
    assert!(session.deliver().is_empty());
    session.result(&start, &json!({ "turn": { "id": "t" } }));
    assert_eq!(session.expect("turn/interrupt")["params"]["turnId"], "t");
    let item = json!({ "type": "commandExecution", "id": "c", "command": "sleep 9", "status": "inProgress" });
    session.note("item/started", json!({ "item": item }));
    assert_eq!(session.completed("interrupted"), TurnOutcome::Aborted);
    session.expect("thread/backgroundTerminals/clean");
    // What it says under the turn that is over changes nothing.
    let item = json!({ "type": "commandExecution", "id": "c", "command": "sleep 9", "exitCode": -1 });
    let late = session.note("item/completed", json!({ "item": item }));
    assert!(late.is_empty());
    session.checker.finish().unwrap();
}

#[test]
fn a_command_that_is_left_running_is_no_failure_and_its_end_is_told() {
    let mut session = Session::idle();
    session.working();
    let item = json!({ "type": "commandExecution", "id": "c", "command": "serve", "status": "inProgress" });
    session.note("item/started", json!({ "item": item }));
    session.note(
        "item/commandExecution/outputDelta",
        json!({ "itemId": "c", "delta": "ready" }),
    );
    assert_eq!(session.completed("completed"), TurnOutcome::Completed);
    assert!(session.deliver().is_empty());
    let messages = session.fold.state().messages;
    let Some(Part::ToolResult { output, is_error, .. }) = messages.last().and_then(|last| last.parts.first())
    else {
        panic!("{messages:?}");
    };
    assert!(!is_error);
    assert_eq!(output[0], Part::text("ready"));
    let late = session.note(
        "item/commandExecution/outputDelta",
        json!({ "itemId": "c", "delta": "x" }),
    );
    assert!(late.is_empty());
    let item = json!({ "type": "commandExecution", "id": "c", "command": "serve", "exitCode": 0 });
    let late = session.note("item/completed", json!({ "item": item }));
    assert!(matches!(&late[..], [event] if matches!(event.body, EventBody::Notify { .. })));
    session.checker.finish().unwrap();
}

#[test]
fn an_abort_before_the_conversation_is_open_takes_the_prompt_back() {
    let mut session = Session::starting();
    session.prompt("hi");
    session.command(CommandBody::Abort {}).unwrap().unwrap();
    assert_eq!(session.stored(), TurnOutcome::Aborted);
    session.open("thread/start");
    assert!(session.deliver().is_empty());
}

#[test]
fn every_choice_of_a_permission_has_its_decision() {
    let rule = json!({ "acceptWithExecpolicyAmendment": { "execpolicy_amendment": ["touch"] } });
    let cases = [
        (PermissionChoice::Once, json!("accept")),
        (PermissionChoice::Session, json!("acceptForSession")),
        (PermissionChoice::Always, rule.clone()),
        (PermissionChoice::Deny, json!("decline")),
        (PermissionChoice::DenyAndStop, json!("cancel")),
    ];
    for (choice, decision) in cases {
        let mut session = Session::idle();
        session.working();
        let params = json!({
            "threadId": "T", "turnId": "t", "itemId": "c", "command": "touch x",
            "proposedExecpolicyAmendment": ["touch"], "availableDecisions": ["accept", rule, "cancel"],
        });
        let method = "item/commandExecution/requestApproval";
        session.line(&json!({ "id": 7, "method": method, "params": params }));
        let request = session.fold.state().requests[0].clone();
        let InputKind::Permission { choices, .. } = &request.kind else {
            panic!("{request:?}");
        };
        assert!(choices.contains(&choice));
        let answer = InputAnswer::Permission { choice };
        let request_id = request.id;
        session
            .command(CommandBody::InputResponse { request_id, answer })
            .unwrap()
            .unwrap();
        let sent = session.deliver();
        assert_eq!(sent[0], json!({ "id": 7, "result": { "decision": decision } }));
        let stops = choice == PermissionChoice::DenyAndStop;
        assert_eq!(sent.len() > 1, stops, "{sent:?}");
    }
}

#[test]
fn questions_are_answered_together() {
    let mut session = Session::idle();
    session.working();
    let questions = json!([
        { "id": "q1", "header": "Colour", "question": "Which?", "options": [{ "label": "red" }] },
        { "id": "q2", "question": "Why?" },
    ]);
    let params = json!({ "threadId": "T", "turnId": "t", "itemId": "i", "questions": questions });
    session.line(&json!({ "id": 3, "method": "item/tool/requestUserInput", "params": params }));
    let requests = session.fold.state().requests;
    let answers = [
        InputAnswer::Selected {
            values: vec!["red".into()],
        },
        InputAnswer::Text { text: "so".into() },
    ];
    for (request, answer) in requests.iter().zip(answers) {
        let request_id = request.id;
        let command = CommandBody::InputResponse { request_id, answer };
        session.command(command).unwrap().unwrap();
    }
    let answers = json!({ "q1": { "answers": ["red"] }, "q2": { "answers": ["so"] } });
    assert_eq!(
        session.deliver(),
        [json!({ "id": 3, "result": { "answers": answers } })]
    );
}

#[test]
fn what_codex_may_not_ask_is_refused_not_left_open() {
    let mut session = Session::idle();
    session.line(&json!({ "id": 1, "method": "attestation/generate", "params": {} }));
    assert_eq!(session.deliver()[0]["error"]["code"], -32601);
}

#[test]
fn compaction_is_answered_when_codex_accepts_it_and_takes_no_instructions() {
    let mut session = Session::idle();
    let with = CommandBody::Compact {
        instructions: Some("short".into()),
    };
    let error = session.command(with).unwrap().unwrap_err();
    assert_eq!(error.code, ErrorCode::UnsupportedByHarness);
    let compact = CommandBody::Compact { instructions: None };
    assert!(session.command(compact).is_none());
    let request = session.expect("thread/compact/start");
    session.result(&request, &json!({}));
    assert!(session.out.replies.pop().unwrap().result.is_ok());
}

#[test]
fn a_retry_comes_to_nothing_of_the_failed_attempt() {
    let mut session = Session::idle();
    session.working();
    session.note(
        "item/agentMessage/delta",
        json!({ "itemId": "m", "delta": "half" }),
    );
    let error = json!({ "message": "Reconnecting... 1/5", "additionalDetails": "the stream broke" });
    let events = session.note("error", json!({ "error": error, "willRetry": true }));
    let tags: Vec<&str> = events.iter().map(|event| event.body.tag()).collect();
    assert_eq!(tags, ["stream.message_discarded", "agent.working", "retry.start"]);
    let item = json!({ "type": "agentMessage", "id": "m2", "text": "whole" });
    let events = session.note("item/completed", json!({ "item": item }));
    assert_eq!(events[0].body.tag(), "retry.end");
    assert_eq!(session.completed("completed"), TurnOutcome::Completed);
    assert_eq!(session.fold.state().messages.len(), 2);
}

#[test]
fn a_killed_codex_resumes_its_conversation_and_begins_anew_where_that_is_lost() {
    let mut session = Session::idle();
    session.working();
    session.note(
        "item/agentMessage/delta",
        json!({ "itemId": "m", "delta": "half" }),
    );
    session.apply(RecordBody::Exit(Exit {
        signal: Some(9),
        ..Exit::default()
    }));
    assert_eq!(session.stored(), TurnOutcome::Interrupted);
    assert_eq!(session.fold.native_session().as_deref(), Some("T"));
    session.start(2);
    let hello = session.expect("initialize");
    session.result(&hello, &json!({}));
    let sent = session.deliver();
    let resume = sent
        .iter()
        .find(|line| line["method"] == "thread/resume")
        .unwrap();
    assert_eq!(resume["params"]["threadId"], "T");
    let events = session.refuse(resume, "no rollout found");
    assert!(
        events
            .iter()
            .any(|event| matches!(event.body, EventBody::Notify { .. }))
    );
    session.expect("thread/start");
}
