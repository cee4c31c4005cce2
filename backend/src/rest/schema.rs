//! The protocol's types as OpenAPI. The protocol's crate knows no OpenAPI, so they are described here; a test holds
//! the descriptions to what is serialised.

use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

/// What a session is: one row of the session list.
#[derive(Serialize, ToSchema)]
#[schema(as = SessionInfo)]
#[allow(dead_code, reason = "it only describes")]
pub(crate) struct SessionInfoSchema {
    id: String,
    title: String,
    harness: String,
    harness_version: Option<String>,
    workspace: String,
    /// `process`, `container` or `microvm`.
    tier: String,
    profile: Option<String>,
    /// What it may use of what its user may; fields as in the protocol reference.
    #[schema(value_type = Option<Object>)]
    limits: Option<Value>,
    /// `starting`, `idle`, `working`, `aborting`, `stopping`, `stopped` or `failed`.
    status: String,
    /// `provider/model`.
    model: Option<String>,
    thinking_level: Option<String>,
    /// The session it was forked from.
    parent: Option<String>,
    /// Other open sessions on the same workspace.
    shares_workspace_with: Option<Vec<String>>,
    /// A question waits for the user.
    needs_input: bool,
    /// UTC milliseconds.
    created_at: u64,
    /// UTC milliseconds.
    updated_at: u64,
    message_count: u64,
}

/// Everything needed to show a session at one moment; fields as in the protocol reference.
#[derive(Serialize, ToSchema)]
#[schema(as = SessionState)]
#[allow(dead_code, reason = "it only describes")]
pub(crate) struct SessionStateSchema {
    session: SessionInfoSchema,
    #[schema(value_type = Object)]
    capabilities: Value,
    /// What a working agent is doing.
    phase: Option<String>,
    turn_id: Option<String>,
    persisting: bool,
    #[schema(value_type = Vec<Object>)]
    messages: Vec<Value>,
    has_older: bool,
    #[schema(value_type = Vec<Object>)]
    streaming: Vec<Value>,
    #[schema(value_type = Vec<Object>)]
    running_tools: Vec<Value>,
    #[schema(value_type = Vec<Object>)]
    requests: Vec<Value>,
    #[schema(value_type = Vec<Object>)]
    queue: Vec<Value>,
    #[schema(value_type = Vec<Object>)]
    plan: Vec<Value>,
    #[schema(value_type = Vec<Object>)]
    commands: Vec<Value>,
    mode: Option<String>,
    #[schema(value_type = Object)]
    usage: Value,
    context_tokens: Option<u64>,
    #[schema(value_type = Option<Object>)]
    last_error: Option<Value>,
    /// What turns left in the workspace that is worth a look.
    #[schema(value_type = Vec<Object>)]
    findings: Vec<Value>,
    findings_truncated: bool,
    #[schema(value_type = Object)]
    network: Value,
}

/// A folder that sessions may work in.
#[derive(Serialize, ToSchema)]
#[schema(as = WorkspaceInfo)]
#[allow(dead_code, reason = "it only describes")]
pub(crate) struct WorkspaceInfoSchema {
    /// Absolute path.
    path: String,
    name: String,
    /// Open sessions that work in it.
    sessions: Vec<String>,
}

#[cfg(test)]
mod tests {
    use crate::rest::openapi::document;
    use lodge_proto::command::WorkspaceInfo;
    use lodge_proto::limits::SessionLimits;
    use lodge_proto::message::Usage;
    use lodge_proto::session::{Capabilities, Phase, SessionInfo, SessionState, SessionStatus, Tier};
    use lodge_proto::workspace::NetworkSummary;
    use lodge_proto::{ErrorBody, ErrorCode, SessionId, TurnId};
    use serde::Serialize;
    use std::collections::BTreeSet;

    fn session() -> SessionInfo {
        SessionInfo {
            id: SessionId::new(),
            title: "t".into(),
            harness: "pi".into(),
            harness_version: Some("1".into()),
            workspace: "/w".into(),
            tier: Tier::Process,
            profile: Some("development".into()),
            limits: Some(SessionLimits::default()),
            status: SessionStatus::Idle,
            model: Some("demo/m".into()),
            thinking_level: Some("low".into()),
            parent: Some(SessionId::new()),
            shares_workspace_with: vec![SessionId::new()],
            needs_input: false,
            created_at: 1,
            updated_at: 1,
            message_count: 0,
        }
    }

    fn state() -> SessionState {
        SessionState {
            session: session(),
            capabilities: Capabilities::default(),
            phase: Some(Phase::Thinking),
            turn_id: Some(TurnId::new()),
            persisting: false,
            messages: vec![],
            has_older: false,
            streaming: vec![],
            running_tools: vec![],
            requests: vec![],
            queue: vec![],
            plan: vec![],
            commands: vec![],
            mode: Some("plan".into()),
            usage: Usage::default(),
            context_tokens: Some(1),
            last_error: Some(ErrorBody::new(ErrorCode::Internal, "x")),
            findings: vec![],
            findings_truncated: false,
            network: NetworkSummary::default(),
        }
    }

    fn assert_described(name: &str, value: impl Serialize) {
        let value = serde_json::to_value(value).unwrap();
        let written: BTreeSet<_> = value.as_object().unwrap().keys().cloned().collect();
        let document = serde_json::to_value(document()).unwrap();
        let properties = document["components"]["schemas"][name]["properties"]
            .as_object()
            .unwrap();
        let described: BTreeSet<_> = properties.keys().cloned().collect();
        assert_eq!(written, described, "{name}");
    }

    #[test]
    fn the_descriptions_match_what_is_serialised() {
        assert_described("SessionInfo", session());
        assert_described("SessionState", state());
        assert_described(
            "WorkspaceInfo",
            WorkspaceInfo {
                path: "/w".into(),
                name: "w".into(),
                sessions: vec![],
            },
        );
        let error = ErrorBody::new(ErrorCode::Internal, "x").with_details(serde_json::json!({}));
        assert_described("ErrorDescription", error);
    }
}
