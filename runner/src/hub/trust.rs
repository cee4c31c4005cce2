//! What a workspace brings as code: shown, trusted and distrusted by its user.

use super::commands::finish;
use super::{Hub, create};
use crate::conns::ReplyPort;
use crate::session::Answering;
use crate::shared::{Shared, store_error};
use crate::trust::look::{self, Looked};
use crate::trust::{Inventory, Untrustable};
use lodge_proto::command::CommandBody;
use lodge_proto::trust::WorkspaceCode;
use lodge_proto::{ErrorBody, ErrorCode};
use serde_json::json;
use std::path::{Path, PathBuf};
use std::sync::Arc;

type Result<T> = std::result::Result<T, ErrorBody>;

impl Hub {
    pub(super) fn inspect(&self, account: &str, workspace: String, harness: String, reply: ReplyPort) {
        let (shared, account) = (Arc::clone(&self.shared), account.to_owned());
        tokio::spawn(async move {
            let looked = look(&shared, &account, &workspace, &harness).await;
            reply.send(looked.map(|looked| json!(looked.shown())));
        });
    }

    pub(super) fn trusted(&self, account: &str, reply: ReplyPort) {
        let (store, account) = (self.shared.store.clone(), account.to_owned());
        tokio::spawn(async move {
            let listed = store.trusted(&account).await;
            reply.send(match listed {
                Ok(trusted) => Ok(json!({ "trusted": trusted })),
                Err(error) => Err(store_error(&error)),
            });
        });
    }

    /// `workspace.trust` and `workspace.distrust`.
    pub(super) fn change_trust(&self, body: CommandBody, answering: Answering) {
        let shared = Arc::clone(&self.shared);
        tokio::spawn(async move {
            let account = answering.account.clone();
            let result = match body {
                CommandBody::WorkspaceTrust {
                    workspace,
                    harness,
                    digest,
                } => trust(&shared, &account, (&workspace, &harness), &digest)
                    .await
                    .map(|code| json!(code)),
                CommandBody::WorkspaceDistrust {
                    workspace,
                    harness,
                    digest,
                } => distrust(&shared, &account, (&workspace, &harness), digest.as_deref())
                    .await
                    .map(|()| json!({})),
                _ => Err(ErrorBody::new(ErrorCode::Internal, "this changes no trust")),
            };
            finish(&shared, answering, result);
        });
    }
}

async fn look(shared: &Arc<Shared>, account: &str, workspace: &str, harness: &str) -> Result<Looked> {
    if shared.adapter(harness).is_none() {
        let message = format!("no harness is named `{harness}`");
        return Err(ErrorBody::new(ErrorCode::NotFound, message));
    }
    let path = create::resolve_workspace(shared, workspace).await?;
    look::look(shared, account, &path, harness).await
}

/// Trusts what is there now, if it is what the user has seen.
async fn trust(
    shared: &Arc<Shared>,
    account: &str,
    (workspace, harness): (&str, &str),
    digest: &str,
) -> Result<WorkspaceCode> {
    let looked = look(shared, account, workspace, harness).await?;
    let found = looked.judged.found.as_ref().map_err(refused)?;
    let Some(present) = found.digest() else {
        let message = format!("{workspace} brings nothing for {harness} that could be trusted");
        return Err(ErrorBody::new(ErrorCode::NotFound, message));
    };
    if present != digest {
        let message = format!(
            "{workspace} does not bring that for {harness} (any more): look at what is there now, then trust it"
        );
        return Err(ErrorBody::new(ErrorCode::Conflict, message));
    }
    let (files, now) = (Inventory::files(found), lodge_shim::journal::now_ms());
    shared
        .store
        .trust(&looked.place, digest, &files, now)
        .await
        .map_err(|error| store_error(&error))?;
    tracing::info!(workspace = looked.place.workspace, harness, digest, "trusted");
    let shown = looked.shown();
    Ok(WorkspaceCode {
        trusted: true,
        changed: Vec::new(),
        ..shown
    })
}

fn refused(why: &Untrustable) -> ErrorBody {
    let code = match why {
        Untrustable::Harness(_) => ErrorCode::UnsupportedByHarness,
        Untrustable::Changed { .. } => ErrorCode::Conflict,
        Untrustable::Read { .. } => ErrorCode::Unavailable,
        _ => ErrorCode::SandboxDenied,
    };
    ErrorBody::new(code, format!("this cannot be trusted: {why}"))
}

/// The path that a workspace has, or had: it may be gone by now.
fn real_path(path: &Path) -> PathBuf {
    let above = || Some(path.parent()?.canonicalize().ok()?.join(path.file_name()?));
    path.canonicalize()
        .ok()
        .or_else(above)
        .unwrap_or_else(|| path.to_owned())
}

async fn distrust(
    shared: &Shared,
    account: &str,
    (workspace, harness): (&str, &str),
    digest: Option<&str>,
) -> Result<()> {
    let real = real_path(&shared.config.default_root().join(workspace));
    let store = &shared.store;
    let forgotten = store
        .distrust(account, harness, &real.to_string_lossy(), digest)
        .await
        .map_err(|error| store_error(&error))?;
    if forgotten == 0 {
        let message = format!("nothing is trusted of what {workspace} brings for {harness}");
        return Err(ErrorBody::new(ErrorCode::NotFound, message));
    }
    tracing::info!(workspace, harness, forgotten, "distrusted");
    Ok(())
}
