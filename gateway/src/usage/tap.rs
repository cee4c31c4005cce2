//! The tap: bytes of an answer in, usage out.

use super::sse::Events;
use super::{Seen, fold};
use crate::dialect::Dialect;

/// Longest body that is read whole, bytes.
const MAX_WHOLE: usize = 16 << 20;

/// Reads an answer as it passes. Never fails: what it cannot read, it says it has not read.
#[derive(Debug)]
pub struct Tap {
    dialect: Dialect,
    form: Form,
    seen: Seen,
}

#[derive(Debug)]
enum Form {
    Events(Events),
    Whole(Vec<u8>),
    /// Compressed, too long, or over.
    Unread,
}

impl Tap {
    /// For a stream of events.
    pub fn events(dialect: Dialect) -> Self {
        Self::new(dialect, Form::Events(Events::default()))
    }

    /// For a JSON body, or a JSON array that grows.
    pub fn whole(dialect: Dialect) -> Self {
        Self::new(dialect, Form::Whole(Vec::new()))
    }

    /// For events that come whole, through [`Self::message`].
    pub fn messages(dialect: Dialect) -> Self {
        Self::new(dialect, Form::Unread)
    }

    /// For what cannot be read.
    pub fn blind(dialect: Dialect) -> Self {
        let mut tap = Self::new(dialect, Form::Unread);
        tap.seen.lost = true;
        tap
    }

    fn new(dialect: Dialect, form: Form) -> Self {
        Self {
            dialect,
            form,
            seen: Seen::default(),
        }
    }

    /// The next piece.
    pub fn push(&mut self, piece: &[u8]) {
        let Self { dialect, form, seen } = self;
        match form {
            Form::Events(events) => events.push(piece, &mut |data| event(*dialect, seen, data)),
            Form::Whole(body) if body.len() + piece.len() <= MAX_WHOLE => {
                body.extend_from_slice(piece);
                seen.visible = body.len() as u64;
            }
            Form::Whole(_) => {
                *form = Form::Unread;
                seen.lost = true;
            }
            Form::Unread => {}
        }
        if matches!(self.form, Form::Unread) {
            self.seen.visible = self.seen.visible.saturating_add(piece.len() as u64);
        }
    }

    /// A whole event, where something else has taken the frames apart.
    pub fn message(&mut self, data: &[u8]) {
        event(self.dialect, &mut self.seen, Some(data));
    }

    /// There is no more. What was read stays as it is after that.
    pub fn finish(&mut self) {
        let Self { dialect, form, seen } = self;
        match std::mem::replace(form, Form::Unread) {
            Form::Events(mut events) => events.finish(&mut |data| event(*dialect, seen, data)),
            Form::Whole(body) => fold::body(*dialect, seen, &body),
            Form::Unread => {}
        }
    }

    /// What was seen so far.
    pub fn seen(&self) -> &Seen {
        &self.seen
    }
}

fn event(dialect: Dialect, seen: &mut Seen, data: Option<&[u8]>) {
    match data {
        Some(data) => fold::event(dialect, seen, data),
        None => seen.lost = true,
    }
}
