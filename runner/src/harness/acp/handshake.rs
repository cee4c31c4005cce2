//! From the start of the process to a session that takes prompts.

use super::wire::text;
use super::{Acp, Asked, failure};
use crate::fold::Cx;
use lodge_proto::event::{NotifyLevel, TurnOutcome};
use lodge_proto::{ErrorBody, ErrorCode};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// The newest version that is understood. The agent answers with the one it speaks.
const PROTOCOL: u32 = 2;

/// How a session is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Opening {
    New,
    /// Goes on without telling again what was.
    Resume,
    /// Tells the whole conversation again: history has it already.
    Load,
}

/// What the agent can do, as it said.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Abilities {
    resume: bool,
    load: bool,
    pub(super) steer: bool,
    /// A way to log in with the key that is in its environment.
    login: Option<String>,
}

impl Acp {
    pub(super) fn hello(&mut self, cx: &mut Cx<'_>) {
        let info = json!({ "name": "lodge", "title": "Lodge", "version": "1" });
        let elicitation = json!({ "form": {} });
        // Fields of both versions: an agent reads those of the one it speaks. Files and terminals are not offered,
        // or agents would hand their tools out of the sandbox.
        let params = json!({
            "protocolVersion": if self.refused { 1 } else { PROTOCOL },
            "info": info,
            "capabilities": { "elicitation": elicitation },
            "clientInfo": info,
            "clientCapabilities": {
                "fs": { "readTextFile": false, "writeTextFile": false },
                "terminal": false,
                "session": { "compaction": {} },
                "elicitation": elicitation,
            },
        });
        self.request(cx, "initialize", &params, Asked::Initialize);
    }

    pub(super) fn initialized(&mut self, cx: &mut Cx<'_>, result: &Value) {
        let offered = |pointer: &str| result.pointer(pointer).is_some_and(|value| !value.is_null());
        let version = result.get("protocolVersion").and_then(Value::as_u64).unwrap_or(1);
        // Some agents repeat any version they are asked for: the shape of the answer tells.
        self.version = if version >= 2 && offered("/capabilities") {
            2
        } else {
            1
        };
        let name = result
            .pointer("/info/name")
            .or_else(|| result.pointer("/agentInfo/name"));
        self.agent = agent_name(name.and_then(Value::as_str).unwrap_or("agent"));
        self.abilities = Abilities {
            resume: self.version >= 2 || offered("/agentCapabilities/sessionCapabilities/resume"),
            load: result.pointer("/agentCapabilities/loadSession") == Some(&Value::Bool(true)),
            steer: result.pointer("/_meta/steering/supported") == Some(&Value::Bool(true)),
            login: login(result),
        };
        let (steer, resume) = (self.abilities.steer, self.abilities.resume || self.abilities.load);
        cx.capabilities(|can| {
            can.steer = steer;
            can.resume = resume;
            can.follow_up = true;
            can.queue = true;
            can.abort = true;
            can.permissions = true;
            can.set_title = true;
        });
        self.open_session(cx);
    }

    /// Opens the session: the one there was, where the agent can.
    pub(super) fn open_session(&mut self, cx: &mut Cx<'_>) {
        let mut params = json!({ "cwd": cx.workspace(), "mcpServers": [] });
        let (method, opening) = match &self.session {
            Some(_) if self.abilities.resume => ("session/resume", Opening::Resume),
            Some(_) if self.abilities.load => ("session/load", Opening::Load),
            Some(_) => {
                self.session = None;
                cx.notify(
                    NotifyLevel::Warning,
                    "this agent cannot resume a conversation: it goes on without memory of what was said",
                );
                ("session/new", Opening::New)
            }
            None => ("session/new", Opening::New),
        };
        if let Some(session) = &self.session {
            params["sessionId"] = session.clone().into();
        }
        self.replaying = opening == Opening::Load;
        let asked = Asked::Open {
            opening,
            session: self.session.clone(),
        };
        self.request(cx, method, &params, asked);
    }

    pub(super) fn opened(
        &mut self,
        cx: &mut Cx<'_>,
        opening: Opening,
        session: Option<String>,
        result: &Value,
    ) {
        let named = text(result, "sessionId").map(str::to_owned);
        self.session = named.or(session);
        self.offered(cx, result);
        if opening == Opening::Load {
            // Some agents go on to replay after this answer: what they answer next comes behind the replay.
            self.request(cx, "_lodge/sync", &json!({}), Asked::Sync);
            return;
        }
        self.settle(cx);
    }

    /// Chooses what the user wants, then takes prompts.
    pub(super) fn settle(&mut self, cx: &mut Cx<'_>) {
        self.replaying = false;
        let waits = |asked: &Asked| matches!(asked, Asked::Model(_) | Asked::Level(_));
        if self.open || self.prefer(cx) || self.pending.values().any(waits) {
            return;
        }
        self.open = true;
        cx.ready();
        if let Some(parts) = self.held.take() {
            self.deliver(cx, &parts);
        }
    }

    pub(super) fn open_failed(&mut self, cx: &mut Cx<'_>, opening: Opening, error: &Value) {
        let wants_login = failure::code(error) == failure::AUTH_REQUIRED;
        if wants_login && let Some(method) = self.abilities.login.take() {
            let call = if self.version >= 2 {
                "auth/login"
            } else {
                "authenticate"
            };
            self.request(cx, call, &json!({ "methodId": method }), Asked::Login);
            return;
        }
        let why = failure::body(error).message;
        if opening == Opening::New {
            return self.start_failed(cx, &format!("the agent opened no session: {why}"));
        }
        self.session = None;
        cx.notify(
            NotifyLevel::Warning,
            format!("the agent could not resume its conversation and goes on without memory of it: {why}"),
        );
        self.open_session(cx);
    }

    /// The agent will take no prompt; the deadline of the start ends it.
    pub(super) fn start_failed(&mut self, cx: &mut Cx<'_>, message: &str) {
        let error = ErrorBody::new(ErrorCode::HarnessCrashed, message);
        if self.held.take().is_some() && cx.in_turn() {
            return self.finish(cx, TurnOutcome::Failed, None, Some(error));
        }
        cx.agent_error(error.code, error.message, false);
    }
}

/// A word for the agent's own models: `gemini-cli`, `codex-acp`.
fn agent_name(name: &str) -> String {
    let last = name.rsplit('/').next().unwrap_or(name);
    let word: String = last
        .chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() {
                c.to_ascii_lowercase()
            } else {
                '-'
            }
        })
        .take(40)
        .collect();
    if word.is_empty() { "agent".to_owned() } else { word }
}

fn login(result: &Value) -> Option<String> {
    super::wire::list(result, "authMethods")
        .iter()
        .filter_map(|method| text(method, "methodId").or_else(|| text(method, "id")))
        .find(|id| id.contains("api-key") || id.contains("api_key"))
        .map(str::to_owned)
}
