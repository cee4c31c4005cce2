//! The fold as a whole: records in, events out. The wire is pi's.

#![allow(clippy::unwrap_used)] // A test that panics has failed.

use super::*;
use lodge_proto::command::CommandBody;
use lodge_proto::event::{EventBody, TurnOutcome};
use lodge_proto::input::InputAnswer;
use lodge_proto::invariants::Checker;
use lodge_proto::message::Sender;
use lodge_proto::part::Part;
use lodge_proto::session::{QueueState, SessionStatus, Tier};
use lodge_proto::{ErrorCode, Event, SessionId};
use serde_json::{Value, json};

/// Ids are made from it: with one id two runs give equal events.
const SESSION: SessionId = SessionId(uuid::Uuid::from_u128(0x0190_0000_0000_7000_8000_0000_0000_0002));

/// A session under test, with a clock that the test turns.
struct Session {
    fold: SessionFold,
    out: Output,
    checker: Checker,
    seq: u64,
    now: u64,
    client: u32,
    /// Inputs that were delivered, as JSON.
    delivered: Vec<Value>,
}

impl Session {
    fn created() -> Self {
        let session = SESSION;
        let fold = SessionFold::new(session, AnyAdapter::new("pi").unwrap());
        let (out, checker) = (Output::new(), Checker::new());
        let mut this = Self {
            fold,
            out,
            checker,
            seq: 0,
            now: 1_000,
            client: 0,
            delivered: Vec::new(),
        };
        let created = Created {
            session,
            harness: "pi".into(),
            workspace: "/w".into(),
            title: None,
            model: None,
            thinking_level: None,
            tier: Tier::Process,
            fork: None,
        };
        this.apply(RecordBody::Note(Box::new(Note::Created(Box::new(created)))));
        this
    }

    fn idle() -> Self {
        let mut this = Self::created();
        this.start(1);
        this
    }

    fn start(&mut self, generation: u64) {
        self.apply(RecordBody::Generation { generation });
        self.apply(RecordBody::Started);
        self.deliver();
        self.line(&json!({ "type": "response", "command": "get_state", "success": true, "data": {} }));
    }

    fn apply(&mut self, body: RecordBody) -> Vec<Event> {
        self.seq += 1;
        self.now += 1;
        self.fold.apply(
            &Record {
                seq: self.seq,
                time_ms: self.now,
                body,
            },
            &mut self.out,
        );
        let events = std::mem::take(&mut self.out.events);
        for event in &events {
            self.checker.event(event).unwrap();
        }
        events
    }

    fn line(&mut self, line: &Value) -> Vec<Event> {
        self.apply(RecordBody::Out(line.to_string().into_bytes()))
    }

    fn command(&mut self, body: CommandBody) -> Result<Value, lodge_proto::ErrorBody> {
        self.out.replies.clear();
        self.client += 1;
        let sender = Sender {
            account: "a".into(),
            name: "A".into(),
        };
        let command = JournalCommand {
            sender,
            client_id: self.client.to_string(),
            body,
        };
        self.apply(RecordBody::Cmd(Box::new(command)));
        let reply = self.out.replies.pop().expect("an answer at once");
        assert_eq!(reply.client_id, self.client.to_string());
        reply.result
    }

    fn prompt(&mut self, text: &str) -> Value {
        self.command(CommandBody::Prompt {
            parts: vec![Part::text(text)],
        })
        .unwrap()
    }

    /// Delivers what waits, as the shim does.
    fn deliver(&mut self) -> Vec<Value> {
        let mut lines = Vec::new();
        while let Some(input) = self.fold.wants().inputs.first().cloned() {
            self.apply(RecordBody::InBegin {
                id: input.id,
                bytes: input.bytes.clone(),
            });
            self.apply(RecordBody::InDone { id: input.id });
            lines.push(serde_json::from_slice(&input.bytes).unwrap());
        }
        self.delivered.extend(lines.clone());
        lines
    }

    /// The harness takes a prompt up and says something, without an end.
    fn answer_begins(&mut self) {
        self.line(&json!({ "type": "agent_start" }));
        self.line(&json!({ "type": "message_start", "message": { "role": "user", "content": "echo" } }));
        self.line(&json!({ "type": "message_start", "message": { "role": "assistant", "content": [] } }));
        self.delta("hello");
    }

