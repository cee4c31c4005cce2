//! Commands: what a client may ask. Each gets exactly one [`Response`].

use crate::cursor::Cursor;
use crate::error::ErrorBody;
use crate::ids::{MessageId, QueueId, RequestId, SessionId};
use crate::input::InputAnswer;
use crate::limits::SessionLimits;
use crate::part::Part;
use crate::session::Tier;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use ts_rs::TS;

/// Longest `id` and `client_id`, in bytes.
pub const MAX_ID_BYTES: usize = 128;

/// A command as a client sends it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, TS)]
#[ts(optional_fields)]
pub struct Command {
    /// Correlates the response; chosen by the client, at most [`MAX_ID_BYTES`].
    pub id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_id: Option<SessionId>,
    /// Required on every command that changes something. The same id with the same payload has one effect and two
    /// equal answers for 30 days; with another payload it is a `conflict`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_id: Option<String>,
    #[serde(flatten)]
    pub body: CommandBody,
}

/// What is asked, tagged by `cmd`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, TS)]
#[serde(tag = "cmd")]
#[ts(optional_fields)]
pub enum CommandBody {
    #[serde(rename = "session.create")]
    SessionCreate {
        harness: String,
        /// Absolute path, or a name below the default root.
        workspace: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        model: Option<String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        thinking_level: Option<String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        title: Option<String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        tier: Option<Tier>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        profile: Option<String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        limits: Option<SessionLimits>,
    },
    /// Starts the harness of a stopped session again, with its conversation.
    #[serde(rename = "session.resume")]
    SessionResume {},
    /// Stops the harness; the session stays and can be resumed.
    #[serde(rename = "session.close")]
    SessionClose {},
    #[serde(rename = "session.delete")]
    SessionDelete {},
    /// A new session that goes on from before the given user message (the whole conversation where absent).
    #[serde(rename = "session.fork")]
    SessionFork {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        message_id: Option<MessageId>,
    },
    #[serde(rename = "session.list")]
    SessionList {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        cursor: Option<String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        limit: Option<u32>,
    },
    #[serde(rename = "session.subscribe")]
    SessionSubscribe {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        cursor: Option<Cursor>,
    },
    #[serde(rename = "session.unsubscribe")]
    SessionUnsubscribe {},
    #[serde(rename = "prompt")]
    Prompt { parts: Vec<Part> },
    /// Joins the running turn where the session can; else waits in the queue.
    #[serde(rename = "steer")]
    Steer { parts: Vec<Part> },
    /// Waits for the end of the turn, then starts one of its own.
    #[serde(rename = "follow_up")]
    FollowUp { parts: Vec<Part> },
    #[serde(rename = "queue.edit")]
    QueueEdit { entry_id: QueueId, parts: Vec<Part> },
    /// Takes one entry out of the queue, or all.
    #[serde(rename = "queue.clear")]
    QueueClear {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        entry_id: Option<QueueId>,
    },
    /// Sends an uncertain entry again: the user's decision.
    #[serde(rename = "queue.resend")]
    QueueResend { entry_id: QueueId },
    #[serde(rename = "abort")]
    Abort {},
    #[serde(rename = "input_response")]
    InputResponse {
        request_id: RequestId,
        answer: InputAnswer,
    },
    /// `provider/model` as in the session's capabilities.
    #[serde(rename = "set_model")]
    SetModel { model: String },
    #[serde(rename = "set_thinking_level")]
    SetThinkingLevel { level: String },
    #[serde(rename = "set_mode")]
    SetMode { mode: String },
    #[serde(rename = "compact")]
    Compact {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        instructions: Option<String>,
    },
    #[serde(rename = "abort_retry")]
    AbortRetry {},
    #[serde(rename = "set_title")]
    SetTitle { title: String },
    #[serde(rename = "get_state")]
    GetState {},
    /// Pages backwards from the end; `cursor` comes from the page before.
    #[serde(rename = "get_messages")]
    GetMessages {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        cursor: Option<String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        limit: Option<u32>,
    },
    #[serde(rename = "get_models")]
    GetModels {},
    #[serde(rename = "get_commands")]
    GetCommands {},
    #[serde(rename = "get_stats")]
    GetStats {},
    #[serde(rename = "harness.list")]
    HarnessList {},
    /// Begins to install a harness at its pinned version, or to repair it. `harness.list` tells how it goes on.
    #[serde(rename = "harness.install")]
    HarnessInstall { name: String },
    #[serde(rename = "workspace.list")]
    WorkspaceList {},
    /// Makes a folder below the default root.
    #[serde(rename = "workspace.create")]
    WorkspaceCreate { name: String },
    /// What a workspace brings for a harness as code, and whether the user trusts it.
    #[serde(rename = "workspace.inspect")]
    WorkspaceInspect {
        /// Absolute path, or a name below the default root.
        workspace: String,
        harness: String,
    },
    /// Lets the harness run it in this user's sessions, as long as it stays what it is: another digest than that of what
    /// is there now is a `conflict`.
    #[serde(rename = "workspace.trust")]
    WorkspaceTrust {
        workspace: String,
        harness: String,
        digest: String,
    },
    /// Takes that back: for one digest, or for all that were trusted there. What runs goes on until its end.
    #[serde(rename = "workspace.distrust")]
    WorkspaceDistrust {
        workspace: String,
        harness: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        digest: Option<String>,
    },
    /// What the user trusts, in every workspace.
    #[serde(rename = "workspace.trusted")]
    WorkspaceTrusted {},
    /// Tiers and profiles that a session can have on this machine.
    #[serde(rename = "sandbox.list")]
    SandboxList {},
    /// Approvals that are remembered for the user, or, with a `session_id`, in that session.
    #[serde(rename = "approvals.list")]
    ApprovalsList {},
    /// Asks again from now on: for one of them, or all. With a `session_id` those of that session.
    #[serde(rename = "approvals.forget")]
    ApprovalsForget {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        approval_id: Option<RequestId>,
    },
    /// A login shell on a terminal in the session's sandbox. Whoever opened it is attached.
    #[serde(rename = "terminal.open")]
    TerminalOpen { rows: u16, cols: u16 },
    /// Its output comes to this client: up to 256 KiB of what was shown, then live.
    #[serde(rename = "terminal.attach")]
    TerminalAttach { terminal_id: u32 },
    #[serde(rename = "terminal.resize")]
    TerminalResize { terminal_id: u32, rows: u16, cols: u16 },
    /// Ends the shell and everything on its terminal.
    #[serde(rename = "terminal.close")]
    TerminalClose { terminal_id: u32 },
    #[serde(rename = "terminal.list")]
    TerminalList {},
    /// The entries of a directory of the workspace; the empty path is the workspace itself.
    #[serde(rename = "file.list")]
    FileList { path: String },
    #[serde(rename = "file.read")]
    FileRead {
        path: String,
        /// Byte to begin at, 0 where absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[ts(type = "number")]
        offset: Option<u64>,
        /// Bytes, at most 1 MiB and that where absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        limit: Option<u32>,
    },
    /// Replaces a file, or makes one, in one step; at most 1 MiB, and what fits into one frame.
    #[serde(rename = "file.write")]
    FileWrite {
        path: String,
        text: String,
        /// The version it was read at: another one is a `conflict`. The empty string demands that it does not exist.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        expected_version: Option<String>,
    },
    #[serde(rename = "git.status")]
    GitStatus {},
    /// What changed since the index, or (`staged`) in the index since the last commit.
    #[serde(rename = "git.diff")]
    GitDiff {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        path: Option<String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        staged: Option<bool>,
    },
}

