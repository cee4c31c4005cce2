//! The narrow seam between the service and its database. `tests/contract.rs` says what every store promises.

use crate::owners::Owner;
use crate::request::{SessionWrite, TurnWrite};
use crate::search_text::SearchText;
use lodge_proto::history::{AppendTurnResponse, Message, SearchHit, Session, Turn};
use lodge_proto::{MessageId, SessionId};
use std::sync::Arc;

/// Why a store did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("session {session_id} does not exist")]
    NoSession { session_id: SessionId },
    #[error("messages[{position}].index is {found}, expected {expected}")]
    Index {
        position: usize,
        found: u64,
        expected: u64,
    },
    #[error("messages[{position}].message_id {message_id} is used already in this session")]
    MessageExists { position: usize, message_id: MessageId },
    #[error("no space left for the history database; nothing was stored")]
    Full,
    #[error("the history database is locked by another process; nothing was stored")]
    Busy,
    #[error("the reading took too long and was stopped")]
    TooSlow,
    #[error("the history service is stopping; nothing is known of this request")]
    Stopped,
    #[error("{step}")]
    Database {
        step: &'static str,
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// An error after which nothing more may be acknowledged: the process ends, its supervisor starts it again.
#[derive(Debug, Clone, thiserror::Error)]
#[error("the history database failed: {step}")]
pub struct Fatal {
    /// What was being done.
    pub step: &'static str,
    #[source]
    pub(crate) source: Arc<dyn std::error::Error + Send + Sync>,
}

/// One page, and where the next begins (`None`: no more).
#[derive(Debug, Clone, PartialEq)]
pub struct Page<T, P> {
    pub items: Vec<T>,
    pub next: Option<P>,
}

/// Where a session stands in the list: newest update first, then by id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionPosition {
    /// UTC milliseconds.
    pub updated_at: i64,
    pub session_id: SessionId,
}

/// Sessions, newest update first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionQuery {
    /// Only sessions after this one; `None`: from the newest.
    pub after: Option<SessionPosition>,
    pub limit: usize,
}

/// Messages of one session; a page ends early when it holds 16 MiB.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MessageQuery {
    pub session_id: SessionId,
    /// Forwards: the first index of the page. Backwards: the index after its last. `None`: from the end where
    /// the direction starts.
    pub from: Option<u64>,
    pub limit: usize,
    /// From the end; the messages of a page ascend all the same.
    pub backwards: bool,
}

/// Turns of one session, oldest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TurnQuery {
    pub session_id: SessionId,
    /// Number of the first turn, from 0.
    pub from: u64,
    pub limit: usize,
}

/// Messages whose text matches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SearchQuery {
    pub text: SearchText,
    pub limit: usize,
    /// `None`: every session of the owner.
    pub session_id: Option<SessionId>,
    /// Best match first instead of newest first; only the newest 2000 matches are ranked.
    pub ranked: bool,
}

/// A database of transcripts. No call sees or changes anything of another owner.
///
/// A write returns after it is durable. Requests are valid when they arrive here: see [`TurnWrite`].
pub trait Store: Send + Sync + 'static {
    /// Registers a session, or updates title, model and closed unless the stored update is newer.
    fn put_session(
        &self,
        owner: &Owner,
        session: SessionWrite,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Stores a turn as a whole. The first write of a turn id in a session wins: a second one changes nothing,
    /// whatever it contains, and gets the first answer with `already_stored`.
    fn append_turn(
        &self,
        owner: &Owner,
        turn: TurnWrite,
    ) -> impl Future<Output = Result<AppendTurnResponse, StoreError>> + Send;

    /// Removes a session and leaves a tombstone, also for a session that is not stored (yet).
    fn delete_session(
        &self,
        owner: &Owner,
        session_id: SessionId,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    fn get_session(
        &self,
        owner: &Owner,
        session_id: SessionId,
    ) -> impl Future<Output = Result<Session, StoreError>> + Send;

    fn list_sessions(
        &self,
        owner: &Owner,
        query: SessionQuery,
    ) -> impl Future<Output = Result<Page<Session, SessionPosition>, StoreError>> + Send;

    fn list_messages(
        &self,
        owner: &Owner,
        query: MessageQuery,
    ) -> impl Future<Output = Result<Page<Message, u64>, StoreError>> + Send;

    fn list_turns(
        &self,
        owner: &Owner,
        query: TurnQuery,
    ) -> impl Future<Output = Result<Page<Turn, u64>, StoreError>> + Send;

    fn search(
        &self,
        owner: &Owner,
        query: SearchQuery,
    ) -> impl Future<Output = Result<Vec<SearchHit>, StoreError>> + Send;
}
