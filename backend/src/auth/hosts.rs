//! Which `Host` and `Origin` values are ours.
//!
//! An exact list stops DNS rebinding: a page of another site that makes its name point here still sends its own name.

use http::header::{HOST, ORIGIN};
use http::request::Parts;
use http::{Method, Uri};
use lodge_proto::{ErrorBody, ErrorCode};
use std::net::SocketAddr;

/// The exact values that are served.
#[derive(Debug, Clone)]
pub(crate) struct Hosts {
    scheme: &'static str,
    allowed: Vec<String>,
}

impl Hosts {
    /// The listener's own address, the names of the loopback with its port, and `more`.
    pub(crate) fn new(listen: SocketAddr, more: &[String]) -> Self {
        let port = listen.port();
        let own = [
            listen.to_string(),
            format!("localhost:{port}"),
            format!("127.0.0.1:{port}"),
            format!("[::1]:{port}"),
        ];
        let mut allowed: Vec<String> = own.into_iter().collect();
        // Browsers leave the scheme's usual port out.
        if port == 80 {
            allowed.extend(["localhost", "127.0.0.1", "[::1]"].map(str::to_owned));
        }
        allowed.extend(more.iter().map(|host| host.to_ascii_lowercase()));
        Self {
            scheme: "http",
            allowed,
        }
    }

    fn serves(&self, host: &str) -> bool {
        self.allowed
            .iter()
            .any(|allowed| allowed.eq_ignore_ascii_case(host))
    }

    /// The one `Host` of a request, if it is ours.
    fn host<'a>(&self, parts: &'a Parts) -> Result<&'a str, ErrorBody> {
        let refused = |message: String| ErrorBody::new(ErrorCode::Forbidden, message);
        let mut values = parts.headers.get_all(HOST).iter();
        let host = values.next().and_then(|value| value.to_str().ok());
        let (Some(host), None) = (host, values.next()) else {
            return Err(refused("a request names exactly one Host".into()));
        };
        let same = |uri: &Uri| {
            uri.authority()
                .is_none_or(|authority| authority.as_str().eq_ignore_ascii_case(host))
        };
        if self.serves(host) && same(&parts.uri) {
            return Ok(host);
        }
        let shown: String = host.chars().take(100).collect();
        Err(refused(format!(
            "Host `{shown}` is not served here; add it to `allowed_hosts` if it should be"
        )))
    }

    /// Refuses a request of a foreign name, and a mutating or WebSocket request of a foreign page.
    pub(crate) fn check(&self, parts: &Parts) -> Result<(), ErrorBody> {
        let host = self.host(parts)?;
        if is_safe(&parts.method) && !is_upgrade(parts) {
            return Ok(());
        }
        let mut origins = parts.headers.get_all(ORIGIN).iter();
        let origin = origins.next().and_then(|value| value.to_str().ok());
        let expected = format!("{}://{host}", self.scheme);
        match (origin, origins.next()) {
            (Some(origin), None) if origin.eq_ignore_ascii_case(&expected) => Ok(()),
            (None, None) => Err(ErrorBody::new(
                ErrorCode::Forbidden,
                format!("the request names no Origin; expected {expected}"),
            )),
            _ => Err(ErrorBody::new(
                ErrorCode::Forbidden,
                format!("the request comes from a foreign page; expected Origin {expected}"),
            )),
        }
    }
}

fn is_safe(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS)
}

fn is_upgrade(parts: &Parts) -> bool {
    parts.headers.contains_key(http::header::UPGRADE)
}

/// Whether a text may stand in `allowed_hosts`: a name or address with an optional port, and nothing else.
pub(crate) fn is_host(text: &str) -> bool {
    let plain = !text.is_empty()
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b".-:[]".contains(&b));
    plain
        && text
            .parse::<http::uri::Authority>()
            .is_ok_and(|authority| !authority.host().is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Request;

    fn hosts() -> Hosts {
        Hosts::new("127.0.0.1:8380".parse().unwrap(), &["Lodge.example:8380".into()])
    }

    fn request(method: Method, uri: &str, headers: &[(http::HeaderName, &str)]) -> Parts {
        let mut request = Request::builder().method(method).uri(uri);
        for (name, value) in headers {
            request = request.header(name, *value);
        }
        request.body(()).unwrap().into_parts().0
    }

    #[test]
    fn only_exact_hosts_are_served() {
        let check = |uri, headers: &[_]| hosts().check(&request(Method::GET, uri, headers));
        for host in [
            "127.0.0.1:8380",
            "localhost:8380",
            "[::1]:8380",
            "LOCALHOST:8380",
            "lodge.example:8380",
        ] {
            check("/", &[(HOST, host)]).unwrap();
        }
        for host in [
            "evil.example",
            "127.0.0.1",
            "localhost:8381",
            "localhost:8380.evil.example",
            "",
            "a@localhost:8380",
        ] {
            assert_eq!(
                check("/", &[(HOST, host)]).unwrap_err().code,
                ErrorCode::Forbidden,
                "{host}"
            );
        }
        check("/", &[]).unwrap_err();
        check("/", &[(HOST, "localhost:8380"), (HOST, "localhost:8380")]).unwrap_err();
        check("http://evil.example/", &[(HOST, "localhost:8380")]).unwrap_err();
        check("http://localhost:8380/", &[(HOST, "localhost:8380")]).unwrap();
    }

    #[test]
    fn what_changes_something_names_its_exact_origin() {
        let host = (HOST, "localhost:8380");
        for method in [Method::POST, Method::PUT, Method::DELETE, Method::PATCH] {
            let check = |headers: &[_]| hosts().check(&request(method.clone(), "/", headers));
            check(&[host.clone(), (ORIGIN, "http://localhost:8380")]).unwrap();
            for origin in [
                "https://localhost:8380",
                "http://127.0.0.1:8380",
                "http://localhost:8380.evil.example",
                "http://localhost",
                "null",
                "",
            ] {
                check(&[host.clone(), (ORIGIN, origin)]).unwrap_err();
            }
            check(std::slice::from_ref(&host)).unwrap_err();
        }
        let upgrade = (http::header::UPGRADE, "websocket");
        let websocket = |headers: &[_]| hosts().check(&request(Method::GET, "/api/v1/ws", headers));
        websocket(&[host.clone(), upgrade.clone(), (ORIGIN, "http://localhost:8380")]).unwrap();
        websocket(&[host.clone(), upgrade.clone(), (ORIGIN, "http://evil.example")]).unwrap_err();
        websocket(&[host, upgrade]).unwrap_err();
    }

    #[test]
    fn allowed_hosts_are_plain() {
        for good in ["lodge.example", "lodge.example:8380", "10.0.0.1:1", "[::1]:80"] {
            assert!(is_host(good), "{good}");
        }
        for bad in ["", "*", "*.example", "http://x", "x/y", "a b", "u@x", ":80"] {
            assert!(!is_host(bad), "{bad}");
        }
    }
}
