//! The gRPC services: check a request, ask the store, name the error.

use crate::cursor::{self, Cursor, InvalidCursor};
use crate::owners::Owner;
use crate::request::{self, Invalid, SessionWrite, TurnWrite};
use crate::search_text::SearchText;
use crate::store::{MessageQuery, SearchQuery, SessionQuery, Store, StoreError, TurnQuery};
use lodge_proto::history::read_server::Read;
use lodge_proto::history::search_server::Search;
use lodge_proto::history::write_server::Write;
use lodge_proto::history::{
    AppendTurnRequest, AppendTurnResponse, DeleteSessionRequest, DeleteSessionResponse, GetSessionRequest,
    ListMessagesRequest, ListMessagesResponse, ListSessionsRequest, ListSessionsResponse, ListTurnsRequest,
    ListTurnsResponse, PutSessionRequest, PutSessionResponse, SearchMessagesRequest, SearchMessagesResponse,
    Session,
};
use lodge_proto::{ErrorBody, ErrorCode, SessionId};
use std::sync::Arc;
use tonic::{Request, Response, Status};
use tracing::{Span, field, instrument};

/// The largest request (one turn with all its messages), in bytes.
pub const MAX_REQUEST_BYTES: usize = 64 << 20;
/// The largest answer, in bytes; a client must raise its own decoding limit to it.
pub const MAX_RESPONSE_BYTES: usize = 64 << 20;

/// The three services over one store.
#[derive(Debug)]
pub(crate) struct History<S>(Arc<S>);

impl<S> History<S> {
    pub(crate) fn new(store: Arc<S>) -> Self {
        Self(store)
    }
}

impl<S> Clone for History<S> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

/// Any reason for which a call is answered with an error.
struct Refusal(ErrorBody);

impl From<Invalid> for Refusal {
    fn from(error: Invalid) -> Self {
        Self(ErrorBody::new(ErrorCode::InvalidArgument, error.to_string()))
    }
}

impl From<InvalidCursor> for Refusal {
    fn from(error: InvalidCursor) -> Self {
        Self(ErrorBody::new(ErrorCode::InvalidArgument, error.to_string()))
    }
}

impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Self {
        let code = match &error {
            StoreError::NoSession { .. } => ErrorCode::NotFound,
            StoreError::Index { .. } | StoreError::MessageExists { .. } => ErrorCode::InvalidArgument,
            StoreError::Full | StoreError::Busy | StoreError::Stopped => ErrorCode::Unavailable,
            StoreError::TooSlow => ErrorCode::DeadlineExceeded,
            StoreError::Database { step, source } => {
                tracing::error!(step, error = %source, "the history database refused a statement");
                ErrorCode::Internal
            }
        };
        Self(ErrorBody::new(code, error.to_string()))
    }
}

impl From<Refusal> for Status {
    fn from(refusal: Refusal) -> Self {
        refusal.0.into()
    }
}

/// The caller, as the connection's credentials say.
fn owner<T>(request: &Request<T>) -> Result<Owner, Status> {
    let known = request.extensions().get::<Owner>().cloned();
    known.ok_or_else(|| Status::unauthenticated("no account belongs to the uid of this connection"))
}

fn session_id(text: &str) -> Result<SessionId, Refusal> {
    let id = request::id("session_id", text)?;
    Span::current().record("session_id", field::display(id));
    Ok(id)
}

/// A page's size: 0 asks for the usual one, more than the most gets the most.
fn page_size(asked: u32, usual: u32, most: u32) -> usize {
    (if asked == 0 { usual } else { asked.min(most) }) as usize
}

#[tonic::async_trait]
impl<S: Store> Write for History<S> {
    #[instrument(skip_all, fields(session_id))]
    async fn put_session(
        &self,
        request: Request<PutSessionRequest>,
    ) -> Result<Response<PutSessionResponse>, Status> {
        let owner = owner(&request)?;
        let session = SessionWrite::try_from(request.into_inner().session).map_err(Refusal::from)?;
        Span::current().record("session_id", field::display(session.session_id));
        self.0.put_session(&owner, session).await.map_err(Refusal::from)?;
        Ok(Response::new(PutSessionResponse {}))
    }

    #[instrument(skip_all, fields(session_id, turn_id))]
    async fn append_turn(
        &self,
        request: Request<AppendTurnRequest>,
    ) -> Result<Response<AppendTurnResponse>, Status> {
        let owner = owner(&request)?;
        let write = TurnWrite::try_from(request.into_inner()).map_err(Refusal::from)?;
        Span::current().record("session_id", field::display(write.session.session_id));
        Span::current().record("turn_id", field::display(write.turn_id));
        let answer = self.0.append_turn(&owner, write).await.map_err(Refusal::from)?;
        Ok(Response::new(answer))
    }

