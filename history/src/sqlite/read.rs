//! The statements of each kind of reading, inside one read transaction.

use super::readers::ReadError;
use crate::owners::Owner;
use crate::store::{MessageQuery, Page, SessionPosition, SessionQuery, StoreError, TurnQuery};
use lodge_proto::SessionId;
use lodge_proto::history::{Message, Session, Turn};
use rusqlite::{Connection, OptionalExtension, Row, params};

/// A page ends after the message that takes it past this size, so that an answer stays bounded.
const MAX_PAGE_BYTES: usize = 16 << 20;

const SESSION_COLUMNS: &str = "session_id, title, harness, workspace, model, created_at, updated_at,
    message_count, turn_count, parent_session_id, closed";

/// The number of an owner who has written something.
pub(super) fn owner_id(connection: &Connection, owner: &Owner) -> rusqlite::Result<Option<i64>> {
    connection
        .prepare_cached("SELECT owner_id FROM owners WHERE owner = ?1")?
        .query_row([owner.as_str()], |row| row.get(0))
        .optional()
}

fn session_row(row: &Row<'_>) -> rusqlite::Result<Session> {
    Ok(Session {
        session_id: row.get(0)?,
        title: row.get(1)?,
        harness: row.get(2)?,
        workspace: row.get(3)?,
        model: row.get(4)?,
        created_at: row.get(5)?,
        updated_at: row.get(6)?,
        message_count: row.get::<_, i64>(7)?.unsigned_abs(),
        turn_count: row.get::<_, i64>(8)?.unsigned_abs(),
        parent_session_id: row.get(9)?,
        closed: row.get(10)?,
    })
}

/// The session with its owner's number.
fn find_session(
    connection: &Connection,
    owner: &Owner,
    session_id: SessionId,
) -> Result<(i64, Session), ReadError> {
    let missing = || ReadError::Store(StoreError::NoSession { session_id });
    let owner = owner_id(connection, owner)?.ok_or_else(missing)?;
    let session = connection
        .prepare_cached(&format!(
            "SELECT {SESSION_COLUMNS} FROM sessions WHERE owner_id = ?1 AND session_id = ?2"
        ))?
        .query_row(params![owner, session_id.to_string()], session_row)
        .optional()?;
    Ok((owner, session.ok_or_else(missing)?))
}

pub(super) fn get_session(
    connection: &Connection,
    owner: &Owner,
    session_id: SessionId,
) -> Result<Session, ReadError> {
    find_session(connection, owner, session_id).map(|(_, session)| session)
}

pub(super) fn list_sessions(
    connection: &Connection,
    owner: &Owner,
    query: &SessionQuery,
) -> Result<Page<Session, SessionPosition>, ReadError> {
    let Some(owner) = owner_id(connection, owner)? else {
        return Ok(Page {
            items: Vec::new(),
            next: None,
        });
    };
    let (before, before_id) = match query.after {
        Some(position) => (position.updated_at, position.session_id.to_string()),
        None => (i64::MAX, String::new()),
    };
    let mut statement = connection.prepare_cached(&format!(
        "SELECT {SESSION_COLUMNS} FROM sessions
        WHERE owner_id = ?1 AND (updated_at, session_id) < (?2, ?3)
        ORDER BY updated_at DESC, session_id DESC LIMIT ?4"
    ))?;
    let rows = statement.query_map(
        params![owner, before, before_id, one_more(query.limit)],
        session_row,
    )?;
    let mut items = rows.collect::<Result<Vec<_>, _>>()?;
    let more = items.len() > query.limit;
    items.truncate(query.limit);
    let position = |session: &Session| {
        let session_id = session.session_id.parse().ok()?;
        Some(SessionPosition {
            updated_at: session.updated_at,
            session_id,
        })
    };
    let next = if more {
        items.last().and_then(position)
    } else {
        None
    };
    Ok(Page { items, next })
}

/// One row more than asked for tells whether there is a next page.
fn one_more(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX).saturating_add(1)
}

fn message_row(row: &Row<'_>) -> rusqlite::Result<Message> {
    Ok(Message {
        message_id: row.get(0)?,
        turn_id: row.get(1)?,
        index: row.get::<_, i64>(2)?.unsigned_abs(),
        role: row.get(3)?,
        created_at: row.get(4)?,
        json: row.get(5)?,
        text: row.get(6)?,
    })
}

pub(super) fn list_messages(
    connection: &Connection,
    owner: &Owner,
    query: &MessageQuery,
) -> Result<Page<Message, u64>, ReadError> {
    let (owner, session) = find_session(connection, owner, query.session_id)?;
    let (condition, order, from) = if query.backwards {
        ("idx < ?3", "DESC", query.from.unwrap_or(session.message_count))
    } else {
        ("idx >= ?3", "ASC", query.from.unwrap_or(0))
    };
    let mut statement = connection.prepare_cached(&format!(
        "SELECT message_id, turn_id, idx, role, created_at, json, text FROM messages
        WHERE owner_id = ?1 AND session_id = ?2 AND {condition} ORDER BY idx {order} LIMIT ?4"
    ))?;
    let from = i64::try_from(from).unwrap_or(i64::MAX);
    let mut rows = statement.query(params![
        owner,
        query.session_id.to_string(),
        from,
        one_more(query.limit)
    ])?;
    let mut items: Vec<Message> = Vec::new();
    let (mut bytes, mut more) = (0, false);
    while let Some(row) = rows.next()? {
        more = items.len() == query.limit || bytes >= MAX_PAGE_BYTES;
        if more {
            break;
        }
        let message = message_row(row)?;
        bytes += message.json.len() + message.text.len();
        items.push(message);
    }
    let edge = items.last().map(|message| message.index);
    let next = if query.backwards {
        edge
    } else {
        edge.map(|index| index + 1)
    };
    if query.backwards {
        items.reverse();
    }
    Ok(Page {
        items,
        next: next.filter(|_| more),
    })
}

fn turn_row(row: &Row<'_>) -> rusqlite::Result<Turn> {
    Ok(Turn {
        turn_id: row.get(0)?,
        started_at: row.get(1)?,
        ended_at: row.get(2)?,
        outcome: row.get(3)?,
        usage_json: row.get(4)?,
        error_json: row.get(5)?,
        last_seq: row.get::<_, i64>(6)?.unsigned_abs(),
    })
}

pub(super) fn list_turns(
    connection: &Connection,
    owner: &Owner,
    query: &TurnQuery,
) -> Result<Page<Turn, u64>, ReadError> {
    let (owner, _) = find_session(connection, owner, query.session_id)?;
    let mut statement = connection.prepare_cached(
        "SELECT turn_id, started_at, ended_at, outcome, usage_json, error_json, last_seq FROM turns
        WHERE owner_id = ?1 AND session_id = ?2 AND number >= ?3 ORDER BY number LIMIT ?4",
    )?;
    let from = i64::try_from(query.from).unwrap_or(i64::MAX);
    let of_session = params![owner, query.session_id.to_string(), from, one_more(query.limit)];
    let mut items = statement
        .query_map(of_session, turn_row)?
        .collect::<Result<Vec<_>, _>>()?;
    let more = items.len() > query.limit;
    items.truncate(query.limit);
    let next = more.then(|| query.from.saturating_add(items.len() as u64));
    Ok(Page { items, next })
}
