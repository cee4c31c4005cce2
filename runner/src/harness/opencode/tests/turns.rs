//! Turns and their ends.

use super::{MAIN, Play};
use lodge_proto::ErrorCode;
use lodge_proto::command::CommandBody;
use lodge_proto::event::{EventBody, TurnOutcome};
use lodge_proto::message::Role;
use serde_json::json;

#[test]
fn a_prompt_waits_for_the_conversation_and_ends_with_idleness() {
    let mut play = Play::new();
    play.prompt("hello");
    assert!(play.find("POST", "/session/ses_main/prompt_async").is_none());
    let create = play.request("POST", "/session");
    play.respond(&create, 200, &json!({ "id": MAIN }));
    let body = play.body("POST", "/session/ses_main/prompt_async");
    assert_eq!(body["parts"][0]["text"], "hello");
    play.user("msg_1", "hello");
    play.busy();
    play.assistant("msg_2", "msg_1", json!({}));
    play.part("msg_2", json!({ "id": "p", "type": "text", "text": "" }));
    play.delta("msg_2", "p", "Hi");
    play.part("msg_2", json!({ "id": "p", "type": "text", "text": "Hi there" }));
    let over = json!({
        "finish": "stop", "time": { "completed": 2 }, "cost": 0.5,
        "tokens": { "input": 3, "output": 4, "reasoning": 1 },
    });
    play.assistant("msg_2", "msg_1", over);
    assert_eq!(play.outcomes(), []);
    play.idle();
    assert_eq!(play.outcomes(), [(TurnOutcome::Completed, None)]);
    assert_eq!(play.texts(Role::Assistant), ["Hi there"]);
    assert_eq!(play.texts(Role::User), ["hello"]);
    let usage = play
        .events
        .iter()
        .find_map(|event| match &event.body {
            EventBody::UsageUpdated { usage, .. } => Some(*usage),
            _ => None,
        })
        .unwrap();
    assert_eq!(
        (usage.input, usage.output, usage.cost_nanodollars),
        (3, 5, 500_000_000)
    );
    // Said twice; nobody is there to whom it would matter.
    play.idle();
    assert_eq!(play.outcomes().len(), 1);
}

#[test]
fn a_message_may_be_told_to_be_over_before_its_parts_come() {
    let mut play = Play::ready();
    play.prompt("hello");
    let prompt = play.request("POST", "/session/ses_main/prompt_async");
    play.respond(&prompt, 204, &json!(null));
    play.user("msg_1", "hello");
    play.busy();
    let over = json!({ "finish": "stop", "time": { "completed": 2 }, "tokens": { "input": 3, "output": 4 } });
    play.assistant("msg_2", "msg_1", over.clone());
    play.part("msg_2", json!({ "id": "p", "type": "text", "text": "" }));
    play.delta("msg_2", "p", "Hi");
    play.part("msg_2", json!({ "id": "p", "type": "text", "text": "Hi there" }));
    play.assistant("msg_2", "msg_1", over);
    play.idle();
    assert_eq!(play.outcomes(), [(TurnOutcome::Completed, None)]);
    assert_eq!(play.texts(Role::Assistant), ["Hi there"]);
    let counted = |event: &&lodge_proto::Event| matches!(event.body, EventBody::UsageUpdated { .. });
    assert_eq!(play.events.iter().filter(counted).count(), 1);

    // One that has no parts at all ends its turn, too.
    play.prompt("nothing");
    play.user("msg_3", "nothing");
    play.busy();
    play.assistant(
        "msg_4",
        "msg_3",
        json!({ "finish": "stop", "time": { "completed": 3 } }),
    );
    play.idle();
    assert_eq!(play.outcomes().len(), 2);
}

#[test]
fn what_cannot_begin_fails() {
    let mut play = Play::ready();
    play.prompt("hello");
    let prompt = play.request("POST", "/session/ses_main/prompt_async");
    play.respond(
        &prompt,
        400,
        &json!({ "name": "BadRequest", "data": { "message": "no" } }),
    );
    assert_eq!(
        play.outcomes(),
        [(TurnOutcome::Failed, Some(ErrorCode::InvalidArgument))]
    );
    play.prompt("again");
    let error = json!({ "name": "UnknownError", "data": { "message": "no agent\n  at x" } });
    play.event("session.error", json!({ "error": error }));
    assert_eq!(play.outcomes().len(), 2);
    assert_eq!(play.outcomes()[1].1, Some(ErrorCode::ProviderError));
}

