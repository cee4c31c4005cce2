//! The demo model: deterministic, scripted by the prompt, honest about being no AI.
//!
//! It lets a person try everything in Lodge without a provider key, and gives every test of the platform a model
//! whose behaviour, failures included, is chosen by the prompt. The text of the last user message is the script:
//! each line that starts with a known verb is one response (see [`script`]). Nothing here is random: ids are
//! derived from a hash of the request, so the same request gets the same bytes.
//!
//! - [`script`]: text → directives (pure)
//! - [`neutral`]: what of a request the plan needs, in no dialect
//! - [`plan`] and [`fault`]: request → what to answer (pure)
//! - [`dialect`]: request → neutral form, plan → bytes, for each dialect
//! - [`playback`]: a plan as a sequence of timed steps (pure)
//! - [`serve`]: the steps over HTTP

pub mod dialect;
pub mod fault;
pub mod ids;
pub mod image;
pub mod neutral;
pub mod plan;
pub mod playback;
pub mod script;
pub mod serve;
mod tools;

pub use serve::Demo;

/// The one model the demo provider serves.
pub const MODEL: &str = "demo";
/// How people see it in a list.
pub const MODEL_NAME: &str = "Lodge demo model (scripted, not an AI)";
/// Tokens. It has none, but harnesses plan their compaction by it.
pub const CONTEXT_WINDOW: u64 = 128_000;
/// Tokens.
pub const MAX_OUTPUT: u64 = 32_000;
