//! Whether a harness that is being started may run what its workspace brings.

use crate::fold::Note;
use crate::shared::Shared;
use crate::store::SessionRow;
use crate::trust::Inventory;
use crate::trust::look;
use lodge_proto::ErrorBody;
use std::path::Path;
use std::sync::Arc;

/// What is decided before the start.
#[derive(Debug, Default)]
pub(super) struct Decided {
    /// What the harness may run: exactly this.
    pub(super) code: Option<Inventory>,
    /// What the session is told, where there is something to say.
    pub(super) note: Option<Note>,
}

/// Looks at the workspace anew: what was trusted may have changed since the last start, and the guest of that one may
/// have changed it.
pub(super) async fn decide(shared: &Arc<Shared>, row: &SessionRow) -> Result<Decided, ErrorBody> {
    let info = &row.info;
    let workspace = Path::new(&info.workspace);
    let looked = look::look(shared, &row.account, workspace, &info.harness).await?;
    let judged = looked.judged;
    let files = judged.found.as_ref().map_or(0, |found| found.entries.len());
    let (reason, code) = match judged.found {
        Ok(found) => (None, judged.trusted.as_ref().map(|_| found)),
        Err(why) => (Some(why.to_string()), None),
    };
    // Of what never was trusted, and of what is gone, there is nothing to say at every start.
    let withdrawn = looked.knew && code.is_none() && (files > 0 || reason.is_some());
    let note = (code.is_some() || withdrawn).then(|| Note::WorkspaceCode {
        trusted: code.is_some(),
        files: u32::try_from(files).unwrap_or(u32::MAX),
        changed: judged.changed,
        reason,
    });
    Ok(Decided { code, note })
}

/// What of the workspace the harness may take for its own.
pub(super) fn names(code: Option<&Inventory>) -> Vec<String> {
    code.map(|code| code.roots.iter().cloned().collect())
        .unwrap_or_default()
}
