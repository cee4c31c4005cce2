//! Approvals for always: per user, harness and workspace, until they are forgotten.

use super::{Store, StoreError};
use crate::fold::{Given, Rule};
use lodge_proto::ids::RequestId;
use lodge_proto::input::{Approval, ApprovalScope};
use rusqlite::{Connection, Row, params};

/// Approvals that are kept of one user; beyond, the oldest is forgotten. Their list fits into one frame.
const MAX_APPROVALS: u32 = 500;
/// Approvals that a session is told of: a record of its journal holds them.
const MAX_TOLD: u32 = 200;

/// Whose approval, and where it holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    pub account: String,
    pub harness: String,
    pub workspace: String,
}

impl Store {
    /// Keeps an approval. A repetition changes nothing, not even after it was forgotten.
    pub async fn keep_approval(&self, place: &Place, given: &Given) -> Result<(), StoreError> {
        let (place, given) = (place.clone(), given.clone());
        self.run("keeping an approval", move |connection| {
            let change = connection.transaction()?;
            if !is_known(&change, &place, &given.rule)? {
                let Place {
                    account,
                    harness,
                    workspace,
                } = &place;
                let (id, tool, subject) = (
                    given.id.to_string(),
                    &given.rule.tool,
                    given.rule.subject.to_string(),
                );
                change.execute(
                    "INSERT INTO approvals (id, account, harness, workspace, tool, subject, since)
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) ON CONFLICT DO NOTHING",
                    params![id, account, harness, workspace, tool, subject, given.at],
                )?;
                change.execute(
                    "UPDATE approvals SET forgotten = 1, subject = '' WHERE account = ?1 AND forgotten = 0 AND id NOT IN
                     (SELECT id FROM approvals WHERE account = ?1 AND forgotten = 0 ORDER BY since DESC LIMIT ?2)",
                    params![account, MAX_APPROVALS],
                )?;
            }
            change.commit()
        })
        .await
    }

    /// What is approved here, newest first; as many as a session is told of.
    pub async fn approved_at(&self, place: &Place) -> Result<Vec<Given>, StoreError> {
        let place = place.clone();
        let rows = self
            .run("reading approvals", move |connection| {
                let mut statement = connection.prepare_cached(
                    "SELECT id, tool, subject, since FROM approvals
                     WHERE account = ?1 AND harness = ?2 AND workspace = ?3 AND forgotten = 0
                     ORDER BY since DESC, id DESC LIMIT ?4",
                )?;
                statement
                    .query_map(
                        params![place.account, place.harness, place.workspace, MAX_TOLD],
                        |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)),
                    )?
                    .collect::<rusqlite::Result<Vec<(String, String, String, u64)>>>()
            })
            .await?;
        rows.into_iter()
            .map(|(id, tool, subject, at)| {
                let unread = |_| StoreError::Row { what: "an approval" };
                let id = id.parse().map_err(|_| StoreError::Row { what: "an approval" })?;
                let subject = serde_json::from_str(&subject).map_err(unread)?;
                let rule = Rule { tool, subject };
                Ok(Given { id, rule, at })
            })
            .collect()
    }

    /// The approvals of a user, newest first.
    pub async fn approvals(&self, account: &str) -> Result<Vec<Approval>, StoreError> {
        let account = account.to_owned();
        let rows = self
            .run("listing approvals", move |connection| {
                let mut statement = connection.prepare_cached(
                    "SELECT id, harness, workspace, tool, subject, since FROM approvals
                     WHERE account = ?1 AND forgotten = 0 ORDER BY since DESC, id DESC",
                )?;
                statement
                    .query_map([account], |row| Ok((row.get::<_, String>(0)?, read(row)?)))?
                    .collect::<rusqlite::Result<Vec<(String, Approval)>>>()
            })
            .await?;
        rows.into_iter()
            .map(|(id, approval)| {
                let id = id.parse().map_err(|_| StoreError::Row { what: "an approval" })?;
                Ok(Approval { id, ..approval })
            })
            .collect()
    }

    /// Forgets one approval of a user, or all; answers how many there were.
    pub async fn forget_approvals(&self, account: &str, id: Option<RequestId>) -> Result<usize, StoreError> {
        let (account, id) = (account.to_owned(), id.map(|id| id.to_string()));
        self.run("forgetting approvals", move |connection| {
            // The id stays: whoever still brings the same approval must not bring it back.
            connection.execute(
                "UPDATE approvals SET forgotten = 1, subject = ''
                 WHERE account = ?1 AND forgotten = 0 AND (?2 IS NULL OR id = ?2)",
                params![account, id],
            )
        })
        .await
    }
}

