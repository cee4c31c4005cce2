//! Which headers and query parameters cross the gateway: all but a deny list, since a provider's own client may
//! send any it likes and lose a feature where one goes missing.

use hyper::HeaderMap;
use hyper::header::{self, HeaderName, HeaderValue};

use crate::provider::{Account, Kind};

/// Between one hop and the next (RFC 9110 7.6.1), and what is set anew for each hop.
const HOP: [&str; 12] = [
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "expect",
    "host",
    "content-length",
];

/// Where a caller may carry its key.
const KEYS: [&str; 4] = ["authorization", "x-api-key", "x-goog-api-key", "api-key"];

/// Whose the request is, is for the gateway to say: none of these may name another account, address or method.
const IDENTITY: [&str; 13] = [
    "cookie",
    "cookie2",
    "forwarded",
    "via",
    "x-real-ip",
    "openai-organization",
    "openai-project",
    "x-goog-user-project",
    "x-http-method",
    "x-http-method-override",
    "x-method-override",
    "x-original-url",
    "x-rewrite-url",
];

/// Query parameters that carry a credential.
const KEY_PARAMETERS: [&str; 4] = ["key", "api_key", "access_token", "oauth_token"];

/// The key a caller shows, wherever its client puts it.
pub fn presented_key(headers: &HeaderMap, query: Option<&str>) -> Option<String> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let bearer = text("authorization").and_then(|value| {
        let (scheme, key) = value.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| key.trim())
    });
    let parameter = || query?.split('&').find_map(|pair| pair.strip_prefix("key="));
    let found = bearer
        .or_else(|| KEYS[1..].iter().find_map(|name| text(name)))
        .or_else(parameter)?;
    (!found.is_empty()).then(|| found.to_owned())
}

/// The headers of the request to the provider.
pub(crate) fn request(from: &HeaderMap, kind: Kind, account: &Account) -> HeaderMap {
    let mut to = HeaderMap::with_capacity(from.len() + 2);
    let per_hop = connection_options(from);
    for (name, value) in from {
        let denied = is_in(&HOP, name)
            || is_in(&KEYS, name)
            || is_in(&IDENTITY, name)
            || name.as_str().starts_with("x-forwarded-")
            || per_hop.contains(name)
            || name == header::ACCEPT_ENCODING;
        if !denied {
            to.append(name, value.clone());
        }
    }
    // A compressed stream is held back until a block is full.
    to.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    if let Some(key) = &account.key {
        match kind {
            _ if account.oauth.is_some() => to.insert(header::AUTHORIZATION, key.header("Bearer ")),
            Kind::Anthropic => to.insert("x-api-key", key.header("")),
            Kind::Gemini => to.insert("x-goog-api-key", key.header("")),
            _ => to.insert(header::AUTHORIZATION, key.header("Bearer ")),
        };
    }
    if let Some(beta) = account.oauth.as_ref().and_then(|spec| spec.beta.as_deref()) {
        merge_beta(&mut to, beta);
    }
    to
}

/// Adds a word to the caller's own list: replaced, the body's fields would not fit it any more.
fn merge_beta(headers: &mut HeaderMap, beta: &str) {
    const NAME: HeaderName = HeaderName::from_static("anthropic-beta");
    let texts = headers
        .get_all(&NAME)
        .iter()
        .filter_map(|value| value.to_str().ok());
    let mut words: Vec<&str> = texts.flat_map(|text| text.split(',')).map(str::trim).collect();
    words.retain(|word| !word.is_empty() && *word != beta);
    words.push(beta);
    if let Ok(value) = HeaderValue::from_str(&words.join(",")) {
        headers.insert(NAME, value);
    }
}

