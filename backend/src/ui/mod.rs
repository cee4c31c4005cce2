//! The browser UI, served from the binary.
//!
//! Names under `/assets/` hold a hash of their content: a browser keeps them for good. Everything else it asks for
//! again, and gets 304 where nothing changed. The addresses that the UI itself routes all get its one page.

use crate::rest::error::no_such_path;
use axum::body::Body;
use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use http::header::{
    ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_TYPE, ETAG, IF_NONE_MATCH, VARY,
};
use http::{HeaderMap, HeaderValue, Method, StatusCode};

/// A file of the UI.
#[derive(Debug)]
struct Asset {
    path: &'static str,
    mime: &'static str,
    /// Hash of the plain content.
    etag: &'static str,
    plain: &'static [u8],
    brotli: Option<&'static [u8]>,
    gzip: Option<&'static [u8]>,
}

mod generated {
    use super::Asset;
    include!(concat!(env!("OUT_DIR"), "/ui/assets.rs"));
}

const PAGE: &str = "index.html";
const IMMUTABLE: &str = "public, max-age=31536000, immutable";
/// The browser keeps it, but asks each time whether it still holds.
const REVALIDATE: &str = "no-cache";

fn find(path: &str) -> Option<&'static Asset> {
    let assets = generated::ASSETS;
    assets
        .binary_search_by(|asset| asset.path.cmp(path))
        .ok()
        .map(|index| &assets[index])
}

/// Whether the UI's own router knows the address.
fn is_page(path: &str) -> bool {
    matches!(path, "/" | "/login" | "/settings" | "/s") || path.starts_with("/s/")
}

/// Whether a client takes an encoding: listed, and not with `q=0`.
fn accepts(headers: &HeaderMap, encoding: &str) -> bool {
    let values = headers
        .get_all(ACCEPT_ENCODING)
        .into_iter()
        .filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|item| {
        let mut pieces = item.split(';').map(str::trim);
        let named = pieces
            .next()
            .is_some_and(|name| name.eq_ignore_ascii_case(encoding));
        let refused = pieces.any(|piece| {
            piece
                .strip_prefix("q=")
                .and_then(|q| q.parse::<f32>().ok())
                .is_some_and(|quality| quality <= 0.0)
        });
        named && !refused
    })
}

/// The smallest variant the client takes.
fn negotiate(asset: &'static Asset, headers: &HeaderMap) -> (&'static [u8], Option<&'static str>) {
    match (asset.brotli, asset.gzip) {
        (Some(bytes), _) if accepts(headers, "br") => (bytes, Some("br")),
        (_, Some(bytes)) if accepts(headers, "gzip") => (bytes, Some("gzip")),
        _ => (asset.plain, None),
    }
}

fn etag_matches(headers: &HeaderMap, etag: &str) -> bool {
    let values = headers
        .get_all(IF_NONE_MATCH)
        .into_iter()
        .filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|tag| {
        let tag = tag.trim();
        tag == "*" || tag.strip_prefix("W/").unwrap_or(tag) == etag
    })
}

fn answer(asset: &'static Asset, headers: &HeaderMap) -> Response {
    let (bytes, encoding) = negotiate(asset, headers);
    let etag = format!(
        "\"{}{}\"",
        asset.etag,
        encoding.map(|name| format!("-{name}")).unwrap_or_default()
    );
    let unchanged = etag_matches(headers, &etag);
    let body = if unchanged {
        Body::empty()
    } else {
        Body::from(bytes)
    };
    let mut response = Response::new(body);
    if unchanged {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
    }
    let out = response.headers_mut();
    out.insert(CONTENT_TYPE, HeaderValue::from_static(asset.mime));
    out.insert(VARY, HeaderValue::from_static("accept-encoding"));
    let cache = if asset.path.starts_with("assets/") {
        IMMUTABLE
    } else {
        REVALIDATE
    };
    out.insert(CACHE_CONTROL, HeaderValue::from_static(cache));
    if let Ok(etag) = HeaderValue::from_str(&etag) {
        out.insert(ETAG, etag);
    }
    if let Some(encoding) = encoding {
        out.insert(CONTENT_ENCODING, HeaderValue::from_static(encoding));
    }
    response
}

/// Everything that is no API.
pub(crate) async fn serve(request: Request) -> Response {
    let path = request.uri().path();
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return crate::rest::error::wrong_method().await.into_response();
    }
    let asset = if is_page(path) {
        find(PAGE)
    } else {
        find(path.trim_start_matches('/'))
    };
    match asset {
        Some(asset) => answer(asset, request.headers()),
        None => no_such_path(path).into_response(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    static ASSET: Asset = Asset {
        path: "assets/app-1234.js",
        mime: "text/javascript; charset=utf-8",
        etag: "abcd",
        plain: b"plain",
        brotli: Some(b"br"),
        gzip: Some(b"gz"),
    };

    fn accepting(value: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(ACCEPT_ENCODING, HeaderValue::from_static(value))])
    }

    #[test]
    fn the_smallest_variant_that_is_taken_is_served() {
        assert_eq!(negotiate(&ASSET, &accepting("gzip, deflate, br")).1, Some("br"));
        assert_eq!(
            negotiate(&ASSET, &accepting("gzip;q=0.5, br;q=0")).1,
            Some("gzip")
        );
        assert_eq!(negotiate(&ASSET, &accepting("identity")).1, None);
        assert_eq!(negotiate(&ASSET, &HeaderMap::new()).0, b"plain");
    }

    #[test]
    fn hashed_names_are_kept_for_good_and_unchanged_ones_are_not_sent() {
        let response = answer(&ASSET, &accepting("br"));
        assert_eq!(response.headers()[CACHE_CONTROL], IMMUTABLE);
        assert_eq!(response.headers()[CONTENT_ENCODING], "br");
        assert_eq!(response.headers()[ETAG], "\"abcd-br\"");
        let mut again = accepting("br");
        again.insert(IF_NONE_MATCH, HeaderValue::from_static("\"x\", W/\"abcd-br\""));
        assert_eq!(answer(&ASSET, &again).status(), StatusCode::NOT_MODIFIED);
    }

    #[test]
    fn the_table_is_sorted_and_has_the_page() {
        assert!(generated::ASSETS.is_sorted_by_key(|asset| asset.path));
        let page = find(PAGE).expect("a page, if only a placeholder");
        assert_eq!(page.mime, "text/html; charset=utf-8");
        assert!(!page.plain.is_empty() && find("nothing").is_none());
    }

    #[test]
    fn only_the_uis_own_addresses_get_its_page() {
        for path in ["/", "/login", "/s/0191a0b0"] {
            assert!(is_page(path), "{path}");
        }
        for path in ["/etc/passwd", "/sx", "/assets/missing.js", "/api/v1/me"] {
            assert!(!is_page(path), "{path}");
        }
    }
}
