//! What is sealed, as a whole: it goes over to another key in one transaction.

use rusqlite::{OptionalExtension, params};

use super::{Store, StoreError, StoredEntry, StoredProvider, query};

impl Store {
    /// A sealed value that belongs to no provider.
    pub fn sealed_value(&self, name: &str) -> Result<Option<Vec<u8>>, StoreError> {
        let sql = "SELECT sealed FROM sealed_value WHERE name = ?";
        let row = self.connection().query_row(sql, [name], |row| row.get(0));
        row.optional().map_err(query("reading a sealed value"))
    }

    /// Replaces what is sealed for providers and their accounts where there is something in its place, and stores a value
    /// beside it, all in one transaction. How many were replaced.
    pub fn reseal(
        &self,
        provider: impl Fn(&StoredProvider) -> Option<Vec<u8>>,
        entry: impl Fn(&StoredEntry) -> Option<Vec<u8>>,
        (name, value): (&str, &[u8]),
    ) -> Result<usize, StoreError> {
        let stored = self.setup()?;
        let doing = "sealing again";
        let mut connection = self.connection();
        let transaction = connection.transaction().map_err(query(doing))?;
        let mut replaced = 0;
        for row in &stored.keys {
            let Some(sealed) = provider(row) else { continue };
            let sql = "UPDATE provider SET sealed = ? WHERE name = ?";
            let done = transaction.execute(sql, params![sealed, row.name]);
            replaced += done.map_err(query(doing))?;
        }
        for row in &stored.entries {
            let Some(sealed) = entry(row) else { continue };
            let sql = "UPDATE entered SET sealed = ? WHERE kind = ? AND name = ?";
            let done = transaction.execute(sql, params![sealed, row.kind, row.name]);
            replaced += done.map_err(query(doing))?;
        }
        transaction
            .execute(
                "INSERT OR REPLACE INTO sealed_value (name, sealed) VALUES (?, ?)",
                params![name, value],
            )
            .map_err(query(doing))?;
        transaction.commit().map_err(query(doing))?;
        Ok(replaced)
    }
}
