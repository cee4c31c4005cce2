//! `usage.db`: what the journal adds up to, with the number of the last record it has taken in.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension, params};

use super::clock::Anchor;
use super::fold;
use super::record::{Record, Reserve};
use super::state::{Budgets, Cell, Counter, State};
use super::window::Window;
use crate::money::Nanos;

const SCHEMA_VERSION: i64 = 2;

const SCHEMA: &str = "
CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
CREATE TABLE counter (
    scope    TEXT NOT NULL,
    window   TEXT NOT NULL,
    place    INTEGER NOT NULL, -- which day, week or month
    spent    INTEGER NOT NULL, -- nano-dollars
    seen     INTEGER NOT NULL, -- seconds since 1970
    PRIMARY KEY (scope, window, place)
) STRICT, WITHOUT ROWID;
CREATE TABLE open (id INTEGER PRIMARY KEY, reserve TEXT NOT NULL, progress INTEGER NOT NULL) STRICT;
CREATE TABLE budget (
    scope TEXT NOT NULL,
    window TEXT NOT NULL,
    nanos INTEGER NOT NULL,
    PRIMARY KEY (scope, window)
) STRICT, WITHOUT ROWID;
CREATE TABLE request (
    id             INTEGER PRIMARY KEY,
    at             INTEGER NOT NULL, -- seconds since 1970
    user           TEXT NOT NULL,
    key            TEXT NOT NULL,
    session        TEXT NOT NULL,
    provider       TEXT NOT NULL,
    model          TEXT NOT NULL,
    price          TEXT NOT NULL, -- where it came from; empty: unknown
    reserved       INTEGER NOT NULL, -- nano-dollars
    cost           INTEGER NOT NULL, -- nano-dollars
    input          INTEGER NOT NULL,
    cache_read     INTEGER NOT NULL,
    cache_write    INTEGER NOT NULL,
    cache_write_1h INTEGER NOT NULL,
    output         INTEGER NOT NULL,
    reasoning      INTEGER NOT NULL,
    web_searches   INTEGER NOT NULL,
    how            TEXT NOT NULL
) STRICT;
CREATE INDEX request_at ON request (at);
PRAGMA user_version = 1;
";

/// From version 1 to 2: the team and organisation that the user belonged to at the time.
const TO_2: &str = "
ALTER TABLE request ADD COLUMN team TEXT NOT NULL DEFAULT '';
ALTER TABLE request ADD COLUMN org TEXT NOT NULL DEFAULT '';
PRAGMA user_version = 2;
";

/// How long the total of a session is remembered after its last request, seconds.
const SESSION_MEMORY: u64 = 90 * 86_400;

/// A database that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DbError {
    #[error("opening {}", path.display())]
    Open { path: PathBuf, source: rusqlite::Error },
    #[error("{} has schema version {found}, this program knows {SCHEMA_VERSION}", path.display())]
    Version { path: PathBuf, found: i64 },
    #[error("{doing}")]
    Query {
        doing: &'static str,
        source: rusqlite::Error,
    },
    #[error("{doing}: {what}")]
    Content { doing: &'static str, what: String },
}

fn query(doing: &'static str) -> impl Fn(rusqlite::Error) -> DbError {
    move |source| DbError::Query { doing, source }
}

/// What usage is listed by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    User,
    Team,
    Org,
    Key,
    Model,
    Session,
    Day,
}

impl Group {
    pub const ALL: [(&'static str, Self); 7] = [
        ("user", Self::User),
        ("team", Self::Team),
        ("org", Self::Org),
        ("key", Self::Key),
        ("model", Self::Model),
        ("session", Self::Session),
        ("day", Self::Day),
    ];

    /// The group of that name.
    pub fn parse(name: &str) -> Option<Self> {
        let name = if name == "organisation" { "org" } else { name };
        Self::ALL
            .into_iter()
            .find_map(|(known, group)| (known == name).then_some(group))
    }

    fn column(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Team => "team",
            Self::Org => "org",
            Self::Key => "key",
            Self::Model => "provider || '/' || model",
            Self::Session => "session",
            Self::Day => "date(at, 'unixepoch')",
        }
    }
}

/// Usage of one group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    pub name: String,
    pub requests: u64,
    /// Requests without final figures of the provider.
    pub inexact: u64,
    /// Requests whose price nobody knew.
    pub unpriced: u64,
    pub input: u64,
    pub cache_read: u64,
    pub cache_write: u64,
    pub output: u64,
    pub reasoning: u64,
    pub cost: Nanos,
}

/// What the database knew at the start.
pub(super) struct Kept {
    pub(super) state: State,
    pub(super) budgets: Budgets,
    /// Number of the last record it has taken in.
    pub(super) applied: u64,
    pub(super) anchor: Option<Anchor>,
    /// The latest time in it.
    pub(super) last: u64,
}

/// A record on its way into the database.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) number: u64,
    pub(super) record: Record,
    /// The reservation that it settles.
    pub(super) closes: Option<Arc<Reserve>>,
}

