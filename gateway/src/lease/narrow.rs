//! What a session may use of what its user may.

use std::sync::Arc;
use std::time::Instant;

use serde::{Deserialize, Serialize};

use super::table::session_scope;
use crate::caller::Base;
use crate::keys::{Access, BadSpec, Gate, Limits};
use crate::ledger::OnLimit;
use crate::money::Nanos;
use crate::store::StoredLease;

/// Kept with the lease, and read again when it is resumed.
#[derive(Clone, Debug, Default)]
pub(super) struct Narrow {
    pub(super) access: Access,
    /// For the whole session.
    pub(super) budget: Option<Nanos>,
    pub(super) on_limit: OnLimit,
    pub(super) limits: Limits,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
struct Stored {
    access: Access,
    on_limit: String,
    rpm: u32,
    tpm: u32,
    concurrency: u32,
}

/// Limits of a session.
fn limits(rpm: u32, tpm: u32, concurrency: u32) -> Limits {
    Limits {
        who: "this session",
        rpm,
        tpm,
        concurrency,
    }
}

impl Narrow {
    /// As a runner asks for it.
    pub(super) fn wanted(narrow: Option<&lodge_proto::control::LeaseNarrow>) -> Result<Self, BadSpec> {
        let Some(narrow) = narrow else {
            return Ok(Self::default());
        };
        let access = narrow.access.clone().map(Access::from).unwrap_or_default();
        access.check()?;
        if narrow.budget > i64::MAX.cast_unsigned() {
            return Err(BadSpec::Budget);
        }
        Ok(Self {
            access,
            budget: (narrow.budget > 0).then_some(Nanos(narrow.budget)),
            on_limit: OnLimit::parse(&narrow.on_limit)
                .ok_or_else(|| BadSpec::OnLimit(narrow.on_limit.chars().take(20).collect()))?,
            limits: limits(narrow.rpm, narrow.tpm, narrow.concurrency),
        })
    }

    /// As it was kept; its budget is the ledger's.
    pub(super) fn stored(text: &str) -> Self {
        let stored: Stored = serde_json::from_str(text).unwrap_or_else(|error| {
            // What cannot be read must not widen.
            tracing::error!(%error, "a lease's limits cannot be read; it may use nothing");
            Stored {
                access: Access {
                    deny_models: vec!["*".to_owned()],
                    ..Access::default()
                },
                ..Stored::default()
            }
        });
        Self {
            access: stored.access,
            budget: None,
            on_limit: OnLimit::parse(&stored.on_limit).unwrap_or_default(),
            limits: limits(stored.rpm, stored.tpm, stored.concurrency),
        }
    }

    /// Whose a session's requests are before anything is known of its user.
    pub(super) fn base(&self, stored: &StoredLease) -> Base {
        let owner = stored.owner;
        let limits = self.limits;
        let is_limited = limits.rpm > 0 || limits.tpm > 0 || limits.concurrency > 0;
        let gate = is_limited.then(|| Arc::new(Gate::new(limits, Instant::now())));
        Base {
            uid: Some(owner),
            user: owner.to_string(),
            own: vec![session_scope(owner, &stored.session_id).into()],
            holders: [Some(format!("user:{owner}").into()), None, None],
            gates: gate.into_iter().collect(),
        }
    }

    pub(super) fn to_json(&self) -> String {
        let stored = Stored {
            access: self.access.clone(),
            on_limit: self.on_limit.as_str().to_owned(),
            rpm: self.limits.rpm,
            tpm: self.limits.tpm,
            concurrency: self.limits.concurrency,
        };
        serde_json::to_string(&stored).unwrap_or_default()
    }
}
