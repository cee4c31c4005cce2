//! What an agent may ask its user, and the answers.

use crate::ids::{RequestId, SessionId, ToolCallId};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use ts_rs::TS;

/// A choice in answer to a permission request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, TS)]
#[serde(rename_all = "snake_case")]
pub enum PermissionChoice {
    Once,
    Session,
    Always,
    Deny,
    DenyAndStop,
}

/// One option of a `select` request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, TS)]
#[ts(optional_fields)]
pub struct SelectOption {
    pub value: String,
    pub label: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
}

/// A question that holds the agent until it is answered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, TS)]
#[ts(optional_fields)]
pub struct InputRequest {
    pub id: RequestId,
    /// What it is about, one line.
    pub title: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// UTC milliseconds after which the harness decides by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(type = "number")]
    pub expires_at: Option<u64>,
    #[serde(flatten)]
    pub kind: InputKind,
}

/// The kinds of question, tagged by `kind`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, TS)]
#[serde(tag = "kind", rename_all = "snake_case")]
#[ts(optional_fields)]
pub enum InputKind {
    /// May this tool run?
    Permission {
        tool: String,
        #[ts(type = "unknown")]
        arguments: Value,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        tool_call_id: Option<ToolCallId>,
        choices: Vec<PermissionChoice>,
    },
    Select {
        options: Vec<SelectOption>,
        #[serde(default)]
        multiple: bool,
    },
    Confirm {},
    Input {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        placeholder: Option<String>,
    },
    Editor {
        #[serde(default)]
        text: String,
    },
}

/// The user's answer, tagged by `answer`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(tag = "answer", rename_all = "snake_case")]
pub enum InputAnswer {
    Permission { choice: PermissionChoice },
    Selected { values: Vec<String> },
    Confirmed { yes: bool },
    Text { text: String },
    Cancelled {},
}

/// For how long an approval is remembered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, TS)]
#[serde(rename_all = "snake_case")]
pub enum ApprovalScope {
    /// Until the session is deleted.
    Session,
    /// In every session of its user with this harness on this workspace, until it is forgotten.
    Always,
}

/// An approval that answers equal permission requests from now on: result of `approvals.list`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, TS)]
#[ts(optional_fields)]
pub struct Approval {
    /// The request that was answered so.
    pub id: RequestId,
    pub scope: ApprovalScope,
    /// The session that it holds for, where it does not hold for all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_id: Option<SessionId>,
    pub harness: String,
    pub workspace: String,
    pub tool: String,
    /// Exactly what is allowed: a command with its directory, the path of a file, or the call's other arguments.
    #[ts(type = "unknown")]
    pub subject: Value,
    #[ts(type = "number")]
    pub created_at: u64,
}