/// The database; the ledger's thread owns it.
#[derive(Debug)]
pub(super) struct Db {
    connection: Connection,
}

impl Db {
    pub(super) fn open(path: &Path) -> Result<Self, DbError> {
        let open = |source| DbError::Open {
            path: path.to_owned(),
            source,
        };
        let connection = Connection::open(path).map_err(open)?;
        // What a power cut takes from the log of the database is in the journal still.
        connection
            .execute_batch("PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL;")
            .map_err(open)?;
        connection
            .busy_timeout(std::time::Duration::from_secs(5))
            .map_err(open)?;
        let version: i64 = connection
            .query_row("PRAGMA user_version", [], |row| row.get(0))
            .map_err(open)?;
        match version {
            0 => connection
                .execute_batch(&format!("BEGIN; {SCHEMA} {TO_2} COMMIT;"))
                .map_err(open)?,
            1 => {
                // As it was, beside it: the older program can go on with that.
                let backup = path.with_extension("db.v1");
                let _earlier_try = std::fs::remove_file(&backup);
                connection
                    .execute("VACUUM INTO ?", [backup.to_string_lossy()])
                    .map_err(open)?;
                connection
                    .execute_batch(&format!("BEGIN; {TO_2} COMMIT;"))
                    .map_err(open)?;
            }
            SCHEMA_VERSION => {}
            found => {
                return Err(DbError::Version {
                    path: path.to_owned(),
                    found,
                });
            }
        }
        Ok(Self { connection })
    }

    /// Everything that is there, but counters of windows that were over at the last request.
    pub(super) fn load(&self) -> Result<Kept, DbError> {
        let last = self.newest()?;
        let mut state = State::default();
        self.load_counters(&mut state, last)?;
        self.load_open(&mut state)?;
        Ok(Kept {
            state,
            budgets: self.load_budgets()?,
            applied: self.meta("applied")?.unwrap_or(0),
            anchor: self.meta("anchor")?,
            last,
        })
    }

    fn newest(&self) -> Result<u64, DbError> {
        let sql = "SELECT max(ifnull((SELECT max(at) FROM request), 0), ifnull((SELECT max(seen) FROM counter), 0))";
        self.connection
            .query_row(sql, [], |row| row.get::<_, i64>(0))
            .map(i64::cast_unsigned)
            .map_err(query("reading the time"))
    }

    fn meta<T: serde::de::DeserializeOwned>(&self, name: &str) -> Result<Option<T>, DbError> {
        let doing = "reading what was applied";
        let text = self
            .connection
            .query_row("SELECT value FROM meta WHERE name = ?", [name], |row| {
                row.get::<_, String>(0)
            })
            .optional()
            .map_err(query(doing))?;
        text.map(|text| serde_json::from_str(&text))
            .transpose()
            .map_err(|error| DbError::Content {
                doing,
                what: error.to_string(),
            })
    }

    fn load_counters(&self, state: &mut State, now: u64) -> Result<(), DbError> {
        let doing = "reading counters";
        let sql = "SELECT scope, window, place, spent FROM counter
                   WHERE window = 'total' AND (scope NOT LIKE 'session:%' OR seen >= ?)
                      OR window = 'day' AND place >= ? OR window = 'week' AND place >= ?
                      OR window = 'month' AND place >= ?";
        let place = |window: Window| window.index(now).cast_signed();
        let mut statement = self.connection.prepare(sql).map_err(query(doing))?;
        let rows = statement.query_map(
            params![
                now.saturating_sub(SESSION_MEMORY).cast_signed(),
                place(Window::Day),
                place(Window::Week),
                place(Window::Month)
            ],
            |row| {
                Ok((
                    row.get::<_, String>(0)?,
                    row.get::<_, String>(1)?,
                    row.get::<_, i64>(2)?,
                    row.get::<_, i64>(3)?,
                ))
            },
        );
        for row in rows.map_err(query(doing))? {
            let (scope, window, index, spent) = row.map_err(query(doing))?;
            let cell = Cell {
                scope: scope.into(),
                window: known_window(doing, &window)?,
                index: index.cast_unsigned(),
            };
            let counter = Counter {
                spent: Nanos(spent.cast_unsigned()),
                reserved: Nanos::ZERO,
            };
            state.counters.insert(cell, counter);
        }
        Ok(())
    }

    fn load_open(&self, state: &mut State) -> Result<(), DbError> {
        let doing = "reading open requests";
        let mut statement = self
            .connection
            .prepare("SELECT id, reserve, progress FROM open ORDER BY id")
            .map_err(query(doing))?;
        let rows = statement.query_map([], |row| {
            Ok((
                row.get::<_, i64>(0)?.cast_unsigned(),
                row.get::<_, String>(1)?,
                row.get::<_, i64>(2)?.cast_unsigned(),
            ))
        });
        for row in rows.map_err(query(doing))? {
            let (id, text, progress) = row.map_err(query(doing))?;
            let reserve: Reserve = serde_json::from_str(&text).map_err(|error| DbError::Content {
                doing,
                what: error.to_string(),
            })?;
            state.apply(id, &Record::Reserve(Arc::new(reserve)));
            state.apply(
                id,
                &Record::Progress {
                    id,
                    cost: Nanos(progress),
                },
            );
        }
        Ok(())
    }

