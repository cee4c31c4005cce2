//! What the guest reaches besides models, and the questions about it.
//!
//! The gateway decides and holds the connection; the journal has what it said. These questions are not the harness's:
//! they come and go with connections, in a turn or between two, and an answer goes to the gateway.

use super::cx::Cx;
use lodge_proto::event::{EventBody, NetworkDecision};
use lodge_proto::ids::RequestId;
use lodge_proto::input::{InputAnswer, InputKind, InputRequest, PermissionChoice};
use serde::{Deserialize, Serialize};
use serde_json::json;

/// The tool that a question names.
const TOOL: &str = "network";
/// Questions kept at a time; the gateway has fewer.
const MAX_QUESTIONS: usize = 64;

/// What became of connections to one place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Access {
    pub host: String,
    pub port: u16,
    pub decision: NetworkDecision,
    pub rule: String,
    pub reason: String,
    pub connections: u32,
    pub sent: u64,
    pub received: u64,
}

/// An answer that the gateway is to get.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkAnswer {
    /// The gateway's name of the question.
    pub question: String,
    pub answer: NetworkWord,
}

/// What is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NetworkWord {
    Once,
    Session,
    Deny,
    Cancel,
}

impl NetworkWord {
    /// As in the lease protocol.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Once => "once",
            Self::Session => "session",
            Self::Deny => "deny",
            Self::Cancel => "cancel",
        }
    }
}

/// Questions and answers under way.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Network {
    questions: Vec<Question>,
    /// Answers that the gateway has not confirmed.
    answers: Vec<NetworkAnswer>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Question {
    name: String,
    request: InputRequest,
}

impl Network {
    /// The open questions.
    pub(super) fn requests(&self) -> impl Iterator<Item = &InputRequest> {
        self.questions.iter().map(|question| &question.request)
    }

    /// What the gateway is to be told.
    pub(super) fn answers(&self) -> &[NetworkAnswer] {
        &self.answers
    }

    /// Whether anything is under way.
    pub(super) fn is_idle(&self) -> bool {
        self.questions.is_empty() && self.answers.is_empty()
    }

    /// The open question with this id.
    pub(super) fn request(&self, id: RequestId) -> Option<&InputRequest> {
        self.requests().find(|request| request.id == id)
    }
}

pub(super) fn accessed(cx: &mut Cx<'_>, access: &Access) {
    let now = cx.now();
    cx.core.seen.accessed(access, now);
    cx.emit(EventBody::NetworkAccess {
        host: access.host.clone(),
        port: access.port,
        decision: access.decision,
        rule: access.rule.clone(),
        reason: access.reason.clone(),
        connections: access.connections,
        sent_bytes: access.sent,
        received_bytes: access.received,
    });
}

/// A connection waits for the user.
pub(super) fn asked(cx: &mut Cx<'_>, name: &str, host: &str, port: u16, seconds: u32) {
    let network = &cx.core.network;
    let is_known = network.questions.iter().any(|question| question.name == name);
    if is_known || network.questions.len() >= MAX_QUESTIONS || !cx.core.running {
        return;
    }
    let request = InputRequest {
        id: RequestId(cx.new_id()),
        title: format!("Allow a connection to {host}:{port}?"),
        message: Some("The sandbox's policy has no rule for this host. The connection waits.".to_owned()),
        expires_at: Some(cx.now() + u64::from(seconds) * 1000),
        kind: InputKind::Permission {
            tool: TOOL.to_owned(),
            arguments: json!({ "host": host, "port": port }),
            tool_call_id: None,
            choices: vec![
                PermissionChoice::Once,
                PermissionChoice::Session,
                PermissionChoice::Deny,
            ],
        },
    };
    cx.core.network.questions.push(Question {
        name: name.to_owned(),
        request: request.clone(),
    });
    cx.emit(EventBody::AgentInputNeeded { request });
}

/// The user answered: the gateway is to be told.
pub(super) fn answer(cx: &mut Cx<'_>, id: RequestId, answer: &InputAnswer) {
    let word = match answer {
        InputAnswer::Permission { choice } => match choice {
            PermissionChoice::Once => NetworkWord::Once,
            PermissionChoice::Session | PermissionChoice::Always => NetworkWord::Session,
            PermissionChoice::Deny | PermissionChoice::DenyAndStop => NetworkWord::Deny,
        },
        _ => NetworkWord::Cancel,
    };
    let network = &mut cx.core.network;
    let Some(at) = network
        .questions
        .iter()
        .position(|question| question.request.id == id)
    else {
        return;
    };
    let question = network.questions.remove(at).name;
    network.answers.push(NetworkAnswer {
        question,
        answer: word,
    });
    resolved(cx, id, answer.clone());
}

/// The gateway needs no answer any more, or has it.
pub(super) fn closed(cx: &mut Cx<'_>, name: &str) {
    let network = &mut cx.core.network;
    network.answers.retain(|answer| answer.question != name);
    let (gone, kept) = std::mem::take(&mut network.questions)
        .into_iter()
        .partition(|question| question.name == name);
    network.questions = kept;
    withdraw(cx, gone);
}

/// An abort is an answer to all that is asked.
pub(super) fn cancel_all(cx: &mut Cx<'_>) {
    let open: Vec<RequestId> = cx.core.network.requests().map(|request| request.id).collect();
    for id in open {
        answer(cx, id, &InputAnswer::Cancelled {});
    }
}

/// Nobody waits any more: the guest or the gateway is gone, and their connections with them.
pub(super) fn reset(cx: &mut Cx<'_>) {
    let gone = std::mem::take(&mut cx.core.network).questions;
    withdraw(cx, gone);
}

fn withdraw(cx: &mut Cx<'_>, gone: Vec<Question>) {
    for question in gone {
        resolved(cx, question.request.id, InputAnswer::Cancelled {});
    }
}

fn resolved(cx: &mut Cx<'_>, request_id: RequestId, answer: InputAnswer) {
    cx.emit(EventBody::AgentInputResolved {
        request_id,
        answer,
        remembered: None,
    });
}
