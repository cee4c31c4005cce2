//! Host, Origin and the strict headers.

use crate::support::Backend;
use http::header::{CONTENT_TYPE, COOKIE, HOST, ORIGIN};
use http::{HeaderName, Method, StatusCode};

const CSP: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; \
    connect-src 'self'; font-src 'self'; base-uri 'none'; frame-ancestors 'none'; form-action 'none'";

#[tokio::test]
async fn a_foreign_host_gets_nothing_on_any_path() {
    let backend = Backend::start().await;
    let cookie = backend.login().await;
    for path in ["/", "/healthz", "/api/v1/me", "/api/v1/openapi.json", "/nowhere"] {
        for host in ["evil.example", "127.0.0.1", "localhost"] {
            let answer = backend
                .raw(Method::GET, path, &[(HOST, host), (COOKIE, &cookie)], b"")
                .await;
            assert_eq!(
                (answer.status, answer.code().as_str()),
                (StatusCode::FORBIDDEN, "forbidden"),
                "{host}{path}"
            );
        }
    }
    let localhost = format!("localhost:{}", backend.address.port());
    let answer = backend
        .raw(
            Method::GET,
            "/api/v1/me",
            &[(HOST, &localhost), (COOKIE, &cookie)],
            b"",
        )
        .await;
    assert_eq!(answer.status, StatusCode::OK);
}

#[tokio::test]
async fn a_foreign_page_changes_nothing() {
    let backend = Backend::start().await;
    let cookie = backend.login().await;
    let (host, own) = (backend.host(), backend.origin());
    let port = backend.address.port();
    for origin in [
        None,
        Some("http://evil.example"),
        Some("null"),
        Some(&*format!("https://127.0.0.1:{port}")),
    ] {
        let mut headers = vec![(HOST, host.as_str()), (COOKIE, cookie.as_str())];
        headers.extend(origin.map(|origin| (ORIGIN, origin)));
        for (method, path) in [
            (Method::POST, "/api/v1/logout"),
            (Method::POST, "/api/v1/sessions"),
            (Method::DELETE, "/api/v1/providers/demo"),
            (Method::PUT, "/api/v1/providers/demo/key"),
        ] {
            let answer = backend.raw(method, path, &headers, b"").await;
            assert_eq!(
                (answer.status, answer.code().as_str()),
                (StatusCode::FORBIDDEN, "forbidden"),
                "{origin:?} {path}"
            );
        }
    }
    assert_eq!(
        backend.get("/api/v1/me", &cookie).await.status,
        StatusCode::OK,
        "still logged in"
    );
    let token = format!("lodge.v1, token.{}", backend.page_token(&cookie).await);
    assert!(
        backend
            .websocket(&cookie, "http://evil.example", &token)
            .await
            .is_err()
    );
    backend
        .websocket(&cookie, &own, &token)
        .await
        .expect("the same token from our own page");
}

#[tokio::test]
async fn every_answer_has_the_strict_headers() {
    let backend = Backend::start().await;
    let host = backend.host();
    for (path, host) in [
        ("/", &*host),
        ("/api/v1/me", &host),
        ("/nowhere", &host),
        ("/", "evil.example"),
    ] {
        let answer = backend.raw(Method::GET, path, &[(HOST, host)], b"").await;
        for (name, value) in [
            ("content-security-policy", CSP),
            ("x-content-type-options", "nosniff"),
            ("referrer-policy", "no-referrer"),
            ("cross-origin-opener-policy", "same-origin"),
            ("cross-origin-resource-policy", "same-origin"),
        ] {
            assert_eq!(answer.headers[name], value, "{path} {name}");
        }
        for name in ["access-control-allow-origin", "server"] {
            assert!(
                !answer.headers.contains_key(HeaderName::from_static(name)),
                "{path} {name}"
            );
        }
    }
    assert_eq!(
        backend.get("/api/v1/me", "").await.headers["cache-control"],
        "no-store"
    );
}

#[tokio::test]
async fn bodies_are_json_of_a_bounded_length() {
    let backend = Backend::start().await;
    let (host, origin) = (backend.host(), backend.origin());
    let ours = [(HOST, host.as_str()), (ORIGIN, origin.as_str())];
    let form = [&ours[..], &[(CONTENT_TYPE, "text/plain")]].concat();
    let answer = backend
        .raw(Method::POST, "/api/v1/login", &form, b"{\"token\":\"x\"}")
        .await;
    assert_eq!(answer.status, StatusCode::UNSUPPORTED_MEDIA_TYPE);
    let json = [&ours[..], &[(CONTENT_TYPE, "application/json")]].concat();
    let answer = backend
        .raw(Method::POST, "/api/v1/login", &json, b"{\n \"tokn\": 1}")
        .await;
    let error = &answer.json()["error"];
    assert_eq!(
        (answer.status, &error["details"]["line"]),
        (StatusCode::BAD_REQUEST, &2.into())
    );
    assert!(error["message"].as_str().unwrap().contains("tokn"));
    let answer = backend
        .raw(Method::POST, "/api/v1/login", &json, &vec![b' '; (1 << 20) + 1])
        .await;
    assert_eq!(answer.status, StatusCode::PAYLOAD_TOO_LARGE);
}