#[test]
fn a_provider_that_refuses_fails_the_turn_and_keeps_what_came() {
    let mut play = Play::working();
    play.part("msg_2", json!({ "id": "p", "type": "text", "text": "So far" }));
    let error = json!({ "name": "APIError", "data": {
        "message": "Payment Required", "statusCode": 402, "isRetryable": false,
        "responseBody": "{\"error\":{\"message\":\"the budget is spent\"}}",
    } });
    play.event("session.error", json!({ "error": error }));
    play.idle();
    assert_eq!(play.outcomes(), []);
    play.assistant(
        "msg_2",
        "msg_1",
        json!({ "error": error, "time": { "completed": 2 } }),
    );
    play.idle();
    assert_eq!(
        play.outcomes(),
        [(TurnOutcome::Failed, Some(ErrorCode::BudgetExceeded))]
    );
    assert_eq!(play.texts(Role::Assistant), ["So far"]);
}

#[test]
fn a_failed_attempt_that_is_made_again_is_no_message() {
    let mut play = Play::working();
    play.part(
        "msg_2",
        json!({ "id": "p", "type": "text", "text": "Half an ans" }),
    );
    let next = play.time + 2_000;
    let status = json!({ "type": "retry", "attempt": 1, "message": "overloaded", "next": next });
    play.event("session.status", json!({ "status": status }));
    play.delta("msg_2", "p", "late");
    play.part("msg_2", json!({ "id": "q", "type": "text", "text": "An answer" }));
    play.assistant(
        "msg_2",
        "msg_1",
        json!({ "finish": "stop", "time": { "completed": 2 } }),
    );
    play.idle();
    assert_eq!(play.texts(Role::Assistant), ["An answer"]);
    let recovery: Vec<_> = play
        .events
        .iter()
        .filter_map(|event| match &event.body {
            EventBody::RetryStart {
                attempt, delay_ms, ..
            } => Some((*attempt, Some(*delay_ms), false)),
            EventBody::RetryEnd { attempt, success } => Some((*attempt, None, *success)),
            _ => None,
        })
        .collect();
    assert_eq!(recovery, [(1, Some(1_990), false), (1, None, true)]);
}

#[test]
fn an_abort_ends_when_it_is_answered_and_the_message_is_over() {
    let mut play = Play::working();
    play.part("msg_2", json!({ "id": "p", "type": "text", "text": "tok " }));
    play.command(CommandBody::Abort {});
    let abort = play.request("POST", "/session/ses_main/abort");
    let aborted = json!({ "name": "MessageAbortedError", "data": { "message": "Aborted" } });
    play.event("session.error", json!({ "error": aborted }));
    play.idle();
    play.assistant(
        "msg_2",
        "msg_1",
        json!({ "error": aborted, "time": { "completed": 2 } }),
    );
    play.idle();
    assert_eq!(play.outcomes(), []);
    play.respond(&abort, 200, &json!(true));
    assert_eq!(play.outcomes(), [(TurnOutcome::Aborted, None)]);
}

#[test]
fn an_abort_whose_answer_comes_first_waits_for_its_events() {
    let mut play = Play::working();
    play.part("msg_2", json!({ "id": "p", "type": "text", "text": "tok " }));
    play.command(CommandBody::Abort {});
    let abort = play.request("POST", "/session/ses_main/abort");
    play.respond(&abort, 200, &json!(true));
    assert_eq!(play.outcomes(), []);
    let aborted = json!({ "name": "MessageAbortedError", "data": { "message": "Aborted" } });
    play.event("session.error", json!({ "error": aborted }));
    play.idle();
    play.part("msg_2", json!({ "id": "p", "type": "text", "text": "tok tok " }));
    play.assistant(
        "msg_2",
        "msg_1",
        json!({ "error": aborted, "time": { "completed": 2 } }),
    );
    assert_eq!(play.outcomes(), [(TurnOutcome::Aborted, None)]);
    assert_eq!(play.texts(Role::Assistant), ["tok tok "]);
    // The second word of idleness is none about the next turn.
    play.prompt("next");
    play.idle();
    assert_eq!(play.outcomes().len(), 1);
}

#[test]
fn an_abort_that_finds_nothing_is_said_to_be_idle() {
    let mut play = Play::ready();
    play.prompt("hello");
    play.command(CommandBody::Abort {});
    let abort = play.request("POST", "/session/ses_main/abort");
    play.respond(&abort, 200, &json!(true));
    assert_eq!(play.outcomes(), []);
    play.idle();
    assert_eq!(play.outcomes(), [(TurnOutcome::Aborted, None)]);
    // Should the prompt begin after all, it is stopped.
    play.busy();
    play.request("POST", "/session/ses_main/abort");
}
