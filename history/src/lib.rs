//! The history service: durable transcripts behind gRPC.
//!
//! - [`serve`] runs the service of `history.proto` on a Unix socket
//! - [`Owners`] says which account a peer's uid belongs to; every row and every statement carries that owner
//! - [`Store`] is all the service knows of its database; [`SqliteStore`] is the one for a single machine
//! - [`SqliteStore::backup`] and [`verify`] are for the command line
//!
//! An answer to a write is given after the data is on disk (`synchronous=FULL`).

mod cursor;
mod owners;
mod request;
mod search_text;
mod server;
mod service;
mod sqlite;
mod store;

pub use cursor::InvalidCursor;
pub use owners::{Owner, OwnerMap, OwnerMapError, Owners, SingleUser};
pub use request::{Invalid, MAX_INDEXED_TEXT_BYTES, MAX_MESSAGE_JSON_BYTES, SessionWrite, TurnWrite};
pub use search_text::SearchText;
pub use server::{Access, Config, Error, serve};
pub use service::{MAX_REQUEST_BYTES, MAX_RESPONSE_BYTES};
pub use sqlite::{OpenError, Options, SqliteStore, VerifyError, VerifyReport, backup, verify};
pub use store::{
    Fatal, MessageQuery, Page, SearchQuery, SessionPosition, SessionQuery, Store, StoreError, TurnQuery,
};
