//! Looks at a workspace on behalf of its user: what is there, and what is trusted of it.

use super::{Judged, walk};
use crate::launcher;
use crate::shared::{Shared, store_error};
use crate::store::trusted::TrustPlace;
use lodge_proto::trust::WorkspaceCode;
use lodge_proto::{ErrorBody, ErrorCode};
use std::path::Path;
use std::sync::Arc;

/// A workspace, looked at for one harness and one user.
#[derive(Debug)]
pub struct Looked {
    pub place: TrustPlace,
    pub judged: Judged,
    /// Something was trusted here before, if not what is there now.
    pub knew: bool,
}

impl Looked {
    /// As a client is shown it.
    pub fn shown(&self) -> WorkspaceCode {
        self.judged.shown(&self.place.workspace, &self.place.harness)
    }
}

/// Reads what `workspace` (a real path) brings for `harness`, and compares it with what the user trusts.
pub async fn look(
    shared: &Arc<Shared>,
    account: &str,
    workspace: &Path,
    harness: &str,
) -> Result<Looked, ErrorBody> {
    let (account, harness) = (account.to_owned(), harness.to_owned());
    let (path, config) = (workspace.to_owned(), shared.config.clone());
    let read = move || {
        let opened = launcher::open_workspace(&path, &config)?;
        let stat = rustix::fs::fstat(&opened.fd).map_err(|error| internal(&error))?;
        let place = TrustPlace {
            account,
            workspace: opened.path.to_string_lossy().into_owned(),
            // Not the device: its number may be another one after the next boot.
            identity: format!("{:x}", stat.st_ino),
            harness,
        };
        Ok::<_, ErrorBody>((walk::inventory(&place.harness, &opened.fd), place))
    };
    let read = tokio::task::spawn_blocking(read).await;
    let (found, place) = read.map_err(|error| internal(&error))??;
    let trusted = shared.store.trusted_at(&place).await;
    let trusted = trusted.map_err(|error| store_error(&error))?;
    Ok(Looked {
        judged: Judged::new(found, &trusted),
        place,
        knew: !trusted.is_empty(),
    })
}

fn internal(error: &dyn std::fmt::Display) -> ErrorBody {
    ErrorBody::new(ErrorCode::Internal, error.to_string())
}
