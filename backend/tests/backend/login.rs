//! Login links, cookies, page tokens.

use crate::support::{Backend, within};
use http::header::{COOKIE, HOST, RETRY_AFTER, SET_COOKIE};
use http::{Method, StatusCode};
use lodge_backend::auth::accounts::Purpose;
use lodge_backend::auth::secret::Token;
use lodge_backend::auth::{Accounts, SqliteAccounts};
use lodge_backend::control::{self, ControlError};
use lodge_proto::ErrorCode;
use serde_json::json;
use std::time::{Duration, SystemTime};

#[tokio::test]
async fn a_link_works_once_and_sets_a_strict_cookie() {
    let backend = Backend::start().await;
    let token = backend.link_token().await;
    let answer = backend.post("/api/v1/login", "", json!({ "token": token })).await;
    assert_eq!(answer.status, StatusCode::OK);
    assert_eq!(
        answer.json(),
        json!({"account": "local", "name": "local", "rights": "own", "administrator": true})
    );
    let cookie = answer.headers[SET_COOKIE].to_str().unwrap();
    assert!(cookie.starts_with("lodge_session="));
    assert!(
        cookie.ends_with("; Max-Age=2592000; HttpOnly; SameSite=Strict; Path=/"),
        "{cookie}"
    );
    let again = backend.post("/api/v1/login", "", json!({ "token": token })).await;
    assert_eq!(
        (again.status, again.code().as_str()),
        (StatusCode::UNAUTHORIZED, "unauthenticated")
    );
    assert!(!again.headers.contains_key(SET_COOKIE));
}

#[tokio::test]
async fn of_many_that_use_a_link_at_once_one_gets_in() {
    let backend = Backend::start().await;
    let token = backend.link_token().await;
    let tries = (0..8).map(|_| backend.post("/api/v1/login", "", json!({ "token": token })));
    let answers = futures_util::future::join_all(tries).await;
    assert_eq!(
        answers
            .iter()
            .filter(|answer| answer.status == StatusCode::OK)
            .count(),
        1
    );
}

#[tokio::test]
async fn an_expired_link_is_refused() {
    let backend = Backend::start().await;
    let store = SqliteAccounts::open(&backend.data.join("backend/accounts.db")).unwrap();
    let token = Token::random().unwrap();
    let past = SystemTime::now() - Duration::from_secs(1);
    store
        .put_token(&token.hash(), Purpose::Login, "local", past)
        .unwrap();
    let answer = backend
        .post("/api/v1/login", "", json!({"token": token.reveal()}))
        .await;
    assert_eq!(answer.code(), "unauthenticated");
    store
        .put_token(
            &token.hash(),
            Purpose::Login,
            "local",
            SystemTime::now() + Duration::from_mins(1),
        )
        .unwrap();
    let answer = backend
        .post("/api/v1/login", "", json!({"token": token.reveal()}))
        .await;
    assert_eq!(answer.status, StatusCode::OK, "the same before its end");
}

#[tokio::test]
async fn guessing_is_limited_and_a_success_costs_nothing() {
    let backend = Backend::start().await;
    for _ in 0..12 {
        backend.login().await;
    }
    let guess = Token::random().unwrap();
    let body = json!({"token": guess.reveal()});
    for _ in 0..10 {
        assert_eq!(
            backend.post("/api/v1/login", "", body.clone()).await.code(),
            "unauthenticated"
        );
    }
    let refused = backend.post("/api/v1/login", "", body).await;
    assert_eq!(
        (refused.status, refused.code().as_str()),
        (StatusCode::TOO_MANY_REQUESTS, "rate_limited")
    );
    assert!(refused.headers.contains_key(RETRY_AFTER));
}

#[tokio::test]
async fn a_login_survives_a_restart_and_ends_at_logout() {
    let directory = tempfile::tempdir().unwrap();
    let backend = Backend::start_on(directory.path()).await;
    let cookie = backend.login().await;
    backend.stop().await;
    let backend = Backend::start_on(directory.path()).await;
    assert_eq!(backend.get("/api/v1/me", &cookie).await.status, StatusCode::OK);
    let mut browser = backend.browse(&cookie).await;
    let out = backend.post("/api/v1/logout", &cookie, json!({})).await;
    assert_eq!(out.status, StatusCode::NO_CONTENT);
    assert!(out.headers[SET_COOKIE].to_str().unwrap().contains("Max-Age=0"));
    assert_eq!(browser.closed_with().await, 4401, "its sockets close");
    assert_eq!(backend.get("/api/v1/me", &cookie).await.code(), "unauthenticated");
    let store = SqliteAccounts::open(&directory.path().join("backend/accounts.db")).unwrap();
    let actions: Vec<_> = store
        .audit_log(3)
        .unwrap()
        .into_iter()
        .map(|entry| entry.action)
        .collect();
    assert_eq!(actions, ["logout", "login", "login_link.create"]);
}

#[tokio::test]
async fn nothing_but_the_open_paths_answers_without_a_login() {
    let backend = Backend::start().await;
    for path in [
        "me",
        "page-token",
        "sessions",
        "harnesses",
        "workspaces",
        "models",
        "providers",
        "ws",
    ] {
        let path = format!("/api/v1/{path}");
        for cookie in [
            "",
            "lodge_session=x",
            &format!("lodge_session={}", Token::random().unwrap().reveal()),
        ] {
            let answer = backend.get(&path, cookie).await;
            assert_eq!(
                (answer.status, answer.code().as_str()),
                (StatusCode::UNAUTHORIZED, "unauthenticated"),
                "{path}"
            );
        }
    }
}

#[tokio::test]
async fn a_page_token_opens_one_socket_of_its_own_login() {
    let backend = Backend::start().await;
    let (mine, other) = (backend.login().await, backend.login().await);
    let token = format!("lodge.v1, token.{}", backend.page_token(&mine).await);
    let origin = backend.origin();
    assert!(
        backend.websocket(&other, &origin, &token).await.is_err(),
        "another login's token"
    );
    backend
        .websocket(&mine, &origin, &token)
        .await
        .expect("a token that another login failed to use is still good");
    assert!(backend.websocket(&mine, &origin, &token).await.is_err(), "used");
    assert!(
        backend.websocket(&mine, &origin, "lodge.v1").await.is_err(),
        "none"
    );
    let link = backend.link_token().await;
    assert!(
        backend
            .websocket(&mine, &origin, &format!("lodge.v1, token.{link}"))
            .await
            .is_err(),
        "a link's token"
    );
}

#[tokio::test]
async fn the_control_socket_names_unknown_accounts_and_serves_nothing_else() {
    let backend = Backend::start().await;
    let socket = backend.data.join("run/backend-control.sock");
    let error = within(control::login_link(&socket, Some("eve")))
        .await
        .unwrap_err();
    assert!(matches!(error, ControlError::Refused(body) if body.code == ErrorCode::NotFound));
    let host = backend.host();
    let public = backend
        .raw(Method::POST, "/login-link", &[(HOST, &host), (COOKIE, "")], b"{}")
        .await;
    assert_eq!(public.status, StatusCode::FORBIDDEN, "not on the public listener");
}