/// The headers of the answer to the caller.
pub(crate) fn response(from: &HeaderMap) -> HeaderMap {
    let mut to = HeaderMap::with_capacity(from.len());
    let per_hop = connection_options(from);
    for (name, value) in from {
        let denied = is_in(&HOP, name) && name != header::CONTENT_LENGTH
            || per_hop.contains(name)
            || [
                header::SET_COOKIE,
                header::ALT_SVC,
                header::STRICT_TRANSPORT_SECURITY,
            ]
            .contains(name)
            || name == "set-cookie2";
        if !denied {
            to.append(name, value.clone());
        }
    }
    to
}

/// The query without credentials.
pub(super) fn query(from: Option<&str>) -> Option<String> {
    let kept: Vec<&str> = from?.split('&').filter(|pair| !is_credential(pair)).collect();
    (!kept.is_empty()).then(|| kept.join("&"))
}

fn is_credential(pair: &str) -> bool {
    let name = pair.split('=').next().unwrap_or_default();
    // An encoded letter in a name is no client's doing; it could only hide one of these.
    name.contains('%')
        || KEY_PARAMETERS
            .iter()
            .any(|parameter| name.eq_ignore_ascii_case(parameter))
}

fn is_in(list: &[&str], name: &HeaderName) -> bool {
    list.contains(&name.as_str())
}

/// Header names that `Connection` declares to be between these two hops only.
fn connection_options(headers: &HeaderMap) -> Vec<HeaderName> {
    let values = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok());
    values
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let pair = |&(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value));
        pairs.iter().map(pair).collect()
    }

    #[test]
    fn a_key_is_found_wherever_clients_put_it() {
        for (name, value) in [
            ("authorization", "Bearer k"),
            ("authorization", "bearer  k"),
            ("x-api-key", "k"),
            ("x-goog-api-key", "k"),
        ] {
            assert_eq!(
                presented_key(&map(&[(name, value)]), None).as_deref(),
                Some("k"),
                "{name}"
            );
        }
        assert_eq!(
            presented_key(&HeaderMap::new(), Some("alt=sse&key=k")).as_deref(),
            Some("k")
        );
        assert_eq!(presented_key(&map(&[("authorization", "Basic k")]), None), None);
        assert_eq!(presented_key(&map(&[("x-api-key", "")]), Some("monkey=k")), None);
    }

    #[test]
    fn a_token_of_a_login_goes_where_it_belongs_and_its_word_joins_the_callers() {
        let account = Account {
            name: "sub".into(),
            key: crate::secret::Secret::parse(&zeroize::Zeroizing::new("t".to_owned())).ok(),
            oauth: Some(std::sync::Arc::new(crate::oauth::Spec {
                client_id: String::new(),
                authorize_url: None,
                redirect_uri: String::new(),
                device_url: None,
                token_url: String::new(),
                scopes: Vec::new(),
                beta: Some("oauth-1".into()),
            })),
        };
        let from = map(&[("anthropic-beta", "b, oauth-1,a"), ("x-api-key", "guest")]);
        let to = request(&from, Kind::Anthropic, &account);
        assert_eq!(to["authorization"], "Bearer t");
        assert_eq!(to["anthropic-beta"], "b,a,oauth-1");
        assert!(to.get("x-api-key").is_none());
    }

    #[test]
    fn headers_of_the_hop_do_not_cross() {
        let from = map(&[
            ("connection", "close, x-private"),
            ("x-private", "1"),
            ("set-cookie", "a=b"),
            ("transfer-encoding", "chunked"),
            ("x-request-id", "r"),
            ("content-length", "3"),
        ]);
        let to = response(&from);
        assert_eq!(to, map(&[("x-request-id", "r"), ("content-length", "3")]));
    }

    #[test]
    fn credentials_leave_the_query_and_nothing_else_does() {
        assert_eq!(
            query(Some("beta=true&key=x&alt=sse&a%20b=1")).as_deref(),
            Some("beta=true&alt=sse")
        );
        assert_eq!(query(Some("KEY=x&%6bey=x")), None);
        assert_eq!(query(Some("empty=&flag")).as_deref(), Some("empty=&flag"));
    }
}
