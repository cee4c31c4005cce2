//! Reads, checks and authorises what a client says.
//!
//! What cannot be read is answered by a `rejected` control, or by an error response where it has an `id`. The
//! connection lives on in both cases.

use super::wrap::{self, Field};
use bytes::Bytes;
use lodge_proto::command::MAX_ID_BYTES;
use lodge_proto::relay::{self, Hello, Rights, ToClient};
use lodge_proto::{Command, Cursor, ErrorBody, ErrorCode, Response, SessionId};
use serde::Deserialize;
use serde_json::json;
use std::collections::BTreeMap;
use std::time::Duration;

/// Longest text frame of a client, in bytes.
pub(crate) const MAX_FRAME: usize = 1024 * 1024;

/// What to do with a client's frame.
#[derive(Debug, PartialEq)]
pub(crate) enum Verdict {
    /// Cursors for the runner.
    Hello(BTreeMap<SessionId, Option<Cursor>>),
    /// A command for the runner, as received. The id is for an answer of the relay's own.
    Forward { id: String, mutating: bool },
    /// Nothing for the runner: this goes back.
    Answer(Bytes),
}

/// The fields that tell what a frame is meant to be.
#[derive(Deserialize)]
struct Shape<'a> {
    #[serde(borrow)]
    hello: Option<&'a serde_json::value::RawValue>,
    #[serde(borrow)]
    id: Option<&'a serde_json::value::RawValue>,
}

/// A control that says what was wrong with a frame, and where.
pub(crate) fn rejected(error: ErrorBody) -> Bytes {
    wrap::control(&ToClient::Rejected { error })
}

/// An error response.
pub(crate) fn refused(id: &str, error: ErrorBody) -> Bytes {
    let response = Response::error(id, error);
    // Types of strings and JSON values: serialising cannot fail.
    wrap::wrap(
        Field::Response,
        0,
        &serde_json::to_string(&response).unwrap_or_default(),
    )
}

fn unreadable(what: &str, error: &serde_json::Error) -> ErrorBody {
    ErrorBody::new(
        ErrorCode::InvalidArgument,
        format!("{what} could not be read: {error}"),
    )
    .with_details(json!({"line": error.line(), "column": error.column()}))
}

fn wrong(field: &str, message: impl Into<String>) -> ErrorBody {
    ErrorBody::new(ErrorCode::InvalidArgument, message).with_details(json!({"field": field}))
}

/// Judges one text frame. `limited` is the time to wait when the client says too much.
pub(crate) fn judge(text: &str, rights: Rights, limited: Result<(), Duration>) -> Verdict {
    let shape: Shape<'_> = match serde_json::from_str(text) {
        Ok(shape) => shape,
        Err(error) => return Verdict::Answer(rejected(unreadable("the frame", &error))),
    };
    if let Some(hello) = shape.hello {
        return judge_hello(hello.get(), limited);
    }
    let id = shape
        .id
        .and_then(|id| serde_json::from_str::<String>(id.get()).ok());
    let Some(id) = id else {
        let message = "a frame is a command with a string `id` and a `cmd`, or has the field `hello`";
        return Verdict::Answer(rejected(wrong("id", message)));
    };
    if id.is_empty() || id.len() > MAX_ID_BYTES {
        let message = format!("`id` has {} bytes; allowed are 1 to {MAX_ID_BYTES}", id.len());
        return Verdict::Answer(rejected(wrong("id", message)));
    }
    match limited
        .map_err(too_much)
        .and_then(|()| check_command(text, rights))
    {
        Ok(mutating) => Verdict::Forward { id, mutating },
        Err(error) => Verdict::Answer(refused(&id, error)),
    }
}

fn too_much(wait: Duration) -> ErrorBody {
    let retry_after = u64::try_from(wait.as_millis())
        .unwrap_or(u64::MAX)
        .saturating_add(1);
    ErrorBody::new(
        ErrorCode::RateLimited,
        "too many commands: 200 a second are allowed, 400 at once",
    )
    .with_details(json!({"retry_after_ms": retry_after}))
}

fn judge_hello(text: &str, limited: Result<(), Duration>) -> Verdict {
    if let Err(wait) = limited {
        return Verdict::Answer(rejected(too_much(wait)));
    }
    match serde_json::from_str::<Hello>(text) {
        Ok(hello) if hello.version == relay::VERSION => Verdict::Hello(hello.cursors),
        Ok(hello) => {
            let message = format!(
                "protocol version {} is not spoken here, only {}",
                hello.version,
                relay::VERSION
            );
            Verdict::Answer(rejected(wrong("hello.version", message)))
        }
        Err(error) => Verdict::Answer(rejected(unreadable("hello", &error))),
    }
}

/// Reads and checks a command; says whether it changes something.
fn check_command(text: &str, rights: Rights) -> Result<bool, ErrorBody> {
    let command: Command = serde_json::from_str(text).map_err(|error| unreadable("the command", &error))?;
    check(&command, rights)?;
    Ok(command.body.is_mutating())
}

