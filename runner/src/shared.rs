//! What every session of a runner uses.

use crate::blobs::Blobs;
use crate::config::Config;
use crate::harness::AnyAdapter;
use crate::harness::agents::AgentError;
use crate::harness::install::{InstallError, InstalledHarness, Installer};
use crate::history::History;
use crate::lease::Leases;
use crate::store::Store;
use crate::terminal::Terminals;
use lodge_proto::{ErrorBody, SessionId};
use std::path::PathBuf;

/// The runner's services.
#[derive(Debug)]
pub struct Shared {
    pub config: Config,
    pub store: Store,
    pub history: History,
    pub leases: Leases,
    pub terminals: Terminals,
    /// Images of prompts.
    pub blobs: Blobs,
    /// Counts the starts of this runner: a shim obeys the highest.
    pub generation: u64,
    /// The machine was booted anew without a clean end: records may be lost.
    pub unclean_boot: bool,
}

impl Shared {
    /// Directory of a session.
    pub fn session_dir(&self, id: SessionId) -> PathBuf {
        self.config.sessions_dir().join(id.to_string())
    }

    /// A fresh adapter for the harness of this name; `None` where neither Lodge nor the configuration file knows it.
    pub fn adapter(&self, name: &str) -> Option<AnyAdapter> {
        let of_agent = || self.config.agents.get(name).map(|_| AnyAdapter::of_agent());
        AnyAdapter::new(name).or_else(of_agent)
    }

    /// The installed harness of this name.
    pub async fn resolve_harness(&self, name: &str) -> Result<InstalledHarness, ErrorBody> {
        if let Some(harness) = self.config.harness_overrides.get(name) {
            return Ok(harness.clone());
        }
        let (agent, places) = (self.config.agents.get(name).cloned(), self.config.places());
        let (data, name) = (self.config.data_dir.clone(), name.to_owned());
        let resolve = move || match agent {
            Some(agent) => agent
                .resolve(&places)
                .map_err(|error: AgentError| ErrorBody::from(&error)),
            None => Installer::new(&data)
                .and_then(|installer| installer.resolve(&name))
                .map_err(|error| harness_error(&error)),
        };
        match tokio::task::spawn_blocking(resolve).await {
            Ok(resolved) => resolved,
            Err(error) => Err(ErrorBody::new(
                lodge_proto::ErrorCode::Internal,
                error.to_string(),
            )),
        }
    }
}

/// An error of the installation as users see it.
pub fn harness_error(error: &InstallError) -> ErrorBody {
    ErrorBody::new(error.code(), error.to_string())
}

/// A random number.
pub fn random_u32() -> u32 {
    let bytes = *uuid::Uuid::new_v4().as_bytes();
    u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
}

/// An error with its causes.
pub fn chain(error: &(impl std::error::Error + ?Sized)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}

/// An error of the runner's database as users see it.
pub fn store_error(error: &crate::store::StoreError) -> ErrorBody {
    ErrorBody::new(lodge_proto::ErrorCode::Unavailable, chain(error))
}
