//! Searching the two indexes of an owner: words, and substrings of code.

use super::read::owner_id;
use super::readers::ReadError;
use crate::owners::Owner;
use crate::store::SearchQuery;
use lodge_proto::history::SearchHit;
use rusqlite::{Connection, Row, params};

/// How many of the newest matches are ranked: ranking a common word's every match takes seconds.
const MAX_RANKED: i64 = 2000;
const MAX_SNIPPET_CHARS: usize = 400;

/// One of the two indexes, with the expression for it.
struct Index {
    name: &'static str,
    expression: String,
    /// Length of a snippet in tokens of this index.
    snippet_tokens: u8,
}

/// Words first. A search that looks like code asks the index of substrings, and so does one that finds no word.
pub(super) fn search(
    connection: &Connection,
    owner: &Owner,
    query: &SearchQuery,
) -> Result<Vec<SearchHit>, ReadError> {
    let Some(owner) = owner_id(connection, owner)? else {
        return Ok(Vec::new());
    };
    let prose = query
        .text
        .prose_expression()
        .filter(|_| !query.text.looks_like_code());
    let prose = prose.map(|expression| Index {
        name: "prose",
        expression,
        snippet_tokens: 32,
    });
    let code = query.text.code_expression();
    let code = code.map(|expression| Index {
        name: "code",
        expression,
        snippet_tokens: 64,
    });
    // `a+b` is too short for trigrams: the words in it are better than nothing.
    let last = query
        .text
        .prose_expression()
        .filter(|_| query.text.looks_like_code());
    let last = last.map(|expression| Index {
        name: "prose",
        expression,
        snippet_tokens: 32,
    });
    for index in [prose, code, last].into_iter().flatten() {
        let hits = if query.ranked {
            best(connection, owner, &index, query)?
        } else {
            newest(connection, owner, &index, query)?
        };
        if !hits.is_empty() {
            return Ok(hits);
        }
    }
    Ok(Vec::new())
}

fn hit(row: &Row<'_>) -> rusqlite::Result<SearchHit> {
    let snippet: String = row.get(3)?;
    Ok(SearchHit {
        session_id: row.get(0)?,
        message_id: row.get(1)?,
        created_at: row.get(2)?,
        // One token may be as long as a line of base64.
        snippet: snippet.chars().take(MAX_SNIPPET_CHARS).collect(),
    })
}

fn snippet(index: &Index, owner: i64) -> String {
    format!(
        "snippet({}_{owner}, 0, '', '', '…', {})",
        index.name, index.snippet_tokens
    )
}

/// The session a search is limited to, as a parameter that an empty text switches off.
fn session_parameter(query: &SearchQuery) -> String {
    query.session_id.map(|id| id.to_string()).unwrap_or_default()
}

fn newest(
    connection: &Connection,
    owner: i64,
    index: &Index,
    query: &SearchQuery,
) -> rusqlite::Result<Vec<SearchHit>> {
    let (table, snippet) = (index.name, snippet(index, owner));
    // CROSS JOIN keeps the index outermost: it yields the newest first and stops at the limit.
    let mut statement = connection.prepare_cached(&format!(
        "SELECT m.session_id, m.message_id, m.created_at, {snippet}
        FROM {table}_{owner} f CROSS JOIN messages m ON m.id = f.rowid AND m.owner_id = ?1
        WHERE f.{table}_{owner} MATCH ?2 AND (?3 = '' OR m.session_id = ?3)
        ORDER BY f.rowid DESC LIMIT ?4"
    ))?;
    let limit = i64::try_from(query.limit).unwrap_or(i64::MAX);
    statement
        .query_map(
            params![owner, index.expression, session_parameter(query), limit],
            hit,
        )?
        .collect()
}

fn best(
    connection: &Connection,
    owner: i64,
    index: &Index,
    query: &SearchQuery,
) -> rusqlite::Result<Vec<SearchHit>> {
    let table = index.name;
    let mut statement = connection.prepare_cached(&format!(
        "SELECT id FROM (
            SELECT f.rowid AS id, bm25({table}_{owner}) AS score
            FROM {table}_{owner} f CROSS JOIN messages m ON m.id = f.rowid AND m.owner_id = ?1
            WHERE f.{table}_{owner} MATCH ?2 AND (?3 = '' OR m.session_id = ?3)
            ORDER BY f.rowid DESC LIMIT {MAX_RANKED})
        ORDER BY score, id DESC LIMIT ?4"
    ))?;
    let limit = i64::try_from(query.limit).unwrap_or(i64::MAX);
    let ids: Vec<i64> = statement
        .query_map(
            params![owner, index.expression, session_parameter(query), limit],
            |row| row.get(0),
        )?
        .collect::<Result<_, _>>()?;
    // Snippets are made for the few rows that are shown, not for all that were ranked.
    let snippet = snippet(index, owner);
    let mut one = connection.prepare_cached(&format!(
        "SELECT m.session_id, m.message_id, m.created_at, {snippet}
        FROM {table}_{owner} f CROSS JOIN messages m ON m.id = f.rowid AND m.owner_id = ?1
        WHERE f.{table}_{owner} MATCH ?2 AND f.rowid = ?3"
    ))?;
    ids.into_iter()
        .map(|id| one.query_row(params![owner, index.expression, id], hit))
        .collect()
}
