//! What is sealed, as a whole: it goes over to another key in one transaction.

use rusqlite::{OptionalExtension, params};

use super::{Store, StoreError, StoredProvider, query};

impl Store {
    /// A sealed value that belongs to no provider.
    pub fn sealed_value(&self, name: &str) -> Result<Option<Vec<u8>>, StoreError> {
        let sql = "SELECT sealed FROM sealed_value WHERE name = ?";
        let row = self.connection().query_row(sql, [name], |row| row.get(0));
        row.optional().map_err(query("reading a sealed value"))
    }

    /// Replaces what is sealed for providers where `again` has something in its place, and stores a value beside it, all
    /// in one transaction. How many were replaced.
    pub fn reseal(
        &self,
        again: impl Fn(&StoredProvider) -> Option<Vec<u8>>,
        (name, value): (&str, &[u8]),
    ) -> Result<usize, StoreError> {
        let stored = self.providers()?;
        let doing = "sealing again";
        let mut connection = self.connection();
        let transaction = connection.transaction().map_err(query(doing))?;
        let mut replaced = 0;
        for row in &stored {
            let Some(sealed) = again(row) else { continue };
            transaction
                .execute(
                    "UPDATE provider SET sealed = ? WHERE name = ?",
                    params![sealed, row.name],
                )
                .map_err(query(doing))?;
            replaced += 1;
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
