//! Requests become commands, replies become answers.

use crate::fake_gateway;
use crate::fake_runner::Connection;
use crate::support::{Answer, Backend, SESSION, within};
use http::{HeaderName, Method, StatusCode};
use serde_json::{Value, json};

/// Answers one command of the REST client and says what it was.
async fn answer_one(runner: &mut Connection, outcome: Value) -> Value {
    let received = within(runner.recv_command()).await;
    let mut command = received.json["command"].clone();
    let mut reply = outcome;
    reply["id"] = command["id"].take();
    runner.reply(received.header.channel, &reply).await;
    command
}

async fn exchange(
    backend: &Backend,
    runner: &mut Connection,
    cookie: &str,
    (method, path, body): (Method, &str, Option<Value>),
) -> (Answer, Value) {
    tokio::join!(
        backend.call(method, path, cookie, body),
        answer_one(runner, json!({"ok": {"x": 1}}))
    )
}

/// Requests, and the commands they are.
fn routes() -> Vec<(Method, String, Option<Value>, Value)> {
    let parts = json!([{"type": "text", "text": "hi"}]);
    let new = json!({"harness": "pi", "workspace": "w", "tier": "process"});
    let of = |rest: &str| format!("/api/v1/sessions/{SESSION}{rest}");
    vec![
        (
            Method::GET,
            "/api/v1/sessions?limit=5&cursor=c".to_owned(),
            None,
            json!({"cmd": "session.list", "limit": 5, "cursor": "c"}),
        ),
        (
            Method::POST,
            "/api/v1/sessions".to_owned(),
            Some(new),
            json!({"cmd": "session.create", "harness": "pi", "workspace": "w", "tier": "process"}),
        ),
        (Method::GET, of(""), None, json!({"cmd": "get_state"})),
        (Method::DELETE, of(""), None, json!({"cmd": "session.delete"})),
        (
            Method::POST,
            of("/prompt"),
            Some(json!({"parts": parts})),
            json!({"cmd": "prompt", "parts": parts}),
        ),
        (Method::POST, of("/abort"), None, json!({"cmd": "abort"})),
        (
            Method::POST,
            of("/close"),
            Some(json!({})),
            json!({"cmd": "session.close"}),
        ),
        (
            Method::POST,
            of("/resume"),
            None,
            json!({"cmd": "session.resume"}),
        ),
        (
            Method::POST,
            of("/title"),
            Some(json!({"title": "T"})),
            json!({"cmd": "set_title", "title": "T"}),
        ),
        (
            Method::GET,
            of("/messages?limit=2"),
            None,
            json!({"cmd": "get_messages", "limit": 2}),
        ),
        (
            Method::GET,
            "/api/v1/harnesses".to_owned(),
            None,
            json!({"cmd": "harness.list"}),
        ),
        (
            Method::GET,
            "/api/v1/workspaces".to_owned(),
            None,
            json!({"cmd": "workspace.list"}),
        ),
        (
            Method::POST,
            "/api/v1/workspaces".to_owned(),
            Some(json!({"name": "w"})),
            json!({"cmd": "workspace.create", "name": "w"}),
        ),
    ]
}

#[tokio::test]
async fn every_route_is_its_command() {
    let (backend, _runner, mut runner) = Backend::with_runner().await;
    let cookie = backend.login().await;
    for (method, path, body, mut expected) in routes() {
        let changes = method != Method::GET;
        let (answer, mut command) = exchange(&backend, &mut runner, &cookie, (method, &path, body)).await;
        assert_eq!(
            (answer.status, answer.json()),
            (StatusCode::OK, json!({"x": 1})),
            "{path}"
        );
        assert_eq!(command["client_id"].is_string(), changes, "{path}: {command}");
        let fields = command.as_object_mut().unwrap();
        fields.remove("client_id");
        fields.remove("id");
        if path.contains(SESSION) {
            expected["session_id"] = SESSION.into();
        }
        assert_eq!(command, expected, "{path}");
    }
}

#[tokio::test]
async fn errors_have_the_status_of_their_code() {
    let (backend, _runner, mut runner) = Backend::with_runner().await;
    let cookie = backend.login().await;
    for code in lodge_proto::ErrorCode::ALL {
        let error = json!({"error": {"code": code, "message": "why", "details": {"at": 1}}});
        let path = format!("/api/v1/sessions/{SESSION}");
        let (answer, _) = tokio::join!(
            backend.get(&path, &cookie),
            answer_one(&mut runner, error.clone())
        );
        assert_eq!(answer.status.as_u16(), code.http_status(), "{code}");
        assert_eq!(answer.json(), error);
    }
}

