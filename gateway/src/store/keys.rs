//! Virtual keys at rest: never a key, only its hash and what it may do.

use rusqlite::params;

use super::{Store, StoreError, query};

/// A virtual key as stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredKey {
    pub id: String,
    pub key_hash: [u8; 32],
    /// JSON.
    pub spec: String,
}

impl Store {
    /// Every virtual key.
    pub fn keys(&self) -> Result<Vec<StoredKey>, StoreError> {
        let doing = "listing keys";
        let connection = self.connection();
        let mut statement = connection
            .prepare("SELECT id, key_hash, spec FROM virtual_key ORDER BY id")
            .map_err(query(doing))?;
        let rows = statement.query_map([], |row| {
            Ok(StoredKey {
                id: row.get(0)?,
                key_hash: row.get(1)?,
                spec: row.get(2)?,
            })
        });
        rows.and_then(Iterator::collect).map_err(query(doing))
    }

    /// Stores a key, in place of an earlier one of its id.
    pub fn put_key(&self, key: &StoredKey) -> Result<(), StoreError> {
        let StoredKey { id, key_hash, spec } = key;
        self.connection()
            .execute(
                "INSERT OR REPLACE INTO virtual_key (id, key_hash, spec) VALUES (?, ?, ?)",
                params![id, key_hash, spec],
            )
            .map(drop)
            .map_err(query("storing a key"))
    }
}
