//! What a key may do.

use lodge_proto::limits::matches;
use serde::{Deserialize, Serialize};

/// Patterns of one key.
const MAX_PATTERNS: usize = 100;
/// Of a name, a user or a pattern, bytes.
const MAX_TEXT: usize = 128;

/// Models and providers by pattern. A denial wins; an empty list of allowances allows all.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Access {
    pub models: Vec<String>,
    pub deny_models: Vec<String>,
    pub providers: Vec<String>,
    pub deny_providers: Vec<String>,
}

impl Access {
    /// Whether it may use that model there.
    pub fn permits(&self, provider: &str, model: &str) -> bool {
        let passes = |allow: &[String], deny: &[String], text: &str| {
            let any = |patterns: &[String]| patterns.iter().any(|pattern| matches(pattern, text));
            !any(deny) && (allow.is_empty() || any(allow))
        };
        passes(&self.providers, &self.deny_providers, provider)
            && passes(&self.models, &self.deny_models, model)
    }

    /// Whether the patterns can be kept.
    pub fn check(&self) -> Result<(), BadSpec> {
        let all = [
            &self.models,
            &self.deny_models,
            &self.providers,
            &self.deny_providers,
        ];
        if all.iter().map(|list| list.len()).sum::<usize>() > MAX_PATTERNS {
            return Err(BadSpec::Patterns);
        }
        all.into_iter()
            .flatten()
            .try_for_each(|pattern| check_text("pattern", pattern, 1))
    }
}

/// A key's owner, limits and rights.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct KeySpec {
    pub id: String,
    /// For people.
    pub name: String,
    pub user: String,
    pub team: String,
    pub org: String,
    /// The key it is narrower than; empty: none.
    pub parent: String,
    pub access: Access,
    /// Requests a minute; 0: any number.
    pub rpm: u32,
    /// Tokens a minute; 0: any number.
    pub tpm: u32,
    /// Requests at a time; 0: any number.
    pub concurrency: u32,
    /// Seconds since 1970; 0: at once.
    pub not_before: u64,
    /// Seconds since 1970; 0: never.
    pub expires: u64,
    /// Seconds since 1970.
    pub created: u64,
    pub disabled: bool,
    /// For good.
    pub revoked: bool,
    /// `refuse`, `queue` or `clamp`; empty: refuse.
    pub on_limit: String,
    /// What it asks and is answered goes into the log.
    pub log_bodies: bool,
    /// The text before the last rotation, while it still works.
    pub previous: Option<Previous>,
}

/// A text that a rotation has replaced and that works for a while, so that its holders can change over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Previous {
    /// As keys are kept.
    pub hash: [u8; 32],
    /// Seconds since 1970.
    pub until: u64,
}

/// A key that cannot be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadSpec {
    #[error("{field} must be {least} to {MAX_TEXT} bytes without control characters")]
    Text { field: &'static str, least: usize },
    #[error("{field} must not contain `:` or `/`")]
    Separator { field: &'static str },
    #[error("a key has at most {MAX_PATTERNS} patterns")]
    Patterns,
    #[error("on_limit: `{0}` is none of refuse, queue, clamp")]
    OnLimit(String),
    #[error("budget: must be below 9.2 billion dollars")]
    Budget,
    #[error("expires must be later than not_before and now")]
    Expired,
    #[error("parent: there is no key `{0}` that could have children")]
    Parent(String),
    #[error("a child has its parent's {0}")]
    Inherited(&'static str),
}

impl KeySpec {
    /// Whether it can be kept, whatever other keys there are.
    pub fn check(&self, now: u64) -> Result<(), BadSpec> {
        check_text("name", &self.name, 0)?;
        for (field, text, least) in [
            ("user", &self.user, 1),
            ("team", &self.team, 0),
            ("org", &self.org, 0),
        ] {
            check_text(field, text, least)?;
            if text.contains([':', '/']) {
                return Err(BadSpec::Separator { field });
            }
        }
        self.access.check()?;
        if crate::ledger::OnLimit::parse(&self.on_limit).is_none() {
            return Err(BadSpec::OnLimit(self.on_limit.chars().take(20).collect()));
        }
        if self.expires != 0 && (self.expires <= now || self.expires <= self.not_before) {
            return Err(BadSpec::Expired);
        }
        Ok(())
    }

    /// Why it does not work at this moment.
    pub fn closed(&self, now: u64) -> Option<&'static str> {
        if self.revoked {
            Some("this key was revoked")
        } else if self.disabled {
            Some("this key is disabled")
        } else if now < self.not_before {
            Some("this key is not valid yet")
        } else if self.expires != 0 && now >= self.expires {
            Some("this key has expired")
        } else {
            None
        }
    }
}

fn check_text(field: &'static str, text: &str, least: usize) -> Result<(), BadSpec> {
    if (least..=MAX_TEXT).contains(&text.len()) && !text.contains(char::is_control) {
        Ok(())
    } else {
        Err(BadSpec::Text { field, least })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns() {
        for (pattern, text, expected) in [
            ("claude-*", "claude-sonnet-5", true),
            ("claude-*", "gpt-5", false),
            ("*", "", true),
            ("gpt-5", "GPT-5", true),
            ("gpt-5", "gpt-5-mini", false),
            ("*mini*", "gpt-5-mini-x", true),
            ("a*b*c", "abc", true),
            ("a*b", "ab-b-c", false),
            ("ab*ba", "aba", false),
        ] {
            assert_eq!(matches(pattern, text), expected, "{pattern} {text}");
        }
    }

    #[test]
    fn a_denial_wins_and_nothing_listed_allows_all() {
        let mut access = Access {
            models: vec!["claude-*".into()],
            deny_models: vec!["*opus*".into()],
            ..Access::default()
        };
        assert!(access.permits("anthropic", "claude-haiku-5-5"));
        assert!(!access.permits("anthropic", "claude-opus-5-5"));
        assert!(!access.permits("openai", "gpt-5"));
        access.deny_providers = vec!["anthropic".into()];
        assert!(!access.permits("anthropic", "claude-haiku-5-5"));
        assert!(Access::default().permits("x", "y"));
    }

    #[test]
    fn what_cannot_be_a_key_is_refused() {
        let good = KeySpec {
            user: "ann".into(),
            expires: 200,
            ..KeySpec::default()
        };
        assert_eq!(good.check(100), Ok(()));
        assert_eq!(good.check(200), Err(BadSpec::Expired));
        for user in ["", "a:b", "a/b", "a\n"] {
            assert!(
                KeySpec {
                    user: user.into(),
                    ..good.clone()
                }
                .check(100)
                .is_err(),
                "{user:?}"
            );
        }
        assert!(
            KeySpec {
                on_limit: "hope".into(),
                ..good.clone()
            }
            .check(100)
            .is_err()
        );
        assert_eq!(
            (good.closed(199), good.closed(200)),
            (None, Some("this key has expired"))
        );
        assert!(
            KeySpec {
                not_before: 150,
                ..good.clone()
            }
            .closed(100)
            .is_some()
        );
        assert!(
            KeySpec {
                disabled: true,
                ..good
            }
            .closed(100)
            .is_some()
        );
    }
}
