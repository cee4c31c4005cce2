//! Requests that must not be done twice: whoever lost the answer may ask again under the same idempotency key, and
//! learns what became of the first. The answer itself is not kept, because it holds a key.

use lodge_proto::{ErrorBody, ErrorCode};
use serde_json::json;
use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Requests that are remembered; the oldest are forgotten.
const MAX_REQUESTS: usize = 1024;

#[derive(Debug)]
struct Request {
    account: String,
    key: String,
    /// What came of it; unknown while it runs, and where its end was not seen.
    id: Option<String>,
}

/// The requests of the latest time.
#[derive(Debug, Default)]
pub(crate) struct Once {
    requests: Mutex<VecDeque<Request>>,
}

impl Once {
    fn lock(&self) -> MutexGuard<'_, VecDeque<Request>> {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins a request, unless this account has begun one under that key. Without a key every request is a new one.
    pub(crate) fn begin(&self, account: &str, key: Option<&str>) -> Result<(), ErrorBody> {
        let Some(key) = key else { return Ok(()) };
        let mut requests = self.lock();
        let known = requests
            .iter()
            .find(|request| request.account == account && request.key == key);
        if let Some(request) = known {
            return Err(done(request.id.as_deref()));
        }
        if requests.len() == MAX_REQUESTS {
            requests.pop_front();
        }
        requests.push_back(Request {
            account: account.to_owned(),
            key: key.to_owned(),
            id: None,
        });
        Ok(())
    }

    /// It was done, and this came of it.
    pub(crate) fn end(&self, account: &str, key: Option<&str>, id: &str) {
        let mut requests = self.lock();
        let begun = requests
            .iter_mut()
            .find(|request| request.account == account && Some(request.key.as_str()) == key);
        if let Some(request) = begun {
            request.id = Some(id.to_owned());
        }
    }

    /// It failed. Where that means that nothing was done, it may be tried again under its key.
    pub(crate) fn failed(&self, account: &str, key: Option<&str>, error: &ErrorBody) {
        let is_unsure = matches!(
            error.code,
            ErrorCode::DeadlineExceeded | ErrorCode::Internal | ErrorCode::Unavailable
        );
        if !is_unsure {
            self.lock()
                .retain(|request| request.account != account || Some(request.key.as_str()) != key);
        }
    }
}

fn done(id: Option<&str>) -> ErrorBody {
    let message = match id {
        Some(id) => format!(
            "this was done before, with the key `{id}`; its text was in that answer and nowhere else: if it is lost, rotate the key"
        ),
        None => "this was asked before, and may have been done: look at the list of keys".to_owned(),
    };
    ErrorBody::new(ErrorCode::Conflict, message).with_details(json!({ "key": id }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_done_once_under_its_key() {
        let once = Once::default();
        once.begin("ann", Some("k")).unwrap();
        assert_eq!(
            once.begin("ann", Some("k")).unwrap_err().code,
            ErrorCode::Conflict
        );
        once.begin("eve", Some("k")).unwrap();
        once.end("ann", Some("k"), "id1");
        let again = once.begin("ann", Some("k")).unwrap_err();
        assert_eq!(again.details.unwrap()["key"], "id1");
        assert!(!format!("{:?}", once.begin("eve", Some("k"))).contains("id1"));
        once.begin("ann", None).unwrap();
        once.begin("ann", None).unwrap();
    }

    #[test]
    fn what_certainly_failed_may_be_tried_again() {
        let once = Once::default();
        for (code, again) in [
            (ErrorCode::InvalidArgument, true),
            (ErrorCode::Unavailable, false),
            (ErrorCode::DeadlineExceeded, false),
        ] {
            let key = format!("{code:?}");
            once.begin("ann", Some(&key)).unwrap();
            once.failed("ann", Some(&key), &ErrorBody::new(code, "x"));
            assert_eq!(once.begin("ann", Some(&key)).is_ok(), again, "{key}");
        }
    }

    #[test]
    fn the_oldest_are_forgotten() {
        let once = Once::default();
        for number in 0..=MAX_REQUESTS {
            once.begin("ann", Some(&number.to_string())).unwrap();
        }
        once.begin("ann", Some("0")).unwrap();
        assert_eq!(once.lock().len(), MAX_REQUESTS);
    }
}
