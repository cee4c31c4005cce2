//! Tokens: 256 random bits. Only their hashes are stored.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// Characters of a token.
pub const TOKEN_CHARS: usize = 43;

/// A token as its holder shows it. It prints as dots, so that it cannot slip into a log.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

/// Hash of a token: what the store keeps, and what names a login inside this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TokenHash(pub [u8; 32]);

/// The operating system gave no random bytes.
#[derive(Debug, thiserror::Error)]
#[error("the operating system gave no random bytes: {0}")]
pub struct NoRandomness(getrandom::Error);

impl Token {
    /// A new token.
    pub fn random() -> Result<Self, NoRandomness> {
        let mut bytes = [0u8; 32];
        getrandom::fill(&mut bytes).map_err(NoRandomness)?;
        Ok(Self(URL_SAFE_NO_PAD.encode(bytes)))
    }

    /// A token as it was shown; `None` for a text that cannot be one.
    pub fn parse(text: &str) -> Option<Self> {
        let is_token_char = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
        (text.len() == TOKEN_CHARS && text.bytes().all(is_token_char)).then(|| Self(text.to_owned()))
    }

    /// The text for its holder.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// What is stored. A plain hash is enough: there is nothing to guess in 256 random bits, and a lookup by hash
    /// tells by its time nothing about the token.
    pub fn hash(&self) -> TokenHash {
        TokenHash(*blake3::hash(self.0.as_bytes()).as_bytes())
    }
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_differ_parse_and_do_not_print() {
        let (one, two) = (Token::random().unwrap(), Token::random().unwrap());
        assert_ne!(one, two);
        assert_ne!(one.hash(), two.hash());
        assert_eq!(one.reveal().len(), TOKEN_CHARS);
        assert_eq!(Token::parse(one.reveal()).unwrap().hash(), one.hash());
        assert!(!format!("{one:?}").contains(one.reveal()));
        for bad in [
            "",
            "short",
            &format!("{} ", &one.reveal()[1..]),
            &format!("{}x", one.reveal()),
        ] {
            assert!(Token::parse(bad).is_none(), "{bad:?}");
        }
    }
}
