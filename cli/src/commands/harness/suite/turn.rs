//! What a turn was, from its events.

use anyhow::{bail, ensure};
use lodge_proto::event::TurnOutcome;
use lodge_proto::message::{Role, Usage};
use lodge_proto::part::plain_text;
use lodge_proto::{ErrorBody, ErrorCode, Event, EventBody, Message, Part};
use std::time::Duration;

/// Longest quotation of an answer, in characters.
const QUOTED: usize = 120;

/// A turn that is over, with its events.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) outcome: TurnOutcome,
    pub(super) error: Option<ErrorBody>,
    pub(super) usage: Usage,
    pub(super) events: Vec<Event>,
}

/// A call of a tool that has ended.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) name: String,
    pub(super) is_error: bool,
    pub(super) output: String,
    /// Output was shown a while before the end.
    pub(super) is_live: bool,
}

/// Progress so long before the end of its tool was shown live, in milliseconds.
const LIVE_MS: u64 = 300;

impl Ended {
    /// The turn must have ended so.
    pub(super) fn require(&self, outcome: TurnOutcome) -> anyhow::Result<()> {
        if self.outcome == outcome {
            return Ok(());
        }
        let why = self
            .error
            .as_ref()
            .map(|error| format!(": {}: {}", error.code, spoken(&error.message)))
            .unwrap_or_default();
        bail!(
            "the turn ended {}{why}, {} was to be expected",
            self.outcome.as_str(),
            outcome.as_str()
        )
    }

    fn messages(&self, role: Role) -> impl Iterator<Item = &Message> {
        self.events.iter().filter_map(move |event| match &event.body {
            EventBody::StreamMessageEnd { message } if message.role == role => Some(message),
            _ => None,
        })
    }

    /// Everything the agent said.
    pub(super) fn answer(&self) -> String {
        let texts: Vec<String> = self
            .messages(Role::Assistant)
            .map(|message| plain_text(&message.parts))
            .collect();
        texts.join("\n")
    }

    /// What the user said, as the log has it.
    pub(super) fn prompts(&self) -> Vec<String> {
        self.messages(Role::User)
            .map(|message| plain_text(&message.parts))
            .collect()
    }

    /// Everything that the user sent, as the log has it.
    pub(super) fn prompt_parts(&self) -> impl Iterator<Item = &Part> {
        self.messages(Role::User).flat_map(|message| &message.parts)
    }

    /// Everything the agent thought.
    pub(super) fn thinking(&self) -> String {
        let parts = self
            .messages(Role::Assistant)
            .flat_map(|message| &message.parts)
            .filter_map(|part| match part {
                Part::Thinking { text, .. } => Some(text.as_str()),
                _ => None,
            });
        parts.collect()
    }

    /// The tools that ran.
    pub(super) fn calls(&self) -> Vec<Call> {
        self.events
            .iter()
            .filter_map(|event| match &event.body {
                EventBody::ToolEnd {
                    tool_call_id,
                    name,
                    output,
                    is_error,
                    ..
                } => Some(Call {
                    name: name.clone(),
                    is_error: *is_error,
                    output: plain_text(output),
                    is_live: self.events.iter().any(|earlier| {
                        earlier.ts + LIVE_MS < event.ts
                            && matches!(&earlier.body, EventBody::ToolProgress { tool_call_id: id, .. } if id == tool_call_id)
                    }),
                }),
                _ => None,
            })
            .collect()
    }

    /// Exactly one tool ran, and well.
    pub(super) fn only_call(&self) -> anyhow::Result<Call> {
        let mut calls = self.calls();
        match (calls.pop(), calls.is_empty()) {
            (Some(call), true) if call.is_error => {
                bail!("the tool {} failed: {}", call.name, spoken(&call.output))
            }
            (Some(call), true) => Ok(call),
            (None, _) => bail!("no tool ended; the answer is {}", spoken(&self.answer())),
            (Some(_), false) => bail!("{} tools ended where one was called", calls.len() + 1),
        }
    }

    /// Whether an event of this kind is in it.
    pub(super) fn has(&self, tag: &str) -> bool {
        self.count(tag) > 0
    }

    /// How many events of this kind are in it.
    pub(super) fn count(&self, tag: &str) -> usize {
        self.events.iter().filter(|event| event.body.tag() == tag).count()
    }

    /// From its first event to its last, by the runner's clock.
    pub(super) fn took(&self) -> Duration {
        let at = |event: Option<&Event>| event.map_or(0, |event| event.ts);
        Duration::from_millis(at(self.events.last()).saturating_sub(at(self.events.first())))
    }

    /// It ended because its harness went away, once, and said so.
    pub(super) fn interrupted(&self) -> anyhow::Result<&ErrorBody> {
        self.require(TurnOutcome::Interrupted)?;
        let ends = self.count("turn.ended");
        ensure!(ends == 1, "the turn ended {ends} times");
        let Some(error) = &self.error else {
            bail!("the interrupted turn has no error");
        };
        ensure!(
            error.code == ErrorCode::HarnessCrashed,
            "the harness was killed, the turn's error is {}: {}",
            error.code,
            spoken(&error.message)
        );
        Ok(error)
    }
}

/// A text as a reason quotes it.
pub(super) fn spoken(text: &str) -> String {
    let short: String = text.chars().take(QUOTED).collect();
    if short.len() < text.len() {
        format!("{short:?}…")
    } else {
        format!("{short:?}")
    }
}
