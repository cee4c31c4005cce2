//! The demo model over HTTP, and when it exists.

use std::time::{Duration, Instant};

use http_body_util::BodyExt;
use serde_json::{Value, json};

use crate::common::guest::{self, Guest, post};
use crate::common::runner::{Runner, Session};
use crate::common::{Running, soon};

async fn scene(settings: &str) -> (tempfile::TempDir, Running, Session) {
    let data = tempfile::tempdir().unwrap();
    let gateway = Running::start(data.path(), settings).await;
    let session = Runner::connect(data.path()).session(data.path(), "s", 0).await;
    (data, gateway, session)
}

fn messages(script: &str, stream: bool) -> String {
    json!({ "model": "demo", "stream": stream, "messages": [{ "role": "user", "content": script }] })
        .to_string()
}

async fn ask(session: &Session, path: &str, body: String) -> (u16, Value) {
    let mut guest = Guest::connect(&session.socket).await;
    guest::json(guest.send(post(path, &session.lease.virtual_key, body)).await).await
}

#[tokio::test]
async fn the_same_request_gets_the_same_bytes_in_every_dialect() {
    let (_data, _gateway, session) = scene("").await;
    let gemini =
        json!({ "contents": [{ "role": "user", "parts": [{ "text": "use bash: ls" }] }] }).to_string();
    let responses = json!({ "model": "demo", "stream": true, "input": "use bash: ls" }).to_string();
    for (path, body, word) in [
        (
            "/demo/v1/chat/completions",
            messages("use bash: ls", true),
            "tool_calls",
        ),
        (
            "/demo/v1/messages?beta=true",
            messages("use bash: ls", true),
            "tool_use",
        ),
        ("/demo/v1/responses", responses, "function_call"),
        (
            "/demo/v1beta/models/demo:streamGenerateContent?alt=sse",
            gemini,
            "functionCall",
        ),
    ] {
        let mut answers = Vec::new();
        for _ in 0..2 {
            let mut guest = Guest::connect(&session.socket).await;
            let response = guest
                .send(post(path, &session.lease.virtual_key, body.clone()))
                .await;
            assert_eq!(response.headers()["content-type"], "text/event-stream");
            answers.push(guest::text(response).await);
        }
        assert_eq!(answers[0], answers[1]);
        assert!(answers[0].contains(word), "{path}");
    }
}

#[tokio::test]
async fn errors_come_as_often_as_asked_for_each_message_and_session() {
    let (data, _gateway, session) = scene("").await;
    let other = Runner::connect(data.path())
        .session(data.path(), "other", 0)
        .await;
    let path = "/demo/v1/messages";
    let script = || messages("err 429 x2 retry-after=3", false);
    for asked in [&session, &other] {
        for expected in [429, 429, 200, 200] {
            let mut guest = Guest::connect(&asked.socket).await;
            let response = guest.send(post(path, &asked.lease.virtual_key, script())).await;
            assert_eq!(response.status(), expected);
            assert_eq!(response.headers().contains_key("retry-after"), expected == 429);
        }
    }
    // Another message has a count of its own, and without a count it never ends.
    assert_eq!(
        ask(&session, path, messages("err 429 x2\nsay x", false)).await.0,
        429
    );
    for _ in 0..3 {
        let (status, body) = ask(&session, path, messages("err overloaded", false)).await;
        assert_eq!(
            (status, &body["error"]["type"]),
            (529, &json!("overloaded_error"))
        );
    }
    let (status, body) = ask(
        &session,
        "/demo/v1/chat/completions",
        messages("err quota", false),
    )
    .await;
    assert_eq!(
        (status, &body["error"]["code"]),
        (429, &json!("insufficient_quota"))
    );
}

