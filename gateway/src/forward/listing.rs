//! Lists of models: a key that may not use all of them is shown those it may use. Every other list passes as it came.

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::Response;
use hyper::header::CONTENT_LENGTH;
use serde_json::Value;

use crate::body::{self, GuestBody};
use crate::caller::Caller;
use crate::dialect::WireError;
use crate::guest::Gateway;

/// Longest list that is read, bytes.
const MAX_LIST: usize = 8 << 20;

/// A provider's answer with what this caller may ask for.
pub(super) async fn narrowed(
    gateway: &Gateway,
    caller: &Caller,
    provider: &str,
    answer: Response<GuestBody>,
) -> Result<Response<GuestBody>, WireError> {
    let registry = gateway.providers.current();
    let routes = registry.routes();
    let is_narrow = caller.is_narrowed() || !routes.policies.is_empty();
    if !is_narrow || !answer.status().is_success() {
        return Ok(answer);
    }
    let (mut head, answer) = answer.into_parts();
    let unreadable = || WireError::upstream(format!("the list of models of `{provider}` cannot be read"));
    let bytes = whole(answer, MAX_LIST).await.ok_or_else(unreadable)?;
    let mut list: Value = serde_json::from_slice(&bytes).map_err(|_| unreadable())?;
    let permits = |model: &str| caller.permits(provider, model) && routes.steps(provider, model).is_ok();
    if !retain(&mut list, permits) {
        // Nothing of it was left away: the very bytes.
        return Ok(Response::from_parts(head, body::full(bytes)));
    }
    head.headers.remove(CONTENT_LENGTH);
    Ok(Response::from_parts(head, body::full(list.to_string())))
}

/// All of a body; none where it breaks off or is too long.
pub(super) async fn whole(mut body: GuestBody, most: usize) -> Option<Bytes> {
    let mut whole = BytesMut::new();
    while let Some(frame) = body.frame().await {
        if let Ok(data) = frame.ok()?.into_data() {
            whole.extend_from_slice(&data);
        }
        if whole.len() > most {
            return None;
        }
    }
    Some(whole.freeze())
}

/// Leaves away what is not permitted, in each dialect's form; whether there was any.
fn retain(list: &mut Value, permits: impl Fn(&str) -> bool) -> bool {
    let mut has_left = false;
    for field in ["data", "models"] {
        let Some(models) = list.get_mut(field).and_then(Value::as_array_mut) else {
            continue;
        };
        let before = models.len();
        models.retain(|model| name(model).is_some_and(&permits));
        has_left |= models.len() != before;
        let ends =
            [models.first(), models.last()].map(|model| model.and_then(|model| model.get("id")).cloned());
        for (end, id) in ["first_id", "last_id"].into_iter().zip(ends) {
            if let Some(end) = list.get_mut(end) {
                *end = id.unwrap_or_default();
            }
        }
    }
    has_left
}

fn name(model: &Value) -> Option<&str> {
    let id = model.get("id").or_else(|| model.get("name"))?.as_str()?;
    Some(id.strip_prefix("models/").unwrap_or(id))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn each_dialects_list_shows_what_is_permitted() {
        let permits = |model: &str| model.starts_with("claude");
        let mut messages = json!({
            "data": [{ "id": "claude-b" }, { "id": "other" }], "first_id": "claude-b", "last_id": "other", "has_more": false,
        });
        assert!(retain(&mut messages, permits));
        assert_eq!(
            messages,
            json!({ "data": [{ "id": "claude-b" }], "first_id": "claude-b", "last_id": "claude-b", "has_more": false })
        );
        let mut gemini = json!({ "models": [{ "name": "models/claude-x" }, { "name": "models/y" }, {}] });
        assert!(retain(&mut gemini, permits));
        assert_eq!(gemini, json!({ "models": [{ "name": "models/claude-x" }] }));
        assert!(!retain(&mut gemini, permits));
    }
}
