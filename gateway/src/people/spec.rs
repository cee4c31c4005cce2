//! What is known of a user.

use serde::{Deserialize, Serialize};

/// Longest name, bytes.
const MAX_NAME: usize = 64;
/// Longest title, team or organisation, bytes.
const MAX_TEXT: usize = 128;

/// A user, the team and organisation it belongs to, and its limits over all its sessions and keys.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct UserSpec {
    /// For good: budgets and usage go by it.
    pub name: String,
    /// For people.
    pub title: String,
    /// Whose sessions are this user's.
    pub uid: Option<u32>,
    pub team: String,
    pub org: String,
    /// Requests a minute; 0: any number.
    pub rpm: u32,
    /// Tokens a minute; 0: any number.
    pub tpm: u32,
    /// Requests at a time; 0: any number.
    pub concurrency: u32,
}

/// A user that there cannot be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadUser {
    #[error("name: must be 1 to {MAX_NAME} characters of letters, digits, `-`, `_`, `.` and `@`")]
    Name,
    #[error("name: digits alone are a uid; give a name and the uid apart")]
    Digits,
    #[error("{0}: must be at most {MAX_TEXT} bytes without control characters")]
    Text(&'static str),
    #[error("{0}: must not contain `:` or `/`")]
    Separator(&'static str),
    #[error("uid: {} is no user's", u32::MAX)]
    NoUid,
}

impl UserSpec {
    /// Whether there can be such a user, whoever else there is.
    pub fn check(&self) -> Result<(), BadUser> {
        let is_plain = |char: char| char.is_alphanumeric() || "-_.@".contains(char);
        if !(1..=MAX_NAME).contains(&self.name.len()) || !self.name.chars().all(is_plain) {
            return Err(BadUser::Name);
        }
        if self.name.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(BadUser::Digits);
        }
        for (field, text) in [("title", &self.title), ("team", &self.team), ("org", &self.org)] {
            if text.len() > MAX_TEXT || text.contains(char::is_control) {
                return Err(BadUser::Text(field));
            }
        }
        for (field, text) in [("team", &self.team), ("org", &self.org)] {
            if text.contains([':', '/']) {
                return Err(BadUser::Separator(field));
            }
        }
        match self.uid {
            Some(u32::MAX) => Err(BadUser::NoUid),
            _ => Ok(()),
        }
    }
}

/// A change of a user; what is absent stays as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Change {
    pub title: Option<String>,
    /// `Some(None)`: of no uid any more.
    pub uid: Option<Option<u32>>,
    pub team: Option<String>,
    pub org: Option<String>,
    pub rpm: Option<u32>,
    pub tpm: Option<u32>,
    pub concurrency: Option<u32>,
}

impl Change {
    /// The user after the change.
    #[must_use]
    pub fn apply(self, spec: UserSpec) -> UserSpec {
        UserSpec {
            title: self.title.unwrap_or(spec.title),
            uid: self.uid.unwrap_or(spec.uid),
            team: self.team.unwrap_or(spec.team),
            org: self.org.unwrap_or(spec.org),
            rpm: self.rpm.unwrap_or(spec.rpm),
            tpm: self.tpm.unwrap_or(spec.tpm),
            concurrency: self.concurrency.unwrap_or(spec.concurrency),
            name: spec.name,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_cannot_be_a_user_is_refused_by_field() {
        let ann = UserSpec {
            name: "ann".into(),
            uid: Some(1001),
            team: "compilers".into(),
            ..UserSpec::default()
        };
        assert_eq!(ann.check(), Ok(()));
        for name in ["", "a b", "a:b", "a/b", "a\n", &"a".repeat(65)] {
            let named = UserSpec {
                name: name.into(),
                ..ann.clone()
            };
            assert_eq!(named.check(), Err(BadUser::Name), "{name:?}");
        }
        let digits = UserSpec {
            name: "1001".into(),
            ..ann.clone()
        };
        assert_eq!(digits.check(), Err(BadUser::Digits));
        let team = UserSpec {
            team: "a:b".into(),
            ..ann.clone()
        };
        assert_eq!(team.check(), Err(BadUser::Separator("team")));
        let title = UserSpec {
            title: "a\u{1b}".into(),
            ..ann.clone()
        };
        assert_eq!(title.check(), Err(BadUser::Text("title")));
        let nobody = UserSpec {
            uid: Some(u32::MAX),
            ..ann
        };
        assert_eq!(nobody.check(), Err(BadUser::NoUid));
    }

    #[test]
    fn a_change_changes_what_it_names() {
        let ann = UserSpec {
            name: "ann".into(),
            uid: Some(1001),
            team: "compilers".into(),
            rpm: 5,
            ..UserSpec::default()
        };
        let change = Change {
            uid: Some(None),
            rpm: Some(0),
            ..Change::default()
        };
        let expected = UserSpec {
            uid: None,
            rpm: 0,
            ..ann.clone()
        };
        assert_eq!(change.apply(ann), expected);
    }
}
