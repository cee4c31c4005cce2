//! Lists of stored objects: the caller's own, one by one. What the provider lists is everybody's.

use bytes::Bytes;
use futures_util::FutureExt;
use hyper::http::request::Parts;
use hyper::{Request, Response, StatusCode};
use serde_json::{Map, Value};

use crate::asked::Kind;
use crate::body::{self, GuestBody};
use crate::caller::Caller;
use crate::dialect::{Action, Dialect, Operation, Route, Stored, WireError};
use crate::forward::prepare::Prepared;
use crate::forward::{Asking, attempts, listing};
use crate::guest::Gateway;

/// Objects on one page of a list, at most and where the request does not say.
const PAGE: (usize, usize) = (100, 20);
/// Of what a list says of one object, bytes.
const MAX_OBJECT: usize = 64 << 10;
/// Objects that are asked for at a time.
const AT_ONCE: usize = 8;

/// What a request asks of a list.
#[derive(Debug, Default, PartialEq, Eq)]
struct Page<'a> {
    limit: Option<usize>,
    after: Option<&'a str>,
    before: Option<&'a str>,
    oldest_first: bool,
    purpose: Option<&'a str>,
}

impl<'a> Page<'a> {
    fn of(query: Option<&'a str>) -> Self {
        let mut page = Self::default();
        let pairs = query.unwrap_or_default().split('&');
        for (name, value) in pairs.filter_map(|pair| pair.split_once('=')) {
            match name {
                "limit" | "pageSize" | "page_size" => page.limit = value.parse().ok(),
                "after" | "after_id" | "pageToken" | "page_token" => page.after = Some(value),
                "before_id" => page.before = Some(value),
                "order" => page.oldest_first = value == "asc",
                "purpose" => page.purpose = Some(value),
                _ => {}
            }
        }
        page
    }

    /// Those that are on it, and whether there are more.
    fn cut(&self, mut owned: Vec<(String, String)>) -> (Vec<(String, String)>, bool) {
        if self.oldest_first {
            owned.reverse();
        }
        let place = |token: &str| {
            // A slash of Gemini's names is encoded in a query.
            let token = token.replace("%2F", "/").replace("%2f", "/");
            owned.iter().position(|(id, _)| *id == token)
        };
        let (most, usual) = PAGE;
        let limit = self.limit.filter(|limit| *limit > 0).unwrap_or(usual).min(most);
        let all = owned.len();
        let (from, to) = match (self.after, self.before) {
            (Some(after), _) => (place(after).map_or(all, |at| at + 1), all),
            (None, Some(before)) => {
                let end = place(before).unwrap_or(0);
                (end.saturating_sub(limit), end)
            }
            (None, None) => (0, all),
        };
        let end = to.min(from.saturating_add(limit));
        let has_more = if self.before.is_some() && self.after.is_none() {
            from > 0
        } else {
            end < all
        };
        (owned.drain(from..end).collect(), has_more)
    }
}

/// The caller's own objects of a kind, each as the provider tells of it. The provider's list is of everybody's.
pub(in crate::forward) async fn list(
    gateway: &Gateway,
    caller: &Caller,
    asking: &Asking<'_>,
    kind: Kind,
) -> Result<Response<GuestBody>, WireError> {
    let page = Page::of(asking.parts.uri.query());
    let owned = gateway
        .routing
        .objects
        .owned(&asking.provider.name, caller.owner(), kind);
    let (owned, has_more) = page.cut(owned);
    let last = owned.last().map(|(id, _)| id.clone());
    let mut found: Vec<Value> = Vec::new();
    for some in owned.chunks(AT_ONCE) {
        let mut asked = Vec::new();
        for (id, account) in some {
            asked.push(one(gateway, caller, asking, kind, id, account).boxed());
        }
        for object in futures_util::future::join_all(asked).await {
            found.extend(object?);
        }
    }
    if let Some(purpose) = page.purpose {
        found.retain(|object| object["purpose"] == purpose);
    }
    Ok(body::json(
        200,
        &listed(
            asking.route.dialect,
            kind,
            found,
            has_more.then_some(last).flatten(),
        ),
    ))
}

