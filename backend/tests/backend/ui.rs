//! The page and its caching.

use crate::support::Backend;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, HOST, IF_NONE_MATCH};
use http::{Method, StatusCode};

#[tokio::test]
async fn the_page_is_served_on_its_addresses_and_revalidated() {
    let backend = Backend::start().await;
    let host = backend.host();
    for path in ["/", "/login", "/s/0191a0b0-0000-7000-8000-000000000001"] {
        let page = backend.raw(Method::GET, path, &[(HOST, &host)], b"").await;
        assert_eq!(page.status, StatusCode::OK, "{path}");
        assert_eq!(page.headers[CONTENT_TYPE], "text/html; charset=utf-8");
        assert_eq!(page.headers[CACHE_CONTROL], "no-cache");
        let etag = page.headers[ETAG].to_str().unwrap();
        let again = backend
            .raw(Method::GET, path, &[(HOST, &host), (IF_NONE_MATCH, etag)], b"")
            .await;
        assert_eq!((again.status, again.body.len()), (StatusCode::NOT_MODIFIED, 0));
    }
    let head = backend.raw(Method::HEAD, "/", &[(HOST, &host)], b"").await;
    assert_eq!((head.status, head.body.len()), (StatusCode::OK, 0));
}

#[tokio::test]
async fn what_does_not_exist_is_not_the_page() {
    let backend = Backend::start().await;
    for path in [
        "/nowhere",
        "/assets/none.js",
        "/../../etc/passwd",
        "/%2e%2e/etc/passwd",
    ] {
        assert_eq!(
            backend.get(path, "").await.status,
            StatusCode::NOT_FOUND,
            "{path}"
        );
    }
}