/// Checks a command that was read: fields it needs, and whether the actor may.
pub(crate) fn check(command: &Command, rights: Rights) -> Result<(), ErrorBody> {
    if command.body.needs_session() && command.session_id.is_none() {
        return Err(wrong("session_id", "this command needs a `session_id`"));
    }
    if rights < Rights::Own && command.body.needs_ownership() {
        return Err(ErrorBody::new(ErrorCode::Forbidden, "this account may only look"));
    }
    if !command.body.is_mutating() {
        return Ok(());
    }
    match command.client_id.as_deref() {
        None => Err(wrong(
            "client_id",
            "a command that changes something needs a `client_id`",
        )),
        Some(id) if id.is_empty() || id.len() > MAX_ID_BYTES => {
            let message = format!(
                "`client_id` has {} bytes; allowed are 1 to {MAX_ID_BYTES}",
                id.len()
            );
            Err(wrong("client_id", message))
        }
        Some(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    fn answer(text: &str, rights: Rights) -> Value {
        match judge(text, rights, Ok(())) {
            Verdict::Answer(bytes) => serde_json::from_slice(&bytes).unwrap(),
            other => panic!("{text}: {other:?}"),
        }
    }

    const SESSION: &str = "0191a0b0-0000-7000-8000-000000000001";

    #[test]
    fn commands_and_hellos_pass() {
        let prompt = format!(
            r#"{{"id":"1","client_id":"c","session_id":"{SESSION}","cmd":"prompt","parts":[{{"type":"text","text":"x"}}]}}"#
        );
        assert_eq!(
            judge(&prompt, Rights::Own, Ok(())),
            Verdict::Forward {
                id: "1".into(),
                mutating: true
            }
        );
        let list = r#"{"id":"2","cmd":"session.list"}"#;
        assert_eq!(
            judge(list, Rights::View, Ok(())),
            Verdict::Forward {
                id: "2".into(),
                mutating: false
            }
        );
        let hello = format!(r#"{{"hello":{{"version":1,"cursors":{{"{SESSION}":"7.9"}}}}}}"#);
        let Verdict::Hello(cursors) = judge(&hello, Rights::View, Ok(())) else {
            panic!()
        };
        assert_eq!(
            cursors.values().next().unwrap().unwrap(),
            Cursor { epoch: 7, seq: 9 }
        );
    }

    #[test]
    fn malformed_frames_say_what_and_where() {
        let frame = answer("{\n  \"id\": }", Rights::Own);
        let error = &frame["control"]["error"];
        assert_eq!(frame["control"]["type"], "rejected");
        assert_eq!(
            (&error["details"]["line"], &error["details"]["column"]),
            (&json!(2), &json!(9))
        );
        for text in [
            "[]",
            "1",
            "",
            "{}",
            r#"{"id":7,"cmd":"abort"}"#,
            r#"{"id":"","cmd":"abort"}"#,
        ] {
            assert_eq!(
                answer(text, Rights::Own)["control"]["error"]["code"],
                "invalid_argument",
                "{text}"
            );
        }
        let wrong_version = answer(r#"{"hello":{"version":2,"cursors":{}}}"#, Rights::Own);
        assert_eq!(
            wrong_version["control"]["error"]["details"]["field"],
            "hello.version"
        );
        let wrong_cursor = answer(
            &format!(r#"{{"hello":{{"version":1,"cursors":{{"{SESSION}":"x"}}}}}}"#),
            Rights::Own,
        );
        assert!(
            wrong_cursor["control"]["error"]["message"]
                .as_str()
                .unwrap()
                .contains("EPOCH.SEQ")
        );
    }

    #[test]
    fn bad_commands_are_answered_under_their_id() {
        let long = "x".repeat(129);
        for (text, code, field) in [
            (
                r#"{"id":"1","cmd":"no.such"}"#.to_owned(),
                "invalid_argument",
                None,
            ),
            (
                r#"{"id":"1","cmd":"abort","client_id":"c"}"#.to_owned(),
                "invalid_argument",
                Some("session_id"),
            ),
            (
                format!(r#"{{"id":"1","cmd":"abort","session_id":"{SESSION}"}}"#),
                "invalid_argument",
                Some("client_id"),
            ),
            (
                format!(r#"{{"id":"1","cmd":"abort","session_id":"{SESSION}","client_id":"{long}"}}"#),
                "invalid_argument",
                Some("client_id"),
            ),
        ] {
            let frame = answer(&text, Rights::Own);
            assert_eq!(frame["response"]["id"], "1", "{text}");
            assert_eq!(frame["response"]["error"]["code"], code, "{text}");
            if let Some(field) = field {
                assert_eq!(frame["response"]["error"]["details"]["field"], field, "{text}");
            }
        }
        let long_id = answer(&format!(r#"{{"id":"{long}","cmd":"session.list"}}"#), Rights::Own);
        assert_eq!(long_id["control"]["error"]["details"]["field"], "id");
    }

    #[test]
    fn who_may_only_look_changes_nothing() {
        let abort = format!(r#"{{"id":"1","cmd":"abort","session_id":"{SESSION}","client_id":"c"}}"#);
        assert_eq!(
            answer(&abort, Rights::View)["response"]["error"]["code"],
            "forbidden"
        );
        assert_eq!(
            judge(&abort, Rights::Own, Ok(())),
            Verdict::Forward {
                id: "1".into(),
                mutating: true
            }
        );
    }

    #[test]
    fn too_much_is_said_so_under_the_commands_id() {
        let Verdict::Answer(bytes) = judge(
            r#"{"id":"9","cmd":"session.list"}"#,
            Rights::Own,
            Err(Duration::from_millis(4)),
        ) else {
            panic!("must not pass")
        };
        let frame: Value = serde_json::from_slice(&bytes).unwrap();
        assert_eq!(frame["response"]["id"], "9");
        assert_eq!(frame["response"]["error"]["code"], "rate_limited");
        assert_eq!(frame["response"]["error"]["details"]["retry_after_ms"], 5);
    }
}
