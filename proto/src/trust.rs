//! What a workspace brings for an agent as code, and whether its user trusts it: results of `workspace.inspect`,
//! `workspace.trust` and `workspace.trusted`. Paths are relative to the workspace and separated by `/`.

use serde::{Deserialize, Serialize};
use ts_rs::TS;

/// One file that an agent would take for its own settings or code.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, TS)]
#[ts(optional_fields)]
pub struct CodeFile {
    pub path: String,
    /// Bytes.
    #[ts(type = "number")]
    pub size: u64,
    /// Permission bits.
    pub mode: u32,
    /// Of its content, in hexadecimal.
    pub sha256: String,
    /// A program outside of the agent's own names, which one of its settings names.
    pub named: bool,
    /// Its content, where it is text and not too long to be shown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
}

/// What became of a file since its content was trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, TS)]
#[serde(rename_all = "snake_case")]
pub enum CodeChangeKind {
    Added,
    Removed,
    Changed,
}

/// A difference between what is there and what was trusted last.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, TS)]
pub struct CodeChange {
    pub path: String,
    pub change: CodeChangeKind,
}

/// Result of `workspace.inspect` and `workspace.trust`: what the workspace brings for one harness.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, TS)]
#[ts(optional_fields)]
pub struct WorkspaceCode {
    /// Absolute path.
    pub workspace: String,
    pub harness: String,
    /// In order of their paths; empty where it brings nothing, or where it cannot be said what.
    pub files: Vec<CodeFile>,
    /// What is kept from the agent even when it is trusted: packages that were installed there.
    pub left_out: Vec<String>,
    /// Over the names, modes and contents, in hexadecimal; absent where there is nothing, or `trustable` is false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// The next start of the harness would run it.
    pub trusted: bool,
    pub trustable: bool,
    /// Why it cannot be trusted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// How it differs from what was trusted last; empty where nothing ever was, or `trusted` is true.
    pub changed: Vec<CodeChange>,
}

/// A row of `workspace.trusted`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, TS)]
pub struct TrustedCode {
    /// Absolute path.
    pub workspace: String,
    pub harness: String,
    pub digest: String,
    /// The first 20 paths of what was trusted …
    pub files: Vec<String>,
    /// … of so many.
    pub file_count: u32,
    /// UTC milliseconds.
    #[ts(type = "number")]
    pub created_at: u64,
}
