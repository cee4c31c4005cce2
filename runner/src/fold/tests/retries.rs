//! A harness that tries again and again is given up.

use super::*;

/// Announcements in a row after which a turn is given up.
const TOO_MANY: u32 = 9;

fn working() -> Session {
    let mut session = Session::idle();
    session.prompt("one");
    session.deliver();
    session.line(&json!({ "type": "agent_start" }));
    session
}

fn retry(session: &mut Session, attempt: u32) {
    session.line(&json!({
        "type": "auto_retry_start", "attempt": attempt, "delayMs": 10, "errorMessage": "429: slow down",
    }));
}

/// What the turn ends with, once the harness has settled.
fn ended(session: &mut Session) -> (TurnOutcome, Option<lodge_proto::ErrorBody>) {
    let events = session.acknowledge();
    let ended = events.iter().find_map(|event| match &event.body {
        EventBody::TurnEnded { outcome, error, .. } => Some((*outcome, error.clone())),
        _ => None,
    });
    ended.expect("turn.ended")
}

#[test]
fn too_many_retries_in_a_row_fail_the_turn_with_what_was_wrong() {
    let mut session = working();
    for attempt in 1..TOO_MANY {
        retry(&mut session, attempt);
        assert!(session.deliver().is_empty(), "attempt {attempt} may be made");
    }
    retry(&mut session, TOO_MANY);
    let sent = session.deliver();
    assert!(sent.iter().any(|line| line["type"] == "abort"), "{sent:?}");
    session.line(&json!({ "type": "agent_settled" }));
    let (outcome, error) = ended(&mut session);
    let error = error.unwrap();
    assert_eq!(outcome, TurnOutcome::Failed, "nobody aborted it");
    assert_eq!(error.code, ErrorCode::RateLimited);
    assert!(
        error.message.contains("slow down") && error.message.contains("given up"),
        "{}",
        error.message
    );
    // It is as any turn that failed: what waits goes on.
    assert_eq!(session.prompt("two")["disposition"], "started");
}

#[test]
fn retries_that_help_are_not_counted_together() {
    let mut session = working();
    for attempt in 1..=2 * TOO_MANY {
        retry(&mut session, 1);
        session.line(&json!({ "type": "auto_retry_end", "attempt": 1, "success": true }));
        assert!(session.deliver().is_empty(), "attempt {attempt} may be made");
    }
}

#[test]
fn one_that_does_not_settle_when_given_up_is_killed_and_the_turn_failed() {
    let mut session = working();
    for attempt in 1..=TOO_MANY {
        retry(&mut session, attempt);
    }
    let timer = session.fold.wants().timers.keys().next().copied().unwrap();
    session.apply(RecordBody::Timer(timer));
    assert!(session.fold.wants().kill);
    session.apply(RecordBody::Exit(Exit {
        signal: Some(9),
        ..Exit::default()
    }));
    let (outcome, error) = ended(&mut session);
    assert_eq!(outcome, TurnOutcome::Failed);
    assert_eq!(error.unwrap().code, ErrorCode::RateLimited);
}

#[test]
fn an_abort_of_the_user_comes_before() {
    let mut session = working();
    session.command(CommandBody::Abort {}).unwrap();
    for attempt in 1..=TOO_MANY {
        retry(&mut session, attempt);
    }
    session.line(&json!({ "type": "agent_settled" }));
    let (outcome, error) = ended(&mut session);
    assert_eq!((outcome, error), (TurnOutcome::Aborted, None));
}

#[test]
fn the_turn_that_waited_for_a_harness_which_never_answered_says_so() {
    let mut session = Session::created();
    session.apply(RecordBody::Generation { generation: 1 });
    session.apply(RecordBody::Started);
    let timer = *session.fold.wants().timers.keys().next().unwrap();
    session.prompt("one");
    session.apply(RecordBody::Err(b"cannot write to the home".to_vec()));
    session.apply(RecordBody::Timer(timer));
    session.apply(RecordBody::Exit(Exit {
        signal: Some(9),
        ..Exit::default()
    }));
    let (outcome, error) = ended(&mut session);
    let error = error.unwrap();
    assert_eq!(
        (outcome, error.code),
        (TurnOutcome::Interrupted, ErrorCode::HarnessCrashed)
    );
    for said in ["did not answer in time", "cannot write to the home"] {
        assert!(error.message.contains(said), "{}", error.message);
    }
}