    fn load_budgets(&self) -> Result<Budgets, DbError> {
        let doing = "reading budgets";
        let mut statement = self
            .connection
            .prepare("SELECT scope, window, nanos FROM budget")
            .map_err(query(doing))?;
        let rows = statement.query_map([], |row| {
            Ok((
                row.get::<_, String>(0)?,
                row.get::<_, String>(1)?,
                row.get::<_, i64>(2)?,
            ))
        });
        rows.map_err(query(doing))?
            .map(|row| {
                let (scope, window, nanos) = row.map_err(query(doing))?;
                let window = known_window(doing, &window)?;
                Ok(((scope.into(), window), Nanos(nanos.cast_unsigned())))
            })
            .collect()
    }

    /// Takes in records in one transaction with the number of the last.
    pub(super) fn fold(&mut self, entries: &[Entry]) -> Result<(), DbError> {
        let doing = "folding the journal";
        let Some(last) = entries.last() else {
            return Ok(());
        };
        let transaction = self.connection.transaction().map_err(query(doing))?;
        fold::all(&transaction, entries).map_err(query(doing))?;
        set_meta(&transaction, "applied", &last.number.to_string()).map_err(query(doing))?;
        transaction.commit().map_err(query(doing))
    }

    /// Puts everything that was folded on the disk itself.
    pub(super) fn checkpoint(&self) -> Result<(), DbError> {
        self.connection
            .query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
            .map_err(query("writing the database back"))
    }

    pub(super) fn set_anchor(&self, anchor: &Anchor) -> Result<(), DbError> {
        let text = serde_json::to_string(anchor).unwrap_or_default();
        set_meta(&self.connection, "anchor", &text).map_err(query("noting the time"))
    }

    /// Sets a budget, or takes it away.
    pub(super) fn set_budget(
        &self,
        scope: &str,
        window: Window,
        limit: Option<Nanos>,
    ) -> Result<(), DbError> {
        let done = match limit {
            Some(limit) => self.connection.execute(
                "INSERT OR REPLACE INTO budget (scope, window, nanos) VALUES (?, ?, ?)",
                params![scope, window.as_str(), limit.0.cast_signed()],
            ),
            None => self.connection.execute(
                "DELETE FROM budget WHERE scope = ? AND window = ?",
                params![scope, window.as_str()],
            ),
        };
        done.map_err(query("storing a budget"))?;
        // A budget is a promise to a person: it survives a power cut from the moment it is confirmed.
        self.checkpoint()
    }

    /// Usage from a moment on, largest cost first; days in their order. Of these users; of nobody named: of all.
    pub(super) fn usage(&self, group: Group, since: u64, users: &[String]) -> Result<Vec<Totals>, DbError> {
        let doing = "listing usage";
        let column = group.column();
        let order = if group == Group::Day { "1" } else { "10 DESC, 1" };
        let sql = format!(
            "SELECT {column}, count(*), sum(how <> 'exact'), sum(price = ''), sum(input), sum(cache_read),
                    sum(cache_write), sum(output), sum(reasoning), sum(cost)
             FROM request WHERE at >= ?1 AND (?2 = '[]' OR user IN (SELECT value FROM json_each(?2)))
             GROUP BY 1 ORDER BY {order} LIMIT 10000"
        );
        let mut statement = self.connection.prepare(&sql).map_err(query(doing))?;
        let users = serde_json::json!(users).to_string();
        let rows = statement.query_map(params![since.cast_signed(), users], |row| {
            let count = |index: usize| Ok::<_, rusqlite::Error>(row.get::<_, i64>(index)?.cast_unsigned());
            Ok(Totals {
                name: row.get(0)?,
                requests: count(1)?,
                inexact: count(2)?,
                unpriced: count(3)?,
                input: count(4)?,
                cache_read: count(5)?,
                cache_write: count(6)?,
                output: count(7)?,
                reasoning: count(8)?,
                cost: Nanos(count(9)?),
            })
        });
        rows.and_then(Iterator::collect).map_err(query(doing))
    }
}

fn known_window(doing: &'static str, name: &str) -> Result<Window, DbError> {
    Window::parse(name).ok_or_else(|| DbError::Content {
        doing,
        what: format!("an unknown window `{name}`"),
    })
}

fn set_meta(connection: &Connection, name: &str, value: &str) -> rusqlite::Result<()> {
    connection
        .prepare_cached("INSERT OR REPLACE INTO meta (name, value) VALUES (?, ?)")?
        .execute([name, value])
        .map(drop)
}
