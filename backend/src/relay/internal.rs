//! The client that the REST API is: commands go out on a channel of their own, replies come back by id.
//!
//! A command whose runner goes away before the reply is sent again when the runner is back. That is safe: a
//! mutating command carries its `client_id`, so twice the same has one effect.

use lodge_proto::{ErrorBody, ErrorCode, Response};
use serde::Deserialize;
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use tokio::sync::{oneshot, watch};

/// Commands that may wait for their reply at a time.
const MAX_PENDING: usize = 1024;

/// Replies that are waited for.
#[derive(Debug)]
pub(crate) struct Replies {
    pending: Mutex<HashMap<String, oneshot::Sender<Response>>>,
    /// Number of the runner connection that is up, 0 while none is.
    connection: watch::Sender<u64>,
    connections: Mutex<u64>,
}

impl Default for Replies {
    fn default() -> Self {
        Self {
            pending: Mutex::default(),
            connection: watch::Sender::new(0),
            connections: Mutex::new(0),
        }
    }
}

impl Replies {
    /// Registers that the reply to `id` is waited for.
    pub(crate) fn expect(&self, id: &str) -> Result<oneshot::Receiver<Response>, ErrorBody> {
        let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        if pending.len() >= MAX_PENDING {
            return Err(ErrorBody::new(
                ErrorCode::RateLimited,
                "too many requests wait for the runner",
            ));
        }
        let (sender, receiver) = oneshot::channel();
        pending.insert(id.to_owned(), sender);
        Ok(receiver)
    }

    /// Nobody waits for `id` any more.
    pub(crate) fn forget(&self, id: &str) {
        self.pending
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(id);
    }

    /// Hands a reply to whoever waits for it.
    pub(crate) fn deliver(&self, text: &str) {
        let response = match serde_json::from_str::<Response>(text) {
            Ok(response) => response,
            Err(error) => match serde_json::from_str::<OnlyId>(text) {
                Ok(OnlyId { id }) => {
                    let message = format!("the runner's reply could not be read: {error}");
                    Response::error(id, ErrorBody::new(ErrorCode::Internal, message))
                }
                Err(_) => return,
            },
        };
        let waiting = self
            .pending
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&response.id);
        if let Some(sender) = waiting {
            // Who waited may have given up a moment ago.
            let _ = sender.send(response);
        }
    }

    pub(crate) fn runner_ready(&self) {
        let mut count = self.connections.lock().unwrap_or_else(PoisonError::into_inner);
        *count += 1;
        self.connection.send_replace(*count);
    }

    pub(crate) fn runner_lost(&self) {
        self.connection.send_replace(0);
    }

    /// Follows the number of the runner connection.
    pub(crate) fn connection(&self) -> watch::Receiver<u64> {
        self.connection.subscribe()
    }
}

#[derive(Deserialize)]
struct OnlyId {
    id: String,
}

#[cfg(test)]
mod tests {
    use super::*;
    use lodge_proto::Outcome;
    use serde_json::json;

    #[tokio::test]
    async fn replies_find_their_waiter_and_unreadable_ones_are_an_error() {
        let replies = Replies::default();
        let first = replies.expect("1").unwrap();
        let second = replies.expect("2").unwrap();
        replies.deliver(r#"{"id":"2","what":1}"#);
        replies.deliver(r#"{"id":"1","ok":{"a":1}}"#);
        replies.deliver("not json");
        assert_eq!(first.await.unwrap().outcome, Outcome::Ok(json!({"a": 1})));
        assert!(matches!(second.await.unwrap().outcome, Outcome::Error(e) if e.code == ErrorCode::Internal));
    }

    #[test]
    fn waiting_is_bounded() {
        let replies = Replies::default();
        let waiting: Vec<_> = (0..MAX_PENDING)
            .map(|n| replies.expect(&n.to_string()).unwrap())
            .collect();
        assert_eq!(replies.expect("x").unwrap_err().code, ErrorCode::RateLimited);
        replies.forget("3");
        replies.expect("x").unwrap();
        drop(waiting);
    }
}
