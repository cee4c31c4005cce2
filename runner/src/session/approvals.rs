//! Approvals for always: what was given goes to the database, what the database has goes into the journal.

use super::Report;
use super::actor::{Actor, Internal};
use super::journal::Own;
use crate::fold::{Given, Note};
use crate::store::approvals::Place;
use lodge_proto::ids::RequestId;
use std::time::Duration;

/// Pause after a failure of the database; doubles up to the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

impl Actor {
    /// Gives the database what it does not have, until it has it.
    pub(super) fn keep_approvals(&mut self) {
        let unkept = self.fold.wants().approvals;
        if unkept.is_empty() {
            return self.keeping.clear();
        }
        let new: Vec<Given> = unkept
            .iter()
            .filter(|given| !self.keeping.contains(&given.id))
            .cloned()
            .collect();
        for given in new {
            self.keeping.insert(given.id);
            let (store, internal, place) = (self.shared.store.clone(), self.internal.clone(), self.place());
            tokio::spawn(async move {
                let mut pause = FIRST_PAUSE;
                while let Err(error) = store.keep_approval(&place, &given).await {
                    tracing::error!(%error, "an approval is not kept yet");
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
                let _ = internal.send(Internal::ApprovalKept(given.id));
            });
        }
    }

    pub(super) async fn approval_kept(&mut self, approval: RequestId) {
        // In this order it holds all the time.
        self.load_approvals().await;
        let note = Note::ApprovalKept { approval };
        self.append(Own::note_once(&note, &format!("approval {approval}")));
        let _ = self.reports.send(Report::ApprovalsChanged(self.row.info.id));
    }

    /// Tells the session what the database has. Whatever is appended afterwards finds it so.
    pub(super) async fn load_approvals(&mut self) {
        let loaded = self.shared.store.approved_at(&self.place()).await;
        let given = loaded.unwrap_or_else(|error| {
            // What may have been forgotten must not hold: the user is asked.
            tracing::error!(%error, "the approvals cannot be read");
            Vec::new()
        });
        let nothing_new =
            given.is_empty() && !self.fold.has_approvals_for_always() && self.unwritten.is_empty();
        if !nothing_new || self.told_of_approvals {
            self.told_of_approvals = true;
            self.append(Own::note(&Note::Approvals { given }));
        }
    }

    fn place(&self) -> Place {
        let info = &self.row.info;
        Place {
            account: self.row.account.clone(),
            harness: info.harness.clone(),
            workspace: info.workspace.clone(),
        }
    }
}
