//! Base URLs, in the spelling people know from each kind's own clients.

use hyper::Uri;
use hyper::http::uri::{Authority, Scheme};

use super::Kind;

/// Why a text cannot be a base URL.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadBaseUrl {
    #[error("is not a URL")]
    Syntax,
    #[error("must begin with https://")]
    Scheme,
    #[error("must not hold a user name or password")]
    UserInfo,
    #[error("must not have a query or fragment")]
    Query,
    #[error("plain http to another machine sends the key in clear; use https or set `insecure_http = true`")]
    Insecure,
}

/// Where a provider is: scheme, authority, and the path before the versioned part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BaseUrl {
    scheme: Scheme,
    authority: Authority,
    /// What replaces `strip` in front of the native path.
    prefix: String,
    /// The version part of the native path that the base URL already has.
    strip: &'static str,
}

impl BaseUrl {
    /// For the `OpenAI` kinds the base URL includes the version (`https://host/v1`), as in `OpenAI`'s clients; a
    /// base URL without a path means `/v1`. For the others it does not, and one that does is understood.
    pub fn parse(kind: Kind, url: &str, insecure_http: bool) -> Result<Self, BadBaseUrl> {
        if url.contains('#') {
            return Err(BadBaseUrl::Query);
        }
        let parts = url.parse::<Uri>().map_err(|_| BadBaseUrl::Syntax)?.into_parts();
        let scheme = parts.scheme.ok_or(BadBaseUrl::Scheme)?;
        let authority = parts.authority.ok_or(BadBaseUrl::Syntax)?;
        if scheme != Scheme::HTTPS && scheme != Scheme::HTTP {
            return Err(BadBaseUrl::Scheme);
        }
        if authority.as_str().contains('@') {
            return Err(BadBaseUrl::UserInfo);
        }
        if scheme == Scheme::HTTP && !insecure_http && !is_loopback(authority.host()) {
            return Err(BadBaseUrl::Insecure);
        }
        let path = parts
            .path_and_query
            .as_ref()
            .map_or("", |path| path.path())
            .trim_end_matches('/')
            .to_owned();
        if parts.path_and_query.is_some_and(|path| path.query().is_some()) {
            return Err(BadBaseUrl::Query);
        }
        let (prefix, strip) = match kind {
            Kind::Openai | Kind::OpenaiCompatible if path.is_empty() => (path, ""),
            Kind::Openai | Kind::OpenaiCompatible => (path, "/v1"),
            Kind::Gemini => (path.strip_suffix("/v1beta").unwrap_or(&path).to_owned(), ""),
            Kind::Anthropic | Kind::Demo => (path.strip_suffix("/v1").unwrap_or(&path).to_owned(), ""),
        };
        Ok(Self {
            scheme,
            authority,
            prefix,
            strip,
        })
    }

    /// Of a provider that is in this process.
    pub(super) fn nowhere() -> Self {
        let authority = Authority::from_static("localhost");
        Self {
            scheme: Scheme::HTTP,
            authority,
            prefix: String::new(),
            strip: "",
        }
    }

    /// Its host, and its port where it has one of its own.
    pub fn server(&self) -> (&str, Option<u16>) {
        (self.authority.host(), self.authority.port_u16())
    }

    /// The URL for a native path.
    pub fn join(&self, path: &str, query: Option<&str>) -> Result<Uri, hyper::http::Error> {
        let path = path.strip_prefix(self.strip).unwrap_or(path);
        let query = query.map_or_else(String::new, |query| format!("?{query}"));
        Uri::builder()
            .scheme(self.scheme.clone())
            .authority(self.authority.clone())
            .path_and_query(format!("{}{path}{query}", self.prefix))
            .build()
    }
}

impl std::fmt::Display for BaseUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}://{}{}", self.scheme, self.authority, self.prefix)
    }
}

fn is_loopback(host: &str) -> bool {
    let address = host
        .trim_start_matches('[')
        .trim_end_matches(']')
        .parse::<std::net::IpAddr>();
    host == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn joined(kind: Kind, base: &str, path: &str) -> String {
        BaseUrl::parse(kind, base, false)
            .unwrap()
            .join(path, None)
            .unwrap()
            .to_string()
    }

    #[test]
    fn each_kind_in_its_clients_spelling() {
        let chat = "/v1/chat/completions";
        for (base, url) in [
            (
                "https://openrouter.ai/api/v1",
                "https://openrouter.ai/api/v1/chat/completions",
            ),
            (
                "https://example.com/v4/",
                "https://example.com/v4/chat/completions",
            ),
            (
                "http://127.0.0.1:11434",
                "http://127.0.0.1:11434/v1/chat/completions",
            ),
            ("http://[::1]:1/v1", "http://[::1]:1/v1/chat/completions"),
        ] {
            assert_eq!(joined(Kind::OpenaiCompatible, base, chat), url);
        }
        let url = "https://proxy.example/x/v1/messages";
        assert_eq!(
            joined(Kind::Anthropic, "https://proxy.example/x", "/v1/messages"),
            url
        );
        assert_eq!(
            joined(Kind::Anthropic, "https://proxy.example/x/v1", "/v1/messages"),
            url
        );
        let models = "https://g.example/v1beta/models";
        assert_eq!(
            joined(Kind::Gemini, "https://g.example/v1beta/", "/v1beta/models"),
            models
        );
    }

    #[test]
    fn what_would_leak_a_key_is_refused() {
        let parse = |url| BaseUrl::parse(Kind::Openai, url, false).unwrap_err();
        assert_eq!(parse("http://example.com/v1"), BadBaseUrl::Insecure);
        assert_eq!(parse("http://127.0.0.1.example.com/v1"), BadBaseUrl::Insecure);
        assert_eq!(parse("https://u:p@example.com/v1"), BadBaseUrl::UserInfo);
        assert_eq!(parse("https://example.com/v1?key=x"), BadBaseUrl::Query);
        assert_eq!(parse("ftp://example.com"), BadBaseUrl::Scheme);
        assert_eq!(parse("example.com"), BadBaseUrl::Scheme);
    }
}
