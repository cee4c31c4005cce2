//! Accounts in an SQLite file.
//!
//! WAL with `synchronous=NORMAL`: what was written survives a killed process. After a power cut the last moments may
//! be missing; then somebody logs in again, or a link works once more within its five minutes.

use super::accounts::{Account, Accounts, AuditEntry, Login, Purpose, StoreError};
use super::secret::TokenHash;
use lodge_proto::relay::Rights;
use rusqlite::{Connection, OptionalExtension, Row, params};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Statements that lead from one version to the next.
const MIGRATIONS: &[&str] = &["
    CREATE TABLE accounts (
        id TEXT PRIMARY KEY,
        name TEXT NOT NULL,
        rights TEXT NOT NULL CHECK (rights IN ('view', 'own')),
        created_at INTEGER NOT NULL
    ) STRICT;
    CREATE TABLE tokens (
        hash BLOB PRIMARY KEY,
        login BLOB,
        account TEXT NOT NULL REFERENCES accounts (id) ON DELETE CASCADE,
        expires_at INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX tokens_by_end ON tokens (expires_at);
    CREATE INDEX tokens_by_login ON tokens (login, expires_at);
    CREATE TABLE logins (
        hash BLOB PRIMARY KEY,
        account TEXT NOT NULL REFERENCES accounts (id) ON DELETE CASCADE,
        created_at INTEGER NOT NULL,
        expires_at INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX logins_by_end ON logins (expires_at);
    CREATE TABLE audit (
        id INTEGER PRIMARY KEY,
        at INTEGER NOT NULL,
        account TEXT,
        action TEXT NOT NULL
    ) STRICT;
"];

/// Unused page tokens that a login may have; the oldest give way.
const PAGE_TOKENS: i64 = 64;

/// Entries of the audit log that are kept.
const AUDIT_ENTRIES: i64 = 100_000;

/// The accounts of a single machine.
#[derive(Debug)]
pub struct SqliteAccounts {
    connection: Mutex<Connection>,
}

fn millis(time: SystemTime) -> i64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

fn time(millis: i64) -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(u64::try_from(millis).unwrap_or(0))
}

fn statement(what: &'static str) -> impl Fn(rusqlite::Error) -> StoreError {
    move |source| StoreError::Statement { what, source }
}

fn account_of(row: &Row<'_>) -> rusqlite::Result<Account> {
    let rights: String = row.get("rights")?;
    let rights = if rights == "own" {
        Rights::Own
    } else {
        Rights::View
    };
    Ok(Account {
        id: row.get("id")?,
        name: row.get("name")?,
        rights,
    })
}

const fn rights_text(rights: Rights) -> &'static str {
    match rights {
        Rights::View => "view",
        Rights::Own => "own",
    }
}

impl SqliteAccounts {
    /// Opens the store, creating or migrating it. A migration saves a copy of the file first.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let open = |source| StoreError::Open {
            path: path.to_owned(),
            source,
        };
        let mut connection = Connection::open(path).map_err(open)?;
        connection.busy_timeout(Duration::from_secs(5)).map_err(open)?;
        connection
            .execute_batch("PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; PRAGMA foreign_keys=ON;")
            .map_err(open)?;
        migrate(&mut connection, path)?;
        Ok(Self {
            connection: Mutex::new(connection),
        })
    }

    fn connection(&self) -> MutexGuard<'_, Connection> {
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn migrate(connection: &mut Connection, path: &Path) -> Result<(), StoreError> {
    let known = i64::try_from(MIGRATIONS.len()).unwrap_or(i64::MAX);
    let found: i64 = connection
        .query_row("PRAGMA user_version", [], |row| row.get(0))
        .map_err(|source| StoreError::Open {
            path: path.to_owned(),
            source,
        })?;
    if found > known {
        return Err(StoreError::Newer {
            path: path.to_owned(),
            found,
            known,
        });
    }
    if found > 0 && found < known {
        let mut copy = path.as_os_str().to_owned();
        copy.push(format!(".v{found}.bak"));
        let copy = PathBuf::from(copy);
        connection
            .backup("main", &copy, None::<fn(rusqlite::backup::Progress)>)
            .map_err(|source| StoreError::Backup { path: copy, source })?;
    }
    for (to, step) in (1..).zip(MIGRATIONS).skip_while(|(to, _)| *to <= found) {
        let failed = |source| StoreError::Migrate {
            path: path.to_owned(),
            to,
            source,
        };
        let transaction = connection.transaction().map_err(failed)?;
        transaction.execute_batch(step).map_err(failed)?;
        transaction
            .pragma_update(None, "user_version", to)
            .map_err(failed)?;
        transaction.commit().map_err(failed)?;
    }
    Ok(())
}

impl Accounts for SqliteAccounts {
    fn ensure_account(&self, account: &Account) -> Result<(), StoreError> {
        self.connection()
            .execute(
                "INSERT INTO accounts (id, name, rights, created_at) VALUES (?1, ?2, ?3, ?4) ON CONFLICT DO NOTHING",
                params![account.id, account.name, rights_text(account.rights), millis(SystemTime::now())],
            )
            .map(drop)
            .map_err(statement("creating an account"))
    }