fn is_known(connection: &Connection, place: &Place, rule: &Rule) -> rusqlite::Result<bool> {
    connection
        .prepare_cached(
            "SELECT 1 FROM approvals
             WHERE account = ?1 AND harness = ?2 AND workspace = ?3 AND tool = ?4 AND subject = ?5 AND forgotten = 0",
        )?
        .exists(params![
            place.account,
            place.harness,
            place.workspace,
            rule.tool,
            rule.subject.to_string()
        ])
}

/// A row but for its id.
fn read(row: &Row<'_>) -> rusqlite::Result<Approval> {
    let subject: String = row.get(4)?;
    Ok(Approval {
        id: RequestId::default(),
        scope: ApprovalScope::Always,
        session_id: None,
        harness: row.get(1)?,
        workspace: row.get(2)?,
        tool: row.get(3)?,
        subject: serde_json::from_str(&subject).unwrap_or_default(),
        created_at: row.get(5)?,
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)] // A test that panics has failed.
mod tests {
    use super::*;
    use serde_json::json;

    fn place(account: &str) -> Place {
        Place {
            account: account.to_owned(),
            harness: "pi".to_owned(),
            workspace: "/w".to_owned(),
        }
    }

    fn given(command: &str, at: u64) -> Given {
        let rule = Rule::exact("bash", &json!({ "command": command }), &[]).unwrap();
        let id = RequestId::new();
        Given { id, rule, at }
    }

    fn store() -> (tempfile::TempDir, Store) {
        let directory = tempfile::tempdir().unwrap();
        let (store, _) = Store::open(&directory.path().join("runner.db"), "boot").unwrap();
        (directory, store)
    }

    #[tokio::test]
    async fn an_approval_is_kept_once_and_stays_forgotten() {
        let (_directory, store) = store();
        let (ada, make) = (place("ada"), given("make", 1));
        store.keep_approval(&ada, &make).await.unwrap();
        store.keep_approval(&ada, &make).await.unwrap();
        // The same again, given in another session at the same time.
        store.keep_approval(&ada, &given("make", 2)).await.unwrap();
        assert_eq!(
            store.approved_at(&ada).await.unwrap(),
            std::slice::from_ref(&make)
        );
        assert_eq!(store.approvals("ada").await.unwrap()[0].id, make.id);
        for elsewhere in [
            place("bob"),
            Place {
                harness: "codex".to_owned(),
                ..ada.clone()
            },
            Place {
                workspace: "/w/x".to_owned(),
                ..ada.clone()
            },
        ] {
            assert_eq!(store.approved_at(&elsewhere).await.unwrap(), [], "{elsewhere:?}");
        }
        assert_eq!(store.forget_approvals("bob", Some(make.id)).await.unwrap(), 0);
        assert_eq!(store.forget_approvals("ada", Some(make.id)).await.unwrap(), 1);
        // A session whose record of it was lost brings it once more.
        store.keep_approval(&ada, &make).await.unwrap();
        assert_eq!(store.approved_at(&ada).await.unwrap(), []);
        let anew = given("make", 3);
        store.keep_approval(&ada, &anew).await.unwrap();
        assert_eq!(store.approved_at(&ada).await.unwrap(), [anew]);
    }

    #[tokio::test]
    async fn the_oldest_gives_way() {
        let (_directory, store) = store();
        let ada = place("ada");
        for n in 0..=u64::from(MAX_APPROVALS) {
            let given = given(&n.to_string(), n);
            store.keep_approval(&ada, &given).await.unwrap();
        }
        let listed = store.approvals("ada").await.unwrap();
        assert_eq!(listed.len(), MAX_APPROVALS as usize);
        assert_eq!(listed.last().unwrap().created_at, 1);
        assert_eq!(store.approved_at(&ada).await.unwrap().len(), MAX_TOLD as usize);
    }
}