impl CommandBody {
    /// Whether it changes something, so that it needs a `client_id`.
    pub const fn is_mutating(&self) -> bool {
        !matches!(
            self,
            Self::SessionList { .. }
                | Self::SessionSubscribe { .. }
                | Self::SessionUnsubscribe {}
                | Self::GetState {}
                | Self::GetMessages { .. }
                | Self::GetModels {}
                | Self::GetCommands {}
                | Self::GetStats {}
                | Self::HarnessList {}
                | Self::WorkspaceList {}
                | Self::WorkspaceInspect { .. }
                | Self::WorkspaceTrusted {}
                | Self::SandboxList {}
                | Self::ApprovalsList {}
                | Self::TerminalAttach { .. }
                | Self::TerminalResize { .. }
                | Self::TerminalList {}
                | Self::FileList { .. }
                | Self::FileRead { .. }
                | Self::GitStatus {}
                | Self::GitDiff { .. }
        )
    }

    /// Whether only who owns the session may ask it: everything that changes something, approvals, a workspace's code, and
    /// terminals, which take input and show what was typed.
    pub const fn needs_ownership(&self) -> bool {
        self.is_mutating()
            || matches!(
                self,
                Self::ApprovalsList {}
                    | Self::WorkspaceInspect { .. }
                    | Self::WorkspaceTrusted {}
                    | Self::TerminalAttach { .. }
                    | Self::TerminalResize { .. }
                    | Self::TerminalList {}
            )
    }

