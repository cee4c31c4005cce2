//! Requests as a provider reads them.

mod chat;
mod messages;

use serde_json::Value;

use super::model::{Chat, Lost};
use crate::dialect::Dialect;
use crate::provider::Kind;

/// The request for a provider; only the two dialects that every provider has one of.
pub(super) fn request(dialect: Dialect, kind: Kind, chat: &Chat, model: &str, lost: &mut Lost) -> Value {
    match dialect {
        Dialect::Messages => messages::request(chat, model, lost),
        _ => chat::request(chat, kind, model, lost),
    }
}