#[tokio::test]
async fn silence_cuts_and_pace_are_real() {
    let (_data, _gateway, session) = scene("").await;
    let path = "/demo/v1/chat/completions";
    let mut guest = Guest::connect(&session.socket).await;
    let response = guest
        .send(post(path, &session.lease.virtual_key, messages("drop 2", true)))
        .await;
    assert!(
        soon("the connection is cut", response.into_body().collect())
            .await
            .is_err()
    );

    let begun = Instant::now();
    let mut guest = Guest::connect(&session.socket).await;
    let response = guest
        .send(post(path, &session.lease.virtual_key, messages("hang 2", true)))
        .await;
    let mut body = response.into_body();
    let first = soon("the comment", body.frame())
        .await
        .unwrap()
        .unwrap()
        .into_data()
        .unwrap();
    assert!(first == ": hang\n\n" && begun.elapsed() < Duration::from_secs(2));
    soon("the rest", body.collect()).await.unwrap();
    assert!(begun.elapsed() >= Duration::from_secs(2));

    let begun = Instant::now();
    assert_eq!(ask(&session, path, messages("slow 0.2", false)).await.0, 200);
    assert!(begun.elapsed() >= Duration::from_millis(200));
}

#[tokio::test]
async fn it_is_one_model_and_no_other() {
    let (_data, _gateway, session) = scene("").await;
    let mut guest = Guest::connect(&session.socket).await;
    let get = |path: &str| {
        let request = hyper::Request::get(path).header("x-api-key", &session.lease.virtual_key);
        request.body(http_body_util::Full::default()).unwrap()
    };
    let (_, list) = guest::json(guest.send(get("/demo/v1/models")).await).await;
    assert_eq!(
        list.pointer("/data/0/display_name"),
        Some(&json!("Lodge demo model (scripted, not an AI)"))
    );
    let (_, list) = guest::json(guest.send(get("/demo/v1beta/models")).await).await;
    assert_eq!(list.pointer("/models/0/name"), Some(&json!("models/demo")));
    assert_eq!(guest.send(get("/demo/v1/models/gpt-5")).await.status(), 404);
    let (status, body) = ask(
        &session,
        "/demo/v1/chat/completions",
        messages("say x", false).replace("\"demo\"", "\"gpt-5\""),
    )
    .await;
    assert_eq!((status, &body["error"]["code"]), (404, &json!("model_not_found")));
    let (status, body) = ask(
        &session,
        "/demo/v1/messages/count_tokens",
        messages("say x", false),
    )
    .await;
    assert!(status == 200 && body["input_tokens"].as_u64().unwrap() > 0);
}

#[tokio::test]
async fn malformed_bodies_get_typed_errors() {
    let (_data, _gateway, session) = scene("").await;
    for (path, field, value) in [
        (
            "/demo/v1/chat/completions",
            "/error/type",
            json!("invalid_request_error"),
        ),
        (
            "/demo/v1/responses",
            "/error/type",
            json!("invalid_request_error"),
        ),
        ("/demo/v1/messages", "/error/type", json!("invalid_request_error")),
        (
            "/demo/v1beta/models/demo:generateContent",
            "/error/status",
            json!("INVALID_ARGUMENT"),
        ),
    ] {
        for body in ["", "{\"messages\": [", "null"] {
            let (status, answer) = ask(&session, path, body.to_owned()).await;
            assert_eq!(
                (status, answer.pointer(field)),
                (400, Some(&value)),
                "{path} {body}"
            );
        }
    }
}

#[tokio::test]
async fn it_exists_only_without_a_provider_or_when_asked_for() {
    let provider = "[[provider]]\nname = 'openai'\nkind = 'openai'\nkey_env = 'PROVIDER_KEY'\n";
    let (_data, _gateway, session) = scene(provider).await;
    assert_eq!(
        ask(&session, "/demo/v1/messages", messages("say x", false))
            .await
            .0,
        404
    );
    assert!(
        session
            .lease
            .models
            .iter()
            .all(|model| model.provider == "openai")
    );
    let (_data, _gateway, session) = scene(&format!("[gateway]\ndemo = true\n{provider}")).await;
    assert_eq!(
        ask(&session, "/demo/v1/messages", messages("say x", false))
            .await
            .0,
        200
    );
    let (_data, _gateway, session) = scene("[gateway]\ndemo = false").await;
    assert_eq!(
        ask(&session, "/demo/v1/messages", messages("say x", false))
            .await
            .0,
        404
    );
}
