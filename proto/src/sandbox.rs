//! What a session may be walled in with on this machine: result of `sandbox.list`.

use crate::session::Tier;
use serde::{Deserialize, Serialize};
use ts_rs::TS;

/// A tier, and whether it works here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, TS)]
#[ts(optional_fields)]
pub struct TierChoice {
    pub tier: Tier,
    pub usable: bool,
    /// What is missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// What to do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mend: Option<String>,
    /// It works, and this is to be known about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub notice: Option<String>,
}

/// A profile of the policy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, TS)]
pub struct ProfileChoice {
    pub name: String,
    /// The tier it runs in unless another one is asked for.
    pub tier: Tier,
    /// `none` or `broker`.
    pub network: String,
    /// One sentence for a person.
    pub summary: String,
}

/// Result of `sandbox.list`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, TS)]
pub struct SandboxChoices {
    pub tiers: Vec<TierChoice>,
    pub profiles: Vec<ProfileChoice>,
    /// What a session gets that asks for nothing.
    pub default_tier: Tier,
    pub default_profile: String,
}