    fn delta(&mut self, text: &str) -> Vec<Event> {
        let delta = json!({ "type": "text_delta", "contentIndex": 0, "delta": text });
        self.line(&json!({ "type": "message_update", "assistantMessageEvent": delta }))
    }

    fn answer_ends(&mut self, text: &str, stop: &str) -> Vec<Event> {
        let message = json!({
            "role": "assistant", "content": [{ "type": "text", "text": text }], "stopReason": stop,
        });
        let mut events = self.line(&json!({ "type": "message_end", "message": message }));
        events.extend(self.line(&json!({ "type": "agent_settled" })));
        events
    }

    fn acknowledge(&mut self) -> Vec<Event> {
        let turn = self.fold.wants().persist.expect("a turn to be stored").id;
        let message_version = self.fold.info().message_count;
        self.apply(RecordBody::Note(Box::new(Note::HistoryAck {
            turn,
            message_version,
        })))
    }
}

fn tags(events: &[Event]) -> Vec<&str> {
    events.iter().map(|event| event.body.tag()).collect()
}

fn outcome(events: &[Event]) -> TurnOutcome {
    let ended = events.iter().find_map(|event| match &event.body {
        EventBody::TurnEnded { outcome, .. } => Some(*outcome),
        _ => None,
    });
    ended.expect("turn.ended")
}

#[test]
fn a_turn_ends_only_when_history_has_it() {
    let mut session = Session::idle();
    assert_eq!(session.prompt("hi")["disposition"], "started");
    assert_eq!(session.deliver()[0]["message"], "hi");
    session.answer_begins();
    let events = session.answer_ends("hello", "stop");
    assert!(!tags(&events).contains(&"turn.ended"));
    assert!(session.fold.state().persisting);
    let stored = session.fold.wants().persist.unwrap().clone();
    assert_eq!(stored.messages.len(), 2);
    let events = session.acknowledge();
    assert_eq!(tags(&events), ["turn.ended", "agent.idle", "status"]);
    assert_eq!(outcome(&events), TurnOutcome::Completed);
    assert_eq!(session.fold.status(), SessionStatus::Idle);
    assert!(session.fold.is_at_boundary());
    session.checker.finish().unwrap();
}

#[test]
fn a_prompt_while_a_turn_is_being_stored_waits_and_then_starts() {
    let mut session = Session::idle();
    session.prompt("one");
    session.deliver();
    session.answer_begins();
    session.answer_ends("hello", "stop");
    assert_eq!(session.prompt("two")["disposition"], "queued");
    assert!(session.deliver().is_empty());
    let events = session.acknowledge();
    assert!(
        tags(&events).ends_with(&["stream.message_end", "agent.working"]),
        "{:?}",
        tags(&events)
    );
    assert_eq!(session.deliver()[0]["message"], "two");
}

#[test]
fn a_prompt_during_a_turn_steers_and_a_follow_up_gets_its_own_turn() {
    let mut session = Session::idle();
    session.prompt("one");
    session.deliver();
    session.answer_begins();
    assert_eq!(session.prompt("go left")["disposition"], "steering");
    let follow_up = CommandBody::FollowUp {
        parts: vec![Part::text("later")],
    };
    assert_eq!(session.command(follow_up).unwrap()["disposition"], "queued");
    let lines = session.deliver();
    assert_eq!(
        lines.len(),
        1,
        "a follow-up is not given to the harness's own queue"
    );
    assert_eq!(
        (lines[0]["type"].as_str(), lines[0]["message"].as_str()),
        (Some("steer"), Some("go left"))
    );
    let taken = session
        .line(&json!({ "type": "message_start", "message": { "role": "user", "content": "go left" } }));
    assert_eq!(
        tags(&taken),
        [
            "queue.updated",
            "stream.message_start",
            "stream.text_delta",
            "stream.message_end"
        ]
    );
    session.answer_ends("hello", "stop");
    session.acknowledge();
    assert_eq!(session.deliver()[0]["message"], "later");
    assert!(session.fold.state().queue.is_empty());
}

