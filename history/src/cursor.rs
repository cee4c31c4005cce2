//! Page cursors: opaque to clients, tagged with a version and with the list they belong to.

use crate::store::SessionPosition;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use lodge_proto::SessionId;

/// A text that is no cursor of this list.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("cursor: not one that this list gave out; start again with an empty cursor")]
pub struct InvalidCursor;

/// Longer than any cursor made here.
const MAX_CURSOR_BYTES: usize = 256;

/// What a cursor points into. Each form is bound to its list, so that a cursor of another list is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cursor {
    Session(SessionPosition),
    Message {
        session_id: SessionId,
        backwards: bool,
        from: u64,
    },
    Turn {
        session_id: SessionId,
        from: u64,
    },
}

impl Cursor {
    pub(crate) fn encode(self) -> String {
        let plain = match self {
            Self::Session(at) => format!("1 sessions {} {}", at.updated_at, at.session_id),
            Self::Message {
                session_id,
                backwards: true,
                from,
            } => format!("1 back {from} {session_id}"),
            Self::Message {
                session_id,
                backwards: false,
                from,
            } => format!("1 messages {from} {session_id}"),
            Self::Turn { session_id, from } => format!("1 turns {from} {session_id}"),
        };
        BASE64.encode(plain)
    }

    fn decode(text: &str) -> Option<Self> {
        if text.len() > MAX_CURSOR_BYTES {
            return None;
        }
        let plain = String::from_utf8(BASE64.decode(text).ok()?).ok()?;
        let words: Vec<&str> = plain.split(' ').collect();
        let ["1", list, number, session_id] = words.as_slice() else {
            return None;
        };
        let session_id: SessionId = session_id.parse().ok()?;
        let message = |backwards| {
            number.parse().ok().map(|from| Self::Message {
                session_id,
                backwards,
                from,
            })
        };
        match *list {
            "sessions" => {
                let updated_at = number.parse().ok()?;
                Some(Self::Session(SessionPosition {
                    updated_at,
                    session_id,
                }))
            }
            "messages" => message(false),
            "back" => message(true),
            "turns" => Some(Self::Turn {
                session_id,
                from: number.parse().ok()?,
            }),
            _ => None,
        }
    }
}

/// The position in the list of sessions; `None` for the empty cursor.
pub(crate) fn session(text: &str) -> Result<Option<SessionPosition>, InvalidCursor> {
    match (text, Cursor::decode(text)) {
        ("", _) => Ok(None),
        (_, Some(Cursor::Session(position))) => Ok(Some(position)),
        _ => Err(InvalidCursor),
    }
}

/// The position in a session's messages; `None` for the empty cursor.
pub(crate) fn message(text: &str, of: SessionId, direction: bool) -> Result<Option<u64>, InvalidCursor> {
    match (text, Cursor::decode(text)) {
        ("", _) => Ok(None),
        (
            _,
            Some(Cursor::Message {
                session_id,
                backwards,
                from,
            }),
        ) if session_id == of && backwards == direction => Ok(Some(from)),
        _ => Err(InvalidCursor),
    }
}

/// The position in a session's turns; 0 for the empty cursor.
pub(crate) fn turn(text: &str, of: SessionId) -> Result<u64, InvalidCursor> {
    match (text, Cursor::decode(text)) {
        ("", _) => Ok(0),
        (_, Some(Cursor::Turn { session_id, from })) if session_id == of => Ok(from),
        _ => Err(InvalidCursor),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_cursor_is_good_for_its_own_list_only() {
        let (one, two) = (SessionId::new(), SessionId::new());
        let forwards = Cursor::Message {
            session_id: one,
            backwards: false,
            from: 7,
        }
        .encode();
        assert_eq!(message(&forwards, one, false), Ok(Some(7)));
        assert_eq!(message(&forwards, one, true), Err(InvalidCursor));
        assert_eq!(message(&forwards, two, false), Err(InvalidCursor));
        assert_eq!(turn(&forwards, one), Err(InvalidCursor));
        assert_eq!(session(&forwards), Err(InvalidCursor));
        let position = SessionPosition {
            updated_at: 5,
            session_id: two,
        };
        assert_eq!(session(&Cursor::Session(position).encode()), Ok(Some(position)));
        assert_eq!(
            turn(
                &Cursor::Turn {
                    session_id: two,
                    from: 3
                }
                .encode(),
                two
            ),
            Ok(3)
        );
    }

    #[test]
    fn another_version_is_refused() {
        let id = SessionId::new();
        assert_eq!(
            turn(&BASE64.encode(format!("2 turns 1 {id}")), id),
            Err(InvalidCursor)
        );
        assert_eq!(turn(&BASE64.encode(format!("1 turns 1 {id}")), id), Ok(1));
    }

    proptest! {
        #[test]
        fn garbage_is_refused(text in ".{1,80}") {
            prop_assert_eq!(session(&text), Err(InvalidCursor));
            prop_assert_eq!(turn(&text, SessionId::new()), Err(InvalidCursor));
        }
    }
}
