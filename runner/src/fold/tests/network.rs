//! What the guest reaches, and who is asked about it.

use super::support::{Session, tags};
use super::*;
use lodge_proto::event::NetworkDecision;
use lodge_proto::ids::RequestId;
use lodge_proto::input::{InputKind, PermissionChoice};

fn note(note: Note) -> RecordBody {
    RecordBody::Note(Box::new(note))
}

fn asked(question: &str) -> RecordBody {
    note(Note::NetworkAsked {
        question: question.into(),
        host: "a.example".into(),
        port: 443,
        seconds: 120,
    })
}

fn closed(question: &str) -> RecordBody {
    note(Note::NetworkClosed {
        question: question.into(),
    })
}

fn choose(request_id: RequestId, choice: PermissionChoice) -> CommandBody {
    CommandBody::InputResponse {
        request_id,
        answer: InputAnswer::Permission { choice },
    }
}

fn told(session: &Session) -> Vec<(String, &'static str)> {
    let answers = session.fold.wants().network.iter();
    answers
        .map(|answer| (answer.question.clone(), answer.answer.as_str()))
        .collect()
}

#[test]
fn decisions_are_events_in_and_out_of_turns() {
    let mut session = Session::idle();
    let access = Access {
        host: "a.example".into(),
        port: 443,
        decision: NetworkDecision::Denied,
        rule: "unlisted".into(),
        reason: "the policy does not allow this host".into(),
        connections: 3,
        sent: 0,
        received: 0,
    };
    let events = session.apply(note(Note::NetworkAccess(Box::new(access))));
    assert!(
        matches!(&events[..], [Event { body: EventBody::NetworkAccess { host, connections: 3, .. }, turn_id: None, .. }]
            if host == "a.example")
    );
}

#[test]
fn a_question_between_turns_is_answered_to_the_gateway() {
    let mut session = Session::idle();
    let events = session.apply(asked("ask-1"));
    assert_eq!(tags(&events), ["agent.input_needed"]);
    assert!(session.apply(asked("ask-1")).is_empty(), "asked once");
    let state = session.fold.state();
    let [request] = &state.requests[..] else {
        panic!("{:?}", state.requests)
    };
    assert!(
        matches!(&request.kind, InputKind::Permission { tool, arguments, .. }
        if tool == "network" && *arguments == json!({ "host": "a.example", "port": 443 }))
    );
    assert!(state.session.needs_input && request.expires_at.is_some());
    let wrong = session.command(choose(request.id, PermissionChoice::Always));
    assert_eq!(wrong.unwrap_err().code, ErrorCode::InvalidArgument);
    session
        .command(choose(request.id, PermissionChoice::Session))
        .unwrap();
    assert_eq!(told(&session), [("ask-1".to_owned(), "session")]);
    let again = session.command(choose(request.id, PermissionChoice::Deny));
    assert_eq!(again.unwrap_err().code, ErrorCode::Conflict);
    assert!(session.deliver().is_empty(), "the harness hears nothing of it");
    // What is under way survives a restart.
    let kept = SessionFold::from_snapshot(&session.fold.to_snapshot().unwrap()).unwrap();
    assert_eq!(kept.wants().network, session.fold.wants().network);
    assert!(session.apply(closed("ask-1")).is_empty());
    assert!(told(&session).is_empty() && !session.fold.wants().has_network);
}

#[test]
fn questions_end_with_an_abort_the_connection_the_gateway_or_the_guest() {
    let mut session = Session::idle();
    session.prompt("one");
    session.deliver();
    session.answer_begins();
    session.apply(asked("ask-1"));
    session.command(CommandBody::Abort {}).unwrap();
    assert_eq!(told(&session), [("ask-1".to_owned(), "cancel")]);

    let ends: [fn(&mut Session) -> Vec<Event>; 3] = [
        |session| session.apply(closed("ask-2")),
        |session| session.apply(note(Note::NetworkReset {})),
        |session| session.apply(RecordBody::Exit(Exit::default())),
    ];
    for end in ends {
        let mut session = Session::idle();
        session.apply(asked("ask-2"));
        let events = end(&mut session);
        assert!(tags(&events).contains(&"agent.input_resolved"));
        assert!(session.fold.state().requests.is_empty() && !session.fold.wants().has_network);
    }
}

#[test]
fn the_end_of_a_turn_leaves_questions_of_what_goes_on() {
    let mut session = Session::idle();
    session.prompt("one");
    session.deliver();
    session.answer_begins();
    session.apply(asked("ask-1"));
    session.answer_ends("hello", "stop");
    session.acknowledge();
    assert_eq!(session.fold.state().requests.len(), 1);
}