#[test]
fn an_abort_cancels_dialogs_first_and_holds_the_queue() {
    let mut session = Session::idle();
    session.prompt("one");
    session.deliver();
    session.answer_begins();
    session
        .command(CommandBody::FollowUp {
            parts: vec![Part::text("later")],
        })
        .unwrap();
    session.line(&json!({
        "type": "extension_ui_request", "id": "d1", "method": "confirm", "title": "Sure?",
    }));
    assert!(session.fold.info().needs_input);
    session.command(CommandBody::Abort {}).unwrap();
    let lines = session.deliver();
    assert_eq!(lines[0]["cancelled"], true);
    assert_eq!(lines.last().unwrap()["type"], "abort");
    session.answer_ends("hello", "aborted");
    assert_eq!(outcome(&session.acknowledge()), TurnOutcome::Aborted);
    assert!(
        session.deliver().is_empty(),
        "what waits does not start by itself after an abort"
    );
    assert_eq!(session.fold.state().queue.len(), 1);
    session.prompt("two");
    assert_eq!(session.deliver()[0]["message"], "two");
}

#[test]
fn a_harness_that_ignores_an_abort_is_killed_and_the_turn_is_aborted() {
    let mut session = Session::idle();
    session.prompt("one");
    session.deliver();
    session.answer_begins();
    session.command(CommandBody::Abort {}).unwrap();
    let (timer, at) = session
        .fold
        .wants()
        .timers
        .iter()
        .next()
        .map(|(timer, at)| (*timer, *at))
        .unwrap();
    assert!(at <= session.now + 5_000);
    assert!(!session.fold.wants().kill);
    session.apply(RecordBody::Timer(timer));
    assert!(session.fold.wants().kill);
    session.apply(RecordBody::Exit(Exit {
        signal: Some(9),
        ..Exit::default()
    }));
    let events = session.acknowledge();
    assert_eq!(outcome(&events), TurnOutcome::Aborted);
    assert_eq!(session.fold.status(), SessionStatus::Stopped);
    assert!(!session.fold.wants().kill);
    let kept = session.fold.state().messages.pop().unwrap();
    assert_eq!(kept.parts, [Part::text("hello")], "what was received is kept");
}

#[test]
fn a_crash_interrupts_the_turn_and_an_unfinished_delivery_is_uncertain() {
    let mut session = Session::idle();
    session.prompt("one");
    let input = session.fold.wants().inputs[0].clone();
    session.apply(RecordBody::InBegin {
        id: input.id,
        bytes: input.bytes,
    });
    session.apply(RecordBody::Closed {
        reason: "was lost".into(),
    });
    let events = session.acknowledge();
    assert_eq!(outcome(&events), TurnOutcome::Interrupted);
    let queue = session.fold.state().queue;
    assert_eq!(queue[0].state, QueueState::Uncertain);
    session.start(2);
    assert!(session.deliver().is_empty(), "never sent again by itself");
    session
        .command(CommandBody::QueueResend {
            entry_id: queue[0].id,
        })
        .unwrap();
    assert_eq!(session.deliver()[0]["message"], "one");
}

#[test]
fn tools_and_partial_text_are_closed_by_a_crash() {
    let mut session = Session::idle();
    session.prompt("one");
    session.deliver();
    session.answer_begins();
    session
        .line(&json!({ "type": "tool_execution_start", "toolCallId": "t", "toolName": "bash", "args": {} }));
    session.apply(RecordBody::Err(b"panic: out of cheese".to_vec()));
    let events = session.apply(RecordBody::Exit(Exit {
        code: Some(3),
        ..Exit::default()
    }));
    let end = events.iter().find_map(|event| match &event.body {
        EventBody::ToolEnd { is_error, .. } => Some(*is_error),
        _ => None,
    });
    assert_eq!(end, Some(true));
    session.acknowledge();
    session.checker.finish().unwrap();
    let error = session.fold.state().last_error.unwrap();
    assert_eq!(error.code, ErrorCode::HarnessCrashed);
    assert!(
        error.message.contains("status 3") && error.message.contains("out of cheese"),
        "{}",
        error.message
    );
}

#[test]
fn late_records_make_no_second_end() {
    let mut session = Session::idle();
    session.prompt("one");
    session.deliver();
    session.answer_begins();
    session.answer_ends("hello", "stop");
    session.line(&json!({ "type": "agent_settled" }));
    session.delta("late");
    session.line(&json!({ "type": "message_start", "message": { "role": "assistant", "content": [] } }));
    let events = session.acknowledge();
    assert_eq!(
        tags(&events).iter().filter(|tag| **tag == "turn.ended").count(),
        1
    );
    session.checker.finish().unwrap();
}

