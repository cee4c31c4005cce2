//! What the journal holds.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::money::Nanos;
use crate::usage::Usage;

/// One record. The number it has in the journal is the id of the reservation that it begins.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "t", rename_all = "snake_case")]
pub enum Record {
    Reserve(Arc<Reserve>),
    /// What an open request has certainly cost by now.
    Progress {
        id: u64,
        cost: Nanos,
    },
    Settle(Settle),
    /// Nothing was sent, or nothing was billed.
    Void {
        id: u64,
    },
}

/// A request is about to be sent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reserve {
    /// Seconds of the ledger's time. The windows it falls into stay its windows, whenever it settles.
    pub at: u64,
    /// Whose budgets it touches: `key:…`, `session:…`, `user:…`, `team:…`, `org:…`, `account:…`.
    pub scopes: Vec<Arc<str>>,
    /// The most it can cost.
    pub amount: Nanos,
    pub key: String,
    pub session: String,
    pub user: String,
    pub provider: String,
    pub model: String,
    /// Where the price came from; empty: nobody knows the price.
    pub price: String,
}

/// A request is over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settle {
    pub id: u64,
    pub cost: Nanos,
    pub usage: Usage,
    pub how: How,
}

/// How sure a settlement is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum How {
    /// The provider said so at the end.
    Exact,
    /// The answer came to its end without figures; what came through bounds it.
    Estimated,
    /// The answer was cut off; what came through bounds it, or the reservation where the model thinks unseen.
    Aborted,
    /// The gateway was gone; the reservation counts.
    Crashed,
}

impl How {
    /// As tables spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Exact => "exact",
            Self::Estimated => "estimated",
            Self::Aborted => "aborted",
            Self::Crashed => "crashed",
        }
    }
}
