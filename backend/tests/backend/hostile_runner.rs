//! A runner that was taken over: the connection is dropped, clients are told, the backend lives.

use crate::support::{Backend, within};
use http::StatusCode;
use lodge_proto::frame::{self, HEADER_LEN, Header, Kind, MAX_PAYLOAD};
use serde_json::json;

fn with_header(change: impl FnOnce(&mut [u8; HEADER_LEN])) -> Vec<u8> {
    let mut header = frame::encode_header(&Header::new(Kind::Event).session(1), 2).unwrap();
    change(&mut header);
    [&header[..], b"{}"].concat()
}

/// Sends `bytes` and checks that the connection ends and comes anew.
async fn is_dropped(bytes: &[u8]) {
    let (backend, runner, mut connection) = Backend::with_runner().await;
    let cookie = backend.login().await;
    let mut browser = backend.browse(&cookie).await;
    within(connection.recv_control("attach")).await;
    connection.send_bytes(bytes).await;
    browser.next_control("runner_lost").await;
    assert!(
        within(connection.try_recv()).await.is_none(),
        "the connection is dropped"
    );
    within(runner.accept()).await;
    browser.next_control("runner_ready").await;
    assert_eq!(backend.get("/api/v1/me", &cookie).await.status, StatusCode::OK);
}

#[tokio::test]
async fn an_oversized_frame() {
    let length = u32::try_from(MAX_PAYLOAD + 1).unwrap();
    is_dropped(&with_header(|header| {
        header[0..4].copy_from_slice(&length.to_le_bytes());
    }))
    .await;
}

#[tokio::test]
async fn an_unknown_kind() {
    is_dropped(&with_header(|header| {
        header[5] = 99;
    }))
    .await;
}

#[tokio::test]
async fn an_unknown_version() {
    is_dropped(&with_header(|header| {
        header[4] = 99;
    }))
    .await;
}

#[tokio::test]
async fn text_that_is_not_utf8() {
    let mut bytes = Vec::new();
    frame::encode(&Header::new(Kind::Event).session(1), b"\"\xff\"", &mut bytes).unwrap();
    is_dropped(&bytes).await;
}

#[tokio::test]
async fn a_command_frame_from_the_wrong_side() {
    let mut bytes = Vec::new();
    frame::encode(&Header::new(Kind::Command), b"{}", &mut bytes).unwrap();
    is_dropped(&bytes).await;
}

#[tokio::test]
async fn an_unreadable_control_for_the_relay() {
    let mut bytes = Vec::new();
    let header = Header::new(Kind::Control)
        .channel(1)
        .flags(frame::flags::FOR_RELAY);
    frame::encode(&header, b"{\"type\":\"join\"}", &mut bytes).unwrap();
    is_dropped(&bytes).await;
}

#[tokio::test]
async fn a_runner_of_another_version_is_not_used() {
    let directory = tempfile::tempdir().unwrap();
    let runner = crate::fake_runner::FakeRunner::bind(directory.path());
    let backend = Backend::start_on(directory.path()).await;
    let mut connection = within(runner.accept_silent()).await;
    within(connection.recv()).await;
    connection
        .relay_control(0, 0, &json!({"type": "hello", "version": 2, "runner_epoch": 1}))
        .await;
    assert!(within(connection.try_recv()).await.is_none(), "dropped");
    let mut browser = backend.browse(&backend.login().await).await;
    let lost = browser.next_control("runner_lost").await;
    let message = lost["control"]["error"]["message"].as_str().unwrap();
    assert!(message.contains("version 2"), "{message}");
}