fn listed(dialect: Dialect, kind: Kind, found: Vec<Value>, next: Option<String>) -> Value {
    let mut list = Map::new();
    if dialect == Dialect::Gemini {
        let name = if kind == Kind::Cache {
            "cachedContents"
        } else {
            "files"
        };
        list.insert(name.to_owned(), found.into());
        if let Some(next) = next {
            list.insert("nextPageToken".to_owned(), next.into());
        }
        return list.into();
    }
    if dialect != Dialect::Messages {
        list.insert("object".to_owned(), "list".into());
    }
    let id = |object: Option<&Value>| object.map_or(Value::Null, |object| object["id"].clone());
    list.insert("first_id".to_owned(), id(found.first()));
    // What a client goes on with, also where the last ones of a page are gone.
    let last = next.clone().map_or_else(|| id(found.last()), Value::from);
    list.insert("last_id".to_owned(), last);
    list.insert("has_more".to_owned(), next.is_some().into());
    list.insert("data".to_owned(), found.into());
    list.into()
}

/// One object, as its provider tells of it; none where it is no more.
async fn one(
    gateway: &Gateway,
    caller: &Caller,
    asking: &Asking<'_>,
    kind: Kind,
    id: &str,
    account: &str,
) -> Result<Option<Value>, WireError> {
    let path = match (asking.route.dialect, kind) {
        (Dialect::Gemini, _) => format!("/v1beta/{id}"),
        (_, Kind::Container) => format!("/v1/containers/{id}"),
        _ => format!("/v1/files/{id}"),
    };
    let route = Route {
        dialect: asking.route.dialect,
        operation: Operation::Stored(Stored {
            kind,
            action: Action::Read(id.to_owned()),
        }),
        path: path.clone(),
    };
    let parts = reading(asking.parts);
    let asking = Asking {
        route: &route,
        parts: &parts,
        body: Bytes::new(),
        pinned: Some(account.to_owned()),
        ..asking.clone()
    };
    let prepared = [Prepared {
        provider: asking.provider.clone(),
        model: String::new(),
        dialect: route.dialect,
        path,
        body: Bytes::new(),
        translated: None,
    }];
    let taken = attempts::run(gateway, &asking, &prepared, None).await?;
    let answer = attempts::pass_on(gateway, caller, &asking, taken).await?;
    let provider = &asking.provider.name;
    match answer.status() {
        StatusCode::NOT_FOUND | StatusCode::GONE => {
            gateway.routing.objects.forget(provider, id);
            Ok(None)
        }
        status if status.is_success() => {
            let unreadable =
                || WireError::upstream(format!("what `{provider}` says of `{id}` cannot be read"));
            let whole = listing::whole(answer.into_body(), MAX_OBJECT).await;
            let whole = whole.ok_or_else(unreadable)?;
            serde_json::from_slice(&whole).map(Some).map_err(|_| unreadable())
        }
        status => Err(WireError::upstream(format!(
            "the provider `{provider}` answered with HTTP {} when it was asked for `{id}`",
            status.as_u16()
        ))),
    }
}

/// The head of a request that reads one object, made of that for a list.
fn reading(list: &Parts) -> Parts {
    let mut request = Request::new(());
    let is_beta = |query: &str| query.split('&').any(|pair| pair == "beta=true");
    if list.uri.query().is_some_and(is_beta) {
        *request.uri_mut() = hyper::Uri::from_static("/?beta=true");
    }
    *request.headers_mut() = list.headers.clone();
    request.into_parts().0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(query: &str) -> (Vec<String>, bool) {
        let owned = ["e", "d", "c", "files/b", "a"].map(|id| (id.to_owned(), "default".to_owned()));
        let (page, more) = Page::of(Some(query)).cut(owned.into());
        (page.into_iter().map(|(id, _)| id).collect(), more)
    }

    #[test]
    fn pages_as_a_table() {
        for (query, ids, more) in [
            ("", &["e", "d", "c", "files/b", "a"][..], false),
            ("limit=2", &["e", "d"], true),
            ("limit=2&after=d", &["c", "files/b"], true),
            ("limit=9&after_id=c", &["files/b", "a"], false),
            ("pageSize=1&pageToken=files%2Fb", &["a"], false),
            ("limit=2&order=asc", &["a", "files/b"], true),
            ("limit=1&before_id=c", &["d"], true),
            ("before_id=c", &["e", "d"], false),
            ("after=unknown", &[], false),
            ("before_id=unknown", &[], false),
            ("limit=0&after=c", &["files/b", "a"], false),
        ] {
            assert_eq!(
                page(query),
                (ids.iter().map(|id| (*id).to_owned()).collect(), more),
                "{query}"
            );
        }
    }
}
