//! Liveness and readiness.

use crate::fake_gateway;
use crate::fake_runner::{Connection, FakeRunner};
use crate::support::{Backend, within};
use http::StatusCode;
use lodge_proto::sock;
use serde_json::{Value, json};

async fn parts(backend: &Backend) -> (StatusCode, Value) {
    let answer = backend.get("/readyz", "").await;
    (answer.status, answer.json())
}

/// The same while the runner answers.
async fn parts_with(backend: &Backend, runner: &mut Connection) -> (StatusCode, Value) {
    let answering = async {
        let command = within(runner.recv_command()).await;
        let id = &command.json["command"]["id"];
        runner
            .reply(command.header.channel, &json!({"id": id, "ok": {"sessions": []}}))
            .await;
    };
    tokio::join!(parts(backend), answering).0
}

#[tokio::test]
async fn readiness_names_the_part_that_is_missing() {
    let (backend, _runner, mut runner) = Backend::with_runner().await;
    assert_eq!(backend.get("/healthz", "").await.status, StatusCode::OK);
    let (status, body) = parts_with(&backend, &mut runner).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(
        body,
        json!({"ready": false, "parts": [
            {"name": "runner", "ok": true}, {"name": "gateway", "ok": false}, {"name": "history", "ok": false},
        ]})
    );
    fake_gateway::start(&backend.data);
    let _history = sock::bind(&backend.data.join("run/history.sock")).unwrap();
    let (status, body) = parts_with(&backend, &mut runner).await;
    assert_eq!((status, &body["ready"]), (StatusCode::OK, &true.into()), "{body}");
}

#[tokio::test]
async fn a_part_that_hangs_is_not_waited_for() {
    let directory = tempfile::tempdir().unwrap();
    // It greets, but answers nothing.
    let runner = FakeRunner::bind(directory.path());
    let backend = Backend::start_on(directory.path()).await;
    let _connection = within(runner.accept()).await;
    let (status, body) = parts(&backend).await;
    assert_eq!(
        (status, &body["parts"][0]["ok"]),
        (StatusCode::SERVICE_UNAVAILABLE, &false.into())
    );
}
