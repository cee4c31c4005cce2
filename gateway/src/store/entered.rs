//! Providers' keys, and what administrators set up beside the configuration file.

use rusqlite::{Transaction, params};

use super::{Store, StoreError, StoredProvider, query};

/// Something that was set up, as stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredEntry {
    pub kind: String,
    /// Unique in its kind.
    pub name: String,
    /// A message of the control protocol.
    pub value: Vec<u8>,
    /// An account's key.
    pub sealed: Option<Vec<u8>>,
}

/// Everything that is stored about providers, as of one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoredSetup {
    pub keys: Vec<StoredProvider>,
    pub entries: Vec<StoredEntry>,
}

/// One step of a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Edit {
    PutKey(StoredProvider),
    RemoveKey(String),
    /// In place of an earlier one of its kind and name.
    Put(StoredEntry),
    Remove {
        kind: &'static str,
        name: String,
    },
}

impl Store {
    /// Keys of providers and what was set up.
    pub fn setup(&self) -> Result<StoredSetup, StoreError> {
        let doing = "reading what is set up";
        let mut connection = self.connection();
        let transaction = connection.transaction().map_err(query(doing))?;
        read(&transaction).map_err(query(doing))
    }

    /// Makes a change, whole or not at all; it is on the disk when this returns.
    pub fn edit(&self, edits: &[Edit]) -> Result<StoredSetup, StoreError> {
        let doing = "storing what is set up";
        let mut connection = self.connection();
        let transaction = connection.transaction().map_err(query(doing))?;
        for edit in edits {
            apply(&transaction, edit).map_err(query(doing))?;
        }
        let after = read(&transaction).map_err(query(doing))?;
        transaction.commit().map_err(query(doing))?;
        Ok(after)
    }
}

fn read(transaction: &Transaction<'_>) -> rusqlite::Result<StoredSetup> {
    let mut keys = transaction.prepare("SELECT name, kind, base_url, sealed FROM provider ORDER BY name")?;
    let keys = keys.query_map([], |row| {
        Ok(StoredProvider {
            name: row.get(0)?,
            kind: row.get(1)?,
            base_url: row.get(2)?,
            sealed: row.get(3)?,
        })
    })?;
    let mut entries =
        transaction.prepare("SELECT kind, name, value, sealed FROM entered ORDER BY kind, name")?;
    let entries = entries.query_map([], |row| {
        Ok(StoredEntry {
            kind: row.get(0)?,
            name: row.get(1)?,
            value: row.get(2)?,
            sealed: row.get(3)?,
        })
    })?;
    Ok(StoredSetup {
        keys: keys.collect::<rusqlite::Result<_>>()?,
        entries: entries.collect::<rusqlite::Result<_>>()?,
    })
}

fn apply(transaction: &Transaction<'_>, edit: &Edit) -> rusqlite::Result<usize> {
    match edit {
        Edit::PutKey(StoredProvider {
            name,
            kind,
            base_url,
            sealed,
        }) => transaction.execute(
            "INSERT OR REPLACE INTO provider (name, kind, base_url, sealed) VALUES (?, ?, ?, ?)",
            params![name, kind, base_url, sealed],
        ),
        Edit::RemoveKey(name) => transaction.execute("DELETE FROM provider WHERE name = ?", [name]),
        Edit::Put(StoredEntry {
            kind,
            name,
            value,
            sealed,
        }) => transaction.execute(
            "INSERT OR REPLACE INTO entered (kind, name, value, sealed) VALUES (?, ?, ?, ?)",
            params![kind, name, value, sealed],
        ),
        Edit::Remove { kind, name } => transaction.execute(
            "DELETE FROM entered WHERE kind = ? AND name = ?",
            params![kind, name],
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(kind: &str, name: &str) -> Edit {
        Edit::Put(StoredEntry {
            kind: kind.into(),
            name: name.into(),
            value: vec![1],
            sealed: None,
        })
    }

    #[test]
    fn a_change_of_several_steps_is_whole_or_absent() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("g.db");
        let store = Store::open(&path).unwrap();
        let steps = [entry("provider", "a"), entry("account", "a/b")];
        let after = store.edit(&steps).unwrap();
        assert_eq!(after.entries.len(), 2);
        // The second step fails: the first has not happened.
        let other = rusqlite::Connection::open(&path).unwrap();
        other
            .execute_batch(
                "CREATE TRIGGER no_price BEFORE INSERT ON entered WHEN NEW.kind = 'price' \
                 BEGIN SELECT RAISE(ABORT, 'a disk that fails'); END",
            )
            .unwrap();
        let steps = [
            Edit::Remove {
                kind: "provider",
                name: "a".into(),
            },
            entry("price", "a/m"),
        ];
        store.edit(&steps).unwrap_err();
        assert_eq!(store.setup().unwrap(), after);
        drop(store);
        assert_eq!(Store::open(&path).unwrap().setup().unwrap(), after);
    }
}