#[tokio::test]
async fn the_idempotency_key_is_the_client_id() {
    let (backend, _runner, mut runner) = Backend::with_runner().await;
    let cookie = backend.login().await;
    let key = HeaderName::from_static("idempotency-key");
    let path = format!("/api/v1/sessions/{SESSION}/abort");
    let headers = [(key.clone(), "my-key")];
    let (_, command) = tokio::join!(
        backend.call_with(Method::POST, &path, &cookie, None, &headers),
        answer_one(&mut runner, json!({"ok": {}}))
    );
    assert_eq!(command["client_id"], "my-key");
    let long = "k".repeat(129);
    let answer = backend
        .call_with(Method::POST, &path, &cookie, None, &[(key, &long)])
        .await;
    assert_eq!(
        (answer.status, answer.code().as_str()),
        (StatusCode::BAD_REQUEST, "invalid_argument")
    );
}

#[tokio::test]
async fn a_request_outlives_its_runner() {
    let (backend, runner, mut connection) = Backend::with_runner().await;
    let cookie = backend.login().await;
    let path = format!("/api/v1/sessions/{SESSION}/abort");
    let request = backend.post(&path, &cookie, json!({}));
    let restart = async {
        let first = within(connection.recv_command()).await.json["command"].clone();
        drop(connection);
        let mut connection = within(runner.accept()).await;
        let again = within(connection.recv_command()).await;
        assert_eq!(
            again.json["command"], first,
            "the very same command, client id included"
        );
        connection
            .reply(
                again.header.channel,
                &json!({"id": first["id"], "ok": {"done": true}}),
            )
            .await;
        connection
    };
    let (answer, _connection) = tokio::join!(request, restart);
    assert_eq!(answer.json(), json!({"done": true}));
}

#[tokio::test]
async fn models_and_providers_come_from_the_gateway() {
    let backend = Backend::start().await;
    let cookie = backend.login().await;
    let away = backend.get("/api/v1/models", &cookie).await;
    assert_eq!(
        (away.status, away.code().as_str()),
        (StatusCode::SERVICE_UNAVAILABLE, "unavailable")
    );
    fake_gateway::start(&backend.data);
    let models = backend.get("/api/v1/models", &cookie).await.json();
    assert_eq!(models["models"][0]["id"], "demo/m/1");
    assert_eq!(models["models"][0]["context_window"], 8);
    assert!(
        models["models"][0].get("max_output").is_none(),
        "unknown is absent"
    );
    let providers = backend.get("/api/v1/providers", &cookie).await.json();
    assert_eq!(providers["providers"][0]["name"], "demo");
    let secret = "sk-secret";
    let set = backend
        .call(
            Method::PUT,
            "/api/v1/providers/p/key",
            &cookie,
            Some(json!({"key": secret, "kind": "openai"})),
        )
        .await;
    assert_eq!(
        (set.status, set.json()["has_key"].as_bool()),
        (StatusCode::OK, Some(true))
    );
    assert!(!String::from_utf8_lossy(&set.body).contains(secret));
    let begun = backend
        .call(Method::POST, "/api/v1/key-exchange", &cookie, None)
        .await
        .json();
    assert_eq!(begun["exchange"], "e1");
    assert!(begun["public_key"].as_str().unwrap().starts_with("BAQE"));
    for (sealed, status) in [("AAAA", StatusCode::OK), ("not base64", StatusCode::BAD_REQUEST)] {
        let body =
            json!({"kind": "openai", "sealed": {"exchange": "e1", "public_key": "BAQE", "sealed": sealed}});
        let set = backend
            .call(Method::PUT, "/api/v1/providers/p/key", &cookie, Some(body))
            .await;
        assert_eq!(set.status, status, "{sealed}");
    }
    let empty = backend
        .call(
            Method::PUT,
            "/api/v1/providers/p/key",
            &cookie,
            Some(json!({"key": ""})),
        )
        .await;
    assert_eq!(empty.json()["error"]["message"], "the key is empty");
    let removed = backend
        .call(Method::DELETE, "/api/v1/providers/demo", &cookie, None)
        .await;
    assert_eq!(removed.status, StatusCode::NO_CONTENT);
    let missing = backend
        .call(Method::DELETE, "/api/v1/providers/none", &cookie, None)
        .await;
    assert_eq!(missing.code(), "not_found");
}

#[tokio::test]
async fn wrong_requests_are_explained() {
    let backend = Backend::start().await;
    let cookie = backend.login().await;
    let bad_id = backend.get("/api/v1/sessions/nope", &cookie).await;
    assert_eq!(
        (bad_id.status, bad_id.code().as_str()),
        (StatusCode::BAD_REQUEST, "invalid_argument")
    );
    let bad_query = backend.get("/api/v1/sessions?limt=1", &cookie).await;
    assert!(
        bad_query.json()["error"]["message"]
            .as_str()
            .unwrap()
            .contains("limt")
    );
    assert_eq!(backend.get("/api/v1/nowhere", &cookie).await.code(), "not_found");
    let method = backend.call(Method::PUT, "/api/v1/sessions", &cookie, None).await;
    assert_eq!(
        (method.status, method.code().as_str()),
        (StatusCode::METHOD_NOT_ALLOWED, "invalid_argument")
    );
}
