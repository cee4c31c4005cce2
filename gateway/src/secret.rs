//! Secrets in memory.

use std::sync::Arc;

use bytes::Bytes;
use hyper::header::HeaderValue;
use zeroize::Zeroizing;

/// Longest provider key that is accepted, in bytes.
const MAX_KEY: usize = 8192;

/// Why a text cannot be a provider key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadKey {
    #[error("the key is empty")]
    Empty,
    #[error("the key is longer than {MAX_KEY} bytes")]
    TooLong,
    #[error("the key has a character that cannot stand in an HTTP header")]
    Character,
}

/// A provider key: never printed, wiped when the last one that has it is dropped.
#[derive(Clone)]
pub struct Secret(Arc<Zeroizing<String>>);

impl Secret {
    /// Takes a key, without the white space and line end that come with pasted text.
    pub fn parse(text: &Zeroizing<String>) -> Result<Self, BadKey> {
        let key = text.trim();
        if key.is_empty() {
            return Err(BadKey::Empty);
        }
        if key.len() > MAX_KEY {
            return Err(BadKey::TooLong);
        }
        if !key.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(BadKey::Character);
        }
        Ok(Self(Arc::new(Zeroizing::new(key.to_owned()))))
    }

    /// The key itself.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// `prefix` and the key as a header that no debug output shows.
    pub(crate) fn header(&self, prefix: &str) -> HeaderValue {
        let text = Zeroizing::new(format!("{prefix}{}", self.expose()).into_bytes());
        // Wiped when the request is dropped, and not copied on the way into it.
        let value = HeaderValue::from_maybe_shared(Bytes::from_owner(text));
        let mut value = value.unwrap_or_else(|_| HeaderValue::from_static(""));
        value.set_sensitive(true);
        value
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_trimmed_checked_and_never_printed() {
        let parse = |text: &str| Secret::parse(&Zeroizing::new(text.to_owned()));
        let key = parse(" sk-abc\n").unwrap();
        assert_eq!(key.expose(), "sk-abc");
        assert_eq!(format!("{key:?} {:?}", key.header("Bearer ")), "Secret Sensitive");
        assert_eq!(parse(" ").unwrap_err(), BadKey::Empty);
        assert_eq!(parse("a\r\nb: c").unwrap_err(), BadKey::Character);
        assert_eq!(parse(&"x".repeat(9000)).unwrap_err(), BadKey::TooLong);
    }
}