    /// Whether it concerns one session, so that it needs a `session_id`.
    pub const fn needs_session(&self) -> bool {
        !matches!(
            self,
            Self::SessionCreate { .. }
                | Self::SessionList { .. }
                | Self::GetModels {}
                | Self::HarnessList {}
                | Self::HarnessInstall { .. }
                | Self::WorkspaceList {}
                | Self::WorkspaceCreate { .. }
                | Self::WorkspaceInspect { .. }
                | Self::WorkspaceTrust { .. }
                | Self::WorkspaceDistrust { .. }
                | Self::WorkspaceTrusted {}
                | Self::SandboxList {}
                | Self::ApprovalsList {}
                | Self::ApprovalsForget { .. }
        )
    }
}

/// The one answer to a command.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, TS)]
pub struct Response {
    pub id: String,
    #[serde(flatten)]
    pub outcome: Outcome,
}

/// Success with its result, or an error.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, TS)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    #[ts(type = "unknown")]
    Ok(Value),
    Error(ErrorBody),
}

impl Response {
    /// A success.
    pub fn ok(id: impl Into<String>, result: Value) -> Self {
        Self {
            id: id.into(),
            outcome: Outcome::Ok(result),
        }
    }

    /// A failure.
    pub fn error(id: impl Into<String>, error: ErrorBody) -> Self {
        Self {
            id: id.into(),
            outcome: Outcome::Error(error),
        }
    }
}

/// A harness as the picker shows it: result of `harness.list`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, TS)]
#[ts(optional_fields)]
pub struct HarnessInfo {
    pub name: String,
    /// Name for people.
    pub title: String,
    pub description: String,
    pub installed: bool,
    /// The version that is installed, or else the pinned one.
    pub version: String,
    /// Terms of its vendor, which whoever installs it accepts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub licence: Option<String>,
    /// Why it cannot be used, and what to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<ErrorBody>,
    /// An installation that a client asked for is under way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub installing: Option<Installing>,
}

/// How far an installation is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, TS)]
pub struct Installing {
    /// What it does now, for people.
    pub step: String,
    /// Of the present step, so many packages are done …
    pub done: u32,
    /// … of so many; 0 where they are not counted.
    pub total: u32,
}

/// A folder that sessions may work in: result of `workspace.list`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, TS)]
pub struct WorkspaceInfo {
    /// Absolute path.
    pub path: String,
    pub name: String,
    /// Open sessions that work in it.
    pub sessions: Vec<SessionId>,
}