    fn account(&self, id: &str) -> Result<Option<Account>, StoreError> {
        self.connection()
            .query_row(
                "SELECT id, name, rights FROM accounts WHERE id = ?1",
                [id],
                account_of,
            )
            .optional()
            .map_err(statement("reading an account"))
    }

    fn put_token(
        &self,
        token: &TokenHash,
        purpose: Purpose,
        account: &str,
        expires_at: SystemTime,
    ) -> Result<(), StoreError> {
        let connection = self.connection();
        let failed = statement("storing a token");
        connection
            .execute(
                "DELETE FROM tokens WHERE expires_at <= ?1",
                [millis(SystemTime::now())],
            )
            .map_err(&failed)?;
        let login = match purpose {
            Purpose::Login => None,
            Purpose::Page(login) => Some(login.0),
        };
        let stored = connection
            .execute(
                "INSERT INTO tokens (hash, login, account, expires_at)
                 SELECT ?1, ?2, id, ?4 FROM accounts WHERE id = ?3",
                params![token.0, login, account, millis(expires_at)],
            )
            .map_err(&failed)?;
        connection
            .execute(
                "DELETE FROM tokens WHERE login = ?1 AND hash NOT IN
                 (SELECT hash FROM tokens WHERE login = ?1 ORDER BY expires_at DESC LIMIT ?2)",
                params![login, PAGE_TOKENS],
            )
            .map_err(&failed)?;
        if stored == 1 {
            Ok(())
        } else {
            Err(StoreError::NoAccount {
                id: account.to_owned(),
            })
        }
    }

    fn take_token(
        &self,
        token: &TokenHash,
        purpose: Purpose,
        now: SystemTime,
    ) -> Result<Option<Account>, StoreError> {
        let login = match purpose {
            Purpose::Login => None,
            Purpose::Page(login) => Some(login.0),
        };
        let failed = statement("taking a token");
        let connection = self.connection();
        // One statement: of two that come at once one gets it.
        let owner: Option<String> = connection
            .query_row(
                "DELETE FROM tokens WHERE hash = ?1 AND login IS ?2 AND expires_at > ?3 RETURNING account",
                params![token.0, login, millis(now)],
                |row| row.get(0),
            )
            .optional()
            .map_err(&failed)?;
        let Some(owner) = owner else { return Ok(None) };
        connection
            .query_row(
                "SELECT id, name, rights FROM accounts WHERE id = ?1",
                [owner],
                account_of,
            )
            .optional()
            .map_err(&failed)
    }

    fn put_login(&self, login: &TokenHash, account: &str, expires_at: SystemTime) -> Result<(), StoreError> {
        let connection = self.connection();
        let now = millis(SystemTime::now());
        let failed = statement("storing a login");
        connection
            .execute("DELETE FROM logins WHERE expires_at <= ?1", [now])
            .map_err(&failed)?;
        connection
            .execute(
                "INSERT INTO logins (hash, account, created_at, expires_at) VALUES (?1, ?2, ?3, ?4)",
                params![login.0, account, now, millis(expires_at)],
            )
            .map(drop)
            .map_err(&failed)
    }

    fn login(&self, login: &TokenHash, now: SystemTime) -> Result<Option<Login>, StoreError> {
        self.connection()
            .prepare_cached(
                "SELECT id, name, rights, expires_at FROM logins JOIN accounts ON accounts.id = logins.account
                 WHERE hash = ?1 AND expires_at > ?2",
            )
            .and_then(|mut query| {
                query
                    .query_row(params![login.0, millis(now)], |row| {
                        Ok(Login { account: account_of(row)?, expires_at: time(row.get("expires_at")?) })
                    })
                    .optional()
            })
            .map_err(statement("reading a login"))
    }

    fn remove_login(&self, login: &TokenHash) -> Result<(), StoreError> {
        self.connection()
            .execute("DELETE FROM logins WHERE hash = ?1", [login.0])
            .map(drop)
            .map_err(statement("ending a login"))
    }

    fn audit(&self, entry: &AuditEntry) -> Result<(), StoreError> {
        let connection = self.connection();
        let failed = statement("writing the audit log");
        connection
            .execute(
                "INSERT INTO audit (at, account, action) VALUES (?1, ?2, ?3)",
                params![millis(entry.at), entry.account, entry.action],
            )
            .map_err(&failed)?;
        connection
            .execute(
                "DELETE FROM audit WHERE id <= ?1",
                [connection.last_insert_rowid() - AUDIT_ENTRIES],
            )
            .map(drop)
            .map_err(&failed)
    }

