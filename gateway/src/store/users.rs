//! The people, as far as they are not in `lodge.toml`.

use rusqlite::params;

use super::{Store, StoreError, query};

impl Store {
    /// Every user: the name, and the rest as JSON.
    pub fn users(&self) -> Result<Vec<(String, String)>, StoreError> {
        let doing = "listing users";
        let connection = self.connection();
        let mut statement = connection
            .prepare("SELECT name, spec FROM user ORDER BY name")
            .map_err(query(doing))?;
        let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)));
        rows.and_then(Iterator::collect).map_err(query(doing))
    }

    /// Stores a user, in place of an earlier one of that name.
    pub fn put_user(&self, name: &str, spec: &str) -> Result<(), StoreError> {
        self.connection()
            .execute(
                "INSERT OR REPLACE INTO user (name, spec) VALUES (?, ?)",
                params![name, spec],
            )
            .map(drop)
            .map_err(query("storing a user"))
    }

    /// Forgets a user; there need not be one.
    pub fn remove_user(&self, name: &str) -> Result<(), StoreError> {
        self.connection()
            .execute("DELETE FROM user WHERE name = ?", [name])
            .map(drop)
            .map_err(query("removing a user"))
    }
}
