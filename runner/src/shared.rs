//! What every session of a runner uses.

use crate::config::Config;
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

    /// The installed harness of this name.
    pub async fn resolve_harness(&self, name: &str) -> Result<InstalledHarness, ErrorBody> {
        if let Some(harness) = self.config.harness_overrides.get(name) {
            return Ok(harness.clone());
        }
        let (data, name) = (self.config.data_dir.clone(), name.to_owned());
        let resolve = move || Installer::new(&data).and_then(|installer| installer.resolve(&name));
        match tokio::task::spawn_blocking(resolve).await {
            Ok(resolved) => resolved.map_err(|error| harness_error(&error)),
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
