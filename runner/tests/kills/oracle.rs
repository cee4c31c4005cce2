//! What a client received of one session, and whether it is the truth.

use crate::support::stubs::History;
use lodge_proto::event::EventBody;
use lodge_proto::invariants::Checker;
use lodge_proto::message::Role;
use lodge_proto::part::plain_text;
use lodge_proto::relay::Verdict;
use lodge_proto::session::QueueState;
use lodge_proto::{Cursor, Event, Message};
use serde_json::Value;
use std::collections::{HashMap, VecDeque};
use std::path::Path;

/// Events kept for a report.
const KEPT: usize = 6;

/// The log of one session as a client with a cursor received it.
#[derive(Debug, Default)]
pub(crate) struct Log {
    pub(crate) cursor: Option<Cursor>,
    checker: Checker,
    pub(crate) events: u64,
    pub(crate) turn_open: bool,
    pub(crate) turns: u64,
    messages: Vec<Message>,
    /// The newest events as text, for the report of a run that hangs.
    pub(crate) last: VecDeque<String>,
    pub(crate) score: Score,
}

/// What went wrong.
#[derive(Debug, Default)]
pub(crate) struct Score {
    pub(crate) lost: u64,
    pub(crate) doubled: u64,
    pub(crate) faults: Vec<String>,
}

impl Score {
    pub(crate) fn fault(&mut self, what: impl Into<String>) {
        // The first faults explain the rest.
        if self.faults.len() < 20 {
            self.faults.push(what.into());
        }
    }

    /// Compares as bags: how many of `expected` are missing from `found`, and how many are there too often.
    fn compare(&mut self, what: &str, expected: &[String], found: &[String]) {
        let mut balance: HashMap<&str, i64> = HashMap::new();
        for text in expected {
            *balance.entry(text).or_default() += 1;
        }
        for text in found {
            *balance.entry(text).or_default() -= 1;
        }
        for (text, count) in balance {
            if count > 0 {
                self.lost += count.unsigned_abs();
                self.fault(format!("{what} lost: {text:?}"));
            } else if count < 0 {
                self.doubled += count.unsigned_abs();
                self.fault(format!("{what} doubled or invented: {text:?}"));
            }
        }
    }
}

impl Log {
    pub(crate) fn subscribed(&mut self, cursor: Cursor, verdict: &Verdict) {
        match (self.cursor, verdict) {
            (None, Verdict::Snapshot { .. }) => {
                self.checker = Checker::after(cursor.seq);
                self.cursor = Some(cursor);
            }
            (Some(own), Verdict::Ok {}) if own == cursor => {}
            (own, verdict) => {
                let mut verdict = serde_json::to_value(verdict).unwrap();
                verdict["state"].take();
                self.score
                    .fault(format!("subscribed with {own:?}, answered {cursor} {verdict}"));
                self.cursor = Some(cursor);
            }
        }
    }

    pub(crate) fn event(&mut self, event: Event, history: &History) {
        let Some(cursor) = &mut self.cursor else {
            return self.score.fault("an event before the subscription");
        };
        if event.seq <= cursor.seq {
            self.score.doubled += 1;
            return self.score.fault(format!("event {} came again", event.seq));
        }
        self.score.lost += event.seq - cursor.seq - 1;
        cursor.seq = event.seq;
        self.events += 1;
        if self.last.len() == KEPT {
            self.last.pop_front();
        }
        self.last
            .push_back(format!("{:.200}", format!("{:?}", event.body)));
        if let Err(violation) = self.checker.event(&event) {
            self.score.fault(violation.to_string());
        }
        self.note(event, history);
    }

    fn note(&mut self, event: Event, history: &History) {
        match event.body {
            EventBody::TurnStarted {} => self.turn_open = true,
            EventBody::TurnEnded { outcome, error, .. } => {
                self.turn_open = false;
                self.turns += 1;
                let turn = event.turn_id.map(|id| id.to_string()).unwrap_or_default();
                if !history.has_turn(&turn) {
                    self.score
                        .fault(format!("turn {turn} was announced before it was stored"));
                }
                if outcome.as_str() != "completed" {
                    self.score
                        .fault(format!("turn {turn} ended {}: {error:?}", outcome.as_str()));
                }
            }
            EventBody::StreamMessageEnd { message } => self.messages.push(message),
            EventBody::QueueUpdated { entries }
                if entries.iter().any(|entry| entry.state == QueueState::Uncertain) =>
            {
                self.score
                    .fault("an input became uncertain though the harness lived");
            }
            EventBody::AgentError { message, .. } => self.score.fault(format!("agent.error: {message}")),
            _ => {}
        }
    }

    /// Texts of the messages of one role, in order.
    pub(crate) fn texts(&self, role: Role) -> Vec<String> {
        let of_role = self.messages.iter().filter(|message| message.role == role);
        of_role.map(|message| plain_text(&message.parts)).collect()
    }

    /// Compares with what the harness really received and said, and with what history keeps.
    pub(crate) fn judge(&mut self, prompts: &[String], steers: &[String], truth: &Path, stored: &[Message]) {
        if let Err(violation) = self.checker.finish() {
            self.score.fault(violation.to_string());
        }
        let truth = read_truth(truth);
        let of_kind = |kinds: &[&str]| -> Vec<String> {
            truth
                .iter()
                .filter(|(kind, _)| kinds.contains(&kind.as_str()))
                .map(|(_, text)| text.clone())
                .collect()
        };
        // A prompt reaches the harness once; a steered text too, unless it was taken back and sent as a prompt.
        let received: Vec<String> = of_kind(&["prompt"])
            .into_iter()
            .filter(|text| !steers.contains(text))
            .collect();
        self.score.compare("prompt", prompts, &received);
        let sent: Vec<String> = prompts.iter().chain(steers).cloned().collect();
        let shown = self.texts(Role::User);
        self.score.compare("user message", &sent, &shown);
        let (said, seen) = (of_kind(&["said"]), self.texts(Role::Assistant));
        self.score.compare("answer", &said, &seen);
        if said != seen {
            self.score.fault("the answers are in another order");
        }
        self.judge_messages(stored);
    }

    fn judge_messages(&mut self, stored: &[Message]) {
        for (index, message) in (0..).zip(&self.messages) {
            if message.index != index {
                self.score
                    .fault(format!("message {index} has the index {}", message.index));
                break;
            }
        }
        if stored != self.messages {
            self.score.fault(format!(
                "history keeps {} messages, {} were shown, and they differ",
                stored.len(),
                self.messages.len()
            ));
        }
    }
}

fn read_truth(path: &Path) -> Vec<(String, String)> {
    let text = std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    text.lines()
        .map(|line| {
            let line: Value = serde_json::from_str(line).unwrap();
            (
                line["kind"].as_str().unwrap().to_owned(),
                line["text"].as_str().unwrap().to_owned(),
            )
        })
        .collect()
}
