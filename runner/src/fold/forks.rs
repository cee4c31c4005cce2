//! Copies of the conversation: with what another session goes on from it.

use super::SessionFold;
use super::cx::Cx;
use super::record::Source;
use crate::harness::AnyAdapter;
use lodge_proto::ids::{MessageId, TurnId};
use lodge_proto::message::Role;
use lodge_proto::session::Capabilities;
use lodge_proto::{ErrorBody, ErrorCode};
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;

/// Prompts of which it is known how the harness goes on from before them: the newest.
const POINTS: usize = 512;

/// How the harness goes on from before the prompts of this session.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Points(VecDeque<Point>);

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Point {
    turn: TurnId,
    message: MessageId,
    native: String,
}

/// What a copy of a session goes on from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// `None`: the harness has been told nothing yet.
    pub source: Option<Source>,
    /// A turn runs: what it said is not part of the copy.
    pub in_turn: bool,
}

impl Cx<'_> {
    /// The harness can go on from before the prompt that began the turn under way: its own name for that place.
    pub fn fork_point(&mut self, native: impl Into<String>) {
        let Some(turn) = &self.core.turn else { return };
        let prompt = turn.messages.iter().find(|message| message.role == Role::User);
        let Some(message) = prompt.map(|message| message.id) else {
            return;
        };
        let (turn, points) = (turn.id, &mut self.core.points.0);
        if points.iter().any(|known| known.message == message) {
            return;
        }
        if points.len() == POINTS {
            points.pop_front();
        }
        points.push_back(Point {
            turn,
            message,
            native: native.into(),
        });
    }

    /// The copied conversation that this session is to go on from; `None` where it is no copy.
    pub fn forked_from(&self) -> Option<&Source> {
        self.core.created.as_ref()?.fork.as_ref()?.source.as_ref()
    }

    /// Whether the files of this harness's conversations can be copied.
    pub fn can_be_copied(&self) -> bool {
        crate::harness::conversation::is_known(self.core.harness())
    }
}

impl SessionFold {
    /// What a copy of this session goes on from, which is to begin before a message of the user, or with all of it.
    ///
    /// Refused where the harness cannot do that: the code says whether it never can.
    pub fn origin(&self, before: Option<MessageId>) -> Result<Origin, ErrorBody> {
        let (core, can) = (&self.core, &self.core.capabilities);
        let harness = core.harness();
        let unsupported = |what: &str| {
            Err(ErrorBody::new(
                ErrorCode::UnsupportedByHarness,
                format!("{harness} {what}"),
            ))
        };
        // Before its first start a harness has said nothing of what it can.
        let has_said = *can != Capabilities::default();
        if has_said && !can.fork {
            return unsupported("cannot go on from a copy of a conversation");
        }
        if has_said && before.is_some() && !can.fork_at_message {
            return unsupported("can copy a conversation only as a whole: fork without a message");
        }
        let in_turn = core.turn.is_some();
        // A copy in which nothing was said yet has what it is to go on from.
        let own = core.created.as_ref().and_then(|created| created.fork.as_ref());
        let own = own.and_then(|fork| fork.source.clone());
        let source = match (self.native_session(), own) {
            (Some(native), _) => Source { native, point: None },
            (None, Some(own)) => own,
            (None, None) if core.message_count == 0 => {
                return Ok(Origin {
                    source: None,
                    in_turn,
                });
            }
            (None, None) => {
                let message = format!("{harness} has kept nothing of this conversation that could be copied");
                return Err(ErrorBody::new(ErrorCode::Conflict, message));
            }
        };
        // pi counts the user's messages.
        if matches!(self.adapter, AnyAdapter::Pi(_)) || (before.is_none() && !in_turn) {
            let source = Some(source);
            return Ok(Origin { source, in_turn });
        }
        let point = self.point(before)?;
        let source = Some(Source {
            point: Some(point),
            ..source
        });
        Ok(Origin { source, in_turn })
    }

    fn point(&self, before: Option<MessageId>) -> Result<String, ErrorBody> {
        let turn = self.core.turn.as_ref().map(|turn| turn.id);
        let of = |point: &&Point| match before {
            Some(message) => point.message == message,
            None => Some(point.turn) == turn,
        };
        let found = self.core.points.0.iter().rev().find(of);
        found.map(|point| point.native.clone()).ok_or_else(|| {
            let (code, message) = match before {
                Some(_) => (
                    ErrorCode::InvalidArgument,
                    "a fork of this session begins before a prompt that began a turn, one of the newest 512 that were \
                     given in it; this is none",
                ),
                None => (
                    ErrorCode::Conflict,
                    "a turn runs: this session can be forked when it is over",
                ),
            };
            ErrorBody::new(code, message)
        })
    }
}
