//! What a session may use of what its user may.

use crate::error::{ErrorBody, ErrorCode};
use serde::{Deserialize, Serialize};
use ts_rs::TS;

/// Largest budget: what the gateway's ledger counts in.
pub const MAX_BUDGET: u64 = i64::MAX as u64;
/// Patterns of one session.
const MAX_PATTERNS: usize = 100;
/// Of a pattern, bytes.
const MAX_PATTERN: usize = 128;

/// Bounds of one session. Each of them only narrows what its user may use; what is absent stays as it is.
///
/// A bound that this build does not know is an error: it must not be left out in silence.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(deny_unknown_fields)]
#[ts(optional_fields)]
pub struct SessionLimits {
    /// What the whole session may cost, in nano-dollars (10⁻⁹ USD), over all its starts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(type = "number")]
    pub budget_nanodollars: Option<u64>,
    /// Models it may use, as their providers name them; `*` stands for any characters. Empty: all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[ts(optional, as = "Option<Vec<String>>")]
    pub models: Vec<String>,
    /// Providers it may use, in the same way.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[ts(optional, as = "Option<Vec<String>>")]
    pub providers: Vec<String>,
    /// Requests to models a minute.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requests_per_minute: Option<u32>,
    /// Tokens a minute.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens_per_minute: Option<u32>,
    /// Requests to models at a time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub concurrent_requests: Option<u32>,
}

impl SessionLimits {
    /// Whether there can be such bounds; the error names the first that there cannot be.
    pub fn check(&self) -> Result<(), ErrorBody> {
        let bad = |field: &str, what: &str| {
            Err(ErrorBody::new(
                ErrorCode::InvalidArgument,
                format!("limits.{field}: {what}"),
            ))
        };
        if self
            .budget_nanodollars
            .is_some_and(|budget| !(1..=MAX_BUDGET).contains(&budget))
        {
            return bad(
                "budget_nanodollars",
                "must be more than 0 and below 9.2 billion dollars",
            );
        }
        for (field, rate) in [
            ("requests_per_minute", self.requests_per_minute),
            ("tokens_per_minute", self.tokens_per_minute),
            ("concurrent_requests", self.concurrent_requests),
        ] {
            if rate == Some(0) {
                return bad(field, "must be at least 1");
            }
        }
        if self.models.len() + self.providers.len() > MAX_PATTERNS {
            return bad(
                "models",
                &format!("a session has at most {MAX_PATTERNS} patterns"),
            );
        }
        for (field, patterns) in [("models", &self.models), ("providers", &self.providers)] {
            let is_bad = |pattern: &String| {
                !(1..=MAX_PATTERN).contains(&pattern.len()) || pattern.contains(char::is_control)
            };
            if patterns.iter().any(is_bad) {
                return bad(
                    field,
                    &format!("a pattern has 1 to {MAX_PATTERN} bytes without control characters"),
                );
            }
        }
        Ok(())
    }

    /// Whether a model of a provider is among those it may use.
    pub fn permits(&self, provider: &str, model: &str) -> bool {
        let passes = |patterns: &[String], text: &str| {
            patterns.is_empty() || patterns.iter().any(|pattern| matches(pattern, text))
        };
        passes(&self.providers, provider) && passes(&self.models, model)
    }
}

/// Whether a pattern stands for a text: `*` for any number of characters; letters match in either case.
pub fn matches(pattern: &str, text: &str) -> bool {
    let (pattern, text) = (pattern.to_ascii_lowercase(), text.to_ascii_lowercase());
    let mut parts = pattern.split('*');
    let Some(mut rest) = text.strip_prefix(parts.next().unwrap_or_default()) else {
        return false;
    };
    let mut parts: Vec<&str> = parts.collect();
    let Some(last) = parts.pop() else {
        return rest.is_empty();
    };
    for part in parts {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(text: &str) -> SessionLimits {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn bounds_that_cannot_be_are_named() {
        assert_eq!(SessionLimits::default().check(), Ok(()));
        let good = r#"{"budget_nanodollars":2000000000,"models":["claude-*"],"requests_per_minute":5}"#;
        assert_eq!(limits(good).check(), Ok(()));
        for (text, field) in [
            (r#"{"budget_nanodollars":0}"#, "budget_nanodollars"),
            (
                r#"{"budget_nanodollars":9300000000000000000}"#,
                "budget_nanodollars",
            ),
            (r#"{"requests_per_minute":0}"#, "requests_per_minute"),
            (r#"{"tokens_per_minute":0}"#, "tokens_per_minute"),
            (r#"{"concurrent_requests":0}"#, "concurrent_requests"),
            (r#"{"models":[""]}"#, "models"),
            (r#"{"providers":["a\n"]}"#, "providers"),
        ] {
            let error = limits(text).check().unwrap_err();
            assert_eq!(error.code, ErrorCode::InvalidArgument);
            assert!(error.message.contains(field), "{text}: {}", error.message);
        }
        serde_json::from_str::<SessionLimits>(r#"{"budget":5}"#).unwrap_err();
    }

    #[test]
    fn a_model_is_permitted_by_its_name_and_its_provider() {
        let limits = limits(r#"{"models":["claude-*","m"],"providers":["anthropic"]}"#);
        assert!(limits.permits("anthropic", "claude-haiku-5-5") && limits.permits("anthropic", "M"));
        assert!(!limits.permits("anthropic", "gpt-5") && !limits.permits("openai", "m"));
        assert!(SessionLimits::default().permits("x", "y"));
    }
}
