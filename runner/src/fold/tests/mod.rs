//! The fold as a whole: records in, events out. The wire is pi's.

#![allow(clippy::unwrap_used)] // A test that panics has failed.

mod approvals;
mod forks;
mod images;
mod network;
mod retries;
mod seen;
mod support;
mod trust;

use super::*;
use lodge_proto::command::CommandBody;
use lodge_proto::event::{EventBody, TurnOutcome};
use lodge_proto::input::InputAnswer;
use lodge_proto::message::Sender;
use lodge_proto::part::Part;
use lodge_proto::session::{QueueState, SessionStatus};
use lodge_proto::{ErrorCode, Event};
use serde_json::{Value, json};
use support::{Session, outcome, tags};

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
fn long_output_of_a_tool_is_sent_once() {
    let mut session = Session::idle();
    session.prompt("one");
    session.deliver();
    session.answer_begins();
    session
        .line(&json!({ "type": "tool_execution_start", "toolCallId": "t", "toolName": "bash", "args": {} }));
    let mut whole = String::new();
    for step in 0..20 {
        let added = format!("{step} é").repeat(2_000);
        whole.push_str(&added);
        let result = json!({ "content": [{ "type": "text", "text": whole }] });
        let events = session.line(&json!({
            "type": "tool_execution_update", "toolCallId": "t", "toolName": "bash", "partialResult": result,
        }));
        let sent = events.iter().find_map(|event| match &event.body {
            EventBody::ToolProgress { delta, .. } => delta.clone(),
            _ => None,
        });
        assert!(sent == Some(added), "step {step}");
    }
    assert!(
        session.fold.state().running_tools[0].output[0]
            .as_text()
            .unwrap()
            .len()
            <= 64 * 1024
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
    let bytes = session.fold.to_snapshot().unwrap();
    session.fold = SessionFold::from_snapshot(&bytes).unwrap();
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
