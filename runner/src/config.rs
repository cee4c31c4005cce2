//! How a runner is set up.

use crate::harness::agents::{Agents, Places};
use crate::harness::install::{InstalledHarness, WayOut};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Settings of one runner.
#[derive(Debug, Clone)]
pub struct Config {
    /// The data directory; every path below is in it.
    pub data_dir: PathBuf,
    /// Directories below which sessions may work, besides `workspaces/` in the data directory.
    pub workspace_roots: Vec<PathBuf>,
    /// The shim's program.
    pub shim_binary: PathBuf,
    /// Guest init's program, statically linked.
    pub init_binary: PathBuf,
    /// The launcher of the tiers that need an engine.
    pub tier_binary: PathBuf,
    /// Whether sessions end with the runner. Otherwise their shims go on and the next runner finds them.
    pub stop_sessions_on_exit: bool,
    /// The account that this runner belongs to.
    pub account: String,
    /// Whether tools ask before they run, where the harness has no permissions of its own.
    pub ask_permissions: bool,
    /// The operator's sandbox policy, if there is one.
    pub system_policy: Option<PathBuf>,
    /// Harnesses that are not taken from the data directory.
    pub harness_overrides: BTreeMap<String, InstalledHarness>,
    /// Harnesses of the configuration file.
    pub agents: Agents,
    /// How installations reach the package registry; without it none can be asked for.
    pub way_out: Option<Arc<dyn WayOut>>,
}

impl Config {
    /// The usual settings for a data directory, with the programs beside `programs`.
    pub fn new(data_dir: &Path, programs: &Path) -> Self {
        Self {
            data_dir: data_dir.to_owned(),
            workspace_roots: Vec::new(),
            shim_binary: programs.join("lodge-shim"),
            init_binary: programs.join("lodge-init"),
            tier_binary: programs.join("lodge-tier"),
            stop_sessions_on_exit: false,
            account: "local".to_owned(),
            ask_permissions: false,
            system_policy: None,
            harness_overrides: BTreeMap::new(),
            agents: Agents::default(),
            way_out: None,
        }
    }

    /// The runner's socket.
    pub fn socket(&self) -> PathBuf {
        self.data_dir.join("run/runner.sock")
    }

    /// The history service's socket.
    pub fn history_socket(&self) -> PathBuf {
        self.data_dir.join("run/history.sock")
    }

    /// The gateway's lease socket.
    pub fn lease_socket(&self) -> PathBuf {
        self.data_dir.join("run/gateway-lease.sock")
    }

    /// Where sessions live.
    pub fn sessions_dir(&self) -> PathBuf {
        self.data_dir.join("runner/sessions")
    }

    /// The database.
    pub fn database(&self) -> PathBuf {
        self.data_dir.join("runner/runner.db")
    }

    /// Images of prompts.
    pub fn blobs_dir(&self) -> PathBuf {
        self.data_dir.join("runner/blobs")
    }

    /// What the sandboxes keep: guest images, kernels, snapshots.
    pub fn sandbox_state(&self) -> PathBuf {
        self.data_dir.join("sandbox")
    }

    /// The default root of workspaces.
    pub fn default_root(&self) -> PathBuf {
        self.data_dir.join("workspaces")
    }

    /// What an agent of the configuration file must keep apart from.
    pub fn places(&self) -> Places {
        Places {
            data: self.data_dir.clone(),
            workspaces: self.workspace_roots.clone(),
        }
    }

    /// All roots below which sessions may work.
    pub fn roots(&self) -> Vec<PathBuf> {
        let mut roots = vec![self.default_root()];
        roots.extend(self.workspace_roots.iter().cloned());
        roots
    }
}
