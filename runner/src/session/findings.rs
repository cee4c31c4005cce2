//! What a turn left in the workspace that acts outside of its sandbox.
//!
//! The workspace is looked through before the harness starts and after every turn, off the session's task; what is new
//! since the look before becomes a record, and the record an event. Nothing that was changed between two turns is
//! missed: it shows after the next one.

use super::actor::{Actor, Internal};
use super::journal::Own;
use crate::fold::Note;
use crate::launcher;
use lodge_proto::ids::TurnId;
use lodge_proto::workspace::{Finding, FindingKind};
use lodge_sandbox::findings::{self, Baseline, FindingsError};
use std::path::PathBuf;
use std::sync::Arc;

/// What was found after a turn.
#[derive(Debug)]
pub(super) struct Found {
    turn: TurnId,
    items: Vec<findings::Finding>,
}

/// A look that ended, with the state to compare the next one with.
#[derive(Debug)]
pub(super) struct Looked {
    baseline: Option<Baseline>,
    found: Option<Found>,
}

impl Actor {
    /// Looks at the workspace as it is before the harness can change it.
    pub(super) fn take_baseline(&self) {
        let (shared, internal) = (Arc::clone(&self.shared), self.internal.clone());
        let workspace = PathBuf::from(self.fold.info().workspace);
        let wish = self
            .fold
            .created()
            .map(|created| created.wish.clone())
            .unwrap_or_default();
        tokio::task::spawn_blocking(move || {
            // A policy that cannot be read keeps the harness from starting, which says so.
            let Ok(protected) = launcher::protected(&shared.config, &workspace, &wish) else {
                return;
            };
            let baseline = looked(Baseline::take(&workspace, &protected));
            let looked = Looked {
                baseline,
                found: None,
            };
            let _ = internal.send(Internal::Looked(Box::new(looked)));
        });
    }

    /// A turn has ended: looks what it left. While a look is under way the next one covers this turn too.
    pub(super) fn look_after(&mut self, turn: TurnId) {
        let Some(baseline) = self.baseline.take() else {
            return;
        };
        let internal = self.internal.clone();
        tokio::task::spawn_blocking(move || {
            let items = looked(baseline.changes()).unwrap_or_default();
            let baseline = looked(baseline.again());
            let found = Some(Found { turn, items });
            let _ = internal.send(Internal::Looked(Box::new(Looked { baseline, found })));
        });
    }

    pub(super) fn looked(&mut self, looked: Looked) {
        self.baseline = looked.baseline;
        let Some(Found { turn, items }) = looked.found.filter(|found| !found.items.is_empty()) else {
            return;
        };
        let truncated = items.len() >= findings::MAX_FINDINGS
            || items
                .iter()
                .any(|finding| finding.kind == findings::FindingKind::Truncated);
        let items: Vec<Finding> = items.into_iter().filter_map(told).collect();
        let note = Note::Findings { items, truncated };
        self.append(Own::note_once(&note, &format!("findings {turn}")));
    }
}

fn looked<T>(result: Result<T, FindingsError>) -> Option<T> {
    result
        .inspect_err(|error| tracing::warn!(%error, "looking through the workspace"))
        .ok()
}

fn told(finding: findings::Finding) -> Option<Finding> {
    use findings::FindingKind as Kind;
    let kind = match finding.kind {
        Kind::ControlFile => FindingKind::ControlFile,
        Kind::Hook => FindingKind::Hook,
        Kind::HardLink => FindingKind::HardLink,
        Kind::NestedRepository => FindingKind::NestedRepository,
        Kind::SpecialFile => FindingKind::SpecialFile,
        Kind::SetUid => FindingKind::SetUid,
        Kind::Truncated => return None,
    };
    Some(Finding {
        kind,
        path: finding.path,
        detail: finding.detail,
    })
}
