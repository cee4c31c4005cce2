//! What a workspace brings for an agent as code, and whether its user trusts it.
//!
//! `AGENTS.md` and its like are text. Settings, servers, hooks, extensions and plugins are code: an agent that reads them
//! runs programs of whoever wrote the workspace, unasked. They are off until the user trusts exactly this content for
//! exactly this harness; any other content is off again.
//!
//! What was digested is what the agent reads: the sandbox shows it a copy of the very bytes, read-only, in the place of
//! the workspace's own files.
//!
//! - [`look`]: a workspace as it is, and what its user trusts of it
//! - [`rows`]: what each harness takes for its own
//! - [`walk`]: reads it, without following links, within bounds
//! - [`named`]: the programs that settings name
//! - [`copy`]: the copy that the sandbox shows

pub mod copy;
pub mod look;
pub mod named;
pub mod rows;
pub mod walk;

use lodge_proto::trust::{CodeChange, CodeChangeKind, CodeFile, WorkspaceCode};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet};

/// What every digest begins with: no other hash of Lodge's means the same.
const DOMAIN: &[u8] = b"lodge workspace code 1\0";
/// Longest text of one file, and of all together, that a client is sent, bytes of JSON.
const SHOWN_OF_ONE: usize = 64 * 1024;
const SHOWN: usize = 256 * 1024;

/// Why what a workspace brings cannot be trusted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Untrustable {
    /// Lodge does not know how to switch it on, or not how to show it safely.
    #[error("{0}")]
    Harness(String),
    #[error("`{path}` is a symbolic link or lies behind one: what it leads to is not known when it is read")]
    Link { path: String },
    #[error("`{path}` is a socket, pipe or device")]
    Special { path: String },
    #[error("a name in `{path}` is no UTF-8")]
    Name { path: String },
    #[error("{what}: there are more than {most}")]
    TooLarge { what: &'static str, most: usize },
    #[error("`{path}` was changed while it was read")]
    Changed { path: String },
    #[error("`{path}` cannot be read: {error}")]
    Read { path: String, error: String },
}

/// One file as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Relative to the workspace.
    pub path: String,
    /// Permission bits.
    pub mode: u32,
    pub contents: Vec<u8>,
    /// Found because a setting names it.
    pub named: bool,
}

impl Entry {
    fn sha256(&self) -> String {
        hex(&Sha256::digest(&self.contents))
    }
}

/// Everything that a harness would take for its own.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Inventory {
    pub harness: String,
    /// Files and directories that are shown as wholes: every entry is one of them or lies in one.
    pub roots: BTreeSet<String>,
    /// In order of their paths.
    pub entries: Vec<Entry>,
    /// Directories in the roots that the agent is not shown.
    pub left_out: Vec<String>,
}

impl Inventory {
    /// Over the harness, and the names, modes and contents of all files, whatever their order; `None` where there is none.
    pub fn digest(&self) -> Option<String> {
        if self.entries.is_empty() {
            return None;
        }
        let mut entries: Vec<&Entry> = self.entries.iter().collect();
        entries.sort_by(|a, b| a.path.cmp(&b.path));
        let mut hash = Sha256::new();
        hash.update(DOMAIN);
        // With its length before it no text can run over into the next.
        let mut text = |bytes: &[u8]| {
            hash.update((bytes.len() as u64).to_le_bytes());
            hash.update(bytes);
        };
        text(self.harness.as_bytes());
        for entry in entries {
            text(entry.path.as_bytes());
            text(&entry.mode.to_le_bytes());
            text(&entry.contents);
        }
        Some(hex(&hash.finalize()))
    }

    /// What is kept of it with a user's trust.
    pub fn files(&self) -> Vec<TrustedFile> {
        self.entries
            .iter()
            .map(|entry| TrustedFile {
                path: entry.path.clone(),
                mode: entry.mode,
                sha256: entry.sha256(),
            })
            .collect()
    }

    /// As a client is shown it.
    pub fn shown(&self) -> Vec<CodeFile> {
        let mut left = SHOWN;
        let mut show = |entry: &Entry| {
            let text = std::str::from_utf8(&entry.contents).ok()?;
            // As it is sent: there one byte may become six.
            let length = serde_json::to_string(text).map_or(usize::MAX, |json| json.len());
            (length <= SHOWN_OF_ONE.min(left)).then(|| {
                left -= length;
                text.to_owned()
            })
        };
        let file = |entry: &Entry| CodeFile {
            path: entry.path.clone(),
            size: entry.contents.len() as u64,
            mode: entry.mode,
            sha256: entry.sha256(),
            named: entry.named,
            text: show(entry),
        };
        self.entries.iter().map(file).collect()
    }
}

/// A file of which the user trusted the content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrustedFile {
    pub path: String,
    pub mode: u32,
    pub sha256: String,
}

/// What the user trusted at one place, newest first: digests with their files.
pub type Trusted = Vec<(String, Vec<TrustedFile>)>;

/// What to make of a workspace for one harness.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judged {
    pub found: Result<Inventory, Untrustable>,
    /// The digest of what is there, where it is trusted.
    pub trusted: Option<String>,
    /// How it differs from what was trusted last; empty where it does not, or where nothing was.
    pub changed: Vec<CodeChange>,
}

impl Judged {
    /// Compares what is there with what was trusted.
    pub fn new(found: Result<Inventory, Untrustable>, trusted: &Trusted) -> Self {
        let digest = found.as_ref().ok().and_then(Inventory::digest);
        let is_trusted = |digest: &String| trusted.iter().any(|(known, _)| known == digest);
        let holds = digest.filter(is_trusted);
        let last = trusted.first().filter(|_| holds.is_none());
        let changed = match (last, &found) {
            (Some((_, last)), Ok(found)) => changes(last, &found.files()),
            _ => Vec::new(),
        };
        Self {
            found,
            trusted: holds,
            changed,
        }
    }

    /// As a client is shown it.
    pub fn shown(&self, workspace: &str, harness: &str) -> WorkspaceCode {
        let code = WorkspaceCode {
            workspace: workspace.to_owned(),
            harness: harness.to_owned(),
            trusted: self.trusted.is_some(),
            changed: self.changed.clone(),
            ..WorkspaceCode::default()
        };
        match &self.found {
            Ok(found) => WorkspaceCode {
                files: found.shown(),
                left_out: found.left_out.clone(),
                digest: found.digest(),
                trustable: true,
                ..code
            },
            Err(why) => WorkspaceCode {
                reason: Some(why.to_string()),
                ..code
            },
        }
    }
}

fn changes(before: &[TrustedFile], now: &[TrustedFile]) -> Vec<CodeChange> {
    let by_path = |files: &[TrustedFile]| -> BTreeMap<String, TrustedFile> {
        files
            .iter()
            .map(|file| (file.path.clone(), file.clone()))
            .collect()
    };
    let (before, now) = (by_path(before), by_path(now));
    let paths: BTreeSet<&String> = before.keys().chain(now.keys()).collect();
    let change = |path: &String| {
        let change = match (before.get(path), now.get(path)) {
            (None, _) => CodeChangeKind::Added,
            (_, None) => CodeChangeKind::Removed,
            (was, is) if was == is => return None,
            _ => CodeChangeKind::Changed,
        };
        Some(CodeChange {
            path: path.clone(),
            change,
        })
    };
    paths.into_iter().filter_map(change).collect()
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        let _ = write!(text, "{byte:02x}");
    }
    text
}

#[cfg(test)]
mod tests;
