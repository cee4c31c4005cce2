//! What lies in a session's workspace, as commands and events speak of it: files, Git, terminals, findings. All of it is
//! read and written inside the session's sandbox. Paths are relative to the workspace and separated by `/`.

use crate::event::NetworkDecision;
use serde::{Deserialize, Serialize};
use ts_rs::TS;

/// What a directory entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, TS)]
#[serde(rename_all = "snake_case")]
pub enum FileKind {
    File,
    Directory,
    Symlink,
    /// A socket, pipe or device: it is listed and never opened.
    Special,
}

/// One entry of a directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, TS)]
#[ts(optional_fields)]
pub struct FileEntry {
    /// Bytes that are no UTF-8 are replaced, and such a file cannot be opened by name.
    pub name: String,
    pub kind: FileKind,
    /// Bytes.
    #[ts(type = "number")]
    pub size: u64,
    /// UTC milliseconds.
    #[ts(type = "number")]
    pub modified: u64,
    /// Where a symbolic link leads, as it is written in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
}

/// Result of `file.list`: directories first, then by name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, TS)]
pub struct FileListing {
    pub path: String,
    pub entries: Vec<FileEntry>,
    /// There are more than the 5000 that are shown.
    pub truncated: bool,
}

/// Result of `file.read`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, TS)]
#[ts(optional_fields)]
pub struct FileContent {
    pub path: String,
    /// Bytes of the whole file.
    #[ts(type = "number")]
    pub size: u64,
    /// Changes when the file does; what `file.write` takes as `expected_version`.
    pub version: String,
    /// The slice is no UTF-8 text, so there is no `text`.
    pub binary: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// Where the text begins, in bytes.
    #[ts(type = "number")]
    pub offset: u64,
    /// Where to read on; absent at the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(type = "number")]
    pub next_offset: Option<u64>,
}

/// Result of `file.write`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, TS)]
pub struct FileWritten {
    pub path: String,
    #[ts(type = "number")]
    pub size: u64,
    pub version: String,
}

/// A changed file. The states are the letters of `git status`: `M`, `A`, `D`, `R`, `C`, `T`, `U`, `?`, or `.` for none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, TS)]
#[ts(optional_fields)]
pub struct GitEntry {
    pub path: String,
    /// Where a renamed or copied file came from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub original_path: Option<String>,
    pub index: String,
    pub worktree: String,
}

/// Result of `git.status`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, TS)]
#[ts(optional_fields)]
pub struct GitStatus {
    /// Whether the workspace is a Git repository; without one the rest is empty.
    pub repository: bool,
    /// Absent when no branch is checked out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub branch: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upstream: Option<String>,
    /// Commits that the upstream lacks.
    pub ahead: u32,
    /// Commits that are only in the upstream.
    pub behind: u32,
    pub entries: Vec<GitEntry>,
    /// There are more than the 2000 that are shown.
    pub truncated: bool,
}

/// Result of `git.diff`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, TS)]
pub struct GitDiff {
    /// Unified.
    pub text: String,
    /// There is more than the 1 MiB that is shown.
    pub truncated: bool,
}

/// A terminal of a session: result of `terminal.open`, row of `terminal.list`.
///
/// Its bytes travel as binary frames in both directions: the id as `u32`, little endian, then the bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, TS)]
pub struct TerminalInfo {
    pub terminal_id: u32,
    pub rows: u16,
    pub cols: u16,
    #[ts(type = "number")]
    pub opened_at: u64,
}

/// How a terminal's shell ended: a status, a signal, or else the reason why it cannot be told.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, TS)]
#[ts(optional_fields)]
pub struct TerminalExit {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<i32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<i32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// What kind of thing a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, TS)]
#[serde(rename_all = "snake_case")]
pub enum FindingKind {
    /// A file that steers tools which run outside of the sandbox.
    ControlFile,
    /// A script that Git runs.
    Hook,
    /// A file with another name, which may lie elsewhere.
    HardLink,
    /// A Git repository below the workspace's own.
    NestedRepository,
    /// A socket, pipe or device.
    SpecialFile,
    /// A program that runs with the rights of its owner or group.
    SetUid,
}

/// Something new in the workspace after a turn that is worth a look before tools of the host meet it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, TS)]
pub struct Finding {
    pub kind: FindingKind,
    pub path: String,
    /// One sentence for a person.
    pub detail: String,
}

/// A finding, and when it was last said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, TS)]
pub struct SeenFinding {
    #[serde(flatten)]
    pub finding: Finding,
    /// UTC milliseconds.
    #[ts(type = "number")]
    pub at: u64,
}

/// What a session's guest reached, or tried to reach, besides models.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(default)]
pub struct NetworkSummary {
    /// Connections that were let through.
    #[ts(type = "number")]
    pub allowed: u64,
    /// Connections that were not.
    #[ts(type = "number")]
    pub denied: u64,
    /// The latest 200 places, the newest first.
    pub places: Vec<NetworkPlace>,
}

/// Connections to one place that ended the same way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, TS)]
pub struct NetworkPlace {
    /// As in `network.access`.
    pub host: String,
    pub port: u16,
    pub decision: NetworkDecision,
    /// What decided: a pattern with its list, or a key of the policy.
    pub rule: String,
    /// For people; empty where the rule says it all.
    pub reason: String,
    /// Connections that began.
    #[ts(type = "number")]
    pub connections: u64,
    /// Bytes from the guest, of connections that ended.
    #[ts(type = "number")]
    pub sent_bytes: u64,
    /// Bytes to the guest, of connections that ended.
    #[ts(type = "number")]
    pub received_bytes: u64,
    /// UTC milliseconds of the last attempt.
    #[ts(type = "number")]
    pub last_at: u64,
}
