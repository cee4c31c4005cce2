//! What each harness takes for its own in a workspace.

use super::Untrustable;

/// Names of one harness.
#[derive(Debug)]
pub struct Row {
    pub harness: &'static str,
    /// Files and directories in the workspace itself.
    pub names: &'static [&'static str],
    /// A directory that counts wherever it lies.
    pub anywhere: Option<&'static str>,
}

const ROWS: &[Row] = &[
    Row {
        harness: "pi",
        names: &[".pi", ".mcp.json", ".agents"],
        anywhere: None,
    },
    Row {
        harness: "codex",
        names: &[".codex", ".agents"],
        anywhere: None,
    },
    Row {
        harness: "claude",
        names: &[".claude", ".mcp.json"],
        // It finds skills, which may bring hooks, beside whatever it works on.
        anywhere: Some(".claude"),
    },
    Row {
        harness: "gemini",
        names: &[".gemini", ".agents", ".env"],
        anywhere: None,
    },
    Row {
        harness: "opencode",
        names: OPENCODE,
        anywhere: None,
    },
    Row {
        harness: "opencode-acp",
        names: OPENCODE,
        anywhere: None,
    },
];

const OPENCODE: &[&str] = &[".opencode", "opencode.json", "opencode.jsonc"];

/// The row of a harness; every other one runs without a word from Lodge on what it may read.
pub fn of(harness: &str) -> Result<&'static Row, Untrustable> {
    ROWS.iter().find(|row| row.harness == harness).ok_or_else(|| {
        let message = format!(
            "Lodge does not know what {harness} takes for its own in a workspace, and has no switch for it: there is \
             nothing to trust"
        );
        Untrustable::Harness(message)
    })
}
