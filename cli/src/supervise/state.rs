//! `lodge.json`: what others may know of a running supervisor. It holds no secret.

use super::Role;
use crate::failure::Failure;
use lodge_proto::ErrorCode;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

/// Why the supervisor runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// `lodge up`.
    Up,
    /// Started by another command, for its own duration.
    Call,
}

/// Whether a role serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Health {
    Starting,
    Ready,
    /// It crashed and will be started again.
    Restarting,
    Stopping,
}

/// One role.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoleState {
    pub health: Health,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid: Option<u32>,
    pub restarts: u32,
}

/// The content of `lodge.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    pub pid: u32,
    pub kind: Kind,
    pub version: String,
    /// UTC milliseconds.
    pub started: u64,
    /// Set when the backend serves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    pub roles: BTreeMap<Role, RoleState>,
}

impl State {
    /// A supervisor that begins now.
    pub fn new(kind: Kind) -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self {
            pid: std::process::id(),
            kind,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            started: u64::try_from(since.as_millis()).unwrap_or(u64::MAX),
            url: None,
            roles: BTreeMap::new(),
        }
    }

    /// The state in `path`, if there is a readable one.
    pub fn read(path: &Path) -> Option<Self> {
        serde_json::from_slice(&std::fs::read(path).ok()?).ok()
    }
}

/// The state and its file, shared by the keepers.
#[derive(Debug, Clone)]
pub struct StateFile {
    path: PathBuf,
    state: Arc<Mutex<State>>,
}

impl StateFile {
    pub fn new(path: PathBuf, state: State) -> Self {
        Self {
            path,
            state: Arc::new(Mutex::new(state)),
        }
    }

    /// A copy of the present state.
    pub fn get(&self) -> State {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Changes the state and writes it; a file that cannot be written is only reported.
    pub fn update(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner));
        if let Err(failure) = self.publish() {
            tracing::warn!(%failure, "state file");
        }
    }

    /// Writes the file anew and puts it in place at once.
    pub fn publish(&self) -> Result<(), Failure> {
        let new = self.path.with_extension("json.new");
        let bytes = serde_json::to_vec_pretty(&self.get()).unwrap_or_default();
        std::fs::write(&new, bytes)
            .and_then(|()| std::fs::rename(&new, &self.path))
            .map_err(|e| {
                Failure::new(
                    ErrorCode::Unavailable,
                    format!("the state file cannot be written: {e}"),
                )
                .at(self.path.display().to_string())
                .mend("check owner and free space of the data directory")
            })
    }

    /// Takes the file away: this supervisor has ended.
    pub fn remove(&self) {
        let _ = std::fs::remove_file(&self.path);
    }
}
