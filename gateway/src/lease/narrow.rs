//! What a session may use of what its user may.

use serde::{Deserialize, Serialize};

use crate::keys::{Access, BadSpec};
use crate::ledger::OnLimit;
use crate::money::Nanos;

/// Kept with the lease, and read again when it is resumed.
#[derive(Clone, Debug, Default)]
pub(super) struct Narrow {
    pub(super) access: Access,
    /// For the whole session.
    pub(super) budget: Option<Nanos>,
    pub(super) on_limit: OnLimit,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
struct Stored {
    access: Access,
    on_limit: String,
}

impl Narrow {
    /// As a runner asks for it.
    pub(super) fn wanted(narrow: Option<&lodge_proto::control::LeaseNarrow>) -> Result<Self, BadSpec> {
        let Some(narrow) = narrow else {
            return Ok(Self::default());
        };
        let access = narrow.access.clone().map(Access::from).unwrap_or_default();
        access.check()?;
        Ok(Self {
            access,
            budget: (narrow.budget > 0).then_some(Nanos(narrow.budget)),
            on_limit: OnLimit::parse(&narrow.on_limit)
                .ok_or_else(|| BadSpec::OnLimit(narrow.on_limit.chars().take(20).collect()))?,
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
                on_limit: String::new(),
            }
        });
        Self {
            access: stored.access,
            budget: None,
            on_limit: OnLimit::parse(&stored.on_limit).unwrap_or_default(),
        }
    }

    pub(super) fn to_json(&self) -> String {
        let stored = Stored {
            access: self.access.clone(),
            on_limit: self.on_limit.as_str().to_owned(),
        };
        serde_json::to_string(&stored).unwrap_or_default()
    }
}