#[test]
fn an_unknown_model_is_refused_and_a_known_one_is_answered_by_the_harness() {
    let mut session = Session::idle();
    let error = session
        .command(CommandBody::SetModel { model: "x/y".into() })
        .unwrap_err();
    assert_eq!(error.code, ErrorCode::NotFound);
    let data = json!({ "models": [{ "provider": "lodge-p", "id": "m", "name": "M" }] });
    session.line(
        &json!({ "type": "response", "command": "get_available_models", "success": true, "data": data }),
    );
    session.client += 1;
    let sender = Sender {
        account: "a".into(),
        name: "A".into(),
    };
    let body = CommandBody::SetModel { model: "p/m".into() };
    let command = JournalCommand {
        sender,
        client_id: "model".into(),
        body,
    };
    session.apply(RecordBody::Cmd(Box::new(command)));
    assert!(session.out.replies.is_empty(), "the harness has the last word");
    let request = session.deliver().pop().unwrap();
    assert_eq!(
        (request["provider"].as_str(), request["modelId"].as_str()),
        (Some("lodge-p"), Some("m"))
    );
    session.apply(RecordBody::Exit(Exit::default()));
    let reply = session
        .out
        .replies
        .pop()
        .expect("an answer although the harness is gone");
    assert_eq!(reply.result.unwrap_err().code, ErrorCode::HarnessCrashed);
}

#[test]
fn an_answer_of_another_kind_is_refused_and_a_second_one_conflicts() {
    let mut session = Session::idle();
    session.prompt("one");
    session.deliver();
    session.answer_begins();
    session.line(&json!({
        "type": "extension_ui_request", "id": "d1", "method": "select", "title": "Which?", "options": ["a", "b"],
    }));
    let id = session.fold.state().requests[0].id;
    let answer = |values: &[&str]| InputAnswer::Selected {
        values: values.iter().map(|v| (*v).into()).collect(),
    };
    let respond = |answer| CommandBody::InputResponse {
        request_id: id,
        answer,
    };
    let code = |result: Result<Value, lodge_proto::ErrorBody>| result.unwrap_err().code;
    assert_eq!(
        code(session.command(respond(InputAnswer::Confirmed { yes: true }))),
        ErrorCode::InvalidArgument
    );
    assert_eq!(
        code(session.command(respond(answer(&["c"])))),
        ErrorCode::InvalidArgument
    );
    session.command(respond(answer(&["b"]))).unwrap();
    assert_eq!(session.deliver()[0]["value"], "b");
    assert_eq!(
        code(session.command(respond(answer(&["b"])))),
        ErrorCode::Conflict
    );
}

#[test]
fn a_harness_that_never_answers_is_killed_after_its_deadline() {
    let mut session = Session::created();
    session.apply(RecordBody::Generation { generation: 1 });
    session.apply(RecordBody::Started);
    let timer = *session.fold.wants().timers.keys().next().unwrap();
    session.apply(RecordBody::Timer(timer));
    assert!(session.fold.wants().kill);
    session.apply(RecordBody::Exit(Exit {
        signal: Some(9),
        ..Exit::default()
    }));
    assert!(!session.fold.is_running());
}

#[test]
fn a_snapshot_at_any_record_goes_on_as_if_nothing_had_been() {
    let script = |session: &mut Session, cut: usize| {
        let mut events = Vec::new();
        let mut step = 0;
        let mut at = |session: &mut Session, more: Vec<Event>| {
            events.extend(more);
            if step == cut {
                let bytes = session.fold.to_snapshot().unwrap();
                session.fold = SessionFold::from_snapshot(&bytes).unwrap();
            }
            step += 1;
        };
        for round in 0..3 {
            session.prompt(&format!("prompt {round}"));
            at(session, vec![]);
            session.deliver();
            at(session, vec![]);
            session.answer_begins();
            at(session, vec![]);
            let more = session.delta(" there");
            at(session, more);
            let more = session.answer_ends("hello there", "stop");
            at(session, more);
            let more = session.acknowledge();
            at(session, more);
        }
        events
    };
    let expected = script(&mut Session::idle(), usize::MAX);
    assert!(expected.len() > 15, "{}", expected.len());
    for cut in 0..18 {
        assert_eq!(script(&mut Session::idle(), cut), expected, "cut at step {cut}");
    }
}
