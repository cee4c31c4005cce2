//! Harnesses: how each is installed, started and translated.
//!
//! An [`Adapter`] is the part of the session fold that knows one harness's wire. It is as pure as the fold: what it
//! sees it tells the [`Cx`], what it wants to say it sends through the [`Cx`].

pub mod acp;
pub mod agents;
pub mod claude;
pub mod codex;
pub mod conversation;
pub mod install;
pub mod instructions;
pub mod launch;
pub mod opencode;
pub mod pi;
mod shared;

use crate::fold::{Cx, DeliveryId};
use lodge_proto::command::CommandBody;
use lodge_proto::input::{InputAnswer, InputRequest};
use lodge_proto::part::Part;
use lodge_proto::{ErrorBody, ErrorCode};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::ops::{Deref, DerefMut};

/// When a command is answered.
#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    /// At once.
    Now(Value),
    /// When the harness answers the request of this id, through [`Cx::resolve`].
    Later(String),
}

/// One harness's wire, as a deterministic fold.
pub trait Adapter: std::fmt::Debug {
    /// The process was started: say hello.
    fn started(&mut self, cx: &mut Cx<'_>);
    /// One line of its standard output.
    fn line(&mut self, cx: &mut Cx<'_>, line: &[u8]);
    /// The process is gone: forget what belonged to it.
    fn gone(&mut self, cx: &mut Cx<'_>);
    /// Begin a turn with a prompt; returns the delivery that carries it.
    fn prompt(&mut self, cx: &mut Cx<'_>, parts: &[Part]) -> Option<DeliveryId>;
    /// Whether it is not known yet if prompts may hold images.
    fn may_take_images(&self) -> bool {
        false
    }
    /// Give a prompt to the running turn.
    fn steer(&mut self, cx: &mut Cx<'_>, parts: &[Part]);
    /// Take back what was steered and not taken up.
    fn clear_steering(&mut self, cx: &mut Cx<'_>);
    /// Stop the running turn. Open questions were answered as cancelled before.
    fn abort(&mut self, cx: &mut Cx<'_>);
    /// The user's answer to a question that was asked with `native`.
    fn answer(&mut self, cx: &mut Cx<'_>, native: &Value, request: &InputRequest, answer: &InputAnswer);
    /// Use another model (`provider/model`, one of the session's capabilities).
    fn set_model(&mut self, cx: &mut Cx<'_>, model: &str) -> Result<Answer, ErrorBody>;
    /// Use another thinking level, one of the session's capabilities.
    fn set_thinking_level(&mut self, cx: &mut Cx<'_>, level: &str) -> Result<Answer, ErrorBody>;
    /// Use another mode, one of the session's capabilities.
    fn set_mode(&mut self, _cx: &mut Cx<'_>, _mode: &str) -> Result<Answer, ErrorBody> {
        Err(ErrorBody::new(
            ErrorCode::UnsupportedByHarness,
            "this harness has no modes",
        ))
    }
    /// Summarise the context now.
    fn compact(&mut self, cx: &mut Cx<'_>, instructions: Option<&str>) -> Result<Answer, ErrorBody>;
    /// Do not try again.
    fn abort_retry(&mut self, cx: &mut Cx<'_>) -> Result<Answer, ErrorBody>;
    /// The session has another title.
    fn set_title(&mut self, _cx: &mut Cx<'_>, _title: &str) {}
    /// What an input that this fold did not send meant: for recorded transcripts.
    fn foreign_input(&mut self, cx: &mut Cx<'_>, line: &[u8]) -> Option<CommandBody>;
    /// The harness's own name for the conversation, to resume it by.
    fn native_session(&self) -> Option<String>;
}

/// The adapter of one session. Adapters are part of the stored state, hence an enum.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AnyAdapter {
    Pi(pi::Pi),
    Claude(Box<claude::Claude>),
    Acp(Box<acp::Acp>),
    Codex(Box<codex::Codex>),
    OpenCode(Box<opencode::OpenCode>),
}

impl AnyAdapter {
    /// A fresh adapter by its name; `None` where there is none of that name.
    pub fn new(name: &str) -> Option<Self> {
        match name {
            "pi" => Some(Self::Pi(pi::Pi::default())),
            "claude" => Some(Self::Claude(Box::default())),
            "codex" => Some(Self::Codex(Box::default())),
            "opencode" => Some(Self::OpenCode(Box::default())),
            name if acp::launch::is_known(name) => Some(Self::Acp(Box::default())),
            _ => None,
        }
    }

    /// The adapter of an agent that only the configuration file knows.
    pub fn of_agent() -> Self {
        Self::Acp(Box::default())
    }

    /// Names of all adapters. Agents that share the last have rows of their own there.
    pub const NAMES: &'static [&'static str] = &["pi", "codex", "claude", "opencode", "acp"];
}

impl Deref for AnyAdapter {
    type Target = dyn Adapter;
    fn deref(&self) -> &Self::Target {
        match self {
            Self::Pi(pi) => pi,
            Self::Claude(claude) => claude.as_ref(),
            Self::Acp(acp) => acp.as_ref(),
            Self::Codex(codex) => codex.as_ref(),
            Self::OpenCode(opencode) => opencode.as_ref(),
        }
    }
}

impl DerefMut for AnyAdapter {
    fn deref_mut(&mut self) -> &mut Self::Target {
        match self {
            Self::Pi(pi) => pi,
            Self::Claude(claude) => claude.as_mut(),
            Self::Acp(acp) => acp.as_mut(),
            Self::Codex(codex) => codex.as_mut(),
            Self::OpenCode(opencode) => opencode.as_mut(),
        }
    }
}
