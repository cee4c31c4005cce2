//! The connection that terminal clients use too.

use crate::fake_runner::{Connection, FakeRunner, event};
use crate::support::{SESSION, within};
use lodge_backend::upstream::{RunnerAddress, RunnerConnection, UpstreamError};
use lodge_proto::relay::{Actor, Rights, RunnerControl, ToClient, ToRelay};
use lodge_proto::{Command, CommandBody, Response, sock};
use serde_json::json;
use std::collections::BTreeMap;
use tempfile::TempDir;

fn address(directory: &TempDir, uid: u32) -> RunnerAddress {
    RunnerAddress::Unix {
        path: directory.path().join("run/runner.sock"),
        uid,
    }
}

async fn connected() -> (TempDir, RunnerConnection, Connection) {
    let directory = tempfile::tempdir().unwrap();
    let runner = FakeRunner::bind(directory.path());
    let address = address(&directory, sock::own_uid());
    let greeting = async {
        let mut connection = runner.accept_silent().await;
        assert!(connection.recv().await.is("hello"));
        connection
            .relay_control(0, 0, &json!({"type": "hello", "version": 1, "runner_epoch": 77}))
            .await;
        connection
    };
    let (client, runner) = tokio::join!(within(RunnerConnection::connect(&address)), within(greeting));
    (directory, client.unwrap(), runner)
}

#[tokio::test]
async fn a_client_attaches_asks_and_follows() {
    let (_directory, mut client, mut runner) = connected().await;
    assert_eq!(client.runner_epoch(), 77);
    let actor = Actor {
        account: "local".into(),
        name: "me".into(),
        rights: Rights::Own,
    };
    client.attach(4, &actor).await.unwrap();
    client
        .subscribe(4, BTreeMap::from([(SESSION.parse().unwrap(), None)]))
        .await
        .unwrap();
    let command = Command {
        id: "1".into(),
        session_id: None,
        client_id: None,
        body: CommandBody::GetModels {},
    };
    client.command(4, &actor, &command).await.unwrap();
    assert_eq!(runner.recv_control("attach").await.json["actor"]["name"], "me");
    assert_eq!(
        runner.recv_control("subscribe").await.json["cursors"],
        json!({SESSION: null})
    );
    assert_eq!(runner.recv_command().await.json["command"]["cmd"], "get_models");
    runner.reply(4, &json!({"id": "1", "ok": 5})).await;
    runner.control(4, 2, &json!({"type": "runner_ready"})).await;
    runner
        .relay_control(4, 2, &json!({"type": "join", "session_id": SESSION}))
        .await;
    runner.event(0, 2, &event(SESSION, 3)).await;
    let mut next = async || within(client.next_frame()).await.unwrap().unwrap();
    assert_eq!(next().await.response().unwrap(), Response::ok("1", json!(5)));
    assert_eq!(
        next().await.control().unwrap(),
        RunnerControl::Client(Box::new(ToClient::RunnerReady {}))
    );
    let join = next().await.control().unwrap();
    assert_eq!(
        join,
        RunnerControl::Relay(ToRelay::Join {
            session_id: SESSION.parse().unwrap()
        })
    );
    let frame = next().await;
    assert_eq!(
        (frame.header.session, frame.text),
        (2, event(SESSION, 3).to_string())
    );
    drop(runner);
    assert!(within(client.next_frame()).await.unwrap().is_none());
}

#[tokio::test]
async fn another_process_behind_the_socket_is_refused_by_name() {
    let directory = tempfile::tempdir().unwrap();
    let nobody = RunnerConnection::connect(&address(&directory, sock::own_uid()))
        .await
        .unwrap_err();
    assert!(
        matches!(nobody, UpstreamError::Reach(_)) && !nobody.is_violation(),
        "{nobody}"
    );
    let _runner = FakeRunner::bind(directory.path());
    let other = RunnerConnection::connect(&address(&directory, sock::own_uid() + 1))
        .await
        .unwrap_err();
    assert!(
        matches!(other, UpstreamError::Peer(_)) && other.is_violation(),
        "{other}"
    );
}

#[tokio::test]
async fn a_frame_that_breaks_off_is_an_error() {
    let (_directory, mut client, mut runner) = connected().await;
    runner.send_bytes(&[1, 0, 0, 0, 1]).await;
    drop(runner);
    let torn = within(client.next_frame()).await.unwrap_err();
    assert!(matches!(torn, UpstreamError::Frame(_)), "{torn}");
}