    fn audit_log(&self, limit: u32) -> Result<Vec<AuditEntry>, StoreError> {
        let failed = statement("reading the audit log");
        let connection = self.connection();
        let mut query = connection
            .prepare("SELECT at, account, action FROM audit ORDER BY id DESC LIMIT ?1")
            .map_err(&failed)?;
        let rows = query
            .query_map([limit], |row| {
                Ok(AuditEntry {
                    at: time(row.get(0)?),
                    account: row.get(1)?,
                    action: row.get(2)?,
                })
            })
            .map_err(&failed)?;
        rows.collect::<Result<_, _>>().map_err(&failed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::secret::Token;

    fn local() -> Account {
        Account {
            id: "local".into(),
            name: "Local".into(),
            rights: Rights::Own,
        }
    }

    fn store(directory: &Path) -> SqliteAccounts {
        let store = SqliteAccounts::open(&directory.join("accounts.db")).unwrap();
        store.ensure_account(&local()).unwrap();
        store
    }

    fn in_a_minute() -> SystemTime {
        SystemTime::now() + Duration::from_mins(1)
    }

    #[test]
    fn a_token_works_once_in_time_and_for_its_purpose() {
        let directory = tempfile::tempdir().unwrap();
        let store = store(directory.path());
        let now = SystemTime::now();
        let token = Token::random().unwrap().hash();
        store
            .put_token(&token, Purpose::Login, "local", in_a_minute())
            .unwrap();
        assert_eq!(store.take_token(&token, Purpose::Page(token), now).unwrap(), None);
        assert_eq!(
            store.take_token(&token, Purpose::Login, in_a_minute()).unwrap(),
            None
        );
        assert_eq!(
            store.take_token(&token, Purpose::Login, now).unwrap(),
            Some(local())
        );
        assert_eq!(store.take_token(&token, Purpose::Login, now).unwrap(), None);
        let missing = store.put_token(&token, Purpose::Login, "eve", in_a_minute());
        assert!(matches!(missing, Err(StoreError::NoAccount { id }) if id == "eve"));
    }

    #[test]
    fn logins_survive_a_new_process_and_end() {
        let directory = tempfile::tempdir().unwrap();
        let cookie = Token::random().unwrap().hash();
        store(directory.path())
            .put_login(&cookie, "local", in_a_minute())
            .unwrap();
        let store = store(directory.path());
        assert_eq!(
            store.login(&cookie, SystemTime::now()).unwrap().unwrap().account,
            local()
        );
        assert_eq!(store.login(&cookie, in_a_minute()).unwrap(), None);
        store.remove_login(&cookie).unwrap();
        assert_eq!(store.login(&cookie, SystemTime::now()).unwrap(), None);
    }

    #[test]
    fn a_login_has_a_bounded_number_of_page_tokens() {
        let directory = tempfile::tempdir().unwrap();
        let store = store(directory.path());
        let (now, login) = (SystemTime::now(), Token::random().unwrap().hash());
        let tokens: Vec<_> = (0..=PAGE_TOKENS)
            .map(|_| Token::random().unwrap().hash())
            .collect();
        for (nth, token) in (1..).zip(&tokens) {
            store
                .put_token(
                    token,
                    Purpose::Page(login),
                    "local",
                    now + Duration::from_secs(nth),
                )
                .unwrap();
        }
        let good = |token| {
            store
                .take_token(token, Purpose::Page(login), now)
                .unwrap()
                .is_some()
        };
        assert_eq!(
            (good(&tokens[0]), good(&tokens[1]), good(tokens.last().unwrap())),
            (false, true, true)
        );
    }

    #[test]
    fn no_token_is_in_the_file() {
        let directory = tempfile::tempdir().unwrap();
        let token = Token::random().unwrap();
        let store = store(directory.path());
        store
            .put_token(&token.hash(), Purpose::Login, "local", in_a_minute())
            .unwrap();
        store.put_login(&token.hash(), "local", in_a_minute()).unwrap();
        drop(store);
        for entry in std::fs::read_dir(directory.path()).unwrap() {
            let bytes = std::fs::read(entry.unwrap().path()).unwrap();
            assert!(
                !bytes
                    .windows(43)
                    .any(|window| window == token.reveal().as_bytes())
            );
        }
    }

    #[test]
    fn the_audit_log_lists_the_newest_first() {
        let directory = tempfile::tempdir().unwrap();
        let store = store(directory.path());
        for action in ["login", "logout"] {
            store
                .audit(&AuditEntry {
                    at: time(5),
                    account: Some("local".into()),
                    action: action.into(),
                })
                .unwrap();
        }
        let log = store.audit_log(1).unwrap();
        assert_eq!(
            (log.len(), log[0].action.as_str(), log[0].at),
            (1, "logout", time(5))
        );
    }

    #[test]
    fn a_newer_file_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("accounts.db");
        drop(SqliteAccounts::open(&path).unwrap());
        Connection::open(&path)
            .unwrap()
            .pragma_update(None, "user_version", 99)
            .unwrap();
        assert!(matches!(
            SqliteAccounts::open(&path),
            Err(StoreError::Newer { found: 99, .. })
        ));
    }
}
