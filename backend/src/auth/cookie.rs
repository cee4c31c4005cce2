//! The cookie of a browser's session.

use super::login::LOGIN_LIFE;
use super::secret::Token;
use http::header::COOKIE;
use http::{HeaderMap, HeaderValue};

/// Name of the cookie.
pub(crate) const NAME: &str = "lodge_session";

fn attributes(secure: bool) -> &'static str {
    if secure {
        "HttpOnly; SameSite=Strict; Path=/; Secure"
    } else {
        "HttpOnly; SameSite=Strict; Path=/"
    }
}

fn header(text: &str) -> HeaderValue {
    // Tokens and attributes are visible ASCII.
    HeaderValue::from_str(text).unwrap_or_else(|_| HeaderValue::from_static(""))
}

/// `Set-Cookie` for a new login.
pub(crate) fn set(token: &Token, secure: bool) -> HeaderValue {
    let age = LOGIN_LIFE.as_secs();
    let mut value = header(&format!(
        "{NAME}={}; Max-Age={age}; {}",
        token.reveal(),
        attributes(secure)
    ));
    value.set_sensitive(true);
    value
}

/// `Set-Cookie` that takes it away.
pub(crate) fn clear(secure: bool) -> HeaderValue {
    header(&format!("{NAME}=; Max-Age=0; {}", attributes(secure)))
}

/// The token among a request's cookies; none where there are two of the name.
pub(crate) fn find(headers: &HeaderMap) -> Option<Token> {
    let values = headers
        .get_all(COOKIE)
        .into_iter()
        .filter_map(|value| value.to_str().ok());
    let mut found = values
        .flat_map(|value| value.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .filter(|(name, _)| *name == NAME);
    let (_, value) = found.next()?;
    if found.next().is_some() {
        None
    } else {
        Token::parse(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cookie_is_strict_and_comes_back() {
        let token = Token::random().unwrap();
        let set_cookie = set(&token, false);
        let text = set_cookie.to_str().unwrap();
        assert!(
            text.ends_with("; Max-Age=2592000; HttpOnly; SameSite=Strict; Path=/"),
            "{text}"
        );
        assert!(set(&token, true).to_str().unwrap().ends_with("; Secure"));
        assert!(
            !format!("{set_cookie:?}").contains(token.reveal()),
            "not in a log"
        );
        let pair = text.split(';').next().unwrap();
        let headers = HeaderMap::from_iter([(COOKIE, header(&format!("a=b; {pair}")))]);
        assert_eq!(find(&headers), Some(token));
        let twice = HeaderMap::from_iter([(COOKIE, header(&format!("{pair}; {pair}")))]);
        assert_eq!(find(&twice), None);
        assert_eq!(find(&HeaderMap::new()), None);
    }
}
