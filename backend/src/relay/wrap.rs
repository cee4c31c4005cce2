//! The runner's bytes as a client's text frame.
//!
//! The session's handle comes last: of a name that occurs twice JSON readers keep the last, so bytes of a hostile
//! runner cannot rename the session they are about.

use bytes::Bytes;
use lodge_proto::relay::ToClient;
use std::fmt::Write as _;

/// What a frame carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Field {
    Event,
    Response,
    Control,
}

impl Field {
    const fn name(self) -> &'static str {
        match self {
            Self::Event => "event",
            Self::Response => "response",
            Self::Control => "control",
        }
    }
}

/// `{"event":…,"session":7}`; without a session where `handle` is 0.
pub(crate) fn wrap(field: Field, handle: u64, payload: &str) -> Bytes {
    let mut text = String::with_capacity(payload.len() + 48);
    text.push_str("{\"");
    text.push_str(field.name());
    text.push_str("\":");
    text.push_str(payload);
    if handle != 0 {
        // Writing to a string cannot fail.
        let _ = write!(text, ",\"session\":{handle}");
    }
    text.push('}');
    text.shrink_to_fit();
    Bytes::from(text)
}

/// A control of the relay's own.
pub(crate) fn control(control: &ToClient) -> Bytes {
    // Types of strings and numbers: serialising cannot fail.
    wrap(
        Field::Control,
        0,
        &serde_json::to_string(control).unwrap_or_default(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[test]
    fn frames_have_one_field_and_the_handle() {
        let text = wrap(Field::Event, 7, r#"{"seq":1}"#);
        assert_eq!(
            serde_json::from_slice::<Value>(&text).unwrap(),
            json!({"session": 7, "event": {"seq": 1}})
        );
        let text = control(&ToClient::RunnerReady {});
        assert_eq!(
            serde_json::from_slice::<Value>(&text).unwrap(),
            json!({"control": {"type": "runner_ready"}})
        );
    }

    #[test]
    fn a_runner_cannot_rename_the_session_of_its_frame() {
        let text = wrap(Field::Event, 7, r#"0,"session":8"#);
        assert_eq!(serde_json::from_slice::<Value>(&text).unwrap()["session"], 7);
    }
}
