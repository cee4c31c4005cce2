//! Virtual keys: what a guest holds instead of a provider's key.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use zeroize::Zeroizing;

use crate::seal::{SealError, random};

/// Recognisable in a leak, and no provider's.
const PREFIX: &str = "lodge-sk-";

/// Hashes virtual keys; the hash is all the gateway keeps.
pub struct KeyHasher {
    pepper: Zeroizing<[u8; 32]>,
}

impl std::fmt::Debug for KeyHasher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("KeyHasher")
    }
}

impl KeyHasher {
    /// Under that pepper.
    pub fn new(pepper: Zeroizing<[u8; 32]>) -> Self {
        Self { pepper }
    }

    /// The keyed hash of a key. Comparing two takes constant time.
    pub fn hash(&self, key: &str) -> blake3::Hash {
        blake3::keyed_hash(&self.pepper, key.as_bytes())
    }
}

/// A new key of 256 random bits.
pub fn mint() -> Result<Zeroizing<String>, SealError> {
    let bytes = Zeroizing::new(random::<32>()?);
    let text = Zeroizing::new(URL_SAFE_NO_PAD.encode(*bytes));
    Ok(Zeroizing::new(format!("{PREFIX}{}", *text)))
}
