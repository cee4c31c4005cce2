//! From the start of the process to a session that takes prompts.

use super::wire::text;
use super::{Acp, Asked, failure};
use crate::fold::Cx;
use lodge_proto::event::{NotifyLevel, TurnOutcome};
use lodge_proto::part::Part;
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
    /// Goes on in a copy of another session's; some agents tell it again.
    Fork,
}

/// What the agent can do, as it said.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Abilities {
    resume: bool,
    load: bool,
    fork: bool,
    pub(super) steer: bool,
    pub(super) images: bool,
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
        let Some(version) = spoken(result.get("protocolVersion")) else {
            let said = result
                .get("protocolVersion")
                .map(Value::to_string)
                .unwrap_or_default();
            let said: String = said.chars().take(40).collect();
            return self.start_failed(
                cx,
                &format!(
                    "the agent speaks version {said} of the Agent Client Protocol; Lodge speaks 1 and 2"
                ),
            );
        };
        // Some agents repeat any version they are asked for: the shape of the answer tells.
        self.version = if version == 2 && (offered("/capabilities") || offered("/info")) {
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
            fork: offered("/agentCapabilities/sessionCapabilities/fork")
                || offered("/capabilities/session/fork"),
            steer: result.pointer("/_meta/steering/supported") == Some(&Value::Bool(true)),
            images: offers_images(result),
            login: login(result),
        };
        let (steer, resume) = (self.abilities.steer, self.abilities.resume || self.abilities.load);
        let images = self.abilities.images;
        let fork = self.abilities.fork && cx.can_be_copied();
        cx.capabilities(|can| {
            can.fork = fork;
            can.images = images;
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
        let copied = cx.forked_from().filter(|_| !self.prompted);
        let copied = copied.map(|copy| copy.native.clone());
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
            None if copied.is_some() && self.abilities.fork => ("session/fork", Opening::Fork),
            None if copied.is_some() => {
                return self.start_failed(
                    cx,
                    "this version of the agent cannot go on from a copied conversation",
                );
            }
            None => ("session/new", Opening::New),
        };
        let asked_for = self.session.as_ref().or(copied.as_ref());
        if let Some(session) = asked_for.filter(|_| opening != Opening::New) {
            params["sessionId"] = session.clone().into();
        }
        self.replaying = matches!(opening, Opening::Load | Opening::Fork);
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
        if matches!(opening, Opening::Load | Opening::Fork) {
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
        let Some(parts) = self.held.take() else { return };
        // It came before the agent said that it takes none.
        let images = parts.iter().any(|part| matches!(part, Part::Image { .. }));
        if images && !self.abilities.images {
            let message = format!("{} takes no images in prompts", self.agent);
            let error = ErrorBody::new(ErrorCode::UnsupportedByHarness, message);
            return self.finish(cx, TurnOutcome::Failed, None, Some(error));
        }
        self.deliver(cx, &parts);
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
        if opening == Opening::Fork {
            return self.start_failed(cx, &format!("the agent could not copy the conversation: {why}"));
        }
        self.session = None;
        // A copy that was told nothing yet is made once more.
        if self.prompted || cx.forked_from().is_none() {
            cx.notify(
                NotifyLevel::Warning,
                format!(
                    "the agent could not resume its conversation and goes on without memory of it: {why}"
                ),
            );
        }
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

/// The version that an agent names, where it is one that is understood. One that names none speaks the first.
fn spoken(version: Option<&Value>) -> Option<u64> {
    match version {
        None | Some(Value::Null) => Some(1),
        Some(version) => version
            .as_u64()
            .filter(|version| (1..=u64::from(PROTOCOL)).contains(version)),
    }
}

/// Whether prompts may hold images: version 1 says so with a flag, version 2 with an object.
fn offers_images(result: &Value) -> bool {
    let flag = result.pointer("/agentCapabilities/promptCapabilities/image");
    let object = result.pointer("/capabilities/session/prompt/image");
    flag == Some(&Value::Bool(true))
        || object.is_some_and(|image| image.is_object() || image == &Value::Bool(true))
}

fn login(result: &Value) -> Option<String> {
    super::wire::list(result, "authMethods")
        .iter()
        // Nobody sits at a terminal of the agent's.
        .filter(|method| text(method, "type") != Some("terminal"))
        .filter_map(|method| text(method, "methodId").or_else(|| text(method, "id")))
        .find(|id| id.contains("api-key") || id.contains("api_key"))
        .map(str::to_owned)
}
