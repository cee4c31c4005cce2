//! Host names, as strictly as the broker takes them.

use std::fmt;

/// Longest name, in characters.
const MAX_NAME: usize = 253;
const MAX_LABEL: usize = 63;

/// A valid host name: lower case, at least two labels (or `localhost`), no trailing dot, not an IP address.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Name(String);

/// Why a queried name is none that could be connected to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    #[error("the name is empty or over {MAX_NAME} characters")]
    Length,
    #[error("a label begins or ends with a hyphen, or has other characters than letters, digits and hyphens")]
    Label,
    /// There is no search list: a single label leads nowhere.
    #[error("the name has one label")]
    Single,
    #[error("the last label is a number, as in an IP address")]
    Numeric,
}

impl Name {
    /// Checks the labels of a name.
    fn of(labels: &[&[u8]]) -> Result<Self, NameError> {
        let length = labels.iter().map(|label| label.len() + 1).sum::<usize>();
        if labels.is_empty() || length > MAX_NAME + 1 {
            return Err(NameError::Length);
        }
        let mut text = String::with_capacity(length);
        for label in labels {
            let inner = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'-';
            let edge = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
            if !label.iter().all(inner) || !edge(label.first()) || !edge(label.last()) {
                return Err(NameError::Label);
            }
            if !text.is_empty() {
                text.push('.');
            }
            text.extend(label.iter().map(|&byte| char::from(byte.to_ascii_lowercase())));
        }
        let name = Self(text);
        let last = labels.last().copied().unwrap_or_default();
        if last.iter().all(u8::is_ascii_digit) || last.to_ascii_lowercase().starts_with(b"0x") {
            return Err(NameError::Numeric);
        }
        if labels.len() == 1 && !name.is_localhost() {
            return Err(NameError::Single);
        }
        Ok(name)
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it means the sandbox itself.
    pub fn is_localhost(&self) -> bool {
        self.0 == "localhost" || self.0.ends_with(".localhost")
    }
}

impl fmt::Display for Name {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str(&self.0)
    }
}

/// Reads a name in wire form from the start of `bytes`: what it says, and how many bytes it took. `None` when it is
/// cut off, compressed or over 255 bytes.
pub(super) fn read(bytes: &[u8]) -> Option<(Result<Name, NameError>, usize)> {
    let mut labels = Vec::new();
    let mut at = 0;
    loop {
        let length = usize::from(*bytes.get(at)?);
        at += 1;
        if length == 0 {
            return Some((Name::of(&labels), at));
        }
        // Longer ones are pointers and reserved forms.
        if length > MAX_LABEL || at + length >= 255 {
            return None;
        }
        labels.push(bytes.get(at..at + length)?);
        at += length;
    }
}
