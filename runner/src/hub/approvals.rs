//! Approvals for always: listed, forgotten, and told to the sessions that they are for.

use super::Hub;
use super::commands::finish;
use crate::conns::ReplyPort;
use crate::session::{Answering, Request, SessionHandle};
use crate::shared::store_error;
use lodge_proto::ids::RequestId;
use lodge_proto::{ErrorBody, ErrorCode, SessionId};
use serde_json::json;
use std::sync::Arc;
use tokio::sync::oneshot;

impl Hub {
    pub(super) fn approvals(&self, account: &str, reply: ReplyPort) {
        let (store, account) = (self.shared.store.clone(), account.to_owned());
        tokio::spawn(async move {
            let listed = store.approvals(&account).await;
            reply.send(match listed {
                Ok(approvals) => Ok(json!({ "approvals": approvals })),
                Err(error) => Err(store_error(&error)),
            });
        });
    }

    /// Answers when no session goes by what was forgotten any more.
    pub(super) fn forget_approvals(&self, id: Option<RequestId>, answering: Answering) {
        let shared = Arc::clone(&self.shared);
        let open: Vec<SessionHandle> = self
            .sessions
            .values()
            .filter_map(|entry| entry.handle.clone())
            .collect();
        tokio::spawn(async move {
            let result = match (shared.store.forget_approvals(&answering.account, id).await, id) {
                (Err(error), _) => Err(store_error(&error)),
                (Ok(0), Some(id)) => Err(ErrorBody::new(
                    ErrorCode::NotFound,
                    format!("no approval {id} is remembered"),
                )),
                (Ok(_), _) => {
                    tell(&open).await;
                    Ok(json!({}))
                }
            };
            finish(&shared, answering, result);
        });
    }

    /// A session brought an approval: others of its harness and workspace are told.
    pub(super) async fn approvals_changed(&self, by: SessionId) {
        let Some(own) = self.sessions.get(&by).map(|entry| &entry.row) else {
            return;
        };
        for entry in self.sessions.values() {
            let row = &entry.row;
            let same = (&row.info.harness, &row.info.workspace, &row.account)
                == (&own.info.harness, &own.info.workspace, &own.account);
            if let Some(handle) = entry.handle.as_ref().filter(|_| same && row.info.id != by) {
                handle.send(Request::ApprovalsChanged { done: None }).await;
            }
        }
    }
}

/// Tells sessions that approvals changed, and waits until they know.
async fn tell(sessions: &[SessionHandle]) {
    let mut waiting = Vec::new();
    for handle in sessions {
        let (done, told) = oneshot::channel();
        if handle.send(Request::ApprovalsChanged { done: Some(done) }).await {
            waiting.push(told);
        }
    }
    for told in waiting {
        // One that ended knows no more.
        let _ = told.await;
    }
}
