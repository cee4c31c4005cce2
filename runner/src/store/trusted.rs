//! What workspaces bring for harnesses as code, and their user trusts: per user, harness, workspace and digest.

use super::{Store, StoreError};
use crate::trust::{Trusted, TrustedFile};
use lodge_proto::trust::TrustedCode;
use rusqlite::params;

/// Digests that are kept of one user; beyond, the oldest is forgotten.
const MAX_TRUSTED: u32 = 200;
/// Paths that a row of the list shows.
const PATHS_LISTED: usize = 20;

/// Whose trust, and where it holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrustPlace {
    pub account: String,
    pub harness: String,
    /// Its real path.
    pub workspace: String,
    /// What lies there, whatever it is called: another directory at the same path is another workspace.
    pub identity: String,
}

impl Store {
    /// What is trusted at this place, newest first.
    pub async fn trusted_at(&self, place: &TrustPlace) -> Result<Trusted, StoreError> {
        let place = place.clone();
        let rows = self
            .run("reading what is trusted", move |connection| {
                let mut statement = connection.prepare_cached(
                    "SELECT digest, files FROM trusted
                     WHERE account = ?1 AND harness = ?2 AND workspace = ?3 AND identity = ?4
                     ORDER BY since DESC, digest",
                )?;
                statement
                    .query_map(
                        params![place.account, place.harness, place.workspace, place.identity],
                        |row| Ok((row.get(0)?, row.get(1)?)),
                    )?
                    .collect::<rusqlite::Result<Vec<(String, String)>>>()
            })
            .await?;
        rows.into_iter()
            .map(|(digest, files)| Ok((digest, read(&files)?)))
            .collect()
    }

    /// Trusts a digest. A repetition makes it the newest.
    pub async fn trust(
        &self,
        place: &TrustPlace,
        digest: &str,
        files: &[TrustedFile],
        now: u64,
    ) -> Result<(), StoreError> {
        let (place, digest) = (place.clone(), digest.to_owned());
        let files = serde_json::to_string(files).unwrap_or_default();
        self.run("keeping what is trusted", move |connection| {
            let TrustPlace {
                account,
                harness,
                workspace,
                identity,
            } = place;
            let change = connection.transaction()?;
            change.execute(
                "INSERT OR REPLACE INTO trusted (account, harness, workspace, identity, digest, files, since)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
                params![account, harness, workspace, identity, digest, files, now],
            )?;
            change.execute(
                "DELETE FROM trusted WHERE account = ?1 AND (harness, workspace, identity, digest) NOT IN
                 (SELECT harness, workspace, identity, digest FROM trusted WHERE account = ?1
                  ORDER BY since DESC, digest LIMIT ?2)",
                params![account, MAX_TRUSTED],
            )?;
            change.commit()
        })
        .await
    }

    /// Forgets one digest of a workspace, or all; answers how many there were.
    pub async fn distrust(
        &self,
        account: &str,
        harness: &str,
        workspace: &str,
        digest: Option<&str>,
    ) -> Result<usize, StoreError> {
        let own = [account, harness, workspace].map(str::to_owned);
        let digest = digest.map(str::to_owned);
        self.run("forgetting what was trusted", move |connection| {
            let [account, harness, workspace] = own;
            connection.execute(
                "DELETE FROM trusted WHERE account = ?1 AND harness = ?2 AND workspace = ?3
                 AND (?4 IS NULL OR digest = ?4)",
                params![account, harness, workspace, digest],
            )
        })
        .await
    }

    /// What a user trusts, newest first.
    pub async fn trusted(&self, account: &str) -> Result<Vec<TrustedCode>, StoreError> {
        let account = account.to_owned();
        let rows = self
            .run("listing what is trusted", move |connection| {
                let mut statement = connection.prepare_cached(
                    "SELECT workspace, harness, digest, files, since FROM trusted WHERE account = ?1
                     ORDER BY since DESC, digest",
                )?;
                statement
                    .query_map([account], |row| {
                        Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?))
                    })?
                    .collect::<rusqlite::Result<Vec<(String, String, String, String, u64)>>>()
            })
            .await?;
        rows.into_iter()
            .map(|(workspace, harness, digest, files, created_at)| {
                let files = read(&files)?;
                Ok(TrustedCode {
                    workspace,
                    harness,
                    digest,
                    file_count: u32::try_from(files.len()).unwrap_or(u32::MAX),
                    files: files
                        .into_iter()
                        .take(PATHS_LISTED)
                        .map(|file| file.path)
                        .collect(),
                    created_at,
                })
            })
            .collect()
    }
}

fn read(files: &str) -> Result<Vec<TrustedFile>, StoreError> {
    serde_json::from_str(files).map_err(|_| StoreError::Row {
        what: "what is trusted",
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)] // A test that panics has failed.
mod tests {
    use super::*;

    fn place(account: &str) -> TrustPlace {
        TrustPlace {
            account: account.to_owned(),
            harness: "claude".to_owned(),
            workspace: "/w".to_owned(),
            identity: "1-2".to_owned(),
        }
    }

    fn files(path: &str) -> Vec<TrustedFile> {
        vec![TrustedFile {
            path: path.to_owned(),
            mode: 0o644,
            sha256: "00".to_owned(),
        }]
    }

    #[tokio::test]
    async fn trust_holds_for_one_user_at_one_place() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("runner.db");
        let (store, _) = Store::open(&path, "boot").unwrap();
        let ada = place("ada");
        store.trust(&ada, "d1", &files("a"), 1).await.unwrap();
        store.trust(&ada, "d2", &files("b"), 2).await.unwrap();
        store.trust(&ada, "d2", &files("b"), 2).await.unwrap();
        drop(store);
        // It survives.
        let (store, _) = Store::open(&path, "boot").unwrap();
        let known = store.trusted_at(&ada).await.unwrap();
        assert_eq!(
            known,
            [("d2".to_owned(), files("b")), ("d1".to_owned(), files("a"))]
        );
        let elsewhere = [
            place("bob"),
            TrustPlace {
                harness: "codex".to_owned(),
                ..place("ada")
            },
            TrustPlace {
                workspace: "/w/x".to_owned(),
                ..place("ada")
            },
            TrustPlace {
                identity: "1-3".to_owned(),
                ..place("ada")
            },
        ];
        for place in elsewhere {
            assert_eq!(store.trusted_at(&place).await.unwrap(), [], "{place:?}");
        }
        assert_eq!(store.distrust("bob", "claude", "/w", None).await.unwrap(), 0);
        assert_eq!(
            store.distrust("ada", "claude", "/w", Some("d1")).await.unwrap(),
            1
        );
        let listed = store.trusted("ada").await.unwrap();
        assert_eq!(listed.len(), 1);
        assert_eq!((listed[0].digest.as_str(), listed[0].file_count), ("d2", 1));
        assert_eq!(store.distrust("ada", "claude", "/w", None).await.unwrap(), 1);
        assert_eq!(store.trusted_at(&ada).await.unwrap(), []);
    }

    #[tokio::test]
    async fn the_oldest_gives_way() {
        let directory = tempfile::tempdir().unwrap();
        let (store, _) = Store::open(&directory.path().join("runner.db"), "boot").unwrap();
        for n in 0..=u64::from(MAX_TRUSTED) {
            store
                .trust(&place("ada"), &n.to_string(), &files("a"), n)
                .await
                .unwrap();
        }
        let listed = store.trusted("ada").await.unwrap();
        assert_eq!(listed.len(), MAX_TRUSTED as usize);
        assert_eq!(listed.last().unwrap().digest, "1");
    }
}
