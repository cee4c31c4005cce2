//! Approvals that are remembered.

use super::support::Session;
use super::*;
use crate::fold::approvals::Rule;
use lodge_proto::input::{ApprovalScope, InputKind, InputRequest, PermissionChoice};

/// pi asks whether a command may run; answers the events of the record.
fn asks(session: &mut Session, id: &str, command: &str) -> Vec<Event> {
    let call = json!({ "tool": "bash", "arguments": { "command": command, "timeout": 3 } });
    session.line(&json!({
        "type": "extension_ui_request", "id": id, "method": "select",
        "title": format!("lodge-permission:{call}"), "options": ["once", "deny", "deny_and_stop"],
    }))
}

fn question(events: &[Event]) -> InputRequest {
    let asked = events.iter().find_map(|event| match &event.body {
        EventBody::AgentInputNeeded { request } => Some(request.clone()),
        _ => None,
    });
    asked.expect("a question")
}

fn answers(session: &mut Session, request: &InputRequest, choice: PermissionChoice) {
    let body = CommandBody::InputResponse {
        request_id: request.id,
        answer: InputAnswer::Permission { choice },
    };
    session.command(body).unwrap();
}

fn remembered(events: &[Event]) -> Option<ApprovalScope> {
    events.iter().find_map(|event| match &event.body {
        EventBody::AgentInputResolved { remembered, .. } => *remembered,
        _ => None,
    })
}

fn working() -> Session {
    let mut session = Session::idle();
    session.prompt("one");
    session.deliver();
    session.answer_begins();
    session
}

#[test]
fn what_the_harness_does_not_offer_is_remembered_for_it() {
    let mut session = working();
    let request = question(&asks(&mut session, "d1", "make"));
    let InputKind::Permission { choices, .. } = &request.kind else {
        panic!("{request:?}")
    };
    assert_eq!(
        choices[1..3],
        [PermissionChoice::Session, PermissionChoice::Always]
    );
    // Two equal questions at once: one answer is enough.
    asks(&mut session, "d2", "make");
    asks(&mut session, "d3", "make all");
    answers(&mut session, &request, PermissionChoice::Session);
    let lines = session.deliver();
    let told: Vec<(&str, &str)> = lines
        .iter()
        .map(|line| (line["id"].as_str().unwrap(), line["value"].as_str().unwrap()))
        .collect();
    assert_eq!(told, [("d1", "once"), ("d2", "once")]);
    assert_eq!(session.fold.state().requests.len(), 1);
    let again = asks(&mut session, "d4", "make");
    assert_eq!(remembered(&again), Some(ApprovalScope::Session));
    assert_eq!(session.fold.approvals().len(), 1);
}

#[test]
fn a_refusal_is_not_remembered() {
    let mut session = working();
    let request = question(&asks(&mut session, "d1", "make"));
    answers(&mut session, &request, PermissionChoice::Deny);
    let again = asks(&mut session, "d2", "make");
    assert_eq!(remembered(&again), None);
    assert_eq!(session.fold.state().requests.len(), 1);
    assert!(session.fold.wants().approvals.is_empty());
}

#[test]
fn an_approval_for_always_is_wanted_until_it_is_kept() {
    let mut session = working();
    let request = question(&asks(&mut session, "d1", "make"));
    answers(&mut session, &request, PermissionChoice::Always);
    let bytes = session.fold.to_snapshot().unwrap();
    session.fold = SessionFold::from_snapshot(&bytes).unwrap();
    let wanted = session.fold.wants().approvals.to_vec();
    assert_eq!((wanted.len(), wanted[0].id), (1, request.id));
    // Until then it holds all the same.
    assert_eq!(
        remembered(&asks(&mut session, "d2", "make")),
        Some(ApprovalScope::Always)
    );
    let approval = request.id;
    session.apply(RecordBody::Note(Box::new(Note::ApprovalKept { approval })));
    assert!(session.fold.wants().approvals.is_empty());
    // From now on the database says what holds.
    let asked = asks(&mut session, "d3", "make");
    assert_eq!(remembered(&asked), None);
    let given = |given: Vec<Given>| RecordBody::Note(Box::new(Note::Approvals { given }));
    let events = session.apply(given(wanted));
    assert_eq!(remembered(&events), Some(ApprovalScope::Always));
    assert_eq!(session.deliver().last().unwrap()["value"], "once");
    let asked = asks(&mut session, "d4", "make");
    assert_eq!(
        tags(&asked)[..2],
        ["agent.working", "agent.input_needed"],
        "the question is part of the log"
    );
    assert_eq!(remembered(&asked), Some(ApprovalScope::Always));
    session.apply(given(Vec::new()));
    assert_eq!(remembered(&asks(&mut session, "d5", "make")), None);
}

#[test]
fn an_abort_is_not_overruled_by_an_approval() {
    let mut session = working();
    let request = question(&asks(&mut session, "d1", "make"));
    answers(&mut session, &request, PermissionChoice::Session);
    session.command(CommandBody::Abort {}).unwrap();
    session.deliver();
    let late = asks(&mut session, "d2", "make");
    assert_eq!(remembered(&late), None);
    assert!(session.deliver().is_empty());
}

#[test]
fn a_snapshot_between_any_two_questions_changes_nothing() {
    let script = |cut: usize| {
        let mut session = working();
        let mut events = Vec::new();
        for (step, command) in ["a", "b", "a", "b", "a"].into_iter().enumerate() {
            if step == cut {
                let bytes = session.fold.to_snapshot().unwrap();
                session.fold = SessionFold::from_snapshot(&bytes).unwrap();
            }
            let asked = asks(&mut session, &format!("d{step}"), command);
            if remembered(&asked).is_none() {
                let request = question(&asked);
                let scope = [PermissionChoice::Session, PermissionChoice::Always][step % 2];
                answers(&mut session, &request, scope);
            }
            events.extend(asked);
            session.deliver();
        }
        (events, session.delivered)
    };
    let expected = script(usize::MAX);
    assert_eq!(
        expected
            .0
            .iter()
            .filter(|event| event.body.tag() == "agent.input_resolved")
            .count(),
        3
    );
    for cut in 0..5 {
        assert_eq!(script(cut), expected, "cut at {cut}");
    }
}

#[test]
fn a_rule_is_exact_and_says_enough() {
    let exact = |arguments: Value| Rule::exact("t", &arguments, &["description"]);
    assert_eq!(
        exact(json!({ "a": 1, "description": "x" })),
        exact(json!({ "a": 1 }))
    );
    assert_ne!(exact(json!({ "a": 1 })), exact(json!({ "a": 2 })));
    assert_ne!(exact(json!({ "a": 1 })), exact(json!({ "a": 1, "b": false })));
    for vague in [
        json!(null),
        json!({}),
        json!({ "description": "x" }),
        json!({ "a": null }),
        json!("a"),
        json!({ "a": "x".repeat(5000) }),
    ] {
        assert_eq!(exact(vague.clone()), None, "{vague}");
    }
    assert_eq!(Rule::files("t", ["b", "a", "b"]), Rule::files("t", ["a", "b"]));
    assert_ne!(Rule::files("t", ["a"]), Rule::files("t", ["a", "b"]));
    assert_eq!(Rule::files("t", []), None);
    assert_eq!(Rule::files("t", ["a", ""]), None);
}
