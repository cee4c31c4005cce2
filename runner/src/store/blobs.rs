//! Which images each account has, and which sessions need them. Their bytes are files.

use super::{Store, StoreError};
use lodge_proto::SessionId;
use lodge_proto::part::BlobRef;
use rusqlite::{Connection, OptionalExtension, Row, params};

/// What is left of a blob that was named to a session and is not there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missing {
    pub hash: String,
}

impl Store {
    /// Bytes that the blobs of an account have together, without the one of this hash.
    pub async fn blob_bytes(&self, account: &str, but: &str) -> Result<u64, StoreError> {
        let (account, but) = (account.to_owned(), but.to_owned());
        self.run("adding up blobs", move |connection| {
            connection
                .prepare_cached("SELECT coalesce(sum(size), 0) FROM blobs WHERE account = ?1 AND hash <> ?2")?
                .query_row(params![account, but], |row| row.get(0))
        })
        .await
    }

    /// Notes a blob whose bytes are on disk. One that is known is as young as a new one.
    pub async fn keep_blob(&self, account: &str, blob: &BlobRef, now: u64) -> Result<(), StoreError> {
        let (account, blob) = (account.to_owned(), blob.clone());
        self.run("keeping a blob", move |connection| {
            connection.execute(
                "INSERT INTO blobs (account, hash, media_type, size, since) VALUES (?1, ?2, ?3, ?4, ?5)
                 ON CONFLICT DO UPDATE SET since = excluded.since",
                params![account, blob.hash, blob.media_type, blob.size, now],
            )?;
            Ok(())
        })
        .await
    }

    /// A blob of an account.
    pub async fn blob(&self, account: &str, hash: &str) -> Result<Option<BlobRef>, StoreError> {
        let (account, hash) = (account.to_owned(), hash.to_owned());
        self.run("looking a blob up", move |connection| {
            find(connection, &account, &hash)
        })
        .await
    }

    /// Notes that a session needs blobs of an account, all or none: from here on they stay as long as it does.
    pub async fn use_blobs(
        &self,
        account: &str,
        session: SessionId,
        hashes: Vec<String>,
    ) -> Result<Result<Vec<BlobRef>, Missing>, StoreError> {
        let (account, session) = (account.to_owned(), session.to_string());
        self.run("noting the use of blobs", move |connection| {
            let change = connection.transaction()?;
            let mut found = Vec::with_capacity(hashes.len());
            for hash in hashes {
                let Some(blob) = find(&change, &account, &hash)? else {
                    return Ok(Err(Missing { hash }));
                };
                change
                    .prepare_cached("INSERT INTO blob_uses (session, hash, account) VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING")?
                    .execute(params![session, hash, account])?;
                found.push(blob);
            }
            change.commit()?;
            Ok(Ok(found))
        })
        .await
    }

    /// Whose blob a session means by a hash.
    pub async fn blob_owner(&self, session: SessionId, hash: &str) -> Result<Option<String>, StoreError> {
        let hash = hash.to_owned();
        self.run("looking up whose a blob is", move |connection| {
            connection
                .prepare_cached("SELECT account FROM blob_uses WHERE session = ?1 AND hash = ?2")?
                .query_row(params![session.to_string(), hash], |row| row.get(0))
                .optional()
        })
        .await
    }

    /// A session that goes on from a copy of another needs what that one does.
    pub async fn copy_blob_uses(&self, from: SessionId, to: SessionId) -> Result<(), StoreError> {
        self.run("noting the blobs of a fork", move |connection| {
            connection.execute(
                "INSERT INTO blob_uses (session, hash, account) SELECT ?2, hash, account FROM blob_uses WHERE session = ?1
                 ON CONFLICT DO NOTHING",
                params![from.to_string(), to.to_string()],
            )?;
            Ok(())
        })
        .await
    }

    /// Forgets the blobs from before `before` that no session needs; returns account and hash of each.
    pub async fn expire_blobs(&self, before: u64) -> Result<Vec<(String, String)>, StoreError> {
        self.run("forgetting blobs", move |connection| {
            let mut statement = connection.prepare_cached(
                "DELETE FROM blobs WHERE since < ?1 AND NOT EXISTS
                 (SELECT 1 FROM blob_uses u WHERE u.account = blobs.account AND u.hash = blobs.hash)
                 RETURNING account, hash",
            )?;
            statement
                .query_map([before], |row| Ok((row.get(0)?, row.get(1)?)))?
                .collect()
        })
        .await
    }
}

fn find(connection: &Connection, account: &str, hash: &str) -> rusqlite::Result<Option<BlobRef>> {
    connection
        .prepare_cached("SELECT hash, media_type, size FROM blobs WHERE account = ?1 AND hash = ?2")?
        .query_row(params![account, hash], read)
        .optional()
}

fn read(row: &Row<'_>) -> rusqlite::Result<BlobRef> {
    Ok(BlobRef {
        hash: row.get(0)?,
        media_type: row.get(1)?,
        size: row.get(2)?,
        name: None,
    })
}