    #[instrument(skip_all, fields(session_id))]
    async fn delete_session(
        &self,
        request: Request<DeleteSessionRequest>,
    ) -> Result<Response<DeleteSessionResponse>, Status> {
        let owner = owner(&request)?;
        let session_id = session_id(&request.get_ref().session_id)?;
        self.0
            .delete_session(&owner, session_id)
            .await
            .map_err(Refusal::from)?;
        Ok(Response::new(DeleteSessionResponse {}))
    }
}

#[tonic::async_trait]
impl<S: Store> Read for History<S> {
    #[instrument(skip_all, fields(session_id))]
    async fn get_session(&self, request: Request<GetSessionRequest>) -> Result<Response<Session>, Status> {
        let owner = owner(&request)?;
        let session_id = session_id(&request.get_ref().session_id)?;
        let session = self
            .0
            .get_session(&owner, session_id)
            .await
            .map_err(Refusal::from)?;
        Ok(Response::new(session))
    }

    #[instrument(skip_all)]
    async fn list_sessions(
        &self,
        request: Request<ListSessionsRequest>,
    ) -> Result<Response<ListSessionsResponse>, Status> {
        let owner = owner(&request)?;
        let asked = request.into_inner();
        let after = cursor::session(&asked.cursor).map_err(Refusal::from)?;
        let query = SessionQuery {
            after,
            limit: page_size(asked.limit, 50, 200),
        };
        let page = self.0.list_sessions(&owner, query).await.map_err(Refusal::from)?;
        let next_cursor = page
            .next
            .map(|at| Cursor::Session(at).encode())
            .unwrap_or_default();
        Ok(Response::new(ListSessionsResponse {
            sessions: page.items,
            next_cursor,
        }))
    }

    #[instrument(skip_all, fields(session_id))]
    async fn list_messages(
        &self,
        request: Request<ListMessagesRequest>,
    ) -> Result<Response<ListMessagesResponse>, Status> {
        let owner = owner(&request)?;
        let asked = request.into_inner();
        let (session_id, backwards) = (session_id(&asked.session_id)?, asked.backwards);
        let from = cursor::message(&asked.cursor, session_id, backwards).map_err(Refusal::from)?;
        let limit = page_size(asked.limit, 50, 500);
        let query = MessageQuery {
            session_id,
            from,
            limit,
            backwards,
        };
        let page = self.0.list_messages(&owner, query).await.map_err(Refusal::from)?;
        let next = page.next.map(|from| {
            Cursor::Message {
                session_id,
                backwards,
                from,
            }
            .encode()
        });
        Ok(Response::new(ListMessagesResponse {
            messages: page.items,
            next_cursor: next.unwrap_or_default(),
        }))
    }

    #[instrument(skip_all, fields(session_id))]
    async fn list_turns(
        &self,
        request: Request<ListTurnsRequest>,
    ) -> Result<Response<ListTurnsResponse>, Status> {
        let owner = owner(&request)?;
        let asked = request.into_inner();
        let session_id = session_id(&asked.session_id)?;
        let from = cursor::turn(&asked.cursor, session_id).map_err(Refusal::from)?;
        let query = TurnQuery {
            session_id,
            from,
            limit: page_size(asked.limit, 50, 500),
        };
        let page = self.0.list_turns(&owner, query).await.map_err(Refusal::from)?;
        let next = page.next.map(|from| Cursor::Turn { session_id, from }.encode());
        Ok(Response::new(ListTurnsResponse {
            turns: page.items,
            next_cursor: next.unwrap_or_default(),
        }))
    }
}

#[tonic::async_trait]
impl<S: Store> Search for History<S> {
    #[instrument(skip_all, fields(session_id))]
    async fn search_messages(
        &self,
        request: Request<SearchMessagesRequest>,
    ) -> Result<Response<SearchMessagesResponse>, Status> {
        let owner = owner(&request)?;
        let asked = request.into_inner();
        let text = SearchText::parse(&asked.query).map_err(Refusal::from)?;
        let within = if asked.session_id.is_empty() {
            None
        } else {
            Some(session_id(&asked.session_id)?)
        };
        let limit = page_size(asked.limit, 20, 100);
        let query = SearchQuery {
            text,
            limit,
            session_id: within,
            ranked: asked.ranked,
        };
        let hits = self.0.search(&owner, query).await.map_err(Refusal::from)?;
        Ok(Response::new(SearchMessagesResponse { hits }))
    }
}
