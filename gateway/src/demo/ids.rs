//! Ids without randomness: derived from a hash of the request.

use crate::dialect::Dialect;

/// Where the ids of one response come from.
#[derive(Clone, Copy, Debug)]
pub struct IdSeed(blake3::Hash);

impl IdSeed {
    /// The same body in the same dialect gives the same ids.
    pub fn of(dialect: Dialect, body: &[u8]) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key("lodge demo model ids v1");
        hasher.update(&[dialect as u8]);
        hasher.update(body);
        Self(hasher.finalize())
    }

    /// `prefix` and twelve hexadecimal digits.
    pub fn id(&self, prefix: &str, index: usize) -> String {
        let mut hasher = blake3::Hasher::new_keyed(self.0.as_bytes());
        hasher.update(prefix.as_bytes());
        hasher.update(&index.to_le_bytes());
        format!("{prefix}{}", &hasher.finalize().to_hex()[..12])
    }
}
