//! What applying records gave.

use super::record::Reply;
use lodge_proto::Event;

/// Events and replies in the order they came about.
#[derive(Debug, Default)]
pub struct Output {
    pub events: Vec<Event>,
    pub replies: Vec<Reply>,
    /// Lines for the runner's own log; never prompt text.
    pub warnings: Vec<String>,
}

impl Output {
    /// An empty output.
    pub fn new() -> Self {
        Self::default()
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.events.clear();
        self.replies.clear();
        self.warnings.clear();
    }
}
