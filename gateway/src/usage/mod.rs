//! What a request used, read beside the bytes of the answer: the bytes themselves pass as they came.
//!
//! - [`Tap`]: bytes in pieces of any size → [`Seen`]
//! - [`sse`]: pieces → events, over lines and characters that are split anywhere
//! - [`fold`]: one event or body of a dialect → [`Seen`]; [`peek`]: events that are only text, without building anything

mod fold;
mod peek;
mod sse;
mod tap;
#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};

pub use tap::Tap;

/// No provider counts more; a number beyond it is nonsense and must not turn a budget upside down.
const MAX_TOKENS: u64 = 1 << 40;

/// Tokens by the classes that have prices of their own. Dialects differ in what includes what; here, `input`,
/// `cache_read` and `cache_write` do not overlap, and `cache_write_1h` and `reasoning` are parts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Usage {
    /// Neither read from a cache nor written to one.
    pub input: u64,
    pub cache_read: u64,
    /// Of any life time.
    pub cache_write: u64,
    /// Of `cache_write`: what is kept for an hour.
    pub cache_write_1h: u64,
    /// Reasoning included.
    pub output: u64,
    /// Of `output`: what was thought.
    pub reasoning: u64,
    /// Searches and other calls of tools that ran at the provider.
    pub web_searches: u64,
}

impl Usage {
    /// Everything that went in.
    pub fn all_input(&self) -> u64 {
        self.input
            .saturating_add(self.cache_read)
            .saturating_add(self.cache_write)
    }
}

/// How much of the usage the provider has stated so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stated {
    #[default]
    Nothing,
    /// Figures that may still grow.
    Partly,
    /// The figures it bills.
    Finally,
}

/// What an answer has shown so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    pub usage: Usage,
    pub stated: Stated,
    /// At least as many as the output tokens that came through: the bytes of their text.
    pub visible: u64,
    /// Some of the answer was not read: too long, or not what the dialect says.
    pub lost: bool,
    /// The service tier the provider says it used.
    pub tier: Option<String>,
    /// The model the provider says it answered with.
    pub model: Option<String>,
    /// The answer has said why it ends.
    ended: bool,
}
